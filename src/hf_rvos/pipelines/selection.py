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
"""Which of the queries of a model answer a sentence, and whether there is an answer at all."""

from typing import Any


def check_threshold(threshold: float) -> float:
    """Return `threshold`, or raise ValueError if it is not inside (0, 1)."""
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold}, expected a probability between 0 and 1, both excluded")
    return threshold


def check_score_threshold(score_threshold: float | str | None) -> float | str | None:
    """Return `score_threshold`, or raise ValueError if it is not None, `"auto"` or in [0, 1)."""
    is_number = isinstance(score_threshold, (int, float)) and not isinstance(score_threshold, bool)
    if score_threshold is None or score_threshold == "auto" or (is_number and 0 <= score_threshold < 1):
        return score_threshold
    raise ValueError(f'score_threshold is {score_threshold!r}, expected None, "auto" or a probability below 1')


def choose_multi_target(config: Any, multi_target: bool | str) -> bool:
    """Whether a sentence may be answered with several objects.

    Args:
        config: Of the model.
        multi_target: True, False or `"auto"` for what the configuration says.

    Raises:
        ValueError: if the model has one answer for each sentence, and several are asked for.
    """
    if multi_target == "auto":
        return getattr(config, "multi_target", False)
    if not isinstance(multi_target, bool):
        raise ValueError(f'multi_target is {multi_target!r}, expected True, False or "auto"')
    if multi_target and not hasattr(config, "multi_target"):
        raise ValueError(f"multi_target: a model of type {config.model_type!r} finds one object for each sentence")
    return multi_target


def choose_score_threshold(config: Any, score_threshold: float | str | None, multi_target: bool) -> float | None:
    """Score above which something is an answer; None if the best query is one in any case.

    Args:
        config: Of the model.
        score_threshold: None, `"auto"` for what the configuration says, or a number. With several targets, which are
            told by their scores, None means `"auto"`.
        multi_target: Whether there may be several targets.

    Raises:
        ValueError: if several targets need a threshold, and there is none.
    """
    check_score_threshold(score_threshold)
    if score_threshold == "auto" or (score_threshold is None and multi_target):
        score_threshold = config.score_threshold
    if multi_target and score_threshold is None:
        raise ValueError("score_threshold: several targets need one, and the configuration of the model has none")
    return score_threshold
