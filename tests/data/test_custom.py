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
"""One's own videos and sentences as a data set."""

import csv
import json

import numpy as np
import pytest

from hf_rvos.data.benchmark_builder import Report
from hf_rvos.data.custom import Custom, annotations_file, read_entries, read_rows
from hf_rvos.data.media import load_clip, load_masks
from hf_rvos.ops.rle import encode_rle
from tests.data.sentence_roots import HEIGHT, WIDTH, write_custom


VIDEO = {"video": "clips/noise.mp4", "expression": "The  noise "}
FOLDER = {"video": "frames/walk", "expression": "the box that walks"}


@pytest.fixture
def root(tmp_path):
    write_custom(tmp_path)
    return tmp_path


def write(root, entries, name="annotations.json"):
    path = root / name
    if name.endswith(".json"):
        path.write_text(json.dumps(entries))
    elif name.endswith(".jsonl"):
        path.write_text("\n\n".join(json.dumps(entry) for entry in entries))
    else:
        titles = list(dict.fromkeys(field for entry in entries for field in entry))
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, titles)
            writer.writeheader()
            writer.writerows(entries)
    return path


def rows_of(root, split="train", report=None):
    return list(read_rows(root, split, report or Report()))


@pytest.mark.parametrize("name", ["annotations.json", "annotations.jsonl", "annotations.csv"])
def test_all_forms_of_the_file_say_the_same(root, name):
    write(root, [VIDEO, {**FOLDER, "expression_id": "w", "type": "slow"}, {**VIDEO, "split": "val"}], name)
    train, val = rows_of(root), rows_of(root, "val")
    assert [(row["video_id"], row["expression_id"], row["expression"], row["expression_type"]) for row in train] == [
        ("clips/noise.mp4", "0", "the noise", None),
        ("frames/walk", "w", "the box that walks", "slow"),
    ]
    assert [row["expression_id"] for row in val] == ["1"]
    assert {row["mask_kind"] for row in train} == {"none"}


def test_frames_of_a_video_file_are_read(root):
    write(root, [VIDEO])
    row = rows_of(root)[0]
    assert row["frames"] == ["00001", "00002", "00003", "00004"]
    assert (row["height"], row["width"], row["num_frames"]) == (HEIGHT, WIDTH, 4)
    clip = load_clip(row, root)
    np.testing.assert_array_equal(load_clip(row, root, [2])[0], clip[2])


def test_frames_of_a_folder_are_in_the_order_of_their_numbers(root):
    write(root, [FOLDER])
    row = rows_of(root)[0]
    assert row["frames"] == ["frame2", "frame9", "frame10"]
    assert load_clip(row, root).shape == (3, HEIGHT, WIDTH, 3)


def test_masks_can_be_codes_polygons_and_absent(root):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[3:7, 2:9] = True
    polygon = [2.0, 3.0, 9.0, 3.0, 9.0, 7.0, 2.0, 7.0]
    runs = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}
    write(root, [{**VIDEO, "masks": [encode_rle(mask[None])[0], None, [polygon], runs]}])
    masks = load_masks(rows_of(root)[0], root)
    np.testing.assert_array_equal(masks[[0, 2]], [mask, mask])
    assert (masks[1].sum(), masks[3].sum()) == (0, HEIGHT * WIDTH)


@pytest.mark.parametrize(("object_id", "ids"), [(4, [4]), ([1, 4], [1, 4])])
def test_masks_can_be_objects_of_index_files(tmp_path, object_id, ids):
    expected = np.isin(write_custom(tmp_path)["ids"], ids)
    write(tmp_path, [{**FOLDER, "mask_dir": "ids/walk/", "object_id": object_id}])
    row = rows_of(tmp_path)[0]
    assert (row["mask_kind"], row["object_ids"], row["annotated_frames"]) == ("index_png", ids, None)
    np.testing.assert_array_equal(load_masks(row, tmp_path), expected)


def test_a_table_can_name_several_objects(root):
    write(root, [{**FOLDER, "mask_dir": "ids/walk", "object_id": "1 4"}], "annotations.csv")
    assert rows_of(root)[0]["object_ids"] == [1, 4]


def test_frames_without_mask_file_are_not_annotated(root):
    write(root, [{**FOLDER, "mask_dir": "one/walk"}])
    row = rows_of(root)[0]
    assert (row["mask_kind"], row["annotated_frames"]) == ("object_png", [0, 2])
    assert load_masks(row, root, [0, 2]).any(axis=(1, 2)).all()


def test_a_folder_without_masks_is_counted(root):
    write(root, [{**FOLDER, "mask_dir": "nowhere"}])
    report = Report()
    assert rows_of(root, report=report)[0]["mask_kind"] == "none"
    assert report.faults == {"missing masks": 1}


@pytest.mark.parametrize("content", [None, b"", b"no video"])
def test_a_missing_or_damaged_video_is_skipped_and_counted(root, content):
    (root / "clips" / "noise.mp4").unlink()
    if content is not None:
        (root / "clips" / "noise.mp4").write_bytes(content)
    write(root, [VIDEO, FOLDER])
    report = Report()
    assert [row["video_id"] for row in rows_of(root, report=report)] == ["frames/walk"]
    assert report.faults == {("missing videos" if content is None else "unreadable videos"): 1}


