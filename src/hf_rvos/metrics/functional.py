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

import math
import warnings

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
    height, width = pred.shape[-2:]
    radius = bound if bound >= 1 else math.ceil(bound * math.sqrt(height**2 + width**2))
    tracks = np.stack([pred, gt]).reshape(2, -1, height, width)
    step = max(1, PIXELS_AT_ONCE // (height * width))
    counts = [_contour_counts(tracks[:, start : start + step], radius) for start in range(0, tracks.shape[1], step)]
    contour, found = np.concatenate(counts, axis=-1).reshape(2, 2, *pred.shape[:-2])
    # Of an empty contour nothing is missed (1). If the other is not empty, its own share is 0, and so is F.
    precision, recall = np.where(contour > 0, found / np.maximum(contour, 1), 1.0)
    return (2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny))[()]


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


def _contours(masks: np.ndarray) -> np.ndarray:
    """Pixels of `(..., height, width)` masks that differ from the one to the right, below, or below to the right."""
    contours = np.zeros_like(masks)
    right, below = masks[..., :, :-1] != masks[..., :, 1:], masks[..., :-1, :] != masks[..., 1:, :]
    contours[..., :, :-1] = right
    contours[..., :-1, :] |= below
    contours[..., :-1, :-1] |= masks[..., :-1, :-1] != masks[..., 1:, 1:]
    return contours


def _contour_counts(tracks: np.ndarray, radius: float) -> np.ndarray:
    """Contour pixels, and those within `radius` of the other contour, of two mask tracks.

    Args:
        tracks: `(2, num_frames, height, width)` boolean.
        radius: In pixels.

    Returns:
        `(2, 2, num_frames)`: first all, then the found ones; of either track.
    """
    import cv2

    num_frames = tracks.shape[1]
    occupied = tracks.any(axis=(0, 1))
    rows, columns = np.flatnonzero(occupied.any(axis=1)), np.flatnonzero(occupied.any(axis=0))
    if not len(rows):
        return np.zeros((2, 2, num_frames), dtype=int)
    # All contours lie inside the joint bounding box and one pixel around it.
    tracks = tracks[..., max(rows[0] - 1, 0) : rows[-1] + 2, max(columns[0] - 1, 0) : columns[-1] + 2]
    contours = _contours(tracks)

    reach = int(radius)
    offsets = np.arange(-reach, reach + 1) ** 2
    disk = (offsets[:, None] + offsets <= radius**2).astype(np.uint8)
    # All frames in one image, one below the other, with rows between them that a contour cannot cross.
    image = np.pad(contours, [(0, 0), (0, 0), (0, reach), (0, 0)]).view(np.uint8)
    near = cv2.dilate(image.reshape(-1, image.shape[-1]), disk).reshape(image.shape).view(bool)
    found = contours & near[::-1, :, : contours.shape[2]]
    return np.stack([_count(contours), _count(found)])
