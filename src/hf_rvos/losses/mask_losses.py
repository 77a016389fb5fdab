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
"""Losses of logits against binary targets: focal for scores and pixels, dice for whole masks."""

import torch
import torch.nn.functional as F


def sigmoid_focal_loss(logits: torch.Tensor, targets: torch.Tensor, alpha: float = 0.25) -> torch.Tensor:
    """Focal loss of every element (Lin et al. 2017, gamma 2).

    Args:
        logits: Any shape.
        targets: Same shape, 0 or 1.
        alpha: Weight of the positives; negatives weigh `1 - alpha`.

    Returns:
        Same shape as `logits`.
    """
    probabilities = logits.sigmoid()
    # How far the probability is from the target.
    error = probabilities + targets - 2 * probabilities * targets
    weight = (1 - alpha) + (2 * alpha - 1) * targets
    return weight * error.square() * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def dice_score(overlap: torch.Tensor, predicted_area: torch.Tensor, target_area: torch.Tensor) -> torch.Tensor:
    """Dice coefficient from the sums of product, prediction and target; two empty masks give 1."""
    return (2 * overlap + 1) / (predicted_area + target_area + 1)


def mask_focal_loss(mask_logits: torch.Tensor, masks: torch.Tensor, alpha: float = 0.25) -> torch.Tensor:
    """Mean focal loss over all pixels of a clip.

    Args:
        mask_logits: `(batch_size, num_frames, height, width)`.
        masks: Same shape, 0 or 1.
        alpha: Weight of the positives.

    Returns:
        `(batch_size,)`.
    """
    return sigmoid_focal_loss(mask_logits, masks, alpha).flatten(1).mean(1)


def mask_dice_loss(mask_logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """One minus the dice coefficient of a clip, whose frames together count as one mask.

    Args:
        mask_logits: `(batch_size, num_frames, height, width)`.
        masks: Same shape, 0 or 1.

    Returns:
        `(batch_size,)`.
    """
    probabilities, masks = mask_logits.sigmoid().flatten(1), masks.flatten(1)
    return 1 - dice_score((probabilities * masks).sum(1), probabilities.sum(1), masks.sum(1))
