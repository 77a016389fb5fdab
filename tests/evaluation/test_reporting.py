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
"""Tables, charts and pictures of what went wrong."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from hf_rvos.data.a2d_sentences import read_rows as read_a2d
from hf_rvos.data.benchmark_builder import Report
from hf_rvos.data.media import load_clip, load_index_masks, load_masks
from hf_rvos.data.moving_shapes import MovingShapesConfig
from hf_rvos.data.moving_shapes.builder import build_rows
from hf_rvos.data.ref_davis17 import read_rows as read_ref_davis17
from hf_rvos.data.refcoco import read_rows as read_refcoco
from hf_rvos.data.revos import read_rows as read_revos
from hf_rvos.evaluation.protocols import AnnotatedFrames, PerExpression, Pictures, RefDavis, find_protocol
from hf_rvos.evaluation.reporting import draw_worst, markdown_table, save_chart
from hf_rvos.utils.visualization import PALETTE, draw_comparison
from tests.data import roots
from tests.data.sentence_roots import write_a2d, write_refcoco
from tests.evaluation.answers import Answers


COLUMNS = {"num_expressions": "number", "j_and_f": "J&F"}
SUMMARY = {"num_expressions": 12, "j_and_f": 61.26, "groups": {"motion": {"num_expressions": 3, "j_and_f": 7.0}}}


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_the_table_has_a_line_for_all_and_for_each_group():
    head, _, *lines = cells(markdown_table(SUMMARY, COLUMNS))
    assert head == ["rows of", "number", "J&F"]
    assert lines == [["overall", "12", "61.3"], ["motion", "3", "7.0"]]


def test_lines_of_the_table_are_equally_long():
    first, _, *others = markdown_table(SUMMARY, COLUMNS).splitlines()
    assert {len(line) for line in others} == {len(first)}


def test_columns_that_no_line_has_are_left_out_and_others_may_be_unknown():
    columns = {**COLUMNS, "n_acc": "N-acc", "t_acc": "T-acc"}
    head, _, *lines = cells(markdown_table(SUMMARY | {"n_acc": float("nan")}, columns))
    assert head == ["rows of", "number", "J&F", "N-acc"]
    assert [line[-1] for line in lines] == ["-", "-"]


def test_a_summary_without_groups_has_one_line():
    columns = AnnotatedFrames.columns
    assert len(markdown_table(dict.fromkeys(columns, 1.0), columns).splitlines()) == 3


def colors_of(path):
    with Image.open(path) as chart:
        return set(map(tuple, np.asarray(chart.convert("RGB")).reshape(-1, 3).tolist()))


def test_a_chart_has_bars_of_a_colour_for_each_evaluation(tmp_path):
    save_chart(tmp_path / "chart.png", {"a": SUMMARY, "b": SUMMARY}, "j_and_f", "title", "J&F")
    assert colors_of(tmp_path / "chart.png") >= set(PALETTE[:2])
    save_chart(tmp_path / "chart.png", {"a": SUMMARY}, "j_and_f", "title", "J&F")
    assert PALETTE[1] not in colors_of(tmp_path / "chart.png")


def test_a_chart_has_no_bar_for_a_mean_of_nothing(tmp_path):
    unknown = {"j_and_f": float("nan"), "groups": {"motion": {"j_and_f": float("nan")}}}
    save_chart(tmp_path / "chart.png", {"a": SUMMARY, "b": unknown}, "j_and_f", "title", "J&F")
    assert PALETTE[0] in colors_of(tmp_path / "chart.png")


# The worst rows.


@pytest.fixture(scope="module")
def videos():
    return [build_rows("val", index, MovingShapesConfig()) for index in range(2)]


def half(row):
    masks = load_masks(row)
    masks[8:] = False
    return masks


@pytest.fixture(scope="module")
def results(videos):
    protocol = find_protocol("moving_shapes")
    return [
        {"video": number, **result}
        for number, rows in enumerate(videos)
        for result in protocol.score(rows, None, Answers(half))
    ]


def draw(folder, results, videos, number, **options):
    predictor = Answers(half, **options)
    draw_worst(folder / "worst", results, PerExpression(), videos.__getitem__, None, predictor, number)
    return sorted(path.name for path in (folder / "worst").iterdir())


def picture(folder, name):
    with Image.open(folder / "worst" / name) as image:
        return np.asarray(image)


def test_the_worst_rows_are_drawn_in_their_order(results, videos, tmp_path):
    ranked = sorted(results, key=lambda result: result["j_and_f"])
    assert draw(tmp_path, results, videos, 3) == [
        f"{rank:02d}_{result['video_id']}_{result['expression_id']}.png"
        for rank, result in enumerate(ranked[:3], start=1)
    ]


@pytest.mark.parametrize("clip_length", [1, 5, 36])
def test_a_picture_shows_four_frames_of_the_whole_video_whatever_the_clips(results, videos, tmp_path, clip_length):
    (name,) = draw(tmp_path, results, videos, 1, clip_length=clip_length)
    worst = min(results, key=lambda result: result["j_and_f"])
    rows = videos[worst["video"]]
    row = next(row for row in rows if row["expression_id"] == worst["expression_id"])
    shown = [0, 5, 10, 15]
    scores = f"J&F {100 * worst['j_and_f']:.1f} (J {100 * worst['j_mean']:.1f}, F {100 * worst['f_mean']:.1f})"
    lines = [
        row["expression"],
        f"{scores}, {row['video_id']}, expression {row['expression_id']}; bright: predicted, white line: true",
    ]
    expected = draw_comparison(load_clip(row, None, shown), half(row)[shown], load_masks(row)[shown], lines)
    assert np.array_equal(picture(tmp_path, name), expected)


def test_only_frames_that_count_are_shown(videos, tmp_path):
    row = videos[0][0] | {"annotated_frames": [1, 2, 7]}
    shown = PerExpression().show(worthless([row])[0], [row], None, Answers(half))
    assert shown.positions == [1, 2, 7]
    assert np.array_equal(shown.predicted, half(row)[[1, 2, 7]]) and shown.target.any()


def worthless(rows):
    return PerExpression().score(rows, None, Answers(lambda row: ~load_masks(row)))


def test_equally_bad_results_are_drawn_in_their_order(videos, tmp_path):
    results = [{"video": 1, **result, "j_and_f": 0.0} for result in worthless(videos[1])]
    assert draw(tmp_path, results, videos, 2) == [
        f"{rank:02d}_{result['video_id']}_{result['expression_id']}.png"
        for rank, result in enumerate(results[:2], start=1)
    ]


def test_pictures_of_an_earlier_run_go_and_other_files_stay(results, videos, tmp_path):
    draw(tmp_path, results, videos, 2)
    (tmp_path / "worst" / "notes.txt").write_text("mine")
    assert [name[:2] for name in draw(tmp_path, results, videos, 1)] == ["01", "no"]


def test_all_rows_are_drawn_if_there_are_fewer(results, videos, tmp_path):
    few = results[:2]
    assert len(draw(tmp_path, few, videos, 9)) == 2


def test_a_video_of_one_frame_whose_name_has_two_parts_is_drawn(tmp_path):
    roots.revos(tmp_path)
    (first, *_) = read_revos(tmp_path, "valid", Report())
    row = first | {"frames": first["frames"][:1], "num_frames": 1, "masks": first["masks"][:1]}
    predictor = Answers(lambda row: load_masks(row))
    results = [{"video": 0, **result} for result in PerExpression().score([row], tmp_path, predictor)]
    draw_worst(tmp_path / "worst", results, PerExpression(), lambda number: [row], tmp_path, predictor, 1)
    assert [path.name for path in (tmp_path / "worst").iterdir()] == ["01_part_b-clip_2_0.png"]


# The worst objects of Ref-DAVIS17, and the worst single frames.


@pytest.fixture(scope="module")
def davis(tmp_path_factory):
    """Root and rows of a video with three objects, two of which have sentences, and what is predicted."""
    folder = tmp_path_factory.mktemp("davis")
    roots.ref_davis17(folder)
    rows = [row for row in read_ref_davis17(folder / "raw", "valid", Report()) if row["video_id"] == "tiny-boat"]

    def answer(row):
        masks = load_masks(row, folder / "raw")
        return masks if row["expression_type"] != "2" or row["object_ids"] == [1] else np.roll(masks, 2, 2)

    return folder / "raw", rows, answer


@pytest.mark.parametrize("clip_length", [1, 36])
def test_the_worst_objects_of_davis_are_drawn_with_the_sentence_of_their_pass(davis, tmp_path, clip_length):
    root, rows, answer = davis
    predictor = Answers(answer, clip_length)
    results = [{"video": 0, **result} for result in RefDavis().score(rows, root, predictor)]
    draw_worst(tmp_path / "worst", results, RefDavis(), lambda number: rows, root, predictor, 5)
    names = sorted(path.name for path in (tmp_path / "worst").iterdir())
    assert names == [
        *(f"0{number + 1}_tiny-boat_pass_{number}_object_3.png" for number in range(4)),  # which have no sentence
        "05_tiny-boat_pass_2_object_2.png",
    ]
    (row,) = (row for row in rows if row["expression_type"] == "2" and row["object_ids"] == [2])
    (result,) = (result for result in results if result["expression_id"] == row["expression_id"])
    scores = [f"{100 * result[key]:.1f}" for key in ("j_and_f", "j_mean", "f_mean")]
    lines = [
        row["expression"],
        f"J&F {scores[0]} (J {scores[1]}, F {scores[2]}), tiny-boat, pass 2, object 2; bright: predicted, white line: "
        "true",
    ]
    first = load_masks(next(row for row in rows if row["object_ids"] == [1]), root)
    labels = np.where(answer(row), 2, first)  # later objects are in front
    target = load_index_masks(row, root) == 2
    expected = draw_comparison(load_clip(row, root), labels == result["pred_id"], target, lines)
    assert np.array_equal(picture(tmp_path, names[4]), expected)


def test_an_object_to_which_nothing_is_assigned_has_an_empty_mask(davis):
    root, rows, answer = davis
    result = RefDavis().score(rows, root, Answers(answer))[2]
    assert (result["object_id"], result["pred_id"], result["expression"]) == (3, None, None)
    shown = RefDavis().show(result, rows, root, Answers(answer))
    assert shown.text == "(an object without a sentence)"
    assert not shown.predicted.any()
    assert np.array_equal(shown.target, load_index_masks(rows[0], root) == 3)


def test_the_worst_annotated_frames_are_drawn(tmp_path):
    write_a2d(tmp_path)
    rows = list(read_a2d(tmp_path, "test", Report()))
    protocol, wrong = AnnotatedFrames(), rows[1]
    predictor = Answers(lambda row: load_masks(row, tmp_path) ^ (row is wrong))
    results = [
        {"video": number, **result}
        for number, row in enumerate(rows)
        for result in protocol.score([row], tmp_path, predictor)
    ]
    draw_worst(tmp_path / "worst", results, protocol, lambda number: [rows[number]], tmp_path, predictor, 1)
    position = wrong["annotated_frames"]
    target = load_masks(wrong, tmp_path, position)
    key = wrong["expression_id"]
    lines = [wrong["expression"], f"IoU 0.0, third, expression {key}; bright: predicted, white line: true"]
    expected = draw_comparison(load_clip(wrong, tmp_path, position), ~target, target, lines)
    assert np.array_equal(picture(tmp_path, f"01_third_{key}.png"), expected)


def test_the_judged_detection_of_a_picture_is_shown(tmp_path):
    write_refcoco(tmp_path)
    rows = list(read_refcoco(tmp_path, "train", Report(), name="refcoco", split_by="unc"))
    target = load_masks(rows[1], tmp_path)

    class Two(Answers):
        """Says of a picture that all of it is the object and, as surely, that the object is the object."""

        def annotated_frame(self, *inputs):
            detections = {"masks": np.concatenate([~nothing(rows[1]), target]), "scores": np.ones(2)}
            return SimpleNamespace(positions=range(1), detections=lambda *_: detections)

    (_, result) = Pictures().score(rows, tmp_path, Two(nothing))
    shown = Pictures().show(result, rows, tmp_path, Two(nothing))
    assert shown.row is rows[1] and shown.positions == [0]
    assert np.array_equal(shown.predicted, target) and np.array_equal(shown.target, target)


def test_of_a_sample_that_is_listed_twice_the_right_row_is_shown(tmp_path):
    write_refcoco(tmp_path)
    first, second = read_refcoco(tmp_path, "train", Report(), name="refcoco", split_by="unc")
    rows = [first, second | {"expression_id": first["expression_id"]}]
    results = Pictures().score(rows, tmp_path, Answers(nothing))
    for row, result in zip(rows, results):
        assert Pictures().show(result, rows, tmp_path, Answers(nothing)).row is row


def nothing(row):
    return np.zeros((row["num_frames"], row["height"], row["width"]), bool)
