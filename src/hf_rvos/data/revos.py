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
"""ReVOS (Yan et al. 2024): expressions that name their target and others that have to be reasoned about."""

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hf_rvos.data.benchmark_builder import (
    BenchmarkBuilder,
    Report,
    read_entry,
    read_json,
    read_videos,
    subfolders,
)
from hf_rvos.data.media import load_masks
from hf_rvos.data.mevis import check_code, mask_dict_rows, read_mask_dict


FOREGROUND = "mask_dict_foreground.json"


def split_files(root: Path, split: str) -> list[Path]:
    """Files and folders that rows of a split depend on."""
    frames = root / "JPEGImages"  # names of videos have a part for the data set that they are from
    return [root / f"meta_expressions_{split}_.json", root / "mask_dict.json", frames, *subfolders(frames)]


def read_rows(
    root: Path, split: str, report: Report, masks: dict[str, list[dict[str, Any] | None]] | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of a split; `expression_type` is `"0"` for referring and `"1"` for reasoning.

    Args:
        root: Folder with the JSON files.
        split: `"train"` or `"valid"`.
        report: Counts what is left out.
        masks: Content of `mask_dict.json`, which all splits share; read if None.

    Yields:
        One dict for each expression, in the order of the file.
    """
    path = root / "mask_dict.json"
    if masks is None and path.exists():
        masks = read_mask_dict(path)
    if masks is None:
        report.add("missing masks", path.name)
    entries = read_videos(root / f"meta_expressions_{split}_.json")
    yield from mask_dict_rows("revos", root, Path("JPEGImages"), entries, masks, report)


def load_foreground(row: dict[str, Any], root: str | os.PathLike, positions: Sequence[int]) -> np.ndarray | None:
    """All objects of a video, whatever the row refers to; the robustness of the benchmark needs them.

    Args:
        row: A row of the data set. Frames that were missing when it was made are left out of the masks too.
        root: Its root.
        positions: Which frames of the row, counted from 0.

    Returns:
        `(num_frames, height, width)` bool, None if the root has no `mask_dict_foreground.json`.

    Raises:
        ValueError: if the file is damaged, or has not the video with these frames.
    """
    root = Path(root).expanduser()
    path = root / FOREGROUND
    if not path.exists():
        return None
    video = row["video_id"]
    entry = _read_foreground(path, path.stat().st_mtime_ns).get(video)
    masks = entry.get("masks_rle") if isinstance(entry, dict) else None
    frames = row["frames"]
    if isinstance(masks, list) and len(masks) != len(frames):
        frames = _listed_frames(root).get(video, frames)
    if not isinstance(masks, list) or len(masks) != len(frames):
        raise ValueError(
            f"{path}: {'no masks' if not isinstance(masks, list) else f'{len(masks)} masks'} of video "
            f"{video!r}, expected one for each of {len(frames)} frames; get the file again"
        )
    code_of = dict(zip(frames, masks))
    codes: list[dict[str, Any] | None] = [None] * len(row["frames"])
    for position in positions:
        code = code_of.get(row["frames"][position])
        codes[position] = None if code is None else check_code(code)
    return load_masks({**row, "mask_kind": "rle", "masks": codes, "annotated_frames": None}, root, positions)


@lru_cache(maxsize=1)
def _listed_frames(root: Path) -> dict[str, list[str]]:
    """Frames of each video as annotated, whether they are on disk or not."""
    paths = [root / f"meta_expressions_{split}_.json" for split in ReVOS.SPLITS]
    entries = {video: entry for path in paths if path.exists() for video, entry in read_videos(path).items()}
    return {video: read_entry(video, entry, Report())[1] for video, entry in entries.items()}


@lru_cache(maxsize=1)
def _read_foreground(path: Path, changed: int) -> dict[str, Any]:
    content = read_json(path, "masks of all objects")
    if not isinstance(content, dict):
        raise ValueError(f"{path} must look like {{'<video>': {{'masks_rle': [...]}}}}, and does not")
    return content


class ReVOS(BenchmarkBuilder):
    """ReVOS; names of videos may have several parts.

    Example:
        >>> builder = ReVOS("data/ReVOS")
        >>> builder.download_and_prepare()
        >>> reasoning = builder.as_dataset(split="valid").filter(lambda row: row["expression_type"] == "1")
    """

    DEFAULT_WRITER_BATCH_SIZE = 100  # rows with masks are large
    SPLITS = ("train", "valid")
    HOMEPAGE = "https://github.com/cilinyan/ReVOS-api"
    LAYOUT = """<data_dir>/
  meta_expressions_train_.json   meta_expressions_valid_.json   mask_dict.json
  mask_dict_foreground.json                           (all objects of a video, for the robustness)
  JPEGImages/<video>/<frame>.jpg"""

    split_files = staticmethod(split_files)
    _masks: dict[str, list] | None = None

    def read_rows(self, root: Path, split: str, report: Report) -> Iterator[dict[str, Any]]:
        """Rows of a split; the large file of masks is parsed once for all splits."""
        if self._is_preparing and self._masks is None and (root / "mask_dict.json").exists():
            self._masks = read_mask_dict(root / "mask_dict.json")
        yield from read_rows(root, split, report, self._masks)

    def download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """Read the rows into the cache, or find them there. Nothing is downloaded."""
        try:
            super().download_and_prepare(*args, **kwargs)
        finally:
            self._masks = None
