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

import numpy as np
import pytest
from PIL import Image

from hf_rvos.data.benchmark_builder import Report
from hf_rvos.data.media import load_clip, load_masks
from hf_rvos.data.moving_shapes import MovingShapesConfig
from hf_rvos.data.moving_shapes.builder import build_rows
from hf_rvos.data.revos import read_rows as read_revos
from hf_rvos.evaluation.protocols import AnnotatedFrames, PerExpression, find_protocol
from hf_rvos.evaluation.reporting import draw_worst, markdown_table, save_chart
from hf_rvos.utils.visualization import PALETTE, draw_comparison
from tests.data import roots
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
    draw_worst(folder / "worst", results, videos.__getitem__, None, Answers(half, **options), number)
    return sorted(path.name for path in (folder / "worst").iterdir())


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
    with Image.open(tmp_path / "worst" / name) as picture:
        assert np.array_equal(np.asarray(picture), expected)


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
    draw_worst(tmp_path / "worst", results, lambda number: [row], tmp_path, predictor, 1)
    assert [path.name for path in (tmp_path / "worst").iterdir()] == ["01_part_b-clip_2_0.png"]
