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
"""Region similarity J and contour accuracy F of mask tracks, with the numbers of the DAVIS-2017 evaluation.

Perazzi et al. 2016, section 5. In a frame without the object, an empty prediction has a J and F of 1, any other of 0.
"""

import functools
import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch


# Frames are processed together up to this number of pixels, which keeps the working set in the processor's cache.
PIXELS_AT_ONCE = 2**18
_TINY = np.finfo(np.float64).tiny


def region_similarity(
    pred: np.ndarray | torch.Tensor, gt: np.ndarray | torch.Tensor, void: np.ndarray | torch.Tensor | None = None
) -> np.ndarray:
    """Intersection over union of each frame (J).

    Args:
        pred: `(num_frames, height, width)` or `(height, width)`; anything non-zero is foreground.
        gt: Ground truth, same shape.
        void: Pixels to leave out, same shape. If None, all pixels count.

    Returns:
        `(num_frames,)` float64 in [0, 1], or a single number for a single mask.

    Raises:
        ValueError: if the shapes differ or are not those of masks.
    """
    pred, gt = _checked_masks(pred, gt, void)
    intersection = _count(pred & gt)
    union = _count(pred) + _count(gt) - intersection
    return np.where(union > 0, intersection / np.maximum(union, 1), 1.0)[()]


def contour_accuracy(
    pred: np.ndarray | torch.Tensor,
    gt: np.ndarray | torch.Tensor,
    void: np.ndarray | torch.Tensor | None = None,
    bound: float = 0.008,
) -> np.ndarray:
    """Harmonic mean of contour precision and recall of each frame (F).

    A contour pixel counts as found if the other contour has a pixel within the tolerance. The tolerance depends on the
    size of the frame, so evaluate at the size of the ground truth. There is no contour along the frame's edge.

    Args:
        pred: `(num_frames, height, width)` or `(height, width)`; anything non-zero is foreground.
        gt: Ground truth, same shape.
        void: Pixels that are background in both masks, same shape. If None, there are none.
        bound: Tolerance as a share of the frame's diagonal, rounded up to pixels; from 1 on, in pixels.

    Returns:
        `(num_frames,)` float64 in [0, 1], or a single number for a single mask.

    Raises:
        ValueError: if the shapes differ or are not those of masks.
    """
    return region_and_contour(pred, gt, void, bound)[1]


