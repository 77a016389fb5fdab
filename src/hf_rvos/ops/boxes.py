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
"""Boxes as tensors: the two forms, their overlap, and the box around a mask."""

import torch


# Keeps the ratios of two empty boxes defined. The released matching and box losses contain it, and frames without the
# object are compared with an empty box, so it is part of the numbers.
GIOU_EPSILON = 1e-6


def cxcywh_to_xyxy(boxes: torch.Tensor) -> torch.Tensor:
    """Turn `(..., 4)` boxes given by centre, width and height into corners (left, top, right, bottom)."""
    centers, sizes = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centers - sizes / 2, centers + sizes / 2], dim=-1)


def xyxy_to_cxcywh(boxes: torch.Tensor) -> torch.Tensor:
    """Turn `(..., 4)` boxes given by corners (left, top, right, bottom) into centre, width and height."""
    top_left, bottom_right = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(top_left + bottom_right) / 2, bottom_right - top_left], dim=-1)


def _frame_sides(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    height, width = size
    return torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)


def normalize_boxes(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Divide `(..., 4)` boxes of either form, in pixels, by the `(height, width)` of their frame."""
    return boxes / _frame_sides(boxes, size)


def denormalize_boxes(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Multiply `(..., 4)` boxes of either form, in [0, 1], with the `(height, width)` of their frame."""
    return boxes * _frame_sides(boxes, size)


def generalized_box_iou(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Generalised intersection over union of pairs of boxes (Rezatofighi et al. 2019, with smoothed ratios).

    Pairs are formed by broadcasting, not by comparing all with all.

    Args:
        predicted: `(..., 4)` xyxy.
        target: `(..., 4)` xyxy in the same unit, of a shape that broadcasts with `predicted`.

    Returns:
        `(...)` values in (-1, 1]: 1 for equal boxes, negative where the boxes are far apart.
    """
    intersection = _area(
        torch.maximum(predicted[..., :2], target[..., :2]), torch.minimum(predicted[..., 2:], target[..., 2:])
    )
    union = _area(predicted[..., :2], predicted[..., 2:]) + _area(target[..., :2], target[..., 2:]) - intersection
    hull = _area(
        torch.minimum(predicted[..., :2], target[..., :2]), torch.maximum(predicted[..., 2:], target[..., 2:])
    )
    iou = (intersection + GIOU_EPSILON) / (union + GIOU_EPSILON)
    return iou - (hull - union + GIOU_EPSILON) / (hull + GIOU_EPSILON)


def _area(top_left: torch.Tensor, bottom_right: torch.Tensor) -> torch.Tensor:
    width, height = (bottom_right - top_left).clamp(min=0).unbind(-1)
    return width * height


def boxes_from_masks(masks: torch.Tensor) -> torch.Tensor:
    """Smallest box around the foreground of each mask, as the benchmarks define it.

    Corners are the indices of the first and the last foreground column and row, both inclusive, so an object one pixel
    wide has a box of zero width.

    Args:
        masks: `(..., height, width)`, anything non-zero is foreground.

    Returns:
        `(..., 4)` float32 xyxy in pixels; zeros where the mask is empty.
    """
    masks = masks != 0
    left, right = _first_and_last(masks.any(dim=-2))
    top, bottom = _first_and_last(masks.any(dim=-1))
    return torch.stack([left, top, right, bottom], dim=-1).float()


def _first_and_last(occupied: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    index = torch.arange(occupied.shape[-1], device=occupied.device)
    last = torch.where(occupied, index, 0).amax(dim=-1)
    first = torch.where(occupied, index, last.unsqueeze(-1)).amin(dim=-1)
    return first, last
