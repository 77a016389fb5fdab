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
"""Choosing the query that is trained on the object of an expression."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from hf_rvos.losses.box_losses import box_giou_loss, box_l1_distance
from hf_rvos.losses.labels import PreparedLabels
from hf_rvos.losses.mask_losses import dice_score


def class_cost(
    logits: torch.Tensor, classes: torch.Tensor, valid_frames: torch.Tensor, alpha: float = 0.25
) -> torch.Tensor:
    """Focal cost of calling a query positive, relative to calling it negative, over the frames that show the object.

    Args:
        logits: `(batch_size, num_queries, num_frames, num_classes)`.
        classes: `(batch_size, num_frames)` long.
        valid_frames: `(batch_size, num_frames)`, 1 where the object is in the frame.
        alpha: Weight of the positives.

    Returns:
        `(batch_size, num_queries)`.
    """
    index = classes[:, None, :, None].expand(-1, logits.shape[1], -1, 1)
    probabilities = logits.gather(-1, index).squeeze(-1).sigmoid()
    # The released code writes the logarithms with this constant; log-sigmoid would be another cost at large logits.
    positive = alpha * (1 - probabilities).square() * -(probabilities + 1e-8).log()
    negative = (1 - alpha) * probabilities.square() * -(1 - probabilities + 1e-8).log()
    valid_frames = valid_frames.unsqueeze(1)
    return ((positive - negative) * valid_frames).sum(-1) / valid_frames.sum(-1).clamp(min=1)


def mask_costs(
    mask_logits: torch.Tensor, masks: torch.Tensor, alpha: float = 0.25
) -> tuple[torch.Tensor, torch.Tensor]:
    """Focal and dice cost of every query's mask over the whole clip.

    Both are linear in the target once the sums over the prediction are known, so the target enters as a vector in a
    matrix product and is never repeated for the queries.

    Args:
        mask_logits: `(batch_size, num_queries, num_frames, height, width)`.
        masks: `(batch_size, num_frames, height, width)`, 0 or 1.
        alpha: Weight of the positives in the focal cost.

    Returns:
        Mean focal loss and negative dice coefficient, each `(batch_size, num_queries)`.
    """
    mask_logits, masks = mask_logits.flatten(2), masks.flatten(1).unsqueeze(2)  # (B, Q, THW), (B, THW, 1)
    probabilities = mask_logits.sigmoid()
    positive = alpha * (1 - probabilities).square() * F.softplus(-mask_logits)
    negative = (1 - alpha) * probabilities.square() * F.softplus(mask_logits)
    focal = ((positive - negative) @ masks).squeeze(2) + negative.sum(2)
    dice = dice_score((probabilities @ masks).squeeze(2), probabilities.sum(2), masks.sum(1))
    return focal / mask_logits.shape[2], -dice


@torch.no_grad()
def match_queries(
    layer_output: Mapping[str, torch.Tensor],
    labels: PreparedLabels,
    class_weight: float = 2.0,
    l1_weight: float = 5.0,
    giou_weight: float = 2.0,
    mask_weight: float = 2.0,
    dice_weight: float = 5.0,
    focal_alpha: float = 0.25,
) -> torch.Tensor:
    """Find the query of lowest cost for each expression.

    An expression has one object, so the assignment is a minimum. One query is chosen for all frames.

    Args:
        layer_output: `logits` `(batch_size, num_queries, num_frames, num_classes)`, `pred_boxes` `(..., 4)` cxcywh and
            `pred_masks` `(..., mask_height, mask_width)` logits of one decoder layer.
        labels: Labels on the mask grid of `pred_masks`.
        class_weight, l1_weight, giou_weight, mask_weight, dice_weight: Weights of the five costs.
        focal_alpha: Weight of the positives in both focal costs.

    Returns:
        `(batch_size,)` long.
    """
    boxes, target_boxes = layer_output["pred_boxes"].float(), labels.boxes.unsqueeze(1)
    focal_cost, dice_cost = mask_costs(layer_output["pred_masks"].float(), labels.masks, focal_alpha)
    cost = (
        class_weight * class_cost(layer_output["logits"].float(), labels.classes, labels.valid_frames, focal_alpha)
        + l1_weight * box_l1_distance(boxes, target_boxes).mean(-1)
        + giou_weight * box_giou_loss(boxes, target_boxes).mean(-1)
        + mask_weight * focal_cost
        + dice_weight * dice_cost
    )
    return cost.argmin(dim=1)
