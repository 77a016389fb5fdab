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
"""Region similarity J and contour accuracy F of each expression, as a module for `evaluate`."""

import datasets
import evaluate
import numpy

import hf_rvos.metrics.evaluate_base
import hf_rvos.metrics.expressions
import hf_rvos.metrics.functional


DESCRIPTION = """\
J and F of a frame, averaged over the frames of an expression and then over the expressions. The name of the
configuration is the protocol: ref_youtube_vos (the default) and mevis, which also scores expressions without a target;
revos, long_rvos and ref_sav, which also report by type and need `expression_types`.
"""
INPUTS = """
Args:
    predictions: for each expression its masks, (num_frames, height, width) or one run-length code for each frame, None
        where nothing is predicted.
    references: the true masks in the same form, None where the target is absent.
    expression_types: the type of each expression, a string; only for revos, long_rvos and ref_sav.
    statistics: also give j_recall, j_decay, f_recall and f_decay, averaged over the expressions.
Returns:
    j_and_f, j_mean, f_mean and the other totals of hf_rvos.metrics.summarize_expressions.
"""
WITH_TYPES = ("revos", "long_rvos", "ref_sav")


class JF(hf_rvos.metrics.evaluate_base.EncodedMetric):
    """J and F of each expression."""

    encode = dict.fromkeys(("predictions", "references"), hf_rvos.metrics.evaluate_base.encode_track)

    def _info(self):
        track = hf_rvos.metrics.evaluate_base.TRACK_FEATURE
        features = {"predictions": track, "references": track}
        if self.config_name in WITH_TYPES:
            features["expression_types"] = datasets.Value("string")
        elif self.config_name not in ("default", *hf_rvos.metrics.expressions.PROTOCOLS):
            known = ", ".join(hf_rvos.metrics.expressions.PROTOCOLS)
            raise ValueError(f"jf has no configuration {self.config_name!r}, expected one of {known}")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=hf_rvos.metrics.evaluate_base.CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(features),
        )

    def _compute(self, predictions, references, expression_types=None, statistics=False):
        self._check_not_empty(references)
        rows = []
        for index, (pred, gt) in enumerate(zip(predictions, references)):
            pred, gt = map(hf_rvos.metrics.evaluate_base.decode_track, (pred, gt))
            row = hf_rvos.metrics.expressions.score_expression(pred, gt, per_frame=statistics)
            rows.append(row | {"expression_type": expression_types[index] if expression_types is not None else None})
        protocol = "ref_youtube_vos" if self.config_name == "default" else self.config_name
        summary = hf_rvos.metrics.expressions.summarize_expressions(rows, protocol)
        if statistics:
            for name in "jf":
                values = [hf_rvos.metrics.functional.sequence_statistics(row[f"{name}_frames"]) for row in rows]
                for key in ("recall", "decay"):
                    summary[f"{name}_{key}"] = float(numpy.mean([value[key] for value in values]))
        return summary
