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
"""The training loss of the models that find one object for each expression."""

from collections.abc import Mapping, Sequence

import torch

from hf_rvos.losses.box_losses import box_giou_loss, box_l1_distance
from hf_rvos.losses.labels import PreparedLabels, prepare_labels
from hf_rvos.losses.mask_losses import mask_dice_loss, mask_focal_loss, sigmoid_focal_loss
from hf_rvos.losses.matcher import match_queries


def count_items(labels: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Count what losses are divided by.

    The gradients of batches that are accumulated, or shared out to processes, add up to that of one large batch if
    each is divided by the same: the counts of all of them, divided by the number that their gradients are averaged
    over.

    Args:
        labels: One dict for each expression, as for [`referring_segmentation_loss`].

    Returns:
        `expressions`, `frames` (of all of them) and `valid_frames`, in which there is an object. Such a dict is what
        the models take as `num_items`.
    """
    valid_frames = [label["valid_frames"] for label in labels]
    total = torch.stack([frames.sum() for frames in valid_frames]).sum()
    return {
        "expressions": torch.full_like(total, len(labels)),
        "frames": torch.full_like(total, sum(map(len, valid_frames))),
        "valid_frames": total,
    }


def average_over_processes(count: torch.Tensor) -> torch.Tensor:
    """Counts, averaged over the processes of a distributed run."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(count)
        count = count / torch.distributed.get_world_size()
    return count


def count_valid_frames(valid_frames: torch.Tensor) -> torch.Tensor:
    """Frames with an object in the batch, averaged over the processes of a distributed run, at least 1."""
    return average_over_processes(valid_frames.sum()).clamp(min=1)


def referring_segmentation_loss(
    layer_outputs: Sequence[Mapping[str, torch.Tensor]],
    labels: Sequence[Mapping[str, torch.Tensor]],
    class_weight: float = 2.0,
    l1_weight: float = 5.0,
    giou_weight: float = 2.0,
    mask_weight: float = 2.0,
    dice_weight: float = 5.0,
    focal_alpha: float = 0.25,
    mask_stride: int = 4,
    num_items: torch.Tensor | float | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Match a query to each expression in every decoder layer and sum the weighted losses of ReferFormer.

    Everything is computed in float32, also under autocast. With labels on the accelerator, the host does not wait.

    Args:
        layer_outputs: Predictions of the decoder layers, the final one last: dicts with `logits`
            `(batch_size, num_queries, num_frames, num_classes)`, `pred_boxes`
            `(batch_size, num_queries, num_frames, 4)` cxcywh in [0, 1], and `pred_masks` logits
            `(batch_size, num_queries, num_frames, mask_height, mask_width)`.
        labels: One dict for each expression: `masks` `(num_frames, height, width)` at the size of the unpadded input,
            `boxes` `(num_frames, 4)` cxcywh in [0, 1] with zeros for an absent object, `class_labels` `(num_frames,)`,
            and `valid_frames` `(num_frames,)`, True where the object is in the frame.
        class_weight, l1_weight, giou_weight, mask_weight, dice_weight: Weights of the costs and of the losses.
        focal_alpha: Weight of the positives in the focal losses.
        mask_stride: Pixels of the padded input for each cell of `pred_masks`.
        num_items: Number of frames to divide by. If None, the valid frames of the batch, averaged over processes.

    Returns:
        The weighted sum, and the unweighted losses `loss_ce`, `loss_bbox`, `loss_giou`, `loss_mask` and `loss_dice`,
        with the suffix `_0`, `_1`, ... for the layers before the final one.

    Raises:
        ValueError: if predictions or labels lack something, do not fit together, or (for labels on the host) a label
            has no valid frame.
    """
    for index, layer_output in enumerate(layer_outputs):
        shapes = [tuple(layer_output[key].shape[:3]) for key in ("logits", "pred_boxes", "pred_masks")]
        if len(set(shapes)) != 1:
            raise ValueError(
                f"layer_outputs[{index}] has logits, pred_boxes and pred_masks for {shapes} (batch_size, num_queries, "
                "num_frames), expected equal sizes. The loss needs the masks of all queries."
            )
    final = layer_outputs[-1]
    weights = {
        "loss_ce": class_weight,
        "loss_bbox": l1_weight,
        "loss_giou": giou_weight,
        "loss_mask": mask_weight,
        "loss_dice": dice_weight,
    }
    with torch.autocast(final["logits"].device.type, enabled=False):
        prepared = prepare_labels(labels, final["pred_masks"], final["logits"].shape[-1], mask_stride)
        if num_items is None:
            num_items = count_valid_frames(prepared.valid_frames)
        loss, loss_dict = 0.0, {}
        for layer, layer_output in enumerate([final, *layer_outputs[:-1]]):
            suffix = f"_{layer - 1}" if layer else ""
            query_index = match_queries(
                layer_output, prepared, class_weight, l1_weight, giou_weight, mask_weight, dice_weight, focal_alpha
            )
            for name, value in layer_losses(layer_output, query_index, prepared, focal_alpha).items():
                loss_dict[name + suffix] = value / num_items
                loss = loss + weights[name] * loss_dict[name + suffix]
    return loss, loss_dict


def score_and_box_losses(
    layer_output: Mapping[str, torch.Tensor],
    query_index: torch.Tensor,
    labels: PreparedLabels,
    focal_alpha: float = 0.25,
) -> dict[str, torch.Tensor]:
    """`loss_ce`, `loss_bbox` and `loss_giou` of one decoder layer, summed over the batch.

    All queries are scored; boxes are compared for the matched query `(batch_size,)` only.
    """
    logits = layer_output["logits"].float()
    batch_size, num_queries, _, num_classes = logits.shape
    device = logits.device
    is_matched = query_index.unsqueeze(1) == torch.arange(num_queries, device=device)  # (B, Q)
    is_class = labels.classes.unsqueeze(2) == torch.arange(num_classes, device=device)  # (B, T, K)
    class_targets = is_matched[:, :, None, None] * (is_class * labels.valid_frames.unsqueeze(2)).unsqueeze(1)
    boxes = layer_output["pred_boxes"][torch.arange(batch_size, device=device), query_index].float()
    return {
        "loss_ce": sigmoid_focal_loss(logits, class_targets, focal_alpha).sum(),
        "loss_bbox": box_l1_distance(boxes, labels.boxes).sum(),
        "loss_giou": box_giou_loss(boxes, labels.boxes).sum(),
    }


def layer_losses(
    layer_output: Mapping[str, torch.Tensor], query_index: torch.Tensor, labels: PreparedLabels, focal_alpha: float
) -> dict[str, torch.Tensor]:
    """The same with `loss_mask` and `loss_dice` of the matched query, on the grid of its mask logits."""
    samples = torch.arange(len(query_index), device=query_index.device)
    mask_logits = layer_output["pred_masks"][samples, query_index].float()
    return score_and_box_losses(layer_output, query_index, labels, focal_alpha) | {
        # The mean over the pixels of a clip divided by a number of frames: not a slip, the weights assume it.
        "loss_mask": mask_focal_loss(mask_logits, labels.masks, focal_alpha).sum(),
        "loss_dice": mask_dice_loss(mask_logits, labels.masks).sum(),
    }
