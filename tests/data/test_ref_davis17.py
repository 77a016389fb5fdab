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
"""Ref-DAVIS17: published and converted files give the same rows, with passes, repaired names and void pixels."""

import json
import shutil
from functools import partial

import numpy as np
import pytest

from hf_rvos.data.benchmark_builder import Report, read_videos
from hf_rvos.data.media import load_index_masks
from hf_rvos.data.ref_davis17 import RefDAVIS17, read_davis_text, read_davis_videos, read_rows
from hf_rvos.data.ref_youtube_vos import expressions_file
from tests.data.roots import VOID, check_rows, ref_davis17
from tests.data.samples import check_sample, read_with_report


rows_of = partial(read_with_report, read_rows)


@pytest.fixture
def written(tmp_path):
    return tmp_path, ref_davis17(tmp_path)


def edit_text(root, name, change):
    path = root / "raw/davis_text_annotations" / f"{name}.txt"
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize("layout", ["raw", "converted"])
@pytest.mark.parametrize("split", ["train", "valid"])
def test_rows_are_those_that_were_written(written, layout, split):
    root, expected = written
    rows, report = rows_of(root / layout, split)
    check_rows(rows, expected[split], root / layout)
    assert report.counts == {}


@pytest.mark.parametrize("layout", ["raw", "converted"])
def test_rows_are_those_of_the_shared_samples(sample_root, tmp_path, layout):
    root = sample_root("ref_davis")
    builder = RefDAVIS17(root / layout, cache_dir=tmp_path / "cache")
    check_sample(builder, root / layout, root / "expected.json")


def test_real_sentences_are_those_of_the_official_converter(shared_dir):
    root = shared_dir / "data/real_davis"
    entries = read_videos(expressions_file(root, "valid"))
    found = read_davis_text(root, list(entries), Report())
    compared = 0
    for video, entry in entries.items():
        for number, item in entry["expressions"].items():
            rank, index = divmod(int(number), 4)
            assert list(found[video].values())[rank][index] == item["exp"]
            assert list(found[video])[rank] == int(item["obj_id"])
            compared += 1
    assert compared >= 12


def test_void_is_neither_object_nor_background(written):
    root, _ = written
    row = rows_of(root / "raw", "valid")[0][0]
    assert (load_index_masks(row, root / "raw")[:, :2] == VOID).all()


def test_masks_are_those_drawn_again_in_2019(written):
    root, _ = written
    rows = rows_of(root / "raw", "valid")[0]
    assert {row["mask_dir"].split("/")[1] for row in rows} == {"Annotations_unsupervised"}
    shutil.rmtree(root / "raw/DAVIS/Annotations_unsupervised")
    rows, report = rows_of(root / "raw", "valid")
    assert {row["mask_kind"] for row in rows} == {"none"} and report.faults == {"missing masks": 6}


def test_categories_come_from_the_semantics(written):
    root, _ = written
    for layout in ("raw", "converted"):
        row = rows_of(root / layout, "valid")[0][4]
        assert (row["video_id"], row["object_ids"], row["categories"]) == ("tiny-boat", [2], ["class 2"])


def test_expressions_are_numbered_by_object_and_pass(written):
    root, _ = written
    entry = read_davis_videos(root / "raw", "valid", Report())["tiny-boat"]
    assert list(entry["expressions"]) == [str(number) for number in range(8)]
    assert [item["obj_id"] for item in entry["expressions"].values()] == ["1"] * 4 + ["2"] * 4


def test_a_missing_line_leaves_one_expression_out_and_moves_none(written):
    root, expected = written
    edit_text(root, "Davis17_annot1", lambda text: b"".join(text.splitlines(True)[:1] + text.splitlines(True)[2:]))
    rows, report = rows_of(root / "raw", "valid")
    assert report.faults == {"missing expressions": 1}
    check_rows(
        rows,
        [row for row in expected["valid"] if (row.video_id, row.expression_id) != ("tiny-boat", "0")],
        root / "raw",
    )


@pytest.mark.parametrize(
    ("line", "kind"), [(b"tiny-boat two\n", "unreadable lines"), (b'tiny-boat 1 "x"\n', "repeated lines")]
)
def test_lines_that_do_not_fit_are_left_out_and_counted(written, line, kind):
    root, expected = written
    edit_text(root, "Davis17_annot2", lambda text: text + line)
    rows, report = rows_of(root / "raw", "valid")
    check_rows(rows, expected["valid"], root / "raw")
    assert report.faults == {kind: 1}
    assert rows_of(root / "raw", "train")[1].counts == {}


def test_a_copy_in_utf8_reads_the_same(written):
    root, expected = written
    edit_text(root, "Davis17_annot2", lambda text: text.decode("latin-1").encode("utf-8-sig"))
    check_rows(rows_of(root / "raw", "valid")[0], expected["valid"], root / "raw")


def test_a_missing_text_file_is_an_error(written):
    root, _ = written
    (root / "raw/davis_text_annotations/Davis17_annot2.txt").unlink()
    with pytest.raises(ValueError, match="Davis17_annot2.txt"):
        rows_of(root / "raw", "valid")


def test_missing_frames_and_videos_are_counted(written):
    root, _ = written
    (root / "converted/valid/JPEGImages/tiny-boat/00001.jpg").unlink()
    shutil.rmtree(root / "converted/valid/JPEGImages/motorbike")
    rows, report = rows_of(root / "converted", "valid")
    assert len(rows) == 8 and rows[0]["frames"] == ["00000", "00002"]
    assert report.faults == {"missing frames": 1, "missing videos": 1}


def test_both_layouts_in_one_place_can_be_told_apart(written):
    root, expected = written
    for path in (root / "converted").iterdir():
        path.rename(root / "raw" / path.name)
    rows = rows_of(root / "raw", "valid", layout="converted")[0]
    assert {row["media_dir"].split("/")[0] for row in rows} == {"valid"}
    assert np.all([row["media_dir"].startswith("DAVIS/") for row in rows_of(root / "raw", "valid")[0]])


@pytest.mark.parametrize("content", [[], {"tiny-boat": ["boat"]}])
def test_categories_of_another_form_are_refused(written, content):
    root, _ = written
    (root / "raw/DAVIS/davis_semantics.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="davis_semantics.json' must look like"):
        rows_of(root / "raw", "valid")


def test_unknown_layout_is_refused(written):
    root, _ = written
    with pytest.raises(ValueError, match="layout: got 'davis'"):
        RefDAVIS17(root / "raw", layout="davis")
