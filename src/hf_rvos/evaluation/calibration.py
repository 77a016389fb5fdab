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
"""The score above which a sentence is taken to describe something in the video."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import gather_object

from hf_rvos.evaluation.prediction import ModelPredictor
from hf_rvos.evaluation.run import Benchmark, process_state
from hf_rvos.utils.files import replace_when_done


RESULT_KEYS = ("score", "is_empty", "has_target")
NUM_SHOWN = 9  # rows of a table besides the best one


@dataclass(frozen=True)
class Trial:
    """What a threshold does.

    Args:
        score_threshold: Score up to which a sentence gets empty masks.
        n_acc: Share of the sentences without a target that have empty masks.
        t_acc: Share of the others that have not.
    """

    score_threshold: float
    n_acc: float
    t_acc: float

    @property
    def mean(self) -> float:
        return (self.n_acc + self.t_acc) / 2


def score_sentences(
    benchmark: Benchmark, predictor: ModelPredictor, on_video: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """Results of all sentences of a benchmark, each answered, on all processes of the run, which share the videos.

    Args:
        benchmark: What to ask for.
        predictor: Of the model, without a threshold and for one target: the best query is the last one to fall.
        on_video: Called after each video with the number of those finished by this process, and of all it has to do.

    Returns:
        Dicts with `score`, `is_empty` and `has_target`, the same on each process.

    Raises:
        ValueError: if the data set cannot be read, or all its sentences have a target or none has.
    """
    state = process_state()
    with state.main_process_first():  # which makes the caches of the data
        loaded = benchmark.load(predictor.model_type)
    _refuse_one_kind(benchmark, (bool(row["object_ids"]) for row in loaded.chosen()))
    predictor.prepare(loaded.chosen(), loaded.protocol)
    results = []
    mine = range(state.process_index, len(loaded.units), state.num_processes)
    for count, number in enumerate(mine, start=1):
        results += [{key: result.get(key) for key in RESULT_KEYS} for result in loaded.score(number, predictor)]
        if on_video is not None:
            on_video(count, len(mine))
    results = gather_object(results)
    _refuse_one_kind(benchmark, (result["has_target"] for result in results))
    return results


def _refuse_one_kind(benchmark: Benchmark, have_target: Iterable[bool | None]) -> None:
    if {*have_target} != {True, False}:
        raise ValueError(
            f"{benchmark.name}, {benchmark.split}: a threshold needs sentences with and without a target, such "
            "as those of moving_shapes with config_name=all or of mevis"
        )


def try_thresholds(results: Sequence[Mapping[str, Any]]) -> list[Trial]:
    """Every threshold that makes a difference: none, and one between any two neighbouring scores.

    Args:
        results: Of `score_sentences`.

    Returns:
        Trials with rising thresholds.
    """
    scores = np.array([result["score"] for result in results])
    is_empty = np.array([result["is_empty"] for result in results])
    has_target = np.array([result["has_target"] for result in results])
    levels = np.unique(scores)
    trials = []
    for threshold in [0.0, *(levels[:-1] + levels[1:]) / 2]:
        is_answered = ~is_empty & (scores > threshold)
        n_acc, t_acc = np.mean(~is_answered[~has_target]), np.mean(is_answered[has_target])
        trials.append(Trial(float(threshold), float(n_acc), float(t_acc)))
    return trials


def best_trial(trials: Sequence[Trial]) -> Trial:
    """The trial with the highest mean of N-acc and T-acc, the lowest threshold of equal ones."""
    return max(trials, key=lambda trial: (trial.mean, -trial.score_threshold))


def trials_table(trials: Sequence[Trial]) -> str:
    """Some of the trials and the best one, in Markdown and in percent."""
    best = best_trial(trials)
    step = max(1, math.ceil(len(trials) / NUM_SHOWN))
    shown = sorted({*trials[::step], best}, key=lambda trial: trial.score_threshold)
    lines = ["| score threshold | N-acc | T-acc | mean |  |", "|---:|---:|---:|---:|---|"]
    for trial in shown:
        numbers = " | ".join(f"{100 * value:.1f}" for value in (trial.n_acc, trial.t_acc, trial.mean))
        lines.append(f"| {trial.score_threshold:.4f} | {numbers} | {'best' if trial == best else ''} |")
    return "\n".join(lines)


def save_score_threshold(folder: Path, score_threshold: float) -> None:
    """Write a threshold into the configuration in the folder of a saved model; nothing else of it changes."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["score_threshold"] = score_threshold
    with replace_when_done(path) as temporary:
        temporary.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
