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
"""Frames and masks of a row of any benchmark, read from its root when they are asked for.

What a row says about its files, all relative to the root:

| `media_kind` | frames |
|---|---|
| `frames`, `image` | `<media_dir>/<frame>.jpg` (or `.jpeg`, `.png`) |
| `video` | frame `"1"` is the first picture of the video file `media_dir`; numbers past its end mean the last one |
| `generated` | drawn again, no file |

| `mask_kind` | masks |
|---|---|
| `index_png` | `<mask_dir>/<frame>.png`, pixel values are object ids |
| `object_png` | `<mask_dir>/<object id>/<frame>.png`, anything but 0 is the object; no file means that it is absent |
| `rle` | column `masks` of the row |
| `h5` | `<mask_dir>/<frame>.h5`, five digits |
| `mat` | the file `mask_dir`, frame `"1"` is its first mask |
| `none` | there is no ground truth |

Masks of kind `object_png` are in `mask_dir` itself where `object_ids` is None: one file for all that is meant.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_rvos.data.image_files import open_image, read_index_png
from hf_rvos.ops.rle import decode_rle
from hf_rvos.utils.video_io import FRAME_SUFFIXES, open_video


def load_clip(
    row: dict[str, Any], root: str | os.PathLike | None = None, positions: Sequence[int] | None = None
) -> np.ndarray:
    """Read frames of a row.

    Args:
        row (`dict`):
            A row of any benchmark.
        root (`str` or `os.PathLike`, *optional*):
            Root of the data set; rows of generated videos need none.
        positions (`list[int]`, *optional*):
            Which frames of the row, in which order, counted from 0; all if None. Nothing else is decoded.

    Returns:
        `np.ndarray`: `(num_frames, height, width, 3)` uint8, RGB.

    Raises:
        ValueError: if a file is missing, damaged or of another size, or a position is not in the row.
    """
    positions = _positions(row, positions)
    if row["media_kind"] == "generated":
        from hf_rvos.data.moving_shapes.builder import draw_clip

        return draw_clip(row, positions)
    clip = None
    order = sorted(range(len(positions)), key=positions.__getitem__)
    for index, frame in zip(order, iter_frames(row, root, sorted(positions))):
        if clip is None:
            clip = np.empty((len(positions), *frame.shape), np.uint8)
        clip[index] = frame
    return clip


def iter_frames(
    row: dict[str, Any], root: str | os.PathLike | None = None, positions: Sequence[int] | None = None
) -> Iterator[np.ndarray]:
    """Read frames of a row one by one, for videos that do not fit into memory.

    Args:
        row: A row of any benchmark.
        root: Root of the data set; rows of generated videos need none.
        positions: Which frames of the row, in ascending order; all if None.

    Yields:
        `(height, width, 3)` uint8, RGB.

    Raises:
        ValueError: as `load_clip`.
    """
    positions, kind = _positions(row, positions), row["media_kind"]
    if kind == "generated":
        yield from load_clip(row, root, positions)
        return
    folder = _root(row, root) / row["media_dir"]
    if kind == "video":
        frames = _video_frames(folder, [int(row["frames"][position]) - 1 for position in positions])
    elif kind in ("frames", "image"):
        frames = (read_frame(frame_path(folder, row["frames"][position])) for position in positions)
    else:
        raise ValueError(f"row: media_kind is {kind!r}, expected frames, image, video or generated")
    size = (row["height"], row["width"])
    for position, frame in zip(positions, frames):
        size = frame.shape[:2] if None in size else size
        _check_size(f"frame {row['frames'][position]} of {folder}", frame, size, "the video")
        yield frame


def iter_clips(
    row: dict[str, Any], root: str | os.PathLike | None, clips: Sequence[Sequence[int]]
) -> Iterator[np.ndarray]:
    """Read a video clip by clip. A video file is decoded once, and not from its start for each clip.

    Args:
        row: A row of any benchmark.
        root: Root of the data set; rows of generated videos need none.
        clips: Positions of the frames of each clip, counted from 0. Of a video file, frames are kept that later clips
            have too: none if clips are consecutive ranges.

    Yields:
        `(num_frames, height, width, 3)` uint8, RGB.

    Raises:
        ValueError: as `load_clip`.
    """
    kind = row["media_kind"]
    if kind == "generated" and clips:
        video = load_clip(row, root)
        yield from (video[_positions(row, clip)] for clip in clips)
    elif kind == "video" and clips:
        last_clip = {position: number for number, clip in enumerate(clips) for position in _positions(row, clip)}
        wanted, kept = sorted(last_clip), {}
        frames = zip(wanted, iter_frames(row, root, wanted))
        for number, clip in enumerate(clips):
            while not kept.keys() >= set(clip):
                position, frame = next(frames)
                kept[position] = frame
            yield np.stack([kept[position] for position in clip])
            kept = {position: frame for position, frame in kept.items() if last_clip[position] > number}
    else:
        yield from (load_clip(row, root, clip) for clip in clips)


def load_masks(
    row: dict[str, Any], root: str | os.PathLike | None = None, positions: Sequence[int] | None = None
) -> np.ndarray:
    """Read the ground truth of a row: the union of its targets.

    Args:
        row (`dict`):
            A row of any benchmark.
        root (`str` or `os.PathLike`, *optional*):
            Root of the data set; rows with masks of kind `rle` need none.
        positions (`list[int]`, *optional*):
            Which frames of the row, in which order, counted from 0; all if None. Nothing else is decoded.

    Returns:
        `np.ndarray`: `(num_frames, height, width)` bool. False where the target is absent, and in frames that are
        not in `annotated_frames`.

    Raises:
        ValueError: if the row has no ground truth, or a file is missing, damaged, of another size, or of a form in
            which object ids are lost.
    """
    positions, kind = _positions(row, positions), row["mask_kind"]
    if kind == "none":
        raise ValueError(f"row: {_name(row)} has no ground truth (mask_kind 'none')")
    if kind not in _READERS:
        raise ValueError(f"row: mask_kind is {kind!r}, expected one of {', '.join(_READERS)} or none")
    if kind == "index_png" and row["object_ids"] is None:
        raise ValueError(f"row: {_name(row)} does not say which object of its masks is meant (object_ids is None)")
    if kind != "rle":
        root = _root(row, root)
    annotated = None if row["annotated_frames"] is None else set(row["annotated_frames"])
    found = (
        (index, _READERS[kind](row, root, position))
        for index, position in enumerate(positions)
        if annotated is None or position in annotated
    )
    return _stack(row, root, len(positions), found, bool)


def load_target_masks(
    row: dict[str, Any], root: str | os.PathLike | None = None, positions: Sequence[int] | None = None
) -> np.ndarray:
    """Read the ground truth of a row as a mask for each of its targets.

    Args:
        row (`dict`):
            A row of any benchmark.
        root (`str` or `os.PathLike`, *optional*):
            Root of the data set; rows with masks of kind `rle` need none.
        positions (`list[int]`, *optional*):
            Which frames of the row, in which order, counted from 0; all if None.

    Returns:
        `np.ndarray`: `(num_targets, num_frames, height, width)` bool, as [`load_masks`]. What no data set takes apart
        is one target.

    Raises:
        ValueError: as [`load_masks`].
    """
    numbers = row["object_ids"]
    if row.get("target_masks") is not None:
        parts = [{**row, "masks": codes} for codes in row["target_masks"]]
    elif row["mask_kind"] in ("index_png", "object_png") and numbers is not None and len(numbers) > 1:
        parts = [{**row, "object_ids": [number]} for number in numbers]
    else:
        parts = [row]
    masks = np.stack([load_masks(part, root, positions) for part in parts])
    return masks[:0] if numbers == [] else masks


def load_index_masks(
    row: dict[str, Any], root: str | os.PathLike, positions: Sequence[int] | None = None
) -> np.ndarray:
    """Read the object ids of all pixels, whatever the row refers to.

    Args:
        row (`dict`):
            A row with masks of kind `index_png`.
        root (`str` or `os.PathLike`):
            Root of the data set.
        positions (`list[int]`, *optional*):
            Which frames of the row, in which order, counted from 0; all if None.

    Returns:
        `np.ndarray`: `(num_frames, height, width)` uint8; 0 is background and, in DAVIS, 255 void.

    Raises:
        ValueError: if the row has masks of another kind, or a file is missing or damaged.
    """
    if row["mask_kind"] != "index_png":
        raise ValueError(f"row: {_name(row)} has masks of kind {row['mask_kind']!r}, expected 'index_png'")
    positions, root = _positions(row, positions), _root(row, root)
    maps = ((index, read_index_png(_index_path(row, root, position))) for index, position in enumerate(positions))
    return _stack(row, root, len(positions), maps, np.uint8)


class RowReader:
    """Transform for `Dataset.with_transform`: adds frames as `video` and makes `masks` arrays.

    Args:
        root (`str` or `os.PathLike`, *optional*):
            Root of the data set.

    Example:
        >>> rows = load_dataset("mevis", "data/mevis", split="valid_u").with_transform(RowReader("data/mevis"))
        >>> rows[0]["video"].shape, rows[0]["masks"].shape
        ((63, 720, 1280, 3), (63, 720, 1280))
    """

    def __init__(self, root: str | os.PathLike | None = None):
        self.root = root

    def __call__(self, batch: dict[str, list]) -> dict[str, list]:
        """`masks` of rows without ground truth are None."""
        rows = [dict(zip(batch, values)) for values in zip(*batch.values())]
        masks = [None if row["mask_kind"] == "none" else load_masks(row, self.root) for row in rows]
        return {**batch, "video": [load_clip(row, self.root) for row in rows], "masks": masks}


def frame_path(folder: Path, name: str) -> Path:
    """Path of a frame with whatever suffix it has.

    Raises:
        ValueError: if there is no file.
    """
    for suffix in FRAME_SUFFIXES:
        if (path := folder / f"{name}{suffix}").exists():
            return path
    raise ValueError(f"row: there is no frame {str(folder / name)!r} with one of the suffixes {FRAME_SUFFIXES}")


def read_frame(path: Path) -> np.ndarray:
    """Read an image as `(height, width, 3)` uint8 RGB.

    Raises:
        ValueError: if it is missing or damaged.
    """
    with open_image(path) as image:
        return np.asarray(image.convert("RGB"))


def _read_index_png(row: dict[str, Any], root: Path, position: int) -> np.ndarray:
    return np.isin(read_index_png(_index_path(row, root, position)), row["object_ids"])


def _read_object_png(row: dict[str, Any], root: Path, position: int) -> np.ndarray | None:
    folder, name = root / row["mask_dir"], f"{row['frames'][position]}.png"
    folders = [folder] if row["object_ids"] is None else [folder / str(number) for number in row["object_ids"]]
    masks = [read_index_png(folder / name) != 0 for folder in folders if (folder / name).exists()]
    for mask in masks:
        _check_size(folder / name, mask, masks[0].shape, "the others")
    return np.logical_or.reduce(masks) if masks else None


def _read_rle(row: dict[str, Any], root: Path | None, position: int) -> np.ndarray | None:
    code = row["masks"][position]
    if code is None:
        return None
    try:
        return decode_rle([code])[0]
    except Exception as error:  # pycocotools has errors of many types
        raise ValueError(f"masks: the code of frame {position} of {_name(row)} is damaged ({error})") from error


def _read_h5(row: dict[str, Any], root: Path, position: int) -> np.ndarray:
    from hf_rvos.data.a2d_sentences import read_instance_mask

    path = root / row["mask_dir"] / f"{int(row['frames'][position]):05d}.h5"
    return read_instance_mask(path, row["object_ids"][0])


def _read_mat(row: dict[str, Any], root: Path, position: int) -> np.ndarray:
    from hf_rvos.data.jhmdb_sentences import read_puppet_mask

    return read_puppet_mask(root / row["mask_dir"], int(row["frames"][position]) - 1)


_READERS = {
    "index_png": _read_index_png,
    "object_png": _read_object_png,
    "rle": _read_rle,
    "h5": _read_h5,
    "mat": _read_mat,
}


def _stack(
    row: dict[str, Any],
    root: Path | None,
    length: int,
    found: Iterable[tuple[int, np.ndarray | None]],
    dtype: type,
) -> np.ndarray:
    """One array of masks by index, zeros where there is none."""
    size = (row["height"], row["width"])
    masks = None if None in size else np.zeros((length, *size), dtype)
    for index, mask in found:
        if mask is None:
            continue
        if masks is None:
            masks = np.zeros((length, *mask.shape), dtype)
        _check_size(f"a mask of {_name(row)}", mask, masks.shape[1:], "the video")
        masks[index] = mask
    return np.zeros((length, *load_clip(row, root, [0]).shape[1:3]), dtype) if masks is None else masks


def _video_frames(path: Path, indices: list[int]) -> Iterator[np.ndarray]:
    """Frames of a video file by ascending indices."""
    if not path.is_file():
        raise ValueError(f"row: there is no video {str(path)!r}")
    number = 0
    # Decoded frames are counted: times in the file may start late or have gaps.
    for index, (frame, _) in enumerate(open_video(path)):
        while number < len(indices) and indices[number] == index:
            yield frame
            number += 1
        if number == len(indices):
            return
    # Decoders do not agree on the number of frames of some files, and annotations may name one more.
    for _ in indices[number:]:
        yield frame


def _index_path(row: dict[str, Any], root: Path, position: int) -> Path:
    return root / row["mask_dir"] / f"{row['frames'][position]}.png"


def _check_size(what: str | Path, pixels: np.ndarray, size: tuple[int, int], other: str) -> None:
    if pixels.shape[:2] != tuple(size):
        height, width = pixels.shape[:2]
        raise ValueError(
            f"row: {what} is {height}x{width} (height x width), but {other} is {size[0]}x{size[1]}; files of one "
            "video must have one size"
        )


def _positions(row: dict[str, Any], positions: Sequence[int] | None) -> list[int]:
    num_frames = len(row["frames"])
    if positions is None:
        return list(range(num_frames))
    positions = [int(position) for position in positions]
    if not positions or not all(0 <= position < num_frames for position in positions):
        raise ValueError(f"positions is {positions}, expected one or more in 0 ... {num_frames - 1} of {_name(row)}")
    return positions


def _root(row: dict[str, Any], root: str | os.PathLike | None) -> Path:
    if root is None:
        raise ValueError(f"root: files of {_name(row)} are needed, give the root of the data set")
    return Path(root).expanduser()


def _name(row: dict[str, Any]) -> str:
    return f"{row['dataset']} {row['video_id']}/{row['expression_id']}"
