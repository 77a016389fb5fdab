# Copyright 2026 The hf_rvos authors. All rights reserved.
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

"""Matching and losses of SOC.

They differ from those of ReferFormer: masks are compared at the size of the input and frame by frame, every frame
counts, present or not, and a contrastive term draws the matched video query to the expression.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

from hf_rvos.losses import PreparedLabels, prepare_labels
from hf_rvos.losses.box_losses import box_giou_loss, box_l1_distance
from hf_rvos.losses.criterion import average_over_processes, score_and_box_losses
from hf_rvos.losses.mask_losses import dice_score, sigmoid_focal_loss
from hf_rvos.losses.matcher import class_cost


def resize_masks(mask_logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear resizing of the last two dimensions of `(batch_size, channels, height, width)` to `size`."""
    return F.interpolate(mask_logits, size=size, mode="bilinear", align_corners=False)


def frame_dice(mask_logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Dice coefficient of each frame, `(...)`, of logits and masks `(..., height, width)` that broadcast."""
    probabilities = mask_logits.sigmoid()
    return dice_score((probabilities * masks).sum((-2, -1)), probabilities.sum((-2, -1)), masks.sum((-2, -1)))


@torch.no_grad()
def matching_cost(
    layer_output: Mapping[str, torch.Tensor],
    labels: PreparedLabels,
    class_weight: float,
    l1_weight: float,
    giou_weight: float,
    dice_weight: float,
) -> torch.Tensor:
    """Cost of answering each expression with each query, for all frames together.

    Args:
        layer_output: `logits`, `pred_boxes` and `pred_masks` of one decoder layer.
        labels: Labels at the size of the padded input.
        class_weight, l1_weight, giou_weight, dice_weight: Weights of the four costs.

    Returns:
        `(num_expressions, num_queries)`; the query of least cost is the match.
    """
    boxes, target_boxes = layer_output["pred_boxes"].float(), labels.boxes.unsqueeze(1)
    size = labels.masks.shape[-2:]
    # Frame by frame, because the masks of all queries of a clip at the size of the input need much memory.
    dice = [
        frame_dice(resize_masks(logits.float(), size), masks[:, None])
        for logits, masks in zip(layer_output["pred_masks"].unbind(2), labels.masks.unbind(1))
    ]
    return (
        class_weight * class_cost(layer_output["logits"].float(), labels.classes, labels.valid_frames)
        + l1_weight * box_l1_distance(boxes, target_boxes).mean(-1)
        - giou_weight * (1 - box_giou_loss(boxes, target_boxes)).mean(-1)
        - dice_weight * torch.stack(dice).mean(0)
    )


def contrastive_loss(video_queries: torch.Tensor, guidance: torch.Tensor, query_index: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of finding the matched query by its similarity to the expression.

    The released code divides the similarity by the width of the features, the paper by the root of the width.

    Args:
        video_queries: `(num_expressions, num_queries, hidden_size)`.
        guidance: `(num_expressions, hidden_size)`.
        query_index: `(num_expressions,)`.

    Returns:
        The mean over the expressions.
    """
    similarity = (video_queries.float() @ guidance.float()[:, :, None])[..., 0] / guidance.shape[-1]
    return F.cross_entropy(similarity, query_index)


def soc_loss(
    layer_outputs: Sequence[Mapping[str, torch.Tensor]],
    labels: Sequence[Mapping[str, torch.Tensor]],
    padded_size: tuple[int, int],
    guidance: torch.Tensor | None,
    class_weight: float = 2.0,
    l1_weight: float = 2.0,
    giou_weight: float = 2.0,
    mask_weight: float = 2.0,
    dice_weight: float = 5.0,
    contrastive_weight: float = 1.0,
    num_items: Mapping[str, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Match a query to each expression in every decoder layer and sum the weighted losses.

    Args:
        layer_outputs: Predictions of the decoder layers, the final one last: dicts with `logits`, `pred_boxes`,
            `pred_masks` and `video_queries`.
        labels: One dict for each expression, see [`SocForReferringVideoSegmentation.forward`].
        padded_size: `(height, width)` of the padded input.
        guidance: `(num_expressions, hidden_size)`, or None for no contrastive loss.
        class_weight, l1_weight, giou_weight, dice_weight: Weights of costs and losses.
        mask_weight, contrastive_weight: Weights of losses that the matching does not know.
        num_items: `expressions` to divide the contrastive loss by and `frames` for the others. If None, those of the
            batch, averaged over processes.

    Returns:
        The weighted sum, and the unweighted losses `loss_ce`, `loss_bbox`, `loss_giou`, `loss_mask`, `loss_dice` and
        `loss_contrastive`, with the suffix `_0`, `_1`, ... for the layers before the final one.
    """
    final = layer_outputs[-1]
    weights = {
        "loss_ce": class_weight,
        "loss_bbox": l1_weight,
        "loss_giou": giou_weight,
        "loss_mask": mask_weight,
        "loss_dice": dice_weight,
        "loss_contrastive": contrastive_weight,
    }
    with torch.autocast(final["logits"].device.type, enabled=False):
        full_size = final["pred_masks"][..., :1, :1].expand(-1, -1, -1, *padded_size)
        prepared = prepare_labels(labels, full_size, final["logits"].shape[-1], mask_stride=1)
        if num_items is None:
            counts = prepared.valid_frames.new_tensor([len(labels), prepared.valid_frames.numel()])
            num_items = dict(zip(("expressions", "frames"), average_over_processes(counts)))
        loss, loss_dict = 0.0, {}
        for layer, layer_output in enumerate([final, *layer_outputs[:-1]]):
            suffix = f"_{layer - 1}" if layer else ""
            cost = matching_cost(layer_output, prepared, class_weight, l1_weight, giou_weight, dice_weight)
            query_index = cost.argmin(1)
            terms = _layer_losses(layer_output, query_index, prepared)
            terms = {name: value / num_items["frames"] for name, value in terms.items()}
            if guidance is not None:
                mean = contrastive_loss(layer_output["video_queries"], guidance, query_index)
                terms["loss_contrastive"] = mean * (len(labels) / num_items["expressions"])
            for name, value in terms.items():
                loss_dict[name + suffix] = value
                loss = loss + weights[name] * value
    return loss, loss_dict


def _layer_losses(
    layer_output: Mapping[str, torch.Tensor], query_index: torch.Tensor, labels: PreparedLabels
) -> dict[str, torch.Tensor]:
    """Losses of one decoder layer, summed over the batch; those of boxes and masks see the matched query only."""
    samples = torch.arange(len(query_index), device=query_index.device)
    mask_logits = resize_masks(layer_output["pred_masks"][samples, query_index].float(), labels.masks.shape[-2:])
    return score_and_box_losses(layer_output, query_index, labels) | {
        "loss_mask": sigmoid_focal_loss(mask_logits, labels.masks).mean((-2, -1)).sum(),
        "loss_dice": (1 - frame_dice(mask_logits, labels.masks)).sum(),
    }
