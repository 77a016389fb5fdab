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
"""Folders of PNG masks, as submissions and annotations come: one folder for each video or expression."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hf_rvos.data.image_files import read_index_png
from hf_rvos.utils.files import check_name


MISSING = ("error", "empty")
# How many examples a message names.
_EXAMPLES = 5


def read_masks(
    folder: Path, frames: Sequence[str], size: tuple[int, int] | None = None, missing: str = "error"
) -> np.ndarray:
    """Read the PNG files of some frames, with their values as stored: palette indices or grey levels.

    Args:
        folder: Has `<frame>.png` for each frame.
        frames: Names without `.png`, in order.
        size: `(height, width)` that each file must have. If None, that of the first.
        missing: "error", or "empty" to read a file that is not there as zeros, of one pixel if no size is known.

    Returns:
        `(num_frames, height, width)` uint8.

    Raises:
        ValueError: if a name leaves the folder, files are missing, or one is no image with one channel of that size.
    """
    if missing not in MISSING:
        raise ValueError(f"missing is {missing!r}, expected one of {', '.join(MISSING)}")
    if missing == "error":
        raise_missing(missing_files(folder, frames), len(frames))
    masks: list[np.ndarray | None] = []
    for frame in frames:
        path = folder / f"{check_name(frame, 'frame')}.png"
        mask = read_index_png(path) if missing == "error" or path.is_file() else None
        masks.append(mask)
        if mask is None:
            continue
        size = size or mask.shape
        if mask.shape != tuple(size):
            raise ValueError(
                f"{str(path)!r} is {_by(mask.shape)} pixels (height x width), expected {_by(size)}. Masks are "
                "compared at the size of the ground truth; write predictions at that size."
            )
    return np.stack([np.zeros(size or (1, 1), dtype=np.uint8) if mask is None else mask for mask in masks])


def missing_files(folder: Path, frames: Sequence[str]) -> list[Path]:
    """PNG files of `frames` that are not in `folder`."""
    paths = (folder / f"{check_name(frame, 'frame')}.png" for frame in frames)
    return [path for path in paths if not path.is_file()]


def raise_missing(paths: Sequence[Path | str], num_wanted: int) -> None:
    """Say in one error how many masks are missing, if any are."""
    if paths:
        examples = ", ".join(str(path) for path in paths[:_EXAMPLES])
        more = ", ..." if len(paths) > _EXAMPLES else ""
        raise ValueError(
            f"{len(paths)} of {num_wanted} predicted masks are missing: {examples}{more}. Every frame needs one, also "
            'where nothing is predicted; missing="empty" scores them as empty and reports how many there were.'
        )


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in `folder`, sorted."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def frame_names(folder: Path) -> list[str]:
    """Names of the PNG files in `folder` without `.png`, sorted."""
    return sorted(path.stem for path in folder.glob("*.png"))


def _by(size: Sequence[int]) -> str:
    return "x".join(str(side) for side in size)
