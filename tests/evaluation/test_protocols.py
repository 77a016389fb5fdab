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
"""What is compared with what, and how numbers are averaged."""

import json
from functools import partial
from itertools import count

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from hf_rvos.data.benchmark_builder import Report
from hf_rvos.data.custom import read_rows as read_custom
from hf_rvos.data.long_rvos import read_rows as read_long_rvos
from hf_rvos.data.media import load_index_masks, load_masks
from hf_rvos.data.mevis import read_rows as read_mevis
from hf_rvos.data.moving_shapes import MovingShapesConfig
from hf_rvos.data.moving_shapes.builder import build_rows
from hf_rvos.data.ref_davis17 import read_rows as read_ref_davis17
from hf_rvos.data.ref_youtube_vos import read_rows as read_ref_youtube_vos
from hf_rvos.data.refcoco import read_rows as read_refcoco
from hf_rvos.data.revos import read_rows as read_revos
from hf_rvos.evaluation.protocols import (
    AnnotatedFrames,
    PerExpression,
    Pictures,
    RefDavis,
    find_protocol,
    in_percent,
)
from tests.data import roots
from tests.data.sentence_roots import blob, write_custom, write_refcoco
from tests.evaluation.answers import Answers


SINGLE, ALL = MovingShapesConfig(), MovingShapesConfig(subset="all")
READERS = {
    "mevis": (roots.mevis, read_mevis, "valid_u"),
    "revos": (roots.revos, read_revos, "valid"),
    "long_rvos": (roots.long_rvos, read_long_rvos, "valid"),
    "ref_youtube_vos": (roots.ref_youtube_vos, read_ref_youtube_vos, "train"),
}


def read(name, root, split=None):
    write, reader, default = READERS[name]
    write(root)
    return list(reader(root, split or default, Report()))


def davis_rows(root, video="tiny-boat"):
    roots.ref_davis17(root)
    return [row for row in read_ref_davis17(root / "raw", "valid", Report()) if row["video_id"] == video]


def nothing(row):
    return np.zeros((row["num_frames"], row["height"], row["width"]), bool)


def truth(root, row):
    return load_masks(row, root)


def score(protocol, rows, root, answer, **options):
    """Results of rows, video by video."""
    results = []
    for video in dict.fromkeys(row["video_id"] for row in rows):
        of_video = [row for row in rows if row["video_id"] == video]
        results += protocol.score(of_video, root, Answers(answer, **options))
    return results


def first_row(skill):
    """The rows of the first video with a sentence of a kind, and the number of that sentence."""
    for index in range(40):
        rows = build_rows("val", index, ALL)
        for number, row in enumerate(rows):
            if row["skill"] == skill:
                return rows, number


# Which rows are predicted together.


def unit_row(video, annotated_frames=None, mask_kind="rle"):
    return {"video_id": video, "annotated_frames": annotated_frames, "mask_kind": mask_kind}


def test_expressions_of_a_video_are_one_unit_even_if_other_videos_are_between_them():
    rows = Dataset.from_list([unit_row(video) for video in "abacb"])
    assert PerExpression().units(rows) == [[0, 2], [1, 4], [3]]


def test_each_annotated_frame_of_a_video_is_a_unit():
    rows = Dataset.from_list([*(unit_row("a", [frame]) for frame in (3, 5, 3)), unit_row("b", [3])])
    assert AnnotatedFrames().units(rows) == [[0, 2], [1], [3]]


@pytest.mark.parametrize("has_truth, units", [(True, [[1], [2]]), (False, [[0, 1], [2, 3]])])
def test_rows_without_ground_truth_are_left_out_where_others_have_it(has_truth, units):
    kinds = ("none", "rle", "rle", "none")
    rows = Dataset.from_list([unit_row(video, mask_kind=kind) for video, kind in zip("aabb", kinds)])
    assert PerExpression(has_truth).units(rows) == units


