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
"""Long-RVOS: a folder of masks for each object, and long videos of which little is read."""

import shutil
from functools import partial

import pytest

from hf_rvos.data import image_files, media
from hf_rvos.data.long_rvos import LongRVOS, read_rows
from hf_rvos.data.media import load_clip, load_masks
from tests.data.roots import check_rows, long_rvos
from tests.data.samples import check_sample, read_with_report


rows_of = partial(read_with_report, read_rows)


@pytest.fixture
def written(tmp_path):
    root = tmp_path / "root"
    return root, long_rvos(root)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_rows_are_those_that_were_written(written, split):
    root, expected = written
    rows, report = rows_of(root, split)
    check_rows(rows, expected[split], root)
    assert report.counts == {}


def test_rows_are_those_of_the_shared_samples(sample_root, tmp_path):
    root = sample_root("long_rvos")
    check_sample(LongRVOS(root, cache_dir=tmp_path / "cache"), root, root / "expected.json")


def test_only_the_asked_files_are_opened(written, monkeypatch):
    root, _ = written
    row, opened, read = rows_of(root, "valid")[0][0], [], image_files.open_image
    for module in (media, image_files):
        monkeypatch.setattr(module, "open_image", lambda path: opened.append(path.name) or read(path))
    assert len(load_clip(row, root, [4])) == 1
    assert load_masks(row, root, [4, 1]).any((1, 2)).tolist() == [True, False]
    assert opened == ["00012.jpg", "00012.png"]


def test_an_object_without_a_folder_is_missing_and_not_absent(written):
    root, _ = written
    shutil.rmtree(root / "valid/Annotations/long_valid/2")
    rows, report = rows_of(root, "valid")
    assert [row["mask_kind"] for row in rows] == ["object_png"] * 3 + ["none"] * 3
    assert report.faults == {"missing masks": 3}


def test_missing_frames_are_left_out_of_masks_too(written):
    root, expected = written
    (root / "valid/JPEGImages/long_valid/00000.jpg").unlink()
    rows, report = rows_of(root, "valid")
    for wanted in expected["valid"]:
        wanted.frames, wanted.masks = wanted.frames[1:], wanted.masks[1:]
    check_rows(rows, expected["valid"], root)
    assert report.faults == {"missing frames": 1}
