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
"""Turn released weights of a visual backbone into a folder that training starts from, `pretrained_backbone`.

    hf-rvos convert --model backbone --checkpoint swin_tiny_patch244_window877_kinetics400_1k.pth \
        --output weights/video-swin-t

Video Swin trained on Kinetics, Swin trained on ImageNet and the ResNets of torchvision are known by their tensors. The
classifier is left out.
"""

import re
from pathlib import Path

import torch
from transformers import AutoBackbone, PreTrainedConfig, PreTrainedModel

from hf_rvos.backbones import convert_backbone_state_dict, infer_backbone_config, load_backbone
from hf_rvos.conversion import (
    build_config,
    check_output,
    load_official_checkpoint,
    read_overrides,
    save_weights,
)


# The classifier, the norm before it, and window masks, which depend on the size of the pictures.
_NOT_OF_THE_BACKBONE = re.compile(r"(fc|head|norm)\.(weight|bias)|.*\.attn_mask")


def extract_backbone(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of the backbone in a checkpoint of a classifier, under the names that released models give them.

    A patch of Video Swin spans two frames there and one frame in models for segmentation, so its filters are summed
    over time.
    """
    if any(name.startswith("backbone.") for name in state_dict):
        state_dict = {
            name.removeprefix("backbone."): tensor
            for name, tensor in state_dict.items()
            if name.startswith("backbone.")
        }
    weights = {name: tensor for name, tensor in state_dict.items() if not _NOT_OF_THE_BACKBONE.fullmatch(name)}
    patches = weights.get("patch_embed.proj.weight")
    if patches is not None and patches.ndim == 5:
        weights["patch_embed.proj.weight"] = patches.sum(2, keepdim=True)
    return weights


def convert_state_dict(weights: dict[str, torch.Tensor], config: PreTrainedConfig) -> dict[str, torch.Tensor]:
    """Released names to ours.

    Args:
        weights: Tensors of the backbone, see [`extract_backbone`].
        config: Configuration of our backbone.

    Returns:
        State dict of our backbone. The norms of the maps that an image Swin exports, which no classifier has, are new.
    """
    converted = convert_backbone_state_dict(weights, config)
    if getattr(config, "normalize_stages", False):
        for stage in range(len(config.depths)):
            width = config.embed_dim * 2**stage
            converted.setdefault(f"norm{stage}.weight", torch.ones(width))
            converted.setdefault(f"norm{stage}.bias", torch.zeros(width))
    return converted


def convert_checkpoint(
    checkpoint: str | Path,
    output: str | Path,
    tokenizer: str | Path | None = None,
    config: str | Path | dict | None = None,
) -> PreTrainedModel:
    """Convert released weights of a classifier and save its backbone.

    Args:
        checkpoint (`str` or `Path`):
            The released `.pth` file.
        output (`str` or `Path`):
            Folder to write. It appears when everything is in it; an existing folder is not touched.
        tokenizer (`str` or `Path`, *optional*):
            Must be None; a backbone has none.
        config (`str`, `Path` or `dict`, *optional*):
            JSON file (or dict) of fields of the configuration that take precedence over what the tensors tell.

    Returns:
        [`PreTrainedModel`]: the converted backbone, in eval mode.

    Raises:
        FileNotFoundError: if a file is missing.
        FileExistsError: if `output` exists and is not an empty folder.
        ValueError: if the tensors are those of no known backbone or do not fit the configuration.
    """
    if tokenizer is not None:
        raise ValueError(f"tokenizer is {str(tokenizer)!r}, but a backbone has none; leave it out")
    output = check_output(output)
    overrides = read_overrides(config)
    state_dict, _ = load_official_checkpoint(checkpoint, "state_dict", "model")
    weights = extract_backbone(state_dict)
    model_config = infer_backbone_config(weights)
    model_config = build_config(type(model_config), model_config.to_dict(), overrides, "backbone")
    return save_weights(
        AutoBackbone.from_config,
        model_config,
        convert_state_dict(weights, model_config),
        output,
        load_backbone,
    )
