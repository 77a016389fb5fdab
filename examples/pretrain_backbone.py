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
"""Teach a video backbone the attributes and motions of Moving Shapes before a model learns sentences with it.

    accelerate launch --config_file examples/accelerate/cpu.yaml examples/pretrain_backbone.py \
        --config examples/recipes/video_swin_tiny_1_pictures.yaml

The published models start from backbones that were trained to classify images and videos. This is the same for models
that start from nothing: every position of a frame tells the kind of object it shows and how that object moves. The
arguments and the output folder are those of train.py; `model` is the configuration of the backbone.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from torch.utils.data import Dataset
from train import parse_arguments, stored_weights, train
from transformers import AutoBackbone, AutoConfig
from transformers.utils import ModelOutput

from hf_rvos.backbones import extract_frame_features
from hf_rvos.data.collate import normalize_frames
from hf_rvos.data.moving_shapes_attributes import ATTRIBUTE_CLASSES, IGNORED, VELOCITY_SCALES, MovingShapesAttributes
from hf_rvos.training.building import fill_part, read_part_config
from hf_rvos.training.recipe import Recipe


VELOCITY_WEIGHT = 2.0


@dataclass
class AttributeOutput(ModelOutput):
    """`loss`, its terms, and for each attribute logits `(B * T, classes, h, w)`."""

    loss: torch.FloatTensor | None = None
    loss_dict: dict | None = None
    logits: dict | None = None


class AttributeSegmenter(nn.Module):
    """A backbone with one linear classifier over the sum of its maps, brought to the size of the largest one."""

    def __init__(self, backbone: nn.Module, width: int = 64):
        super().__init__()
        self.backbone = backbone
        self.lateral = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in backbone.channels)
        self.norm = nn.GroupNorm(8, width)
        self.sizes = {name: len(classes) for name, classes in ATTRIBUTE_CLASSES.items()}
        self.sizes["velocity"] = len(VELOCITY_SCALES)
        self.classifier = nn.Conv2d(width, sum(self.sizes.values()), 1)

    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        labels: dict[str, torch.Tensor],
        num_items: Mapping[str, torch.Tensor] | None = None,
    ) -> AttributeOutput:
        maps = extract_frame_features(self.backbone, pixel_values_videos)
        maps = [lateral(entry) for lateral, entry in zip(self.lateral, maps, strict=True)]
        size = maps[0].shape[-2:]
        fused = maps[0] + sum(F.interpolate(entry, size=size, mode="bilinear") for entry in maps[1:])
        scores = self.classifier(F.gelu(self.norm(fused))).float().split([*self.sizes.values()], dim=1)
        logits = dict(zip(self.sizes, scores, strict=True))
        labels = {name: label.flatten(0, 1) for name, label in labels.items()}
        if num_items is None:
            num_items = {name: count.clamp(min=1) for name, count in count_positions(labels).items()}
        losses = {}
        for name in ATTRIBUTE_CLASSES:
            total = F.cross_entropy(logits[name], labels[name], ignore_index=IGNORED, reduction="sum")
            losses[f"loss_{name}"] = total / num_items[name]
        on_object = (labels["object"] == 1)[:, None]
        distance = F.smooth_l1_loss(logits["velocity"], labels["velocity"], reduction="none")
        losses["loss_velocity"] = VELOCITY_WEIGHT * (distance * on_object).sum() / num_items["velocity"]
        return AttributeOutput(loss=sum(losses.values()), loss_dict=losses, logits=logits)


def count_positions(labels: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """How many positions have a label of each kind."""
    counts = {name: (labels[name] != IGNORED).sum() for name in ATTRIBUTE_CLASSES}
    return counts | {"velocity": (labels["object"] == 1).sum()}


class AttributeTask:
    """Label every position with the attributes of the object there."""

    scores = list(ATTRIBUTE_CLASSES)
    usage = """import hf_rvos
from transformers import AutoBackbone

backbone = AutoBackbone.from_pretrained("{name}")"""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.scored_on = ["moving_shapes", "val", recipe.evaluation_videos]
        if recipe.pretrained:
            config = read_part_config("pretrained", recipe.pretrained, recipe.model)
        else:
            stages = [f"stage{number + 1}" for number in range(len(recipe.model["depths"]))]
            config = AutoConfig.for_model(**recipe.model, out_features=stages)
        self.model = AttributeSegmenter(AutoBackbone.from_config(config))
        if recipe.pretrained:
            fill_part("pretrained", recipe.pretrained, self.model.backbone)

    def dataset(self, split: str = "train", flip_probability: float | None = None) -> Dataset:
        recipe = self.recipe
        return MovingShapesAttributes(
            split,
            num_videos=recipe.num_videos if split == "train" else recipe.evaluation_videos,
            max_stride=recipe.max_stride,
            size=recipe.frame_size,
            flip_probability=recipe.flip_probability if flip_probability is None else flip_probability,
            seed=recipe.seed,
        )

    def count_items(self, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        return count_positions(batch["labels"])

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "pixel_values_videos": torch.stack([normalize_frames(sample["frames"]) for sample in samples]),
            "labels": torch.utils.data.default_collate([sample["labels"] for sample in samples]),
            "video_id": [sample["video_id"] for sample in samples],
        }

    @torch.no_grad()
    def evaluate(self, model: nn.Module, accelerator: Accelerator) -> tuple[dict[str, Any], Any]:
        """Share of the positions on objects that are labelled right, in whole videos."""
        data, counts = self.dataset("val", flip_probability=0.0), []
        training = model.training
        model.eval()
        for index in range(accelerator.process_index, len(data), accelerator.num_processes):
            batch = self.collate([data[0, index, data.config.num_frames]])
            labels = {name: label.to(accelerator.device) for name, label in batch["labels"].items()}
            on_object = labels["object"][0] == 1
            logits = model(batch["pixel_values_videos"].to(accelerator.device), labels).logits
            for name in ATTRIBUTE_CLASSES:
                right = (logits[name].argmax(1) == labels[name][0]) & on_object
                counts.append((name, right.sum().item(), on_object.sum().item()))
        model.train(training)
        counts = gather_object(counts)
        summary = {
            name: sum(right for key, right, _ in counts if key == name) / sum(n for key, _, n in counts if key == name)
            for name in ATTRIBUTE_CLASSES
        }
        return summary, "  ".join(f"{name} {100 * value:.1f} %" for name, value in summary.items())

    def save(self, model: nn.Module, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
        weights = {name[len("backbone.") :]: value for name, value in weights.items() if name.startswith("backbone.")}
        model.backbone.save_pretrained(folder, state_dict=stored_weights(weights, self.recipe.save_dtype))

    def load(self, folder: str | Path, trained: nn.Module) -> nn.Module:
        loaded = copy.deepcopy(trained)
        # AutoBackbone would look for the folder on the hub.
        loaded.backbone = type(trained.backbone).from_pretrained(folder, dtype=torch.float32)
        return loaded


if __name__ == "__main__":
    train(AttributeTask, *parse_arguments(__doc__))
