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
"""MeViS: unions of targets, expressions without one, and masks that are missing or do not fit."""

import shutil
from functools import partial

import numpy as np
import pytest

from hf_rvos.data.media import load_masks, load_target_masks
from hf_rvos.data.mevis import MeViS, read_rows
from tests.data.roots import HEIGHT, WIDTH, check_rows, mevis, write_json
from tests.data.samples import check_sample, edit_json, read_with_report


rows_of = partial(read_with_report, read_rows)


@pytest.fixture
def written(tmp_path):
    root = tmp_path / "root"
    return root, mevis(root)


@pytest.mark.parametrize("split", ["train", "valid_u", "valid"])
def test_rows_are_those_that_were_written(written, split):
    root, expected = written
    rows, report = rows_of(root, split)
    check_rows(rows, expected[split], root)
    assert report.faults == {}


def test_rows_are_those_of_the_shared_samples(sample_root, tmp_path):
    root = sample_root("mevis")
    check_sample(MeViS(root, cache_dir=tmp_path / "cache"), root, root / "expected.json")


def test_expressions_without_target_are_kept_and_noted(written):
    root, _ = written
    rows, report = rows_of(root, "valid_u")
    assert rows[3]["object_ids"] == [] and rows[3]["masks"] == [None] * 3
    assert (rows[3]["height"], rows[3]["width"]) == (HEIGHT, WIDTH)
    assert report.counts == {"expressions without target": 1}


def test_several_targets_are_stored_as_their_union_and_apart(written):
    root, _ = written
    first, _, both, _ = rows_of(root, "valid_u")[0]
    assert both["object_ids"] == [0, 1] and len(both["masks"]) == 3
    assert set(both["masks"][1]) == {"size", "counts"}
    apart = load_target_masks(both)
    assert np.array_equal(apart.any(0), load_masks(both))
    assert np.array_equal(apart[0], load_masks(first)) and not np.array_equal(apart[0], apart[1])


def test_one_target_is_stored_once(written):
    root, _ = written
    rows, _ = rows_of(root, "valid_u")
    assert rows[0]["target_masks"] is None and np.array_equal(load_target_masks(rows[0])[0], load_masks(rows[0]))
    assert rows[3]["target_masks"] is None and load_target_masks(rows[3]).shape == (0, 3, HEIGHT, WIDTH)


def test_positions_follow_when_a_frame_is_missing(written):
    root, expected = written
    (root / "valid_u/JPEGImages/valid_u9/00000.jpg").unlink()
    rows, report = rows_of(root, "valid_u")
    for wanted in expected["valid_u"]:
        wanted.frames, wanted.masks = wanted.frames[1:], wanted.masks[1:]
    check_rows(rows, expected["valid_u"], root)
    assert report.faults == {"missing frames": 1}


def test_videos_without_a_folder_are_left_out_and_counted(written):
    root, _ = written
    shutil.rmtree(root / "train/JPEGImages/train9")
    rows, report = rows_of(root, "train")
    assert {row["video_id"] for row in rows} == {"train8"} and report.faults == {"missing videos": 1}


def test_a_target_without_masks_leaves_its_expressions_out(written):
    root, _ = written
    edit_json(root / "valid_u/mask_dict.json", lambda masks: masks.pop("1"))
    rows, report = rows_of(root, "valid_u")
    assert [row["object_ids"] for row in rows] == [[0], []]
    assert report.faults == {"missing masks": 2}


def test_without_the_file_of_masks_there_is_no_ground_truth(written):
    root, _ = written
    (root / "valid_u/mask_dict.json").unlink()
    rows, report = rows_of(root, "valid_u")
    assert {row["mask_kind"] for row in rows} == {"none"} and rows[2]["object_ids"] == [0, 1]
    assert report.faults == {"missing masks": 1}


def test_a_list_of_masks_that_is_too_short_is_counted(written):
    root, _ = written
    edit_json(root / "valid_u/mask_dict.json", lambda masks: masks["0"].pop())
    rows, report = rows_of(root, "valid_u")
    assert rows[0]["masks"][2] is None and len(rows[0]["masks"]) == 3
    assert report.faults == {"mask lists of another length than the video": 1}


def test_masks_of_two_sizes_cannot_be_united(written):
    root, _ = written
    edit_json(root / "valid_u/mask_dict.json", lambda masks: masks["0"][1].update(size=[3, 4]))
    with pytest.raises(ValueError, match="valid_u9/0 in frame 1.*pixels, expected 12"):
        rows_of(root, "valid_u")
    runs = {"size": [3, 4], "counts": [12]}
    edit_json(root / "valid_u/mask_dict.json", lambda masks: masks["0"].__setitem__(1, runs))
    with pytest.raises(ValueError, match="valid_u9/2 in frame 1.*sizes"):
        rows_of(root, "valid_u")


@pytest.mark.parametrize(
    "code",
    [
        {"size": [HEIGHT, WIDTH], "counts": "~~~~~~~~~~~~~~~~"},
        {"size": [HEIGHT, WIDTH], "counts": [1, 10**9]},
        {"size": [HEIGHT, -WIDTH], "counts": [HEIGHT * WIDTH]},
        {"counts": "04"},
        [[1, 2, 3]],
    ],
)
def test_a_damaged_code_does_not_reach_the_decoder(written, code):
    root, _ = written
    edit_json(root / "valid_u/mask_dict.json", lambda masks: masks["0"].__setitem__(1, code))
    with pytest.raises(ValueError, match="valid_u9/0 in frame 1 cannot be read"):
        rows_of(root, "valid_u")


def test_uncompressed_codes_are_compressed(written):
    root, _ = written
    runs = {"size": [HEIGHT, WIDTH], "counts": [5, 7, HEIGHT * WIDTH - 12]}
    edit_json(root / "valid_u/mask_dict.json", lambda masks: masks["0"].__setitem__(1, runs))
    row = rows_of(root, "valid_u")[0][0]
    assert isinstance(row["masks"][1]["counts"], str)
    assert np.array_equal(np.flatnonzero(load_masks(row, root, [1])[0].T), np.arange(5, 12))


@pytest.mark.parametrize("content", [[], {"0": {}}])
def test_masks_of_another_form_are_refused(written, content):
    root, _ = written
    write_json(root / "valid_u/mask_dict.json", content)
    with pytest.raises(ValueError, match="must map annotation ids"):
        rows_of(root, "valid_u")


def test_unknown_targets_are_counted(written):
    root, _ = written
    path = root / "valid_u/meta_expressions.json"
    edit_json(path, lambda content: content["videos"]["valid_u9"]["expressions"]["0"].pop("anno_id"))
    rows, report = rows_of(root, "valid_u")
    assert rows[0]["mask_kind"] == "none" and rows[1]["mask_kind"] == "rle"
    assert report.faults == {"expressions without anno_id": 1}
