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
import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from hf_rvos import SocConfig
from hf_rvos.evaluation import calibration
from hf_rvos.evaluation.calibration import (
    best_trial,
    save_score_threshold,
    score_sentences,
    trials_table,
    try_thresholds,
)
from hf_rvos.evaluation.prediction import ModelPredictor
from hf_rvos.evaluation.run import Benchmark
from tests.data import roots
from tests.tiny_segmenter import tiny_model, tiny_processor


def results(*sentences):
    names = ("score", "has_target", "is_empty")
    return [dict(zip(names, (*sentence, False)[:3])) for sentence in sentences]


def test_the_best_threshold_is_between_what_is_there_and_what_is_not():
    best = best_trial(try_thresholds(results((0.9, True), (0.6, True), (0.4, False), (0.1, False))))
    assert best.score_threshold == pytest.approx(0.5) and best.n_acc == best.t_acc == best.mean == 1


def test_each_kind_of_sentence_counts_the_same_however_many_there_are():
    found = try_thresholds(results((0.9, True), (0.3, True), (0.5, False), *[(0.2, True)] * 4))
    assert [(trial.n_acc, trial.t_acc) for trial in found] == [(0, 1), (0, 2 / 6), (0, 1 / 6), (1, 1 / 6)]
    assert best_trial(found).mean == pytest.approx(7 / 12)


def test_without_a_threshold_only_empty_masks_say_that_nothing_is_there():
    first, *_ = try_thresholds(results((0.9, True), (0.8, True, True), (0.7, False), (0.6, False, True)))
    assert (first.score_threshold, first.n_acc, first.t_acc) == (0, 0.5, 0.5)


def test_the_table_has_the_best_threshold_and_a_few_others():
    sentences = [(number / 100, number > 40) for number in range(1, 100)]
    lines = trials_table(try_thresholds(results(*sentences))).splitlines()
    assert len(lines) <= 2 + 9 + 1
    assert [line for line in lines if "best" in line] == ["| 0.4050 | 100.0 | 100.0 | 100.0 | best |"]


def test_only_the_threshold_of_a_saved_configuration_changes(tmp_path):
    SocConfig().save_pretrained(tmp_path)
    before = json.loads((tmp_path / "config.json").read_text())
    save_score_threshold(tmp_path, 0.25)
    assert json.loads((tmp_path / "config.json").read_text()) == before | {"score_threshold": 0.25}
    assert SocConfig.from_pretrained(tmp_path).score_threshold == 0.25
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_scores_are_those_of_the_sentences_of_a_benchmark(tmp_path):
    roots.mevis(tmp_path)
    told = []
    predictor = ModelPredictor(tiny_model(), tiny_processor())
    found = score_sentences(Benchmark("mevis", tmp_path, "train"), predictor, lambda *numbers: told.append(numbers))
    assert len(found) == 8 and {result["has_target"] for result in found} == {True, False}
    assert all(0 < result["score"] < 1 for result in found) and told == [(1, 2), (2, 2)]


def test_sentences_that_all_have_a_target_are_refused():
    predictor = ModelPredictor(tiny_model(), tiny_processor())
    with pytest.raises(ValueError, match="moving_shapes, val: a threshold needs sentences with and without a target"):
        score_sentences(Benchmark("moving_shapes", None, "val", limit=1), predictor)


def test_processes_share_the_videos(tmp_path, monkeypatch):
    roots.mevis(tmp_path)
    benchmark, predictor = Benchmark("mevis", tmp_path, "train"), ModelPredictor(tiny_model(), tiny_processor())
    expected, gathered = score_sentences(benchmark, predictor), []

    def gather(results):
        gathered.append(results)
        return expected

    for index in range(2):
        state = SimpleNamespace(process_index=index, num_processes=2, main_process_first=nullcontext)
        monkeypatch.setattr(calibration, "process_state", lambda state=state: state)
        monkeypatch.setattr(calibration, "gather_object", gather)
        score_sentences(benchmark, predictor)
    assert gathered[0] + gathered[1] == expected and all(gathered)
