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
"""Named visual backbones, and the few things in which image and video backbones differ."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel, TimmBackboneConfig

from hf_rvos.models.video_swin.configuration_video_swin import VideoSwinConfig


# embed_dim, depths, num_heads, drop_path_rate of the image models; the video models differ in the last for "b".
_SWIN_SIZES = {
    "t": (96, (2, 2, 6, 2), (3, 6, 12, 24), 0.2),
    "s": (96, (2, 2, 18, 2), (3, 6, 12, 24), 0.2),
    "b": (128, (2, 2, 18, 2), (4, 8, 16, 32), 0.3),
    "l": (192, (2, 2, 18, 2), (6, 12, 24, 48), 0.3),
}
BACKBONE_NAMES = (
    *("resnet50", "resnet101"),
    *("swin-t", "swin-s", "swin-b", "swin-l"),
    *("video-swin-t", "video-swin-s", "video-swin-b"),
)


def backbone_config(name: str, **overrides) -> PreTrainedConfig:
    """Configuration of a named backbone that exports maps of strides 4, 8, 16 and 32.

    Args:
        name (`str`):
            One of `BACKBONE_NAMES`, or the same in the spelling of released checkpoints, e.g. `"video_swin_t_p4w7"`.
        overrides:
            Fields of the configuration to set otherwise.

    Returns:
        [`PreTrainedConfig`]: a [`VideoSwinConfig`] or, for a ResNet, a [`TimmBackboneConfig`] with frozen batch norms.
        Building a model from it gives random weights.

    Raises:
        ValueError: if the name is unknown.

    Example:
        >>> backbone_config("video-swin-b").embed_dim
        128
    """
    short = name.lower().removesuffix("_p4w7").replace("_", "-")
    if short not in BACKBONE_NAMES:
        raise ValueError(f"backbone {name!r} is unknown, expected one of: {', '.join(BACKBONE_NAMES)}.")
    if short.startswith("resnet"):
        # timm counts the stem as stage 0.
        fields = {"backbone": short, "out_indices": [1, 2, 3, 4], "freeze_batch_norm_2d": True}
        return TimmBackboneConfig(**fields | overrides)
    family, size = short.rsplit("-", 1)
    embed_dim, depths, num_heads, drop_path_rate = _SWIN_SIZES[size]
    fields = {"embed_dim": embed_dim, "depths": depths, "num_heads": num_heads, "drop_path_rate": drop_path_rate}
    if family == "swin":
        fields |= {"window_size": (1, 7, 7), "shrink_window": False, "normalize_stages": True}
    else:
        fields |= {"drop_path_rate": 0.2}
    return VideoSwinConfig(**fields | overrides)


def extract_frame_features(backbone: PreTrainedModel, pixel_values_videos: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Run an image or a video backbone on clips.

    Args:
        backbone ([`PreTrainedModel`]):
            A backbone; it takes clips if its main input is `pixel_values_videos`, otherwise images.
        pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            Normalised frames.

    Returns:
        `tuple[torch.Tensor]`: a map of shape `(batch_size * num_frames, channels, height, width)` for each exported
        stage, the frames of a clip side by side.
    """
    if backbone.main_input_name == "pixel_values_videos":
        return backbone(pixel_values_videos).feature_maps
    return backbone(pixel_values_videos.flatten(0, 1)).feature_maps


def freeze_stem(backbone: PreTrainedModel) -> None:
    """Take the stem and the first stage of a ResNet out of training; other backbones are trained as a whole."""
    if backbone.config.model_type == "timm_backbone":
        for name, parameter in backbone.named_parameters():
            if not name.startswith(("_backbone.layer2.", "_backbone.layer3.", "_backbone.layer4.")):
                parameter.requires_grad_(False)


def convert_backbone_state_dict(
    state_dict: dict[str, torch.Tensor], config: PreTrainedConfig
) -> dict[str, torch.Tensor]:
    """Rename the backbone tensors of a released checkpoint.

    Args:
        state_dict (`dict[str, torch.Tensor]`):
            Tensors of a ResNet, Swin or Video Swin under their released names, without a common prefix.
        config ([`PreTrainedConfig`]):
            Configuration of our backbone.

    Returns:
        `dict[str, torch.Tensor]`: the same tensors under the names of our backbone. Position indices and batch
        counters are left out.
    """
    converted = {}
    for name, tensor in state_dict.items():
        if name.endswith(("relative_position_index", "num_batches_tracked")):
            continue
        if config.model_type == "timm_backbone":
            name = f"_backbone.{name}"
        else:
            if name.startswith("layers.") and ".downsample." in name:  # layers.{i}.downsample.* of the image model
                _, stage, _, rest = name.split(".", 3)
                name = f"downsamples.{stage}.{rest}"
            if name == "patch_embed.proj.weight" and tensor.ndim == 4:
                tensor = tensor.unsqueeze(2)  # (C, 3, 1, 4, 4): a patch of one frame
        converted[name] = tensor
    return converted


def infer_backbone_config(state_dict: dict[str, torch.Tensor]) -> PreTrainedConfig:
    """Read the kind and the sizes of a backbone off the tensors of a released checkpoint.

    Args:
        state_dict (`dict[str, torch.Tensor]`):
            Tensors under their released names, without a common prefix.

    Returns:
        [`PreTrainedConfig`]: the configuration of our backbone.

    Raises:
        ValueError: if the tensors are those of no known backbone.
    """
    if "layer3.0.conv1.weight" in state_dict:
        return backbone_config("resnet101" if "layer3.6.conv1.weight" in state_dict else "resnet50")
    table, patches = "layers.{}.blocks.0.attn.relative_position_bias_table", "patch_embed.proj.weight"
    if table.format(3) not in state_dict or patches not in state_dict:
        raise ValueError("The checkpoint has no tensors of a ResNet, Swin or Video Swin backbone.")
    width = state_dict[patches].shape[0]
    sizes = {
        "depths": tuple(
            len({name.split(".")[3] for name in state_dict if name.startswith(f"layers.{stage}.blocks.")})
            for stage in range(4)
        ),
        "num_heads": tuple(state_dict[table.format(stage)].shape[1] for stage in range(4)),
    }
    family = "swin" if state_dict[patches].ndim == 4 else "video-swin"
    for config in (backbone_config(name) for name in BACKBONE_NAMES if name.startswith(f"{family}-")):
        if all(tuple(getattr(config, name)) == value for name, value in sizes.items()) and config.embed_dim == width:
            return config
    return backbone_config(f"{family}-t", embed_dim=width, **sizes)


def load_backbone(folder: str | Path) -> PreTrainedModel:
    """Read a backbone that was saved by itself; `from_pretrained` does this for all but ResNets.

    Args:
        folder (`str` or `Path`):
            Folder with `config.json` and `model.safetensors`, or for other backbones than ResNets a hub id.

    Returns:
        [`PreTrainedModel`]: the backbone in float32.
    """
    config = AutoConfig.from_pretrained(folder)
    if config.model_type != "timm_backbone":
        # AutoBackbone.from_pretrained first asks the hub, also about a folder.
        with torch.device("meta"):
            backbone_class = type(AutoBackbone.from_config(config))
        return backbone_class.from_pretrained(folder, dtype=torch.float32)
    # TimmBackbone.from_pretrained takes its argument for the name of a model that timm downloads.
    backbone = AutoBackbone.from_config(config)
    backbone.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return backbone.eval()


__all__ = [
    "BACKBONE_NAMES",
    "backbone_config",
    "convert_backbone_state_dict",
    "extract_frame_features",
    "freeze_stem",
    "infer_backbone_config",
    "load_backbone",
]
