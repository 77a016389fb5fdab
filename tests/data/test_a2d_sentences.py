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
"""Rows and masks of A2D-Sentences."""

import json

import numpy as np
import pytest

from hf_rvos.data.a2d_sentences import A2DSentences, annotation_window, read_instance_mask, read_rows
from hf_rvos.data.benchmark_builder import Report
from hf_rvos.data.media import load_clip, load_masks
from tests.data.samples import check_sample
from tests.data.sentence_roots import HEIGHT, WIDTH, blob, write_a2d, write_h5


ANNOTATIONS = "text_annotations/a2d_annotation_with_instances"
MASK = blob(np.random.default_rng(3))
OTHER = blob(np.random.default_rng(4))


@pytest.fixture
def root(tmp_path):
    write_a2d(tmp_path)
    return tmp_path


def rows_of(root, split, report=None):
    return list(read_rows(root, split, report or Report()))


def test_rows_are_those_of_the_shared_samples(sample_root, tmp_path):
    root = sample_root("a2d_sentences")
    check_sample(A2DSentences(root, cache_dir=tmp_path / "cache"), root, root / "expected.json")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_row_is_a_sentence_in_a_frame_where_its_object_is(tmp_path, split):
    expected = write_a2d(tmp_path)[split]
    rows = rows_of(tmp_path, split)
    assert [(r["video_id"], int(r["frames"][r["annotated_frames"][0]]), r["object_ids"][0]) for r in rows] == [
        sample[:3] for sample in expected
    ]
    for row, (_, _, _, sentence, mask) in zip(rows, expected):
        assert row["expression_raw"] == sentence
        np.testing.assert_array_equal(load_masks(row, tmp_path, row["annotated_frames"])[0], mask)


def test_frames_are_those_of_the_whole_video(root):
    row = rows_of(root, "train")[1]
    assert row["frames"] == ["1", "2", "3", "4", "5"]
    assert load_clip(row, root, [0, 4]).shape == (2, HEIGHT, WIDTH, 3)


def test_expressions_are_cleaned_and_kept_raw(root):
    row = rows_of(root, "train")[0]
    assert (row["expression"], row["expression_raw"]) == ("a small, red box", "A small, red  Box ")


def test_a_complete_root_has_no_faults(root):
    report = Report()
    rows_of(root, "train", report)
    assert report.counts == {"sentences known to be faulty": 1}
    assert not report.faults


def test_the_other_name_of_the_folder_of_videos_is_accepted(root):
    (root / "Release" / "clips320H").rename(root / "Release" / "CLIPS320")
    assert rows_of(root, "test")[0]["media_dir"] == "Release/CLIPS320/third.mp4"


def test_the_published_lists_are_not_needed(root):
    expected = rows_of(root, "test")
    (root / "a2d_sentences_single_frame_test_annotations.json").unlink()
    (root / "text_annotations" / "a2d_missed_videos.txt").write_text("missed\n")
    assert rows_of(root, "test") == expected


def test_differences_from_the_published_list_are_reported(root):
    path = root / "a2d_sentences_single_frame_test_annotations.json"
    listed = json.loads(path.read_text())
    path.write_text(json.dumps([*listed[1:], ["box", "elsewhere", 3, 0]]))
    report = Report()
    rows_of(root, "test", report)
    assert report.examples == {
        "samples of the published list that are not in the files": ["elsewhere frame 3 instance 0"],
        "samples that the published list does not have": ["third frame 3 instance 1"],
    }


@pytest.mark.parametrize("content", ["{}", '[["box", "third", 3]]', '[[["box"], "third", 3, 0]]'])
def test_a_published_list_of_another_form_is_an_error(root, content):
    (root / "a2d_sentences_single_frame_test_annotations.json").write_text(content)
    with pytest.raises(ValueError, match="a2d_sentences_single_frame_test_annotations.json"):
        rows_of(root, "test")


