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
"""Archives for servers: what is right passes, and every mistake is named."""

import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from hf_rvos.evaluation.submission import check_submission, mask_path, write_submission


SIZE = (6, 8)
SIZES = {"clip": SIZE}


def rows(dataset: str = "ref_youtube_vos") -> list[dict]:
    return [
        {"dataset": dataset, "video_id": "clip", "expression_id": number, "frames": ["00005", "00010"]}
        for number in ("0", "1")
    ]


def png(mode: str = "L", value: int = 255, size: tuple[int, int] = SIZE) -> bytes:
    image = Image.fromarray(np.full(size, value, np.uint8)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def archive(path, files: dict[str, bytes]):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def complete(top: str = "Annotations/") -> dict[str, bytes]:
    return {f"{top}{mask_path(row, frame)}": png() for row in rows() for frame in row["frames"]}


def problems(path, files: dict[str, bytes], dataset: str = "ref_youtube_vos") -> dict[str, int]:
    return dict(check_submission(archive(path / "submission.zip", files), rows(dataset), SIZES).counts)


@pytest.mark.parametrize(
    "dataset, first", [("ref_youtube_vos", "Annotations/clip/0/00005.png"), ("mevis", "clip/0/00005.png")]
)
def test_a_written_archive_has_the_layout_of_its_server(tmp_path, dataset, first):
    for row in rows(dataset):
        for frame in row["frames"]:
            path = tmp_path / "masks" / mask_path(row, frame)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png())
    path = write_submission(tmp_path / "masks", rows(dataset), tmp_path / "submission.zip")
    assert zipfile.ZipFile(path).namelist()[0] == first
    report = check_submission(path, rows(dataset), SIZES)
    assert report.is_valid and report.num_files == 4


def test_the_same_masks_give_the_same_archive_at_any_time(tmp_path):
    written = []
    for time in (1e9, 1.5e9):
        for row in rows():
            for frame in row["frames"]:
                path = tmp_path / "masks" / mask_path(row, frame)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png())
                os.utime(path, (time, time))
        written.append(write_submission(tmp_path / "masks", rows(), tmp_path / "submission.zip").read_bytes())
    assert written[0] == written[1]


def test_missing_masks_are_counted_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="4 of 4 masks are missing, the first is clip/0/00005.png"):
        write_submission(tmp_path / "masks", rows(), tmp_path / "submission.zip")
    assert not list(tmp_path.iterdir())


def test_a_data_set_without_a_server_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ref_davis17 has no server"):
        write_submission(tmp_path, rows("ref_davis17"), tmp_path / "submission.zip")


def test_a_missing_mask_is_named(tmp_path):
    files = complete()
    del files["Annotations/clip/1/00010.png"]
    report = check_submission(archive(tmp_path / "s.zip", files), rows(), SIZES)
    assert report.examples["mask is missing"] == ["Annotations/clip/1/00010.png"]
    assert "3 of 4 masks" in str(report)


@pytest.mark.parametrize(
    "dataset, top, expected", [("ref_youtube_vos", "", "Annotations"), ("mevis", "Annotations/", "at the top")]
)
def test_a_wrong_top_folder_is_told_from_other_files(tmp_path, dataset, top, expected):
    counts = problems(tmp_path, complete(top), dataset)
    (kind,) = [kind for kind in counts if "wrong folder" in kind]
    assert expected in kind and counts[kind] == 4


@pytest.mark.parametrize(
    "content, kind",
    [
        (png(size=(8, 6)), "size is not that of the frames"),
        (png("RGB"), "is not a picture with a single channel of 8 bits"),
        (png(value=1), "values are not 0 and 255"),
        (png("1"), "values are not 0 and 255"),
        (png()[:40], "cannot be read as PNG"),
        (b"", "cannot be read as PNG"),
    ],
    ids=["size", "colours", "ids", "one bit", "cut off", "empty"],
)
def test_a_mask_that_the_server_cannot_use_is_named(tmp_path, content, kind):
    assert problems(tmp_path, complete() | {"Annotations/clip/0/00005.png": content}) == {kind: 1}


@pytest.mark.parametrize("name", ["../clip/0/00005.png", "/etc/clip.png", "C:/clip.png", "Annotations/../x.png"])
def test_names_that_lead_out_of_the_archive_are_reported(tmp_path, name):
    assert problems(tmp_path, complete() | {name: png()}) == {"name leads out of the archive": 1}


def test_other_files_are_reported(tmp_path):
    assert problems(tmp_path, complete() | {"Annotations/.DS_Store": b"x"}) == {"file does not belong here": 1}


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "submission.zip").write_bytes(b"not an archive")
    with pytest.raises(ValueError, match="cannot be read as a zip archive"):
        check_submission(tmp_path / "submission.zip", rows(), SIZES)