def region_and_contour(
    pred: np.ndarray | torch.Tensor,
    gt: np.ndarray | torch.Tensor,
    void: np.ndarray | torch.Tensor | None = None,
    bound: float = 0.008,
) -> tuple[np.ndarray, np.ndarray]:
    """J and F of each frame, in less time than `region_similarity` and `contour_accuracy` take one after the other.

    Args:
        pred: `(num_frames, height, width)` or `(height, width)`; anything non-zero is foreground.
        gt: Ground truth, same shape.
        void: Pixels to leave out, same shape. If None, all pixels count.
        bound: See `contour_accuracy`.

    Returns:
        What `region_similarity` and `contour_accuracy` give.

    Raises:
        ValueError: if the shapes differ or are not those of masks.
    """
    pred, gt = _checked_masks(pred, gt, void)
    height, width = pred.shape[-2:]
    radius = contour_tolerance(height, width, bound)
    tracks = pred.reshape(1, -1, height, width), gt.reshape(1, -1, height, width)
    step = max(1, PIXELS_AT_ONCE // (height * width))
    parts = [slice(start, start + step) for start in range(0, tracks[0].shape[1], step)]
    scores = [scores_of_pairs(tracks[0][:, part], tracks[1][:, part], radius) for part in parts]
    j, f = (np.concatenate(values, axis=-1).reshape(pred.shape[:-2])[()] for values in zip(*scores))
    return j, f


def contour_tolerance(height: int, width: int, bound: float = 0.008) -> float:
    """Distance in pixels within which a contour pixel counts as found, for frames of a size."""
    return bound if bound >= 1 else math.ceil(bound * math.sqrt(height**2 + width**2))


def sequence_statistics(values: np.ndarray) -> dict[str, float]:
    """Mean, recall and decay of the J or F of one object over its video.

    The original code numbers the frames with 8 bits and goes wrong from 256 frames on; here any length is right.

    Args:
        values: `(num_frames,)`. NaN frames are left out of mean and decay, and are misses for the recall.

    Returns:
        `mean`; `recall`, the share of frames above 0.5; and `decay`, the mean of the first quarter of the video minus
        that of the last.

    Raises:
        ValueError: if `values` is not a list of at least one number.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values has shape {values.shape}, expected (num_frames,) with at least one frame.")
    # Quarters share the frame at their border.
    borders = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return {
            "mean": float(np.nanmean(values)),
            "recall": float(np.mean(values > 0.5)),
            "decay": float(np.nanmean(values[: borders[1] + 1]) - np.nanmean(values[borders[3] :])),
        }


def _checked_masks(pred, gt, void) -> tuple[np.ndarray, np.ndarray]:
    masks = [
        mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask)
        for mask in (pred, gt, void)
        if mask is not None
    ]
    shapes = [mask.shape for mask in masks]
    if len(set(shapes)) != 1 or len(shapes[0]) not in (2, 3) or 0 in shapes[0]:
        raise ValueError(
            f"pred, gt and void (if any) have the shapes {', '.join(map(str, shapes))}, expected one for all: "
            "(num_frames, height, width) or (height, width). Resize predictions to the size of the ground truth first."
        )
    pred, gt, *void = (mask if mask.dtype == bool else mask != 0 for mask in masks)
    return (pred & ~void[0], gt & ~void[0]) if void else (pred, gt)


def _count(masks: np.ndarray) -> np.ndarray:
    """Foreground pixels of `(..., height, width)` masks, `(...)`."""
    frames = masks.reshape(-1, masks.shape[-2] * masks.shape[-1])
    # Frame by frame, because only without an axis count_nonzero is a fast loop over bytes.
    return np.array([np.count_nonzero(frame) for frame in frames]).reshape(masks.shape[:-2])


def scores_of_pairs(pred: np.ndarray, gt: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """J and F of each predicted track with each true one, with the work on contours done once for each track.

    All is computed on 64 pixels at a time, packed into integers.

    Args:
        pred: `(num_predictions, num_frames, height, width)` boolean.
        gt: `(num_objects, num_frames, height, width)` boolean.
        radius: Tolerance of contours in pixels.

    Returns:
        `(num_predictions, num_objects, num_frames)` float64, twice.
    """
    num_predictions, num_frames = pred.shape[:2]
    shape = num_predictions, len(gt), num_frames
    masks, height, width = _pack((*pred, *gt), margin=max(int(radius), 1))
    if not masks.size:
        return np.ones(shape), np.ones(shape)
    contours = _contours(masks, height, width)
    near = _dilate(contours, radius)
    areas, pixels = _count_bits(masks), _count_bits(contours)
    intersection, pred_found, gt_found = np.zeros((3, *shape), dtype=int)
    for first, second in np.ndindex(shape[:2]):
        other = num_predictions + second
        intersection[first, second] = _count_bits(masks[first] & masks[other])
        pred_found[first, second] = _count_bits(contours[first] & near[other])
        gt_found[first, second] = _count_bits(contours[other] & near[first])
    union = areas[:num_predictions, None] + areas[num_predictions:] - intersection
    # Of an empty contour nothing is missed (1). If the other is not empty, its own share is 0, and so is F.
    precision = _share(pred_found, pixels[:num_predictions, None])
    recall = _share(gt_found, pixels[num_predictions:])
    return _share(intersection, union), 2 * precision * recall / np.maximum(precision + recall, _TINY)


def _share(part: np.ndarray, total: np.ndarray) -> np.ndarray:
    """`part / total`, and 1 where both are 0."""
    return np.where(total > 0, part / np.maximum(total, 1), 1.0)


def _pack(tracks: Sequence[np.ndarray], margin: int) -> tuple[np.ndarray, int, int]:
    """Pack the part of mask tracks that has all their contours.

    Returns:
        `(num_tracks, num_frames, rows, words)` uint64 with pixel x of a row at bit x % 64 of word x // 64, and height
        and width of the part; after them are at least `margin` empty rows and columns.
    """
    occupied = functools.reduce(np.logical_or, [frame for track in tracks for frame in track])
    rows, columns = np.flatnonzero(occupied.any(axis=1)), np.flatnonzero(occupied.any(axis=0))
    if not len(rows):
        return np.zeros((len(tracks), len(tracks[0]), 0, 0), dtype=np.uint64), 0, 0
    # All contours lie inside the joint bounding box and one pixel around it.
    window = np.s_[:, max(rows[0] - 1, 0) : rows[-1] + 2, max(columns[0] - 1, 0) : columns[-1] + 2]
    num_frames, height, width = tracks[0][window].shape
    words = -(-(width + margin) // 64)
    masks = np.zeros((len(tracks), num_frames, height + margin, 8 * words), dtype=np.uint8)
    for mask, track in zip(masks, tracks):
        mask[:, :height, : -(-width // 8)] = np.packbits(track[window], axis=-1, bitorder="little")
    return masks.view("<u8"), height, width


def _contours(masks: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels of what `_pack` gives that differ from the one to the right, below, or below to the right."""
    below = np.zeros_like(masks)
    below[:, :, : height - 1] = masks[:, :, 1:height]
    # There is no contour along the edge of the frame. Other parts end with an empty row and column.
    below[:, :, height - 1] = masks[:, :, height - 1]
    inside = np.zeros(64 * masks.shape[-1], dtype=bool)
    inside[: width - 1] = True
    right, below_right = (_later(line.reshape(-1), 1).reshape(masks.shape) for line in (masks, below))
    contours = ((masks ^ right) | (masks ^ below_right)) & np.packbits(inside, bitorder="little").view("<u8")
    contours |= masks ^ below
    contours[:, :, height:] = 0
    return contours


def _dilate(contours: np.ndarray, radius: float) -> np.ndarray:
    """Pixels within `radius` of a contour, right wherever the margin of `_pack` is not.

    The disk is made of rows, and each row of rows half as long.
    """
    reach, words = int(radius), contours.shape[-1]
    rows = {1: contours.reshape(-1)}  # by length: whether there is a contour among so many pixels up to here
    near = np.zeros_like(rows[1])
    length = 1
    while 2 * length <= 2 * reach + 1:
        rows[2 * length] = rows[length] | _earlier(rows[length], length)
        length *= 2
    centred = {}
    for offset in range(reach + 1):
        half = math.isqrt(int(radius**2) - offset**2)
        if half not in centred:
            length = 1 << ((2 * half + 1).bit_length() - 1)
            centred[half] = _later(rows[length], half) | _later(rows[length], length - 1 - half)
        row, shift = centred[half], offset * words
        near[: len(near) - shift] |= row[shift:]
        near[shift:] |= row[: len(row) - shift]
    return near.reshape(contours.shape)


def _earlier(line: np.ndarray, pixels: int) -> np.ndarray:
    """What is `pixels` before each pixel of a packed line."""
    words, bits = divmod(pixels, 64)
    if words:
        line = np.concatenate([np.zeros(words, dtype=line.dtype), line[:-words]])
    result = line << np.uint64(bits)
    if bits:
        result[1:] |= line[:-1] >> np.uint64(64 - bits)
    return result


def _later(line: np.ndarray, pixels: int) -> np.ndarray:
    """What is `pixels` after each pixel of a packed line."""
    if pixels < 0:
        return _earlier(line, -pixels)
    words, bits = divmod(pixels, 64)
    if words:
        line = np.concatenate([line[words:], np.zeros(words, dtype=line.dtype)])
    result = line >> np.uint64(bits)
    if bits:
        result[:-1] |= line[1:] << np.uint64(64 - bits)
    return result


def _count_bits(masks: np.ndarray) -> np.ndarray:
    """Pixels set in packed `(..., rows, words)` masks, `(...)`."""
    return np.bitwise_count(masks).reshape(*masks.shape[:-2], -1).sum(axis=-1, dtype=int)