def test_a_missing_video_is_skipped_and_counted(root):
    (root / "Release" / "clips320H" / "-first.mp4").unlink()
    report = Report()
    assert {row["video_id"] for row in rows_of(root, "train", report)} == {"_second"}
    assert report.faults == {"missing videos": 2}


def test_missing_masks_are_skipped_and_counted(root):
    (root / ANNOTATIONS / "_second" / "00002.h5").unlink()
    (root / ANNOTATIONS / "_second").rmdir()
    report = Report()
    assert {row["video_id"] for row in rows_of(root, "train", report)} == {"-first"}
    assert report.examples["missing masks"] == [f"{ANNOTATIONS}/_second"]


def test_a_damaged_mask_file_is_skipped_and_counted(root):
    path = root / ANNOTATIONS / "-first" / "00005.h5"
    path.write_bytes(path.read_bytes()[:600])
    report = Report()
    assert len(rows_of(root, "train", report)) == 3
    assert "00005.h5" in report.examples["unreadable masks"][0]


def test_a_frame_behind_the_end_is_the_last_one(root):
    path = root / "Release" / "videoset.csv"
    path.write_text(path.read_text().replace(f"{HEIGHT},{WIDTH},6,2,1", f"{HEIGHT},{WIDTH},5,2,1"))
    report = Report()
    row = rows_of(root, "test", report)[1]
    assert (row["num_frames"], row["annotated_frames"]) == (6, [5])
    assert report.counts["annotated frames beyond the end of the video"] == 1


@pytest.mark.parametrize("name", ["Release/videoset.csv", "text_annotations/a2d_annotation.txt"])
def test_a_missing_table_is_named_with_the_expected_tree(root, name):
    (root / name).unlink()
    with pytest.raises(ValueError, match=r"cannot read .*(?s:.)*kgavrilyuk(?s:.)*clips320H"):
        rows_of(root, "train")


def test_a_missing_folder_of_videos_is_an_error(root):
    (root / "Release" / "clips320H").rename(root / "Release" / "videos")
    with pytest.raises(ValueError, match="has no folder of videos"):
        rows_of(root, "train")


@pytest.mark.parametrize(
    ("content", "match"),
    [(b"", "begins with ''"), (b"\xff\xfe\x00", "cannot read"), (b"a,b\n", "expected the titles video_id")],
)
def test_a_damaged_table_is_an_error(root, content, match):
    (root / "text_annotations" / "a2d_annotation.txt").write_bytes(content)
    with pytest.raises(ValueError, match=match):
        rows_of(root, "train")


@pytest.mark.parametrize("name", ["../third", "/third", "a\\b", "x/../../third"])
def test_names_that_leave_the_root_are_refused(root, name):
    with open(root / "text_annotations" / "a2d_annotation.txt", "a", encoding="utf-8") as file:
        file.write(f"{name},0,box\n")
    with pytest.raises(ValueError, match="leaves the folder"):
        rows_of(root, "train")


def test_lines_that_say_nothing_are_counted(root):
    with open(root / "text_annotations" / "a2d_annotation.txt", "a", encoding="utf-8") as file:
        file.write("third,0\nunknown,0,box\n-first,0,  \n")
    report = Report()
    assert len(rows_of(root, "train", report)) == 4
    assert report.faults == {
        "lines that cannot be read": 1,
        "videos that videoset.csv does not list": 1,
        "expressions without text": 1,
    }


def test_the_builder_gives_the_rows(root, tmp_path):
    builder = A2DSentences(root, cache_dir=tmp_path / "cache", strict=True)
    builder.download_and_prepare()
    assert builder.as_dataset(split="test").to_list() == rows_of(root, "test")


@pytest.mark.parametrize(
    ("instances", "masks", "asked"),
    [([1], [MASK], 1), ([0, 1], [OTHER, MASK], 1), ([1], [MASK, OTHER], 1), ([0, 1, 1], [OTHER, MASK, OTHER], 1)],
    ids=["single", "second", "more masks than objects", "listed twice"],
)
def test_the_mask_of_an_object_is_found_and_turned(tmp_path, instances, masks, asked):
    write_h5(tmp_path / "a.h5", instances, masks)
    np.testing.assert_array_equal(read_instance_mask(tmp_path / "a.h5", asked), MASK)


