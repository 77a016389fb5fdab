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
"""Ref-YouTube-VOS: rows, the split `valid`, masks where there are some, and what is missing."""

import shutil
from functools import partial

import pytest

from hf_rvos.data.media import load_clip
from hf_rvos.data.ref_youtube_vos import RefYouTubeVOS, read_rows
from tests.data.roots import check_rows, ref_youtube_vos, write_image
from tests.data.samples import check_sample, edit_json, read_with_report


rows_of = partial(read_with_report, read_rows)


@pytest.fixture
def written(tmp_path):
    root = tmp_path / "root"
    return root, ref_youtube_vos(root)


def edit(root, split, change):
    path = root / "meta_expressions" / split / "meta_expressions.json"
    edit_json(path, lambda content: change(content["videos"]))


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_rows_are_those_that_were_written(written, split):
    root, expected = written
    rows, report = rows_of(root, split)
    check_rows(rows, expected[split], root)
    assert report.counts == {}


def test_rows_are_those_of_the_shared_samples(sample_root, tmp_path):
    root = sample_root("ref_youtube_vos")
    check_sample(RefYouTubeVOS(root, cache_dir=tmp_path / "cache"), root, root / "expected.json")


def test_categories_come_from_the_meta_file_and_are_a_nicety(written):
    root, _ = written
    assert [row["categories"] for row in rows_of(root, "train")[0]] == [["class 1"], ["class 1"], ["class 2"]]
    (root / "train/meta.json").unlink()
    assert [row["categories"] for row in rows_of(root, "train")[0]] == [None] * 3


def test_without_the_list_of_test_folders_tell_valid(written):
    root, _ = written
    shutil.rmtree(root / "meta_expressions/test")
    assert {row["video_id"] for row in rows_of(root, "valid")[0]} == {"aa", "bb"}


def test_valid_can_include_test(written):
    root, _ = written
    rows, report = rows_of(root, "valid", valid_includes_test=True)
    assert list(dict.fromkeys(row["media_dir"] for row in rows)) == [
        "valid/JPEGImages/aa",
        "valid/JPEGImages/bb",
        "test/JPEGImages/cc",
    ]
    assert report.counts == {}


def test_masks_of_valid_are_used_if_there_are_some(written):
    root, expected = written
    for name in ("meta_expressions/{}", "{}/JPEGImages", "{}/Annotations"):
        shutil.rmtree(root / name.format("valid"), ignore_errors=True)
        (root / name.format("train")).rename(root / name.format("valid"))
    (root / "train/meta.json").rename(root / "valid/meta.json")
    rows, report = rows_of(root, "valid")
    check_rows(rows, sorted(expected["train"], key=lambda row: row.video_id), root)
    assert rows[0]["categories"] == ["class 2"] and report.counts == {}


def test_masks_without_object_ids_are_no_ground_truth(written):
    root, _ = written
    (root / "train/Annotations/ff00aa11bb").rename(root / "valid/aa")
    (root / "valid/Annotations").mkdir()
    (root / "valid/aa").rename(root / "valid/Annotations/aa")
    assert {row["mask_kind"] for row in rows_of(root, "valid")[0]} == {"none"}


def test_the_form_of_2020_lists_sentences_by_object(written):
    root, _ = written

    def to_old_form(videos):
        videos["0011223344"] = {
            "objects": {
                "2": {"expressions": ["The cat", "A cat"], "category": "cat", "frames": ["00010", "00015"]},
                "1": {"expressions": ["A dog"], "category": "dog", "frames": ["00000", "00005"]},
            }
        }

    edit(root, "train", to_old_form)
    rows = rows_of(root, "train", videos=["0011223344"])[0]
    assert [(row["expression_id"], row["expression"], row["object_ids"]) for row in rows] == [
        ("0", "the cat", [2]),
        ("1", "a cat", [2]),
        ("2", "a dog", [1]),
    ]
    assert rows[0]["frames"] == ["00000", "00005", "00010", "00015"]


@pytest.mark.parametrize(
    "objects",
    [[], {"2": "cat"}, {"2": {"expressions": "cat"}}, {"2": {"expressions": ["cat"], "frames": [{}]}}],
)
def test_objects_of_another_form_are_refused(written, objects):
    root, _ = written
    edit(root, "train", lambda videos: videos.update({"0011223344": {"objects": objects}}))
    with pytest.raises(ValueError, match="of video '0011223344'.*expected"):
        rows_of(root, "train")