def test_a_video_is_predicted_once():
    rows, predictor = build_rows("val", 3, SINGLE), Answers(nothing)
    results = find_protocol("moving_shapes").score(rows, None, predictor)
    assert predictor.asked == [[row["expression_id"] for row in rows]]
    assert len(results) == len(rows) > 1


# Each expression on its own.


@pytest.mark.parametrize("name", READERS)
def test_the_truth_scores_100(tmp_path, name):
    rows, protocol = read(name, tmp_path), find_protocol(name)
    summary = protocol.summarize(score(protocol, rows, tmp_path, partial(truth, tmp_path)))
    assert (summary["j_mean"], summary["f_mean"], summary["j_and_f"]) == (100, 100, 100)


def test_the_truth_of_drawn_videos_scores_100():
    rows, protocol = build_rows("val", 3, SINGLE), find_protocol("moving_shapes")
    results = score(protocol, rows, None, partial(truth, None))
    assert {(result["j_mean"], result["f_mean"]) for result in results} == {(1.0, 1.0)}
    assert protocol.summarize(results)["j_and_f"] == 100


def test_no_answer_scores_only_where_the_object_is_hidden():
    rows = build_rows("val", 3, SINGLE)
    for row, result in zip(rows, score(PerExpression(), rows, None, nothing)):
        assert result["is_empty"]
        assert result["j_mean"] == 1 - load_masks(row).any((1, 2)).mean()


def test_an_empty_answer_is_right_where_there_is_no_target():
    rows, number = first_row("none")
    result = score(find_protocol("moving_shapes"), rows, None, nothing)[number]
    assert (result["expression_type"], result["j_mean"], result["f_mean"]) == ("none", 1, 1)
    assert result["is_empty"] and not result["has_target"]


def test_one_wrong_pixel_costs_its_frame_and_makes_the_answer_count_as_given():
    rows, number = first_row("none")
    answer = nothing(rows[0])
    answer[3, 60, 60] = True
    result = score(PerExpression(), rows, None, lambda row: answer)[number]
    assert result["j_mean"] == result["f_mean"] == 15 / 16
    assert not result["is_empty"]


def test_the_target_of_several_is_the_union():
    rows, number = first_row("several")
    whole = load_masks(rows[number])
    half = whole & (np.arange(whole.shape[2]) < np.nonzero(whole)[2].mean())
    right, wrong = (
        score(PerExpression(), rows, None, lambda row, answer=answer: answer)[number] for answer in (whole, half)
    )
    assert (right["expression_type"], right["j_mean"], right["f_mean"]) == ("several", 1, 1)
    area, union = half.sum((1, 2)), whole.sum((1, 2))
    assert wrong["j_mean"] == pytest.approx(np.where(union, area / np.maximum(union, 1), 1).mean())
    assert wrong["j_mean"] < 1


@pytest.mark.parametrize("clip_length", [1, 5, 7, 16])
def test_a_video_in_several_clips_scores_as_in_one(clip_length):
    rows = build_rows("val", 3, SINGLE)
    answer = lambda row: np.roll(load_masks(row), (2, 3), (1, 2))  # noqa: E731
    parts = score(PerExpression(), rows, None, answer, clip_length=clip_length, score=0.75)
    whole = score(PerExpression(), rows, None, answer, score=0.75)
    for part, one in zip(parts, whole):
        assert part.pop("score") == pytest.approx(one.pop("score")) == 0.75
        assert part == one
    assert 0 < one["j_mean"] < 1


def test_without_truth_there_are_rows_but_no_numbers(tmp_path):
    rows = read("mevis", tmp_path, "valid")
    protocol = find_protocol("mevis", has_truth=False)
    results = score(protocol, rows, tmp_path, nothing, score=0.25)
    assert results[0] == {
        "video_id": "valid9",
        "expression_id": "0",
        "expression": "objects [0] moving",
        "expression_type": None,
        "score": 0.25,
    }
    assert protocol.summarize(results) == {}


