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
"""Changes of a clip that keep its expression true, and the boxes that belong to its masks."""

import re

import torch
import torch.nn.functional as F

from hf_rvos.ops.boxes import boxes_from_masks, normalize_boxes, xyxy_to_cxcywh
from hf_rvos.ops.masks import resize_masks


_MIRRORED_WORDS = {
    "left": "right",
    "leftmost": "rightmost",
    "leftward": "rightward",
    "leftwards": "rightwards",
    "lefthand": "righthand",
    "clockwise": "counterclockwise",
}
_MIRRORED_WORDS |= {right: left for left, right in _MIRRORED_WORDS.items()}
_MIRRORED_WORDS |= dict.fromkeys(
    ("counter-clockwise", "counter clockwise", "anticlockwise", "anti-clockwise", "anti clockwise"), "clockwise"
)
# Longest first, so that "counter-clockwise" is found before the "clockwise" in it.
_MIRRORED_PATTERN = re.compile(rf"\b(?:{'|'.join(sorted(_MIRRORED_WORDS, key=len, reverse=True))})\b")


def mirror_expression(expression: str) -> str:
    """The expression of the clip seen in a mirror: left and right change places, and so do the senses of rotation.

    Only whole words count: the released code replaces substrings and turns "bright" into "bleft".
    """
    return _MIRRORED_PATTERN.sub(lambda match: _MIRRORED_WORDS[match.group()], expression)


def training_boxes(masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The boxes a model learns, and where there is something to learn.

    As in the released code an object one pixel wide counts as absent: its box of inclusive corners has no area.

    Args:
        masks: `(..., height, width)` boolean.

    Returns:
        Boxes `(..., 4)` cxcywh, normalised to [0, 1] by the size of the mask and zero where the object is absent, and
        `(...)` boolean, True where it is present.
    """
    boxes = xyxy_to_cxcywh(normalize_boxes(boxes_from_masks(masks), masks.shape[-2:]))
    present = (boxes[..., 2:] > 0).all(-1)
    return boxes * present[..., None], present


def resize_clip(frames: torch.Tensor, masks: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Bring a clip to a size: frames bilinear with antialiasing, masks nearest.

    Args:
        frames: `(num_frames, 3, height, width)` uint8.
        masks: `(num_expressions, num_frames, height, width)` boolean.
        size: `(height, width)` wanted.

    Returns:
        The two in the new size, types unchanged.
    """
    if frames.shape[-2:] == tuple(size):
        return frames, masks
    return F.interpolate(frames, size=tuple(size), mode="bilinear", antialias=True), resize_masks(masks, size)
