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

"""The training loss of SgMg: masks before and after their refinement."""

from collections.abc import Mapping, Sequence

import torch

from hf_rvos.losses import PreparedLabels, count_valid_frames
from hf_rvos.losses.criterion import layer_losses
from hf_rvos.losses.mask_losses import mask_dice_loss, mask_focal_loss


def multi_granularity_loss(
    layer_outputs: Sequence[Mapping[str, torch.Tensor]],
    query_indices: Sequence[torch.Tensor],
    labels: PreparedLabels,
    refined_masks: Sequence[torch.Tensor] | None,
    refined_labels: PreparedLabels | None,
    weights: Mapping[str, float],
    focal_alpha: float = 0.25,
    num_items: torch.Tensor | float | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Sum the weighted losses of the decoder layers, each with the queries that were matched in it.

    Args:
        layer_outputs: Predictions of the decoder layers, the final one last: dicts with `logits`, `pred_boxes` and
            `pred_masks` of all queries before the refinement.
        query_indices: `(batch_size,)` for each layer.
        labels: Labels on the grid of these masks.
        refined_masks: Refined logits of the matched query in each layer, `(batch_size, num_frames, height, width)`;
            None for a model without refinement.
        refined_labels: Labels on the grid of the refined masks.
        weights: Weights of `loss_ce`, `loss_bbox`, `loss_giou`, `loss_mask` and `loss_dice`.
        focal_alpha: Weight of the positives in the focal losses.
        num_items: Number of frames to divide by. If None, the valid frames of the batch, averaged over processes.

    Returns:
        The weighted sum, and the unweighted losses under these names, with the suffix `_0`, `_1`, ... for the layers
        before the final one. With refinement, `loss_mask` and `loss_dice` are those of the refined masks;
        `loss_mask_low` and `loss_dice_low` have the same weights.
    """
    if num_items is None:
        num_items = count_valid_frames(labels.valid_frames)
    loss, loss_dict = 0.0, {}
    for layer in (-1, *range(len(layer_outputs) - 1)):
        losses = layer_losses(layer_outputs[layer], query_indices[layer], labels, focal_alpha)
        if refined_masks is not None:
            masks = refined_masks[layer].float()
            losses |= {f"{name}_low": losses[name] for name in ("loss_mask", "loss_dice")}
            losses["loss_mask"] = mask_focal_loss(masks, refined_labels.masks, focal_alpha).sum()
            losses["loss_dice"] = mask_dice_loss(masks, refined_labels.masks).sum()
        suffix = "" if layer < 0 else f"_{layer}"
        for name, value in losses.items():
            loss_dict[name + suffix] = value / num_items
            loss = loss + weights[name.removesuffix("_low")] * loss_dict[name + suffix]
    return loss, loss_dict