def test_results_are_what_json_can_hold(tmp_path):
    rows = read("mevis", tmp_path)
    results = score(find_protocol("mevis"), rows, tmp_path, nothing, score=0.5)
    assert json.loads(json.dumps(results)) == results


def test_frames_without_annotation_do_not_count(tmp_path):
    rows = [row for row in read("ref_youtube_vos", tmp_path) if row["video_id"] == "ff00aa11bb"]
    (tmp_path / rows[0]["mask_dir"] / f"{rows[0]['frames'][2]}.png").unlink()
    rows = [row for row in read_ref_youtube_vos(tmp_path, "train", Report()) if row["video_id"] == "ff00aa11bb"]
    assert rows[0]["annotated_frames"] == [0, 1, 3] and len(rows) == 2

    def answer(row):
        masks = load_masks(row, tmp_path)
        masks[2] = True
        return masks

    for clip_length in (1, 36):
        for result in score(PerExpression(), rows, tmp_path, answer, clip_length=clip_length):
            assert (result["j_mean"], result["f_mean"], result["num_frames"]) == (1, 1, 3)


def test_rows_of_a_video_may_have_masks_in_different_folders(tmp_path):
    ids = write_custom(tmp_path)["ids"]
    (tmp_path / "others").mkdir()
    for path, labels in zip(sorted((tmp_path / "ids/walk").iterdir()), ids):
        Image.fromarray(np.flip(labels, 1).copy()).save(tmp_path / "others" / path.name)
    entries = [
        {"video": "frames/walk", "expression": "the box", "mask_dir": folder, "object_id": 4}
        for folder in ("ids/walk", "others")
    ]
    (tmp_path / "annotations.json").write_text(json.dumps(entries))
    rows = list(read_custom(tmp_path, "train", Report()))
    results = score(PerExpression(), rows, tmp_path, lambda row: ids == 4)
    assert len(results) == 2
    assert results[0]["j_mean"] == 1 > results[1]["j_mean"]


def test_rows_are_averaged_by_type_and_phrasing():
    rows, protocol = first_row("none")[0], find_protocol("moving_shapes")
    results = score(protocol, rows, None, nothing)
    groups = protocol.summarize(results)["groups"]
    types, phrasings = ({row[column] for row in rows} for column in ("skill", "phrasing_seen"))
    assert list(groups) == [
        *sorted(types),
        *(f"phrasing seen: {str(seen).lower()}" for seen in sorted(phrasings)),
    ]
    for name in types:
        of_type = [result["j_and_f"] for result in results if result["expression_type"] == name]
        assert groups[name]["j_and_f"] == pytest.approx(100 * np.mean(of_type))
        assert groups[name]["num_expressions"] == len(of_type)
    for seen in phrasings:
        of_phrasing = [result["j_mean"] for result in results if result["phrasing_seen"] == seen]
        assert groups[f"phrasing seen: {str(seen).lower()}"]["j_mean"] == pytest.approx(100 * np.mean(of_phrasing))


NUMBERS = count()


def result(j_and_f, has_target=True, is_empty=False, **columns):
    keys = ("j_mean", "f_mean", "j_variance", "j_and_f_variance", "t_iou", "v_iou", "accuracy", "robustness")
    return {
        **dict.fromkeys(keys, j_and_f),
        "j_and_f": j_and_f,
        "has_target": has_target,
        "is_empty": is_empty,
        "num_frames": 4,
        "video_id": "a",
        "expression_id": str(next(NUMBERS)),
        "expression_type": None,
        **columns,
    }


def test_expressions_without_a_target_bring_the_numbers_of_mevis():
    results = [result(0.5), result(0.9, is_empty=True), result(1.0, has_target=False, is_empty=True)]
    summary = PerExpression().summarize([*results, result(0.0, has_target=False)])
    assert summary["j_and_f"] == pytest.approx(60)
    assert summary["j_and_f_target"] == pytest.approx(70)
    assert (summary["n_acc"], summary["t_acc"]) == (50, 50)
    assert summary["final"] == pytest.approx(160 / 3)


