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
"""Masks as tensors: their overlap, the way from the model's grid to the frame, and one map of several objects."""

import numpy as np
import torch
import torch.nn.functional as F


MAX_OBJECTS = 254  # of an index map, whose 255 is void


def mask_iou(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Intersection over union of binary masks, one value for each frame.

    Two empty masks agree, so their IoU is 1 (the convention of the DAVIS benchmark).

    Args:
        predicted: `(..., height, width)` boolean.
        target: same shape as `predicted`.

    Returns:
        `(...)` float32 in [0, 1].
    """
    intersection = (predicted & target).flatten(-2).sum(-1)
    union = (predicted | target).flatten(-2).sum(-1)
    return torch.where(union > 0, intersection / union.clamp(min=1), 1.0)


def resize_mask_logits(mask_logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize mask logits bilinearly (`align_corners=False`, no antialiasing), as the published results were made.

    Args:
        mask_logits: `(..., height, width)` floating point.
        size: `(height, width)` of the result.

    Returns:
        `(..., *size)` of the same dtype.
    """
    frames = mask_logits.reshape(-1, 1, *mask_logits.shape[-2:])
    resized = F.interpolate(frames, size=tuple(size), mode="bilinear", align_corners=False)
    return resized.reshape(*mask_logits.shape[:-2], *size)


def resize_masks(masks: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize boolean masks `(..., height, width)` to `(..., *size)`, each pixel taking that of the nearest."""
    frames = masks.reshape(-1, 1, *masks.shape[-2:]).to(torch.uint8)
    resized = F.interpolate(frames, size=tuple(size), mode="nearest")
    return resized.reshape(*masks.shape[:-2], *size).bool()


def merge_objects(probabilities: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
    """Put the objects of a video into one index map, as published for Ref-DAVIS17.

    A pixel takes the object with the highest probability, the first of equal ones, if that is at least 0.5.

    Args:
        probabilities: `(num_objects, ...)` in [0, 1], at the size of the video.

    Returns:
        `(...)` uint8, of the kind of `probabilities`: 0 for the background, i + 1 for object i.

    Raises:
        ValueError: if there are more objects than an index map has room for.
    """
    if not 1 <= len(probabilities) <= MAX_OBJECTS:
        raise ValueError(f"probabilities has {len(probabilities)} objects, expected 1 to {MAX_OBJECTS}")
    tensor = torch.as_tensor(probabilities)
    labels, best = torch.zeros(tensor.shape[1:], dtype=torch.uint8, device=tensor.device), torch.zeros_like(tensor[0])
    for label, scores in enumerate(tensor, start=1):
        better = (scores >= 0.5) & (scores > best)
        labels[better], best = label, torch.where(better, scores, best)
    return labels if isinstance(probabilities, torch.Tensor) else labels.numpy()
