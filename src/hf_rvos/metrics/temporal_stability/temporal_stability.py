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
"""How steady a segmentation is from frame to frame, as a module for `evaluate`."""

import datasets
import evaluate

import hf_rvos.metrics.evaluate_base
import hf_rvos.metrics.expressions


DESCRIPTION = """\
Variance over the frames of a video of J, and of (J + F) / 2, averaged over the expressions. Lower is steadier; a video
of one frame has none.
"""
INPUTS = """
Args:
    predictions: for each expression its masks, (num_frames, height, width) or one run-length code for each frame, None
        where nothing is predicted.
    references: the true masks in the same form, None where the target is absent.
Returns:
    j_variance, j_and_f_variance and num_expressions.
"""


class TemporalStability(hf_rvos.metrics.evaluate_base.EncodedMetric):
    """Variance of J and F over the frames."""

    encode = dict.fromkeys(("predictions", "references"), hf_rvos.metrics.evaluate_base.encode_track)

    def _info(self):
        track = hf_rvos.metrics.evaluate_base.TRACK_FEATURE
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=hf_rvos.metrics.evaluate_base.CITATION,
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": track, "references": track}),
        )

    def _compute(self, predictions, references):
        self._check_not_empty(references)
        rows = [
            hf_rvos.metrics.expressions.score_expression(*map(hf_rvos.metrics.evaluate_base.decode_track, tracks))
            for tracks in zip(predictions, references)
        ]
        return hf_rvos.metrics.expressions.summarize_temporal_stability(rows)