def test_where_all_have_a_target_there_is_no_n_acc():
    assert "n_acc" not in PerExpression().summarize([result(0.5)])


def test_mevis_always_has_its_numbers_and_nan_for_the_mean_of_nothing():
    summary = find_protocol("mevis").summarize([result(0.5)])
    assert summary["t_acc"] == 100 and np.isnan(summary["n_acc"])


def test_revos_is_the_mean_of_two_types():
    results = [result(0.5, expression_type="0"), result(0.7, expression_type="0"), result(0.2, expression_type="1")]
    summary = find_protocol("revos").summarize(results)
    assert summary["j_and_f"] == pytest.approx(40)
    assert {name: group["num_expressions"] for name, group in summary["groups"].items()} == {
        "referring": 2,
        "reasoning": 1,
    }


def test_types_that_revos_does_not_publish_do_not_count():
    results = [result(0.5, expression_type=kind) for kind in "01"]
    assert find_protocol("revos").summarize([*results, result(1.0, expression_type="2")])["j_and_f"] == 50


def test_robustness_of_revos_counts_the_objects_of_the_whole_video(tmp_path):
    rows = read("revos", tmp_path)
    everything = load_masks(rows[1], tmp_path)
    assert (load_masks(rows[0], tmp_path) != everything).any()

    def robustness():
        return score(find_protocol("revos"), rows, tmp_path, lambda row: everything)[0]["robustness"]

    def write(foreground):
        codes = {"part_b/clip_2": {"masks_rle": roots.mask_codes(foreground)}}
        (tmp_path / "mask_dict_foreground.json").write_text(json.dumps(codes))

    write(load_masks(rows[0], tmp_path))
    of_target = robustness()
    write(everything)
    assert robustness() > of_target


def test_robustness_of_revos_is_unknown_without_the_objects_of_the_video(tmp_path):
    rows = read("revos", tmp_path)
    (tmp_path / "mask_dict_foreground.json").unlink(missing_ok=True)
    result = score(find_protocol("revos"), rows, tmp_path, nothing)[0]
    assert np.isnan(result["robustness"]) and not np.isnan(result["accuracy"])


@pytest.mark.parametrize(
    "dataset, titles", [("long_rvos", ["tIoU", "vIoU"]), ("revos", ["accuracy", "robustness"]), ("mevis", ["final"])]
)
def test_tables_have_the_numbers_of_each_benchmark(dataset, titles):
    assert list(find_protocol(dataset).columns.values())[-len(titles) :] == titles


def test_no_results_are_refused():
    with pytest.raises(ValueError, match="rows is empty"):
        PerExpression().summarize([])


def test_shares_become_percent_and_other_numbers_stay():
    numbers = {"j_mean": 0.5, "num_expressions": 2, "j_variance": 0.25, "map": -1.0, "is_empty": True, "name": "x"}
    assert in_percent(numbers) == numbers | {"j_mean": 50.0}


# Ref-DAVIS17.


def test_the_truth_of_davis_scores_100(tmp_path):
    rows, protocol = davis_rows(tmp_path), find_protocol("ref_davis17")
    results = score(protocol, rows, tmp_path / "raw", partial(truth, tmp_path / "raw"))
    # Three objects are there, and two have sentences.
    summary = protocol.summarize([result for result in results if result["object_id"] < 3])
    assert (summary["j_and_f"], summary["j_mean"], summary["f_mean"], summary["j_recall"]) == (100, 100, 100, 100)


def test_objects_without_a_sentence_count(tmp_path):
    rows = davis_rows(tmp_path)
    results = score(RefDavis(), rows, tmp_path / "raw", partial(truth, tmp_path / "raw"))
    assert {(result["annotation_pass"], result["object_id"]) for result in results} == {
        (annotator, number) for annotator in range(4) for number in (1, 2, 3)
    }
    assert {result["j_mean"] for result in results if result["object_id"] == 3} == {0.0}
    assert {(result["expression_id"], result["expression"]) for result in results if result["object_id"] == 3} == {
        (None, None)
    }


