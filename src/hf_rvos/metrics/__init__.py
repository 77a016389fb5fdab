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
"""Scores of the benchmarks: rows of plain numbers for each sample, and totals of such rows from any process."""

import importlib
from typing import TYPE_CHECKING, Any

from hf_rvos.metrics.davis import (
    evaluate_davis,
    evaluate_ref_davis,
    score_davis_video,
    summarize_davis,
    summarize_ref_davis,
)
from hf_rvos.metrics.detections import score_coco, score_detections, summarize_detections, summarize_gres
from hf_rvos.metrics.expressions import (
    score_expression,
    score_expressions,
    summarize_expressions,
    summarize_temporal_stability,
)
from hf_rvos.metrics.functional import contour_accuracy, region_similarity, sequence_statistics
from hf_rvos.ops.masks import merge_objects


if TYPE_CHECKING:
    import evaluate

EVALUATE_MODULES = {
    "jf": "JF",
    "ref_davis": "RefDavis",
    "referring_iou": "ReferringIou",
    "temporal_stability": "TemporalStability",
}


def load(name: str, config_name: str | None = None, **kwargs: Any) -> "evaluate.Metric":
    """Give a metric in the form of the `evaluate` library, like `evaluate.load` of its folder but without copying it.

    Args:
        name (`str`):
            One of `"jf"`, `"ref_davis"`, `"referring_iou"` and `"temporal_stability"`.
        config_name (`str`, *optional*):
            Variant of the metric, such as the protocol of `"jf"`.
        kwargs:
            What `evaluate.load` takes too: `num_process`, `process_id`, `experiment_id`, `keep_in_memory`, ...

    Returns:
        `evaluate.Metric`: with `add`, `add_batch` and `compute`.

    Raises:
        ValueError: if there is no such metric or variant.

    Example:
        >>> metric = load("jf")
        >>> metric.add_batch(predictions=[masks], references=[true_masks])
        >>> metric.compute()["j_and_f"]
    """
    if name not in EVALUATE_MODULES:
        raise ValueError(f"there is no metric {name!r}, expected one of {', '.join(EVALUATE_MODULES)}")
    module = importlib.import_module(f"hf_rvos.metrics.{name}.{name}")
    return getattr(module, EVALUATE_MODULES[name])(config_name=config_name, **kwargs)


__all__ = [
    "contour_accuracy",
    "evaluate_davis",
    "evaluate_ref_davis",
    "load",
    "merge_objects",
    "region_similarity",
    "score_coco",
    "score_davis_video",
    "score_detections",
    "score_expression",
    "score_expressions",
    "sequence_statistics",
    "summarize_davis",
    "summarize_detections",
    "summarize_expressions",
    "summarize_gres",
    "summarize_ref_davis",
    "summarize_temporal_stability",
]
