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
"""From samples to a training batch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase


IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


def normalize_frames(
    frames: torch.Tensor, mean: Sequence[float] = IMAGE_MEAN, std: Sequence[float] = IMAGE_STD
) -> torch.Tensor:
    """Frames `(num_frames, 3, height, width)` uint8 as the float values that models take."""
    return (frames / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


class ClipCollator:
    """Make a batch of clips, each with all its expressions.

    A sample is a dict with `frames` `(num_frames, 3, height, width)` uint8, `expressions` (list of `str`), `masks`
    `(num_expressions, num_frames, height, width)` boolean, `boxes` `(num_expressions, num_frames, 4)`, `valid_frames`
    `(num_expressions, num_frames)` boolean and `video_id`; with `annotated_frames` `(num_annotated,)`, the labels are
    of these frames alone; with `group_index` `(num_expressions,)`, expressions with the same number are a group; with
    `object_masks`, `(num_objects, num_frames, height, width)` for each expression, labels have its objects apart.

    Args:
        tokenizer: Tokenizer of the model.
        image_mean: Mean of each colour channel, of values in [0, 1].
        image_std: Standard deviation of each colour channel.
        pad_to_multiple_of: Height and width of the batch are rounded up to a multiple of this.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_mean: Sequence[float] = IMAGE_MEAN,
        image_std: Sequence[float] = IMAGE_STD,
        pad_to_multiple_of: int = 32,
    ):
        self.tokenizer = tokenizer
        self.image_mean, self.image_std = image_mean, image_std
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """
        Returns:
            The arguments of a model's `forward`: `pixel_values_videos` `(batch_size, num_frames, 3, height, width)`,
            `pixel_mask` (None if nothing was padded), `input_ids`, `attention_mask`, `video_index`, `annotated_frames`
            (None if all are), `labels` with one entry for each expression; `group_index`, with numbers of its own for
            each clip, if samples have it; and `video_id`, a list of names for messages.

        Raises:
            ValueError: if the clips differ in length or in whether all frames have labels, or an expression is longer
                than the tokenizer allows.
        """
        lengths = {len(sample["frames"]) for sample in samples}
        if len(lengths) > 1:
            raise ValueError(f"the clips of a batch have {sorted(lengths)} frames, expected the same number in each")
        sizes = [sample["frames"].shape[-2:] for sample in samples]
        height, width = (
            -(-max(side) // self.pad_to_multiple_of) * self.pad_to_multiple_of for side in zip(*sizes, strict=True)
        )
        clips, masks = [], []
        for sample, size in zip(samples, sizes, strict=True):
            padding = (0, width - size[1], 0, height - size[0])
            clip = normalize_frames(sample["frames"], self.image_mean, self.image_std)
            clips.append(nn.functional.pad(clip, padding))
            masks.append(nn.functional.pad(torch.ones(len(clip), *size, dtype=torch.bool), padding))
        is_padded = any(size != (height, width) for size in sizes)

        text = self.tokenizer(
            [expression for sample in samples for expression in sample["expressions"]],
            padding=True,
            return_tensors="pt",
        )
        if text["input_ids"].shape[1] > self.tokenizer.model_max_length:
            raise ValueError(
                f"an expression of {', '.join(sample['video_id'] for sample in samples)} has "
                f"{text['input_ids'].shape[1]} tokens, the limit is {self.tokenizer.model_max_length}; leave it out"
            )
        counts = torch.tensor([len(sample["expressions"]) for sample in samples])
        labels = [
            {
                "masks": sample["masks"][row],
                "boxes": sample["boxes"][row],
                "class_labels": torch.zeros(sample["masks"].shape[1], dtype=torch.long),
                "valid_frames": sample["valid_frames"][row],
            }
            | ({"object_masks": sample["object_masks"][row]} if "object_masks" in sample else {})
            for sample in samples
            for row in range(len(sample["expressions"]))
        ]
        annotated = [sample.get("annotated_frames") for sample in samples]
        if len({frames is None for frames in annotated}) > 1:
            raise ValueError(
                f"of {', '.join(sample['video_id'] for sample in samples)} some have annotated_frames and some have "
                "not; train on data sets of single annotated frames apart from the others"
            )
        groups = {}
        if "group_index" in samples[0]:
            # A clip has at most as many groups as expressions.
            starts = counts.cumsum(0) - counts
            numbers = [start + sample["group_index"] for start, sample in zip(starts, samples, strict=True)]
            groups = {"group_index": torch.cat(numbers)}
        return groups | {
            "pixel_values_videos": torch.stack(clips),
            "pixel_mask": torch.stack(masks) if is_padded else None,
            "input_ids": text["input_ids"],
            "attention_mask": text["attention_mask"],
            "video_index": torch.arange(len(samples)).repeat_interleave(counts),
            "annotated_frames": None if annotated[0] is None else torch.stack(annotated),
            "labels": labels,
            "video_id": [sample["video_id"] for sample in samples],
        }