def test_results_of_objects_name_the_sentence_of_their_pass(tmp_path):
    rows = davis_rows(tmp_path)
    results = score(RefDavis(), rows, tmp_path / "raw", partial(truth, tmp_path / "raw"))
    named = {result["expression_id"]: result for result in results}
    for row in rows:
        result = named[row["expression_id"]]
        assert result["expression"] == row["expression"]
        assert (str(result["annotation_pass"]), [result["object_id"]]) == (row["expression_type"], row["object_ids"])


class Maps(Answers):
    """Says maps of objects that are known."""

    def __init__(self, maps):
        super().__init__(lambda row: maps)

    def clips(self, rows, root=None):
        for clip in super().clips(rows, root):
            clip.label_maps = self.label_maps
            yield clip

    def label_maps(self, groups):
        return [self.answer(None) for _ in groups]


def test_swapped_ids_are_forgiven(tmp_path):
    rows = davis_rows(tmp_path)
    labels = load_index_masks(rows[0], tmp_path / "raw")
    labels[labels == 255] = 0
    swapped = np.array([0, 2, 3, 1], np.uint8)[labels]
    straight, turned = (RefDavis().score(rows, tmp_path / "raw", Maps(maps)) for maps in (labels, swapped))
    assert [row["j_and_f"] for row in turned] == [row["j_and_f"] for row in straight] == [1.0] * 12
    assert [row["pred_id"] for row in turned[:3]] == [2, 3, 1]


def test_swapped_ids_are_wrong_if_numbers_matter(tmp_path):
    rows = davis_rows(tmp_path)
    swapped = np.array([0, 2, 3, 1], np.uint8)[load_index_masks(rows[0], tmp_path / "raw") % 255]
    protocol = find_protocol("ref_davis17", matching="id")
    assert protocol.settings["matching"] == "id"
    assert max(row["j_mean"] for row in protocol.score(rows, tmp_path / "raw", Maps(swapped))) < 1


def test_void_is_left_out(tmp_path):
    rows = davis_rows(tmp_path)
    labels = load_index_masks(rows[0], tmp_path / "raw")
    assert (labels == 255).any()
    filled = np.where(labels == 255, 1, labels)
    assert {row["j_mean"] for row in RefDavis().score(rows, tmp_path / "raw", Maps(filled))} == {1.0}


def test_sentences_of_each_pass_are_merged_in_the_order_of_objects(tmp_path):
    rows, asked = davis_rows(tmp_path), []

    class Noting(Maps):
        def label_maps(self, groups):
            asked.append(groups)
            return super().label_maps(groups)

    RefDavis().score(rows, tmp_path / "raw", Noting(nothing(rows[0]).astype(np.uint8)))
    texts = [[rows[index]["expression_raw"].strip() for index in group] for group in asked[0]]
    assert texts == [[f'the "caf\u00e9" {number} pass {annotator}' for number in (1, 2)] for annotator in range(4)]


def test_davis_is_the_mean_over_passes_of_the_means_over_objects():
    keys = [f"{name}_{key}" for name in "jf" for key in ("mean", "recall", "decay")]
    results = [
        {"video_id": "a", "annotation_pass": annotator, **dict.fromkeys(keys, value)}
        for annotator, values in enumerate(((0.2, 0.4), (0.9, 0.7), (0.5, 0.5), (0.1, 0.1)))
        for value in values
    ]
    summary = RefDavis().summarize(results)
    assert summary["j_and_f"] == pytest.approx((30 + 80 + 50 + 10) / 4)
    assert [group["j_mean"] for group in summary["groups"].values()] == pytest.approx([30, 80, 50, 10])


