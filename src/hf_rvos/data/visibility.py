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
"""In which frames of a video an object is seen at all, known before training and kept on disk."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from hf_rvos.data.media import load_index_masks, load_masks
from hf_rvos.utils.files import replace_when_done


logger = logging.getLogger(__name__)


def visible_frames(rows: Any, root: str | os.PathLike | None) -> list[np.ndarray]:
    """Find the frames that show the target of each row.

    All masks are read once. The answer is kept beside the cached rows under their fingerprint; rows that are not on
    disk have no such file. Who replaces masks by others of the same names removes it.

    Args:
        rows: `datasets.Dataset` with masks in all rows.
        root: Root of the data set; None if it has no files.

    Returns:
        `(num_frames,)` boolean for each row.

    Raises:
        ValueError: as `load_masks`.
    """
    rows = rows.with_format(None)
    ends = np.cumsum(rows.select_columns("num_frames")["num_frames"][:], dtype=np.int64)
    path = _cache_path(rows)
    visible = _read_cache(path, int(ends[-1]) if len(ends) else 0)
    if visible is None:
        logger.info("reading the masks of %d rows once, to know where their objects are seen", len(rows))
        names = rows.select_columns(["mask_kind", "mask_dir"])[:]
        groups: dict[Any, list[int]] = {}
        for number, (kind, folder) in enumerate(zip(names["mask_kind"], names["mask_dir"], strict=True)):
            # Rows of one video share the files of their masks.
            groups.setdefault(folder if kind == "index_png" else number, []).append(number)
        found: list[Any] = [None] * len(rows)
        with ThreadPoolExecutor() as executor:
            for numbers, arrays in zip(
                groups.values(), executor.map(lambda group: _visible_in(rows, group, root), groups.values())
            ):
                for number, array in zip(numbers, arrays, strict=True):
                    found[number] = array
        visible = np.concatenate([np.zeros(0, bool), *found])
        _write_cache(path, visible)
    return np.split(visible, ends[:-1]) if len(ends) else []


def _visible_in(rows: Any, numbers: list[int], root: str | os.PathLike | None) -> list[np.ndarray]:
    seen: dict[str, np.ndarray] = {}  # object ids by name of the frame
    arrays = []
    for number in numbers:
        row = rows[number]
        if row["mask_kind"] == "rle" and row["annotated_frames"] is None:
            arrays.append(np.array([code is not None and coco_mask.area(code) > 0 for code in row["masks"]]))
        elif row["mask_kind"] == "index_png" and row["object_ids"] is not None and row["annotated_frames"] is None:
            for position, name in enumerate(row["frames"]):
                if name not in seen:
                    seen[name] = np.flatnonzero(np.bincount(load_index_masks(row, root, [position]).ravel()))
            arrays.append(np.array([np.isin(seen[name], row["object_ids"]).any() for name in row["frames"]]))
        else:
            arrays.append(load_masks(row, root).any((1, 2)))
    return arrays


def _cache_path(rows: Any) -> Path | None:
    files = rows.cache_files
    return Path(files[0]["filename"]).parent / f"visible-{rows._fingerprint}.npy" if files else None


def _read_cache(path: Path | None, num_frames: int) -> np.ndarray | None:
    try:
        visible = None if path is None else np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return visible if visible is not None and visible.shape == (num_frames,) else None


def _write_cache(path: Path | None, visible: np.ndarray) -> None:
    if path is None:
        return
    try:
        with replace_when_done(path) as temporary:
            np.save(temporary, visible)
    except OSError as error:
        logger.warning("cannot write %s (%s), so masks will be read again next time", path, error)