def test_a_square_mask_is_turned_too(tmp_path):
    mask = np.triu(np.ones((8, 8), bool), 1)
    write_h5(tmp_path / "a.h5", [0], [mask])
    np.testing.assert_array_equal(read_instance_mask(tmp_path / "a.h5", 0), mask)


def test_an_object_that_is_not_there_is_an_error(tmp_path):
    write_h5(tmp_path / "a.h5", [0, 2], [MASK, OTHER])
    with pytest.raises(ValueError, match=r"has no object 1, only \[0, 2\]"):
        read_instance_mask(tmp_path / "a.h5", 1)


def test_a_missing_mask_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*b\.h5"):
        read_instance_mask(tmp_path / "b.h5", 0)


@pytest.mark.parametrize("share", [0, 0.2, 0.5, 0.9])
def test_a_truncated_mask_file_is_an_error(tmp_path, share):
    write_h5(tmp_path / "a.h5", [0, 1], [MASK, OTHER])
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"a\.h5 cannot be read as an HDF5 file"):
        read_instance_mask(tmp_path / "a.h5", 0)


def _without_masks(file):
    file["instance"] = [0.0]


def _too_few_masks(file):
    file["instance"], file["reMask"] = [0.0, 1.0], np.zeros((4, 5), np.uint8)


def _no_numbers(file):
    file["instance"], file["reMask"] = [0.0], np.array([[b"a"]])


def _not_finite(file):
    file["instance"], file["reMask"] = [np.nan], np.zeros((4, 5), np.uint8)


def _elsewhere(file):
    import h5py

    file["instance"], file["reMask"] = [0.0], h5py.ExternalLink("other.h5", "/reMask")


def _outside(file):
    file["instance"] = [0.0]
    file.create_dataset("reMask", (4, 5), np.uint8, external=[("/etc/hostname", 0, 20)])


def _absurd(file):
    file["instance"] = [0.0]
    file.create_dataset("reMask", (2**20, 2**20), np.uint8, chunks=(64, 64))


@pytest.mark.parametrize(
    "fill", [_without_masks, _too_few_masks, _no_numbers, _not_finite, _elsewhere, _outside, _absurd]
)
def test_a_mask_file_of_another_form_is_an_error(tmp_path, fill):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        fill(file)
    with pytest.raises(ValueError, match=r"a\.h5 .*expected.*[Gg]et the file again"):
        read_instance_mask(tmp_path / "a.h5", 0)


@pytest.mark.parametrize(
    ("frame", "length", "window", "positions", "first"),
    [
        (5, 20, 5, [3, 4, 5, 6, 7], 2),
        (0, 20, 5, [0, 0, 0, 1, 2], 0),
        (1, 20, 5, [0, 0, 1, 2, 3], 2),
        (19, 20, 5, [17, 18, 19, 19, 19], 2),
        (4, 20, 8, [0, 1, 2, 3, 4, 5, 6, 7], 4),
        (30, 20, 3, [18, 19, 19], 1),
        (0, 1, 4, [0, 0, 0, 0], 0),
        (7, 20, 1, [7], 0),
    ],
)
def test_a_window_repeats_frames_at_the_ends(frame, length, window, positions, first):
    assert annotation_window(frame, length, window, "first") == (positions, first)
    assert annotation_window(frame, length, window, "middle") == (positions, window // 2)


@pytest.mark.parametrize("arguments", [(0, 0, 5, "first"), (-1, 3, 5, "first"), (0, 3, 0, "first"), (0, 3, 5, "last")])
def test_a_window_that_cannot_be_is_an_error(arguments):
    with pytest.raises(ValueError, match="expected"):
        annotation_window(*arguments)