def test_davis_needs_a_sentence_of_each_pass_for_each_object(tmp_path):
    rows = davis_rows(tmp_path)
    with pytest.raises(ValueError, match="expected 4 for each, one of each pass; the protocol 'per-expression'"):
        RefDavis().units(Dataset.from_list(rows[:-1]))


# Single frames.


def frame_rows(frame=0, num_frames=8):
    """Two rows of one annotated frame, with masks in the rows."""
    rng = np.random.default_rng(0)
    masks = np.zeros((2, num_frames, 24, 32), bool)
    masks[:, frame] = blob(rng), blob(rng)
    return [
        {
            "dataset": "a2d_sentences",
            "video_id": "v",
            "expression_id": str(number),
            "expression": "x",
            "frames": [str(index) for index in range(num_frames)],
            "num_frames": num_frames,
            "height": 24,
            "width": 32,
            "annotated_frames": [frame],
            "mask_kind": "rle",
            "mask_dir": None,
            "masks": roots.mask_codes(track),
            "boxes": None,
        }
        for number, track in enumerate(masks)
    ]


@pytest.mark.parametrize(
    "model_type, frame, window, position",
    [
        ("referformer", 4, [2, 3, 4, 5, 6], 2),
        ("referformer", 0, [0, 0, 0, 1, 2], 0),
        ("sgmg", 7, [5, 6, 7, 7, 7], 2),
        ("soc", 4, [0, 1, 2, 3, 4, 5, 6, 7], 4),
        ("soc", 0, [0, 0, 0, 0, 0, 1, 2, 3], 4),
        (None, 4, [2, 3, 4, 5, 6], 2),
    ],
)
def test_models_see_the_window_that_they_were_published_with(model_type, frame, window, position):
    predictor = Answers(nothing)
    find_protocol("a2d_sentences", model_type=model_type).score(frame_rows(frame), None, predictor)
    assert predictor.windows == [(window, position)]


def test_another_window_keeps_the_place_of_the_frame_in_it():
    predictor = Answers(nothing)
    protocol = find_protocol("a2d_sentences", model_type="soc", window=4)
    protocol.score(frame_rows(4), None, predictor)
    assert predictor.windows == [([2, 3, 4, 5], 2)] and protocol.settings["window"] == 4


@pytest.mark.parametrize("model_type, resized", [("sgmg", True), ("fast_sgmg", True), ("soc", False), (None, False)])
@pytest.mark.parametrize("dataset", ["jhmdb_sentences", "refcocog"])
def test_masks_are_enlarged_as_each_model_was_published(dataset, model_type, resized):
    assert find_protocol(dataset, model_type=model_type).resize_logits is resized


def test_the_truth_of_an_annotated_frame_scores_100():
    protocol, rows = find_protocol("jhmdb_sentences"), frame_rows(3)
    summary = protocol.summarize(protocol.score(rows, None, Answers(load_masks)))
    assert summary["num_samples"] == 2
    assert summary["precision_at_0.9"] == summary["overall_iou"] == 100
    assert summary["mean_iou"] == pytest.approx(100, abs=1e-4)  # of numbers in float32
    assert summary["map"] == pytest.approx(100)


def test_only_the_annotated_frame_is_compared():
    rows = frame_rows(3)

    def answer(row):
        masks = ~load_masks(row)
        masks[3] = load_masks(row)[3]
        return masks

    assert {row["iou"] for row in AnnotatedFrames().score(rows, None, Answers(answer))} == {1.0}


def picture_rows(root):
    write_refcoco(root)
    return list(read_refcoco(root, "train", Report(), name="refcoco", split_by="unc"))


def test_pictures_are_seen_alone_and_scored_as_single_frames(tmp_path):
    rows, protocol = picture_rows(tmp_path), find_protocol("refcoco")
    assert isinstance(protocol, Pictures)
    predictor, results = Answers(partial(truth, tmp_path)), []
    for unit in protocol.units(Dataset.from_list(rows)):
        results += protocol.score([rows[index] for index in unit], tmp_path, predictor)
    assert {(tuple(window), position) for window, position in predictor.windows} == {((0,), 0)}
    assert protocol.summarize(results)["overall_iou"] == 100


