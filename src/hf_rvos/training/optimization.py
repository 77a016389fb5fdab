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
"""Which parameters learn how fast, and how the rates change on the way."""

import bisect
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from hf_rvos.training.recipe import Recipe


_RATES = {
    "backbone": "backbone_learning_rate",
    "adapters": "backbone_learning_rate",
    "text_encoder": "text_encoder_learning_rate",
}


def build_optimizers(model: torch.nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Make an optimizer with a group for each learning rate and weight decay; a rate of 0 freezes its parameters.

    Args:
        model: Parts of it or of its base model named `backbone` and `text_encoder` have rates of their own;
            `adapters` have that of the backbone that they are in.
        recipe: Rates and the like.

    Returns:
        AdamW, after Muon if the recipe asks for it. Groups keep their highest rate as `rate`.
    """
    # Muon is made for matrices between hidden layers; heads of a few numbers are none.
    matrices = {
        id(module.weight)
        for module in model.modules()
        if recipe.muon and isinstance(module, torch.nn.Linear) and min(module.weight.shape) >= 16
    }
    groups: dict[tuple, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        # Not deeper: a decoder may have adapters, too.
        rate = getattr(recipe, next((_RATES[part] for part in name.split(".")[:2] if part in _RATES), "learning_rate"))
        if rate == 0:
            parameter.requires_grad_(False)
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim > 1 or recipe.decay_biases_and_norms
        decay = recipe.weight_decay if decays and not any(part in name for part in recipe.undecayed) else 0.0
        group = {"params": [], "rate": rate, "lr": rate, "weight_decay": decay}
        groups.setdefault((id(parameter) in matrices, rate, decay), group)["params"].append(parameter)
    by_muon, by_adamw = ([group for key, group in groups.items() if key[0] is muon] for muon in (True, False))
    optimizers: list[torch.optim.Optimizer] = []
    if by_muon:
        # Its steps are then as long as those of AdamW, so the learning rates mean the same.
        optimizers.append(torch.optim.Muon(by_muon, adjust_lr_fn="match_rms_adamw"))
    if by_adamw:
        optimizers.append(torch.optim.AdamW(by_adamw, betas=(0.9, recipe.adam_beta2)))
    if not optimizers:
        raise ValueError("all learning rates are 0, so there is nothing to train")
    return optimizers


def average_weights(model: torch.nn.Module, decay: float, device: torch.device) -> AveragedModel:
    """A copy of a model whose weights follow those of the model as a moving average."""

    def average(averaged: list[torch.Tensor], current: list[torch.Tensor], updates: torch.Tensor) -> None:
        # A young average forgets faster, or it would keep the random start.
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + int(updates)) / (10 + int(updates))))

    return AveragedModel(model, device=device, multi_avg_fn=average)


def set_rates(optimizers: Sequence[torch.optim.Optimizer], factor: float) -> None:
    """Give every group its highest rate times a factor."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * factor


def rate_factor(recipe: Recipe, progress: float, epoch: float, step: int = 0) -> float:
    """The share of the highest rate: a linear warm-up, then drops if the recipe has them, else a cosine.

    Args:
        recipe: `warmup`, `lr_drops` or `lr_drop_steps`, `lr_drop_factor` and `final_learning_rate`.
        progress: Of the run, in [0, 1].
        epoch: Passes through the data so far.
        step: Steps so far.
    """
    if not (recipe.lr_drops or recipe.lr_drop_steps):
        return cosine_factor(progress, recipe.warmup, recipe.final_learning_rate)
    warm = progress / recipe.warmup if progress < recipe.warmup else 1.0
    drops = bisect.bisect_right(recipe.lr_drops, epoch) + bisect.bisect_right(recipe.lr_drop_steps, step)
    return warm * recipe.lr_drop_factor**drops


def cosine_factor(progress: float, warmup: float, final: float) -> float:
    """Linear warm-up, then half a cosine from 1 down to `final`, with `progress` in [0, 1]."""
    if progress < warmup:
        return progress / warmup
    cosine = (1 + math.cos(math.pi * min(1.0, (progress - warmup) / max(1 - warmup, 1e-9)))) / 2
    return final + (1 - final) * cosine
