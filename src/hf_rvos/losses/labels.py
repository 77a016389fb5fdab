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
"""From the list of label dicts that the models take to the tensors that matching and losses work on."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch


LABEL_DIMENSIONS = {
    "masks": "(num_frames, height, width)",
    "boxes": "(num_frames, 4)",
    "class_labels": "(num_frames,)",
    "valid_frames": "(num_frames,)",
}


class PreparedLabels(NamedTuple):
    """Labels of a batch on the device and on the mask grid of the predictions.

    Args:
        masks: `(batch_size, num_frames, mask_height, mask_width)` float32, 0 or 1.
        boxes: `(batch_size, num_frames, 4)` float32 cxcywh in [0, 1]; zeros in frames without the object.
        classes: `(batch_size, num_frames)` long, the class whose logit stands for the object.
        valid_frames: `(batch_size, num_frames)` float32, 1 where the object is in the frame.
    """

    masks: torch.Tensor
    boxes: torch.Tensor
    classes: torch.Tensor
    valid_frames: torch.Tensor


def check_labels(labels: Sequence[Mapping[str, torch.Tensor]], num_frames: int | None = None) -> None:
    """Raise if a label dict is incomplete, of wrong shape, or shows its object in no frame.

    The last check reads values, and on an accelerator this would make the host wait for all work in flight. There it
    is left out: such a clip then counts as one whose queries are all negative. Loaders should call this function on
    the host, where it is complete and free.

    Args:
        labels: One dict for each expression, with `masks`, `boxes`, `class_labels` and `valid_frames`.
        num_frames: Frames every label must have. If None, as many as its masks have.

    Raises:
        ValueError: as above; names the index of the label.
        TypeError: if a value is not a tensor.
    """
    for index, label in enumerate(labels):
        missing = [key for key in LABEL_DIMENSIONS if key not in label]
        if missing:
            raise ValueError(
                f"labels[{index}] lacks {missing}; every label needs {list(LABEL_DIMENSIONS)}, it has {list(label)}."
            )
        for key in LABEL_DIMENSIONS:
            if not torch.is_tensor(label[key]):
                raise TypeError(f"labels[{index}]['{key}'] is a {type(label[key]).__name__}, expected a torch.Tensor.")
        masks = label["masks"]
        frames = len(masks) if num_frames is None else num_frames
        shapes = {"masks": (frames, *masks.shape[1:]), "boxes": (frames, 4)}
        for key, dimensions in LABEL_DIMENSIONS.items():
            shape = tuple(label[key].shape)
            if shape != shapes.get(key, (frames,)) or (key == "masks" and masks.ndim != 3):
                raise ValueError(
                    f"labels[{index}]['{key}'] has shape {shape}, expected {dimensions} with num_frames={frames}. "
                    "Labels are needed for exactly the frames that the model makes predictions for."
                )
        valid_frames = label["valid_frames"]
        if valid_frames.device.type == "cpu" and not valid_frames.any():
            raise ValueError(
                f"labels[{index}] has no valid frame: its object is in none of the {frames} frames, so there is "
                "nothing to match. Draw another clip for this expression."
            )


def prepare_labels(
    labels: Sequence[Mapping[str, torch.Tensor]], pred_masks: torch.Tensor, num_classes: int, mask_stride: int = 4
) -> PreparedLabels:
    """Check and stack the labels of a batch.

    The model predicts masks at the stride of its mask features. The target of such a cell is one pixel of it, at rows
    and columns 2, 6, 10, ... for stride 4. Clips smaller than the batch are continued with background.

    Args:
        labels: `batch_size` dicts; `masks` are at the size of the unpadded input.
        pred_masks: `(batch_size, num_queries, num_frames, mask_height, mask_width)`; only its shape and device count.
        num_classes: Number of logits for each query. With a single one, class labels are ignored.
        mask_stride: Pixels of the input for each cell of `pred_masks`.

    Raises:
        ValueError: if the labels do not fit each other or the predictions.
    """
    batch_size, _, num_frames, height, width = pred_masks.shape
    if len(labels) != batch_size:
        raise ValueError(f"labels has {len(labels)} entries, expected {batch_size}, one for each expression.")
    check_labels(labels, num_frames)
    cells = []
    for index, label in enumerate(labels):
        mask_height, mask_width = label["masks"].shape[-2:]
        if mask_height > height * mask_stride or mask_width > width * mask_stride:
            raise ValueError(
                f"labels[{index}]['masks'] has {mask_height} x {mask_width} pixels, expected at most "
                f"{height * mask_stride} x {width * mask_stride}, the size of the padded input. Resize masks together "
                "with their frames."
            )
        # One pixel for each cell before anything is copied: a sixteenth of the mask.
        cells.append(label["masks"][:, mask_stride // 2 :: mask_stride, mask_stride // 2 :: mask_stride])

    masks = cells[0].new_zeros(batch_size, num_frames, height, width, dtype=torch.bool)
    for padded, cell in zip(masks, cells):
        padded[:, : cell.shape[1], : cell.shape[2]] = cell != 0
    device = pred_masks.device
    if num_classes == 1:
        classes = torch.zeros(batch_size, num_frames, dtype=torch.long, device=device)
    else:
        classes = torch.stack([label["class_labels"] for label in labels])
        if classes.device.type == "cpu" and not ((0 <= classes) & (classes < num_classes)).all():
            raise ValueError(
                f"class_labels are between {classes.min()} and {classes.max()}, expected 0 to {num_classes - 1}. Map "
                "the categories of the dataset to this range."
            )
        classes = classes.to(device, torch.long, non_blocking=True)
    return PreparedLabels(
        masks=masks.to(device, non_blocking=True).float(),
        boxes=torch.stack([label["boxes"] for label in labels]).to(device, non_blocking=True).float(),
        classes=classes,
        valid_frames=torch.stack([label["valid_frames"] for label in labels])
        .to(device, non_blocking=True)
        .bool()
        .float(),
    )