def box_scores(rows, root, box):
    summary = Pictures().summarize(score(Pictures(), rows, root, nothing, box=box))
    return [summary.get(f"box_{name}") for name in ("precision_at_0.5", "overall_iou", "mean_iou")]


def test_true_boxes_of_pictures_score_100_whatever_the_masks(tmp_path):
    found = box_scores(picture_rows(tmp_path), tmp_path, lambda row: row["boxes"][0])
    assert found == pytest.approx([100, 100, 100], abs=1e-4)  # means of numbers in float32


# A box of 30x20 pixels, moved to the right.
@pytest.mark.parametrize("shift, precision, iou", [(10, 0, 20 / 40), (9, 100, 21 / 39), (30, 0, 0)])
def test_a_box_beside_the_true_one_has_the_known_score(tmp_path, shift, precision, iou):
    rows = picture_rows(tmp_path)
    assert [row["boxes"] for row in rows] == [[[0, 0, 30, 20]]] * 2
    found = box_scores(rows, tmp_path, lambda row: [shift, 0, 30 + shift, 20])
    assert found == pytest.approx([precision, 100 * iou, 100 * iou], abs=1e-4)


@pytest.mark.parametrize("lacking", ["predicted", "true"])
def test_without_boxes_there_are_no_numbers_of_boxes(tmp_path, lacking):
    rows = picture_rows(tmp_path)
    if lacking == "true":
        rows = [row | {"boxes": None} for row in rows]
    box = None if lacking == "predicted" else (lambda row: [0, 0, 1, 1])
    assert box_scores(rows, tmp_path, box) == [None, None, None]


# Which protocol.


@pytest.mark.parametrize(
    "dataset, protocol, kind, column",
    [
        ("ref_davis17", "official", RefDavis, "expression_raw"),
        ("ref_davis17", "per-expression", PerExpression, "expression_raw"),
        ("ref_youtube_vos", "official", PerExpression, "expression_raw"),
        ("mevis", "official", PerExpression, "expression"),
        ("custom", "official", PerExpression, "expression"),
        ("a2d_sentences", "official", AnnotatedFrames, "expression"),
        ("refcoco+", "official", Pictures, "expression"),
    ],
)
def test_each_benchmark_has_its_protocol_and_text(dataset, protocol, kind, column):
    found = find_protocol(dataset, protocol)
    assert type(found) is kind
    assert found.text_column == column


def test_davis_without_truth_is_not_merged():
    assert isinstance(find_protocol("ref_davis17", has_truth=False), PerExpression)


def test_an_unknown_protocol_is_refused():
    with pytest.raises(ValueError, match="protocol is 'offical', expected one of official, per-expression"):
        find_protocol("mevis", "offical")


@pytest.mark.parametrize("dataset", ["a2d_sentences", "refcoco"])
def test_single_frames_have_no_other_protocol(dataset):
    with pytest.raises(ValueError, match=f"{dataset} has one frame for each expression, expected 'official'"):
        find_protocol(dataset, "per-expression")


@pytest.mark.parametrize(
    "dataset, option", [("mevis", {"window": 5}), ("mevis", {"matching": "id"}), ("refcoco", {"window": 5})], ids=str
)
def test_options_without_a_meaning_are_refused(dataset, option):
    with pytest.raises(ValueError, match=f"{next(iter(option))}: has no meaning for {dataset}"):
        find_protocol(dataset, **option)


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="window is 0, expected at least 1 frame"):
        find_protocol("a2d_sentences", window=0)
    with pytest.raises(ValueError, match="matching is 'best', expected one of official, id"):
        find_protocol("ref_davis17", matching="best")
