# Copyright 2026 The hf_rvos authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Overlap on single frames and images, as a module for `evaluate`."""

import datasets
import evaluate

import hf_rvos.metrics.detections
import hf_rvos.metrics.evaluate_base


DESCRIPTION = """\
Mean average precision of all predictions, and precision at K, overall and mean IoU of the best one, as reported for
A2D-Sentences, JHMDB-Sentences and RefCOCO. The configuration gres is for expressions that may have no target.
"""
INPUTS = """
Args:
    predictions: for each expression a dict with `masks`, (num_predictions, height, width) or a list of run-length
        codes, and `scores`, one for each.
    references: for each expression the true mask, (height, width) or a run-length code.
Returns:
    The totals of hf_rvos.metrics.summarize_detections, or for gres of hf_rvos.metrics.summarize_gres.
"""


def encode_predictions(predictions):
    masks = [hf_rvos.metrics.evaluate_base.encode_mask(mask) for mask in predictions["masks"]]
    return {"masks": masks, "scores": [float(score) for score in predictions["scores"]]}


class ReferringIou(hf_rvos.metrics.evaluate_base.EncodedMetric):
    """Average precision, precision at K, overall and mean IoU."""

    encode = {"predictions": encode_predictions, "references": hf_rvos.metrics.evaluate_base.encode_mask}

    def _info(self):
        if self.config_name not in ("default", "gres"):
            raise ValueError(f"referring_iou has no configuration {self.config_name!r}, expected default or gres")
        rle = hf_rvos.metrics.evaluate_base.RLE_FEATURE
        predictions = {"masks": datasets.List(rle), "scores": datasets.List(datasets.Value("float64"))}
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=hf_rvos.metrics.evaluate_base.CITATION,
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": predictions, "references": rle}),
        )

    def _compute(self, predictions, references):
        self._check_not_empty(references)
        rows = [
            hf_rvos.metrics.detections.score_detections(prediction["masks"], prediction["scores"], reference)
            for prediction, reference in zip(predictions, references)
        ]
        if self.config_name == "gres":
            return hf_rvos.metrics.detections.summarize_gres(rows)
        return hf_rvos.metrics.detections.summarize_detections(rows)