def test_categories_of_another_form_are_refused(written):
    root, _ = written
    (root / "train/meta.json").write_text('{"videos": {"0011223344": {"objects": [{"category": "cat"}]}}}')
    with pytest.raises(ValueError, match="objects of video '0011223344' in .*meta.json"):
        rows_of(root, "train")


def test_missing_frames_are_left_out_and_counted(written):
    root, _ = written
    (root / "train/JPEGImages/0011223344/00010.jpg").unlink()
    rows, report = rows_of(root, "train", videos=["0011223344"])
    assert rows[0]["frames"] == ["00000", "00005", "00015", "00030"] and rows[0]["num_frames"] == 4
    assert report.faults == {"missing frames": 1} and report.examples["missing frames"] == ["0011223344/00010"]


def test_files_with_upper_case_suffixes_are_missing(written):
    root, _ = written
    for name in ("JPEGImages/0011223344/00010.jpg", "Annotations/0011223344/00015.png"):
        path = root / "train" / name
        path.rename(path.with_suffix(path.suffix.upper()))
    rows, report = rows_of(root, "train", videos=["0011223344"])
    assert report.faults == {"missing frames": 1, "missing masks": 1}
    assert load_clip(rows[0], root).shape[0] == 4 and rows[0]["annotated_frames"] == [0, 1, 3]


@pytest.mark.parametrize("empty", [True, False])
def test_missing_videos_are_left_out_and_counted(written, empty):
    root, _ = written
    shutil.rmtree(root / "train/JPEGImages/ff00aa11bb")
    if empty:
        (root / "train/JPEGImages/ff00aa11bb").mkdir()
    rows, report = rows_of(root, "train")
    assert {row["video_id"] for row in rows} == {"0011223344"}
    assert report.faults == {"missing videos": 1}


def test_frames_without_mask_are_not_annotated(written):
    root, _ = written
    (root / "train/Annotations/0011223344/00005.png").unlink()
    rows, report = rows_of(root, "train", videos=["0011223344"])
    assert rows[0]["annotated_frames"] == [0, 2, 3, 4] and report.faults == {"missing masks": 1}


def test_videos_without_masks_have_no_ground_truth(written):
    root, _ = written
    shutil.rmtree(root / "train/Annotations")
    rows, report = rows_of(root, "train")
    assert {row["mask_kind"] for row in rows} == {"none"} and report.faults == {"missing masks": 9}


def test_expressions_without_text_are_left_out(written):
    root, _ = written
    edit(root, "train", lambda videos: videos["ff00aa11bb"]["expressions"].update({"0": {"obj_id": "1"}}))
    rows, report = rows_of(root, "train", videos=["ff00aa11bb"])
    assert [row["expression_id"] for row in rows] == ["1"] and report.faults == {"expressions without text": 1}


def test_videos_without_expressions_are_no_fault(written):
    root, _ = written
    edit(root, "train", lambda videos: videos["ff00aa11bb"].update(expressions={}))
    rows, report = rows_of(root, "train")
    assert len(rows) == 1 and report.faults == {} and report.counts == {"videos without expressions": 1}


def test_an_unreadable_first_frame_leaves_the_size_open(written):
    root, _ = written
    (root / "train/JPEGImages/0011223344/00000.jpg").write_bytes(b"no image")
    rows, report = rows_of(root, "train", videos=["0011223344"])
    assert (rows[0]["height"], rows[0]["width"]) == (None, None) and report.faults == {"unreadable frames": 1}


def test_frames_below_a_folder_named_by_resolution_are_found(written):
    root, expected = written
    for kind in ("JPEGImages", "Annotations"):
        (root / "train" / kind).rename(root / "480p")
        (root / "train" / kind).mkdir()
        (root / "480p").rename(root / "train" / kind / "480p")
    check_rows(rows_of(root, "train")[0], expected["train"], root)


def test_extra_files_in_the_folders_do_not_matter(written):
    root, expected = written
    (root / "train/JPEGImages/.DS_Store").touch()
    (root / "train/JPEGImages/0011223344/Thumbs.db").touch()
    write_image(root / "train/Annotations/0011223344/99999.png", expected["train"][0].masks[0].astype("uint8"))
    rows, report = rows_of(root, "train")
    check_rows(rows, expected["train"], root)
    assert report.counts == {}
