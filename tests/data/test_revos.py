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
"""ReVOS: one file of masks for all splits."""

import json

import numpy as np
import pytest

from hf_rvos.data import revos as module
from hf_rvos.data.benchmark_builder import Report
from hf_rvos.data.revos import ReVOS, load_foreground, read_rows
from hf_rvos.ops.rle import encode_rle
from tests.data.roots import HEIGHT, WIDTH, check_rows, revos
from tests.data.samples import check_sample


@pytest.fixture
def written(tmp_path):
    root = tmp_path / "root"
    return root, revos(root)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_rows_are_those_that_were_written(written, split):
    root, expected = written
    report = Report()
    check_rows(list(read_rows(root, split, report)), expected[split], root)
    assert report.counts == {}


def test_rows_are_those_of_the_shared_samples(sample_root, tmp_path):
    root = sample_root("revos")
    check_sample(ReVOS(root, cache_dir=tmp_path / "cache"), root, root / "expected.json")


def test_masks_are_parsed_once_for_all_splits_and_let_go(written, tmp_path, monkeypatch):
    root, expected = written
    calls, read = [], module.read_mask_dict
    monkeypatch.setattr(module, "read_mask_dict", lambda path: calls.append(path) or read(path))
    builder = ReVOS(root, cache_dir=tmp_path / "cache")
    builder.download_and_prepare()
    assert len(calls) == 1 and builder._masks is None
    for split, rows in builder.as_dataset().items():
        check_rows(rows, expected[split], root)


def test_streaming_gives_the_same_rows(written, tmp_path):
    root, expected = written
    stream = ReVOS(root, cache_dir=tmp_path / "cache").as_streaming_dataset("valid")
    check_rows(list(stream), expected["valid"], root)


def test_without_the_file_of_masks_there_is_no_ground_truth(written):
    root, _ = written
    (root / "mask_dict.json").unlink()
    report = Report()
    rows = list(read_rows(root, "valid", report))
    assert {row["mask_kind"] for row in rows} == {"none"} and report.faults == {"missing masks": 1}


def write_foreground(root, masks):
    (root / "mask_dict_foreground.json").write_text(json.dumps(masks))


def test_foreground_is_read_for_the_asked_frames(written):
    root, _ = written
    row = next(read_rows(root, "valid", Report()))
    masks = np.random.default_rng(0).random((row["num_frames"], 5, 7)) < 0.5
    write_foreground(root, {row["video_id"]: {"masks_rle": encode_rle(masks)}})
    found = load_foreground({**row, "height": 5, "width": 7}, root, [1])
    np.testing.assert_array_equal(found, masks[[1]])


def test_without_the_file_of_foreground_there_is_none(written):
    root, _ = written
    (root / "mask_dict_foreground.json").unlink(missing_ok=True)
    assert load_foreground(next(read_rows(root, "valid", Report())), root, [0]) is None


def test_foreground_of_a_video_with_missing_frames_is_that_of_the_others(written):
    root, _ = written
    row = next(read_rows(root, "valid", Report()))
    masks = np.random.default_rng(0).random((3, HEIGHT, WIDTH)) < 0.5
    write_foreground(root, {row["video_id"]: {"masks_rle": encode_rle(masks)}})
    (root / "JPEGImages" / row["video_id"] / f"{row['frames'][1]}.jpg").unlink()
    row = next(read_rows(root, "valid", Report()))
    np.testing.assert_array_equal(load_foreground(row, root, [1, 0]), masks[[2, 0]])


def test_a_damaged_code_of_the_foreground_does_not_reach_the_decoder(written):
    root, _ = written
    row = next(read_rows(root, "valid", Report()))
    write_foreground(root, {row["video_id"]: {"masks_rle": [{"size": [HEIGHT, WIDTH], "counts": [9]}] * 3}})
    with pytest.raises(ValueError, match="describes 9 pixels"):
        load_foreground(row, root, [0])


@pytest.mark.parametrize("masks", [{}, {"masks_rle": []}, []], ids=["video", "frames", "form"])
def test_foreground_of_other_frames_is_refused(written, masks):
    root, _ = written
    row = next(read_rows(root, "valid", Report()))
    write_foreground(root, {row["video_id"]: masks})
    with pytest.raises(ValueError, match="expected one for each of"):
        load_foreground(row, root, [0])
