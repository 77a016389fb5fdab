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
"""Archives that the servers of Ref-YouTube-VOS and MeViS take: written, and checked before they are uploaded."""

import io
import os
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hf_rvos.data.benchmark_builder import Report
from hf_rvos.utils.files import check_name, replace_when_done


# Folder that the server expects around the folders of the videos; MeViS wants none.
TOP_FOLDERS = {"ref_youtube_vos": "Annotations/", "mevis": ""}
EXAMPLES = 3
LARGEST_FILE = 2**26  # bytes of a PNG; anything larger is no mask


@dataclass
class SubmissionReport:
    """What is wrong with an archive.

    Args:
        num_files: Masks that are as they should be.
        num_expected: Masks that the server looks for.
        counts: How often each kind of mistake was made.
        examples: The first few places of each kind.
    """

    num_files: int = 0
    num_expected: int = 0
    counts: Counter = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def is_valid(self) -> bool:
        return not self.counts

    def add(self, kind: str, example: str) -> None:
        self.counts[kind] += 1
        if len(self.examples[kind]) < EXAMPLES:
            self.examples[kind].append(example)

    def __str__(self) -> str:
        lines = [f"{self.num_files} of {self.num_expected} masks are there and right"]
        for kind, count in self.counts.items():
            more = ", ..." if count > len(self.examples[kind]) else ""
            lines.append(f"{count} x {kind}: {', '.join(self.examples[kind])}{more}")
        return "\n".join(lines)


def mask_path(row: Mapping[str, Any], frame: str) -> str:
    """Where the mask of a frame lies below the top folder."""
    return check_name(f"{row['video_id']}/{row['expression_id']}/{frame}.png", "row")


def write_submission(folder: str | os.PathLike, rows: Iterable[Mapping[str, Any]], path: str | os.PathLike) -> Path:
    """Pack the masks of all expressions.

    Args:
        folder: Holds `<video>/<expression id>/<frame>.png`, 0 and 255, for every frame of every row.
        rows: Rows of `ref_youtube_vos` or `mevis`, split `valid`.
        path: The archive, which is complete or not there.

    Returns:
        `path`.

    Raises:
        ValueError: if there is no server for the data set, or masks are missing; it says how many.
    """
    folder, path, rows = Path(folder), Path(path), list(rows)
    top = top_folder(rows[0]["dataset"] if rows else "a data set without rows")
    names = [mask_path(row, frame) for row in rows for frame in row["frames"]]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{folder}: {len(missing)} of {len(names)} masks are missing, the first is {missing[0]}; the server wants "
            "one for every frame of every expression, black where the object is not"
        )
    with replace_when_done(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in names:
            # Without the time of the file, so that the same masks give the same archive. PNGs are compressed already.
            archive.writestr(zipfile.ZipInfo(top + name), (folder / name).read_bytes())
    return path


def check_complete(report: Report) -> None:
    """Refuse a split of which something is missing on disk, since the server wants masks for that as well.

    Args:
        report: Of the rows of the split.

    Raises:
        ValueError: if something is missing.
    """
    if report.faults:
        raise ValueError(
            f"the split is not complete, but a server wants masks for all of it; repair it first ({report})"
        )


def top_folder(dataset: str) -> str:
    """Name of the folder around the videos with a slash behind it, or nothing."""
    if dataset not in TOP_FOLDERS:
        raise ValueError(f"{dataset} has no server that takes submissions, expected {' or '.join(TOP_FOLDERS)}")
    return TOP_FOLDERS[dataset]


def check_submission(
    path: str | os.PathLike, rows: Iterable[Mapping[str, Any]], frame_sizes: Mapping[str, tuple[int, int]]
) -> SubmissionReport:
    """Compare an archive with what the server expects; nothing is unpacked.

    Args:
        path: The archive.
        rows: All rows of `ref_youtube_vos` or `mevis`, split `valid`.
        frame_sizes: `(height, width)` of the frames of each video.

    Returns:
        What is missing, misplaced, too much, or not a black and white PNG of the right size.

    Raises:
        ValueError: if `path` is no readable archive, or there is no server for the data set.
    """
    rows = list(rows)
    top = top_folder(rows[0]["dataset"] if rows else "a data set without rows")
    expected = {top + mask_path(row, frame): frame_sizes[row["video_id"]] for row in rows for frame in row["frames"]}
    report = SubmissionReport(num_expected=len(expected))
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            names = Counter(member.filename for member in members)
            for name, count in names.items():
                if count > 1:
                    report.add("file is in the archive several times", name)
            for member in members:
                if member.filename in expected:
                    _check_mask(archive, member, expected[member.filename], report)
                else:
                    report.add(_what_is_wrong_with_name(member.filename, top, expected), member.filename)
            for name in expected:
                if name not in names:
                    report.add("mask is missing", name)
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: cannot be read as a zip archive ({error}); pack the masks again") from None
    return report


def _what_is_wrong_with_name(name: str, top: str, expected: Mapping[str, Any]) -> str:
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or ".." in parts or ":" in parts[0]:
        return "name leads out of the archive"
    for position in range(len(parts)):
        if top + "/".join(parts[position:]) in expected:
            wanted = f"below {top}" if top else "at the top, with no folder around the videos"
            return f"mask is in the wrong folder, expected it {wanted}"
    return "file does not belong here"


def _check_mask(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: tuple[int, int], report: SubmissionReport
) -> None:
    if member.file_size > LARGEST_FILE:
        report.add(f"file has more than {LARGEST_FILE >> 20} MB", member.filename)
        return
    try:
        with Image.open(io.BytesIO(archive.read(member)), formats=["PNG"]) as image:
            if (image.height, image.width) != size:
                found = f"{image.height}x{image.width} in place of {size[0]}x{size[1]}"
                report.add("size is not that of the frames", f"{member.filename} ({found})")
                return
            mode, pixels = image.mode, np.asarray(image)
    except Exception as error:  # a damaged archive or PNG raises errors of many kinds
        report.add("cannot be read as PNG", f"{member.filename} ({type(error).__name__})")
        return
    if mode not in ("L", "P", "1"):
        report.add("is not a picture with a single channel of 8 bits", f"{member.filename} (mode {mode})")
    elif mode == "1" or not np.isin(pixels, (0, 255)).all():
        found = "1 bit a pixel" if mode == "1" else f"values {np.unique(pixels)[:4].tolist()}"
        report.add("values are not 0 and 255", f"{member.filename} ({found})")
    else:
        report.num_files += 1
