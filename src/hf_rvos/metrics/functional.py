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
    pred, gt = _checked_masks(pred, gt, void)
    shape = pred.shape[:-2]
    height, width = pred.shape[-2:]
    radius = contour_tolerance(height, width, bound)
    pred, gt = pred.reshape(-1, height, width), gt.reshape(-1, height, width)
    step = max(1, PIXELS_AT_ONCE // (height * width))
    parts = [slice(start, start + step) for start in range(0, len(pred), step)]
    values = [contour_accuracy_of_pairs(pred[None, part], gt[None, part], radius)[0, 0] for part in parts]
    return np.concatenate(values).reshape(shape)[()]


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


def contour_accuracy_of_pairs(pred: np.ndarray, gt: np.ndarray, radius: float) -> np.ndarray:
    """F of each predicted track with each true one; no more work on contours than for one of either.

    Args:
        pred: `(num_predictions, num_frames, height, width)` boolean.
        gt: `(num_objects, num_frames, height, width)` boolean.
        radius: Tolerance in pixels.

    Returns:
        `(num_predictions, num_objects, num_frames)` float64.
    """
    contours = _contours((*pred, *gt), max(int(radius), 1))
    if contours is None:
        return np.ones((len(pred), len(gt), pred.shape[1]))
    near, pixels = _dilate(contours, radius), _count(contours)
    pred, pred_near, pred_pixels = (array[: len(pred)] for array in (contours, near, pixels))
    gt, gt_near, gt_pixels = (array[len(pred) :] for array in (contours, near, pixels))
    precision = [[_share(_count(p & g), total) for g in gt_near] for p, total in zip(pred, pred_pixels)]
    recall = [[_share(_count(p & g), total) for g, total in zip(gt, gt_pixels)] for p in pred_near]
    precision, recall = np.array(precision), np.array(recall)
    return 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)


def _share(found: np.ndarray, total: np.ndarray) -> np.ndarray:
    # Of an empty contour nothing is missed (1). If the other is not empty, its own share is 0, and so is F.
    return np.where(total > 0, found / np.maximum(total, 1), 1.0)


def _contours(tracks: Sequence[np.ndarray], margin: int) -> np.ndarray | None:
    """Pixels that differ from the one to the right, below, or below to the right, cut to the part that has any.

    Returns:
        `(num_tracks, num_frames, rows, columns)`, with `margin` empty rows and columns at the end; None without masks.
    """
    occupied = functools.reduce(np.logical_or, tracks).any(axis=0)
    rows, columns = np.flatnonzero(occupied.any(axis=1)), np.flatnonzero(occupied.any(axis=0))
    if not len(rows):
        return None
    # All contours lie inside the joint bounding box and one pixel around it.
    window = np.s_[:, max(rows[0] - 1, 0) : rows[-1] + 2, max(columns[0] - 1, 0) : columns[-1] + 2]
    num_frames, height, width = tracks[0][window].shape
    masks = np.zeros((len(tracks), num_frames, height + margin, width + margin), dtype=bool)
    for mask, track in zip(masks, tracks):
        mask[:, :height, :width] = track[window]
    # Beyond the frame is what is at its edge, so that no contour runs along it.
    masks[:, :, height] = masks[:, :, height - 1]
    masks[..., width] = masks[..., width - 1]
    # As one row of pixels, in which the pixel below is a fixed number of pixels further on.
    line, step = masks.reshape(-1), width + margin
    contours = np.zeros_like(masks)
    ahead = contours.reshape(-1)[: -step - 1]
    np.not_equal(line[: -step - 1], line[1:-step], out=ahead)
    ahead |= line[: -step - 1] != line[step:-1]
    ahead |= line[: -step - 1] != line[step + 1 :]
    contours[:, :, height:] = False
    contours[..., width:] = False
    return contours


def _dilate(contours: np.ndarray, radius: float) -> np.ndarray:
    """Pixels within `radius` of a contour, `(..., rows, columns)`, right wherever the margin of `_contours` is not.

    The disk is made of rows, and each row of rows half as long: some thirty passes instead of one for each pixel.
    """
    reach, step = int(radius), contours.shape[-1]
    rows = {1: contours.reshape(-1)}  # by length: whether there is a contour among so many pixels up to here
    near = np.zeros_like(rows[1])
    length = 1
    while 2 * length <= 2 * reach + 1:
        rows[2 * length] = _or_earlier(rows[length], length)
        length *= 2
    for offset in range(reach + 1):
        half = math.isqrt(int(radius**2) - offset**2)
        if 2 * half + 1 not in rows:
            length = 1 << ((2 * half + 1).bit_length() - 1)
            rows[2 * half + 1] = _or_earlier(rows[length], 2 * half + 1 - length)
        row = rows[2 * half + 1]
        # The row around a pixel ends `half` pixels after it.
        for end in {half - offset * step, half + offset * step}:
            if end >= 0:
                near[: len(near) - end] |= row[end:]
            else:
                near[-end:] |= row[:end]
    return near.reshape(contours.shape)


def _or_earlier(line: np.ndarray, offset: int) -> np.ndarray:
    """Whether a pixel or the one `offset` before it is set."""
    result = line.copy()
    result[offset:] |= line[: len(line) - offset]
    return result
