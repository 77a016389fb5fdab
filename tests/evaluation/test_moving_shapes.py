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
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import BatchFeature

from hf_rvos.data.moving_shapes import MovingShapesConfig, generate_video
from hf_rvos.evaluation import (
    group_expressions,
    moving_shapes_table,
    score_moving_shapes,
    summarize_moving_shapes,
)


class Answers:
    """Model and processor in one, answering the expressions of a video with given masks."""

    device, training = torch.device("cpu"), True

    def __init__(self, answer):
        self.answer, self.calls = answer, 0

    def eval(self):
        self.training = False

    def train(self, mode):
        self.training = mode

    def __call__(self, videos=None, text=None, return_tensors=None, queries=None, **inputs):
        if videos is None:
            self.inputs = inputs
            assert queries == "best" and not self.training
            self.calls += 1
            return SimpleNamespace()
        self.num_texts = len(text[0])
        return BatchFeature({"pixel_mask": torch.ones(1, 16, 128, 192, dtype=torch.bool)})

    def post_process_referring_video_segmentation(self, outputs, threshold, target_sizes, input_sizes):
        assert input_sizes is None
        assert target_sizes == [(128, 192)] * self.num_texts
        return [{"masks": torch.from_numpy(self.answer(row)), "score": 0.5} for row in range(self.num_texts)]


ALL = MovingShapesConfig(subset="all")
NOTHING = np.zeros((16, 128, 192), dtype=bool)


def truth(index, config=None):
    video = generate_video("val", index, config)
    return lambda row: video.masks(video.rows[row])


def first_row(skill):
    """Index of the first video with such a row, the video, and the number of the row in it."""
    for index in range(50):
        video = generate_video("val", index, ALL)
        for number, row in enumerate(video.rows):
            if row["skill"] == skill:
                return index, video, number


def test_the_truth_scores_100():
    model = Answers(truth(3))
    results = score_moving_shapes(model, model, "val", [3])
    assert {(row["j_mean"], row["f_mean"]) for row in results} == {(1.0, 1.0)}
    assert summarize_moving_shapes(results)["j_and_f"] == 100


def test_no_answer_scores_only_where_the_object_is_hidden():
    model = Answers(lambda row: NOTHING)
    for row, result in enumerate(score_moving_shapes(model, model, "val", [3])):
        assert result["is_empty"]
        assert result["j_mean"] == 1 - truth(3)(row).any((1, 2)).mean()


def test_a_video_goes_through_the_model_once():
    model = Answers(truth(3))
    seen = []
    results = score_moving_shapes(model, model, "val", [3], on_video=seen.append)
    assert len(results) > 1 and model.calls == 1
    assert seen == [results]


def test_an_empty_answer_is_right_where_there_is_no_target():
    index, _, number = first_row("none")
    model = Answers(lambda row: NOTHING)
    result = score_moving_shapes(model, model, "val", [index], config=ALL)[number]
    assert (result["skill"], result["j_mean"], result["f_mean"], result["is_empty"]) == ("none", 1, 1, True)


def test_one_wrong_pixel_costs_its_frame_and_makes_the_answer_count_as_given():
    index, _, number = first_row("none")
    answer = NOTHING.copy()
    answer[3, 60, 60] = True
    model = Answers(lambda row: answer)
    result = score_moving_shapes(model, model, "val", [index], config=ALL)[number]
    assert result["j_mean"] == result["f_mean"] == 15 / 16
    assert not result["is_empty"]


def test_the_target_of_several_is_the_union():
    index, video, number = first_row("several")
    objects = [video.object_map == which + 1 for which in video.rows[number]["object_ids"]]
    assert len(objects) > 1
    whole, one = (
        score_moving_shapes(model, model, "val", [index], config=ALL)[number]
        for model in (Answers(lambda row: np.any(objects, axis=0)), Answers(lambda row: objects[0]))
    )
    assert (whole["skill"], whole["j_mean"], whole["f_mean"]) == ("several", 1, 1)
    area, union = objects[0].sum((1, 2)), np.any(objects, axis=0).sum((1, 2))
    assert one["j_mean"] == pytest.approx(np.where(union, area / np.maximum(union, 1), 1).mean())
    assert one["j_mean"] < 1


def test_training_mode_comes_back():
    model = Answers(truth(3))
    score_moving_shapes(model, model, "val", [3])
    assert model.training


def rows(*groups):
    return [
        {"skill": skill, "phrasing_seen": seen, "j_mean": j, "f_mean": f, "is_empty": empty}
        for skill, seen, j, f, empty in groups
    ]


def test_summary_averages_rows_in_percent():
    summary = summarize_moving_shapes(
        rows(("motion", True, 0.5, 0.7, False), ("motion", False, 0.3, 0.5, False), ("event", True, 1.0, 1.0, False))
    )
    assert summary["j_mean"] == pytest.approx(60)
    assert summary["j_and_f"] == pytest.approx((60 + 220 / 3) / 2)
    assert summary["skill"]["motion"] == pytest.approx({"j_mean": 40, "f_mean": 60, "j_and_f": 50, "num_rows": 2})
    assert summary["phrasing_seen"]["false"]["num_rows"] == 1


def test_rows_without_target_are_judged_by_empty_answers():
    summary = summarize_moving_shapes(rows(("none", True, 1.0, 1.0, True), ("none", True, 0.0, 0.0, False)))
    assert summary["skill"]["none"]["n_accuracy"] == 50
    assert "50.0 %" in moving_shapes_table(summary)


def test_rows_without_target_count_in_the_overall_average():
    summary = summarize_moving_shapes(rows(("motion", True, 0.5, 0.7, False), ("none", True, 1.0, 1.0, True)))
    assert summary["j_and_f"] == pytest.approx((60 + 100) / 2)
    assert summary["skill"]["none"]["j_and_f"] == 100


def test_table_has_a_line_for_each_group():
    table = moving_shapes_table(summarize_moving_shapes(rows(("motion", True, 0.5, 0.7, False))))
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == [
        "overall",
        "motion",
        "phrasing seen: true",
    ]


def test_no_results_are_refused():
    with pytest.raises(ValueError, match="no results"):
        summarize_moving_shapes([])


@pytest.mark.parametrize(
    ("grouping", "groups"),
    [("video", [0, 0, 0, 0, 0]), ("one-per-object", [0, 1, 0, 2, 1]), ("single", [0, 1, 2, 3, 4])],
)
def test_expressions_are_grouped_as_the_protocol_says(grouping, groups):
    assert group_expressions(["dog", "dog", "cat", "dog", "cat"], grouping) == groups


def test_unknown_grouping_is_refused():
    with pytest.raises(ValueError, match="grouping is 'all', expected one of video, one-per-object, single"):
        group_expressions([1], "all")


def test_models_are_told_the_groups():
    model = Answers(lambda row: NOTHING)
    score_moving_shapes(model, model, "val", [3], grouping="single")
    assert model.inputs["group_index"].tolist() == list(range(model.num_texts))
    score_moving_shapes(model, model, "val", [3])
    assert "group_index" not in model.inputs