def test_a_folder_without_frames_is_skipped_and_counted(root):
    (root / "empty").mkdir()
    write(root, [{**FOLDER, "video": "empty"}])
    report = Report()
    assert rows_of(root, report=report) == []
    assert report.faults == {"unreadable videos": 1}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"video": None}, "video is None, expected text"),
        ({"expression": "  "}, "expression is '  ', expected text"),
        ({"expression": 7}, "expression is 7, expected text"),
        ({"video": "../noise.mp4"}, "video: the name '../noise.mp4' leaves the folder"),
        ({"video": "/clips/noise.mp4"}, "leaves the folder"),
        ({"mask_dir": "ids/../../x"}, "mask_dir: the name .* leaves the folder"),
        ({"expression_id": "a/../../b"}, "expression_id: the name .* leaves the folder"),
        ({"split": "my split"}, "split is 'my split', expected letters"),
        ({"sentence": "noise"}, "has a field 'sentence', expected video, expression"),
        ({"object_id": 1}, "object_id, which needs mask_dir"),
        ({"object_id": 256, "mask_dir": "ids/walk"}, "object_id is \\[256\\], expected"),
        ({"object_id": [], "mask_dir": "ids/walk"}, "object_id is \\[\\], expected"),
        ({"object_id": "1", "mask_dir": "ids/walk"}, "object_id is '1', expected"),
        ({"masks": [], "mask_dir": "ids/walk"}, "masks and mask_dir, expected one"),
        ({"masks": [None] * 3}, "masks is 3 of them, expected a list with one of 4 frames each"),
        ({"masks": "x"}, "masks is a str, expected a list"),
        ({"masks": [None, None, {"size": [1, 1], "counts": [1]}, None]}, "mask 2: the code has size"),
    ],
)
def test_a_wrong_entry_is_named_with_its_file(root, change, match):
    write(root, [FOLDER, {**VIDEO, **change}])
    with pytest.raises(ValueError, match=rf"annotations\.json, entry 1: .*{match}"):
        rows_of(root)


def test_an_entry_that_is_no_object_is_named(root):
    write(root, [FOLDER, "noise.mp4"])
    with pytest.raises(ValueError, match="entry 1: is a str, expected an object"):
        rows_of(root)


def test_an_id_that_is_there_twice_is_named(root):
    write(root, [{**VIDEO, "expression_id": 5}, {**VIDEO, "expression_id": "5"}])
    with pytest.raises(ValueError, match="entry 1: video 'clips/noise.mp4' has an expression_id '5' already"):
        rows_of(root)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("annotations.json", "{}", "annotations.json holds a dict, expected a list"),
        ("annotations.json", "[{", "annotations.json' is not JSON"),
        ("annotations.jsonl", '{"video": "a", "expression": "b"}\n{', "annotations.jsonl, line 2: is not JSON"),
        ("annotations.csv", "video,expression\na,b,c\n", "annotations.csv, line 2: has 3 fields, expected 2"),
        ("annotations.csv", "video,expression,masks\na,b,c\n", "line 2: has masks, which CSV cannot hold"),
        ("annotations.csv", "video,expression,mask_dir,object_id\na,b,c,x 1\n", r"line 2: object_id is \['x', 1\]"),
        ("annotations.csv", "video,expression\na,\n", "line 2: expression is None, expected text"),
    ],
)
def test_a_damaged_file_is_named_with_the_line(root, name, content, match):
    (root / name).write_text(content)
    with pytest.raises(ValueError, match=match):
        list(read_entries(root / name))


@pytest.mark.parametrize("name", ["annotations.json", "annotations.jsonl", "annotations.csv"])
def test_a_file_that_is_no_text_is_an_error(root, name):
    (root / name).write_bytes(b"\xff\xfe\x00[")
    with pytest.raises(ValueError, match=name):
        list(read_entries(root / name))


def test_a_missing_file_says_what_is_sought(root):
    with pytest.raises(ValueError, match=r"has no file annotations\.json or annotations\.jsonl or annotations\.csv"):
        annotations_file(root)
    (root / "list.txt").write_text("")
    with pytest.raises(ValueError, match=r"list\.txt must be a \.json, \.jsonl or \.csv file"):
        annotations_file(root, "list.txt")


def test_the_builder_has_the_splits_of_the_file(root, tmp_path):
    write(root, [{**FOLDER, "split": "mine"}, VIDEO], "other.jsonl")
    builder = Custom(root, cache_dir=tmp_path / "cache", annotations="other.jsonl", strict=True)
    builder.download_and_prepare()
    dataset = builder.as_dataset()
    assert list(dataset) == ["mine", "train"]
    assert dataset["mine"].to_list() == list(read_rows(root, "mine", Report(), "other.jsonl"))


def test_a_file_without_sentences_is_an_error(root):
    write(root, [])
    with pytest.raises(ValueError, match="lists no sentence"):
        Custom(root)
