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

"""Turn an official ReferFormer checkpoint into a folder that `from_pretrained` reads.

    hf-rvos convert --model referformer --checkpoint ytvos_swin_tiny.pth --output referformer-swin-tiny

Sizes come from the tensors, numbers of heads and the name of the backbone from the arguments stored in the file.
"""

from pathlib import Path

import torch
from transformers import PreTrainedConfig

from hf_rvos.backbones import backbone_config, convert_backbone_state_dict, infer_backbone_config
from hf_rvos.conversion import (
    build_config,
    check_options,
    check_output,
    count_modules,
    infer_roberta_config,
    load_official_checkpoint,
    read_overrides,
    rename_keys,
    save_converted,
    split_backbone,
)
from hf_rvos.models.referformer.configuration_referformer import ReferFormerConfig
from hf_rvos.models.referformer.modeling_referformer import ReferFormerForReferringVideoSegmentation
from hf_rvos.processing import RvosVideoProcessor


DEFAULT_TOKENIZER = "roberta-base"

_DEFORMABLE = "(sampling_offsets|attention_weights|value_proj|output_proj)"
RENAMING_RULES = [
    (r"text_encoder\.(.*)", r"model.text_encoder.\1"),
    (r"resizer\.fc\.(.*)", r"model.text_projection.linear.\1"),
    (r"resizer\.layer_norm\.(.*)", r"model.text_projection.norm.\1"),
    (r"input_proj\.(\d+)\.0\.(.*)", r"model.level_projections.\1.conv.\2"),
    (r"input_proj\.(\d+)\.1\.(.*)", r"model.level_projections.\1.norm.\2"),
    (r"fusion_module\.multihead_attn\.(.*)", r"model.fusion.attention.\1"),
    (r"transformer\.level_embed", r"model.level_embedding"),
    (
        rf"transformer\.encoder\.layers\.(\d+)\.self_attn\.{_DEFORMABLE}\.(.*)",
        r"model.encoder_layers.\1.self_attn.\2.\3",
    ),
    (r"transformer\.encoder\.layers\.(\d+)\.norm1\.(.*)", r"model.encoder_layers.\1.self_attn_norm.\2"),
    (r"transformer\.encoder\.layers\.(\d+)\.linear([12])\.(.*)", r"model.encoder_layers.\1.feed_forward.fc\2.\3"),
    (r"transformer\.encoder\.layers\.(\d+)\.norm2\.(.*)", r"model.encoder_layers.\1.feed_forward.norm.\2"),
    (
        rf"transformer\.decoder\.layers\.(\d+)\.cross_attn\.{_DEFORMABLE}\.(.*)",
        r"model.decoder.layers.\1.cross_attn.\2.\3",
    ),
    (r"transformer\.decoder\.layers\.(\d+)\.self_attn\.(.*)", r"model.decoder.layers.\1.self_attn.\2"),
    # The official numbers follow the order of definition; norm2 is applied after the self-attention, norm1 after the
    # cross-attention.
    (r"transformer\.decoder\.layers\.(\d+)\.norm1\.(.*)", r"model.decoder.layers.\1.cross_attn_norm.\2"),
    (r"transformer\.decoder\.layers\.(\d+)\.norm2\.(.*)", r"model.decoder.layers.\1.self_attn_norm.\2"),
    (r"transformer\.decoder\.layers\.(\d+)\.linear([12])\.(.*)", r"model.decoder.layers.\1.feed_forward.fc\2.\3"),
    (r"transformer\.decoder\.layers\.(\d+)\.norm3\.(.*)", r"model.decoder.layers.\1.feed_forward.norm.\2"),
    (r"transformer\.reference_points\.(.*)", r"model.decoder.reference_points.\1"),
    (r"query_embed\.weight", r"model.decoder.query_positions"),
    (r"bbox_embed\.(\d+)\.(.*)", r"model.decoder.box_heads.\1.\2"),
    (r"pixel_decoder\.mask_features\.(.*)", r"mask_projection.\1"),
    (r"class_embed\.(.*)", r"class_heads.\1"),
    (r"controller\.(.*)", r"mask_controller.\1"),
]
for _number in range(1, 5):
    _stage = f"model.pixel_decoder.stages.{_number - 1}"
    RENAMING_RULES += [
        (rf"pixel_decoder\.adapter_{_number}\.norm\.(.*)", rf"{_stage}.adapter_norm.\1"),
        (rf"pixel_decoder\.adapter_{_number}\.(weight)", rf"{_stage}.adapter.\1"),
        (rf"pixel_decoder\.layer_{_number}\.norm\.(.*)", rf"{_stage}.norm.\1"),
        (rf"pixel_decoder\.layer_{_number}\.(weight)", rf"{_stage}.conv.\1"),
        (rf"pixel_decoder\.cross_attn_{_number}\.self_attn\.(.*)", rf"{_stage}.block.self_attn.\1"),
        (rf"pixel_decoder\.cross_attn_{_number}\.multihead_attn\.(.*)", rf"{_stage}.block.text_attn.\1"),
        (rf"pixel_decoder\.cross_attn_{_number}\.norm1\.(.*)", rf"{_stage}.block.self_attn_norm.\1"),
        (rf"pixel_decoder\.cross_attn_{_number}\.norm2\.(.*)", rf"{_stage}.block.text_attn_norm.\1"),
        (rf"pixel_decoder\.cross_attn_{_number}\.linear([12])\.(.*)", rf"{_stage}.block.feed_forward.fc\1.\2"),
        (rf"pixel_decoder\.cross_attn_{_number}\.norm3\.(.*)", rf"{_stage}.block.feed_forward.norm.\1"),
    ]


def convert_state_dict(state_dict: dict[str, torch.Tensor], backbone: PreTrainedConfig) -> dict[str, torch.Tensor]:
    """Official names to ours.

    Args:
        state_dict: Tensors under their official names. `transformer.decoder.bbox_embed` holds the box heads a second
            time and is dropped.
        backbone: Configuration of the backbone.

    Returns:
        State dict of [`ReferFormerForReferringVideoSegmentation`].

    Raises:
        ValueError: if a tensor is not one of ReferFormer.
    """
    backbone_weights, others = split_backbone(state_dict)
    renamed = rename_keys(others, RENAMING_RULES, "ReferFormer")
    for name, tensor in convert_backbone_state_dict(backbone_weights, backbone).items():
        renamed[f"model.backbone.{name}"] = tensor
    return renamed


def infer_config(
    state_dict: dict[str, torch.Tensor], arguments: dict, overrides: dict | None = None
) -> ReferFormerConfig:
    """Configuration of an official checkpoint.

    Args:
        state_dict: Tensors under their official names.
        arguments: Arguments of the training run; may be empty.
        overrides: Fields of [`ReferFormerConfig`] that take precedence.

    Returns:
        [`ReferFormerConfig`]

    Raises:
        ValueError: if the tensors are not those of ReferFormer, or the run used an option that no released model has.
    """
    check_options(arguments, with_box_refine=True, rel_coord=True, two_stage=False, num_feature_levels=4)
    overrides = dict(overrides or {})
    try:
        hidden_size = state_dict["query_embed.weight"].shape[1]
        heads = overrides.get("attention_heads", arguments.get("nheads", 8))
        offsets = "transformer.{}.layers.0.{}.sampling_offsets.bias"
        fields = {
            "hidden_size": hidden_size,
            "num_queries": state_dict["query_embed.weight"].shape[0],
            "encoder_layers": count_modules(state_dict, r"transformer\.encoder\.layers\.(\d+)\."),
            "decoder_layers": count_modules(state_dict, r"transformer\.decoder\.layers\.(\d+)\."),
            "attention_heads": heads,
            "encoder_points": state_dict[offsets.format("encoder", "self_attn")].shape[0] // (heads * 4 * 2),
            "decoder_points": state_dict[offsets.format("decoder", "cross_attn")].shape[0] // (heads * 4 * 2),
            "feedforward_size": state_dict["transformer.encoder.layers.0.linear1.weight"].shape[0],
            "dropout": arguments.get("dropout", 0.1),
            "mask_feature_size": state_dict["pixel_decoder.mask_features.weight"].shape[0],
            "dynamic_mask_layers": arguments.get("controller_layers", 3),
            "dynamic_mask_channels": arguments.get("dynamic_mask_channels", 8),
            "num_classes": state_dict["class_embed.0.weight"].shape[0],
            "text_config": infer_roberta_config(state_dict, "text_encoder."),
        }
    except KeyError as error:
        raise ValueError(f"The checkpoint has no tensor {error}: it is not one of ReferFormer.") from error
    name = overrides.pop("backbone", None) or arguments.get("backbone")
    if "backbone_config" not in overrides:
        body, _ = split_backbone(state_dict)
        fields["backbone_config"] = backbone_config(name) if name else infer_backbone_config(body)
    return build_config(ReferFormerConfig, fields, overrides, "ReferFormer")


def convert_checkpoint(
    checkpoint: str | Path,
    output: str | Path,
    tokenizer: str | Path | None = None,
    config: str | Path | dict | None = None,
) -> ReferFormerForReferringVideoSegmentation:
    """Convert an official checkpoint and save model, video processor and tokenizer.

    Args:
        checkpoint (`str` or `Path`):
            The official `.pth` file.
        output (`str` or `Path`):
            Folder to write. It appears when everything is in it; an existing folder is not touched.
        tokenizer (`str` or `Path`, *optional*):
            Folder or hub name of the tokenizer. Defaults to `roberta-base`. Where it cannot be reached, the folder is
            written without tokenizer and a warning says how to add it.
        config (`str`, `Path` or `dict`, *optional*):
            JSON file (or dict) of [`ReferFormerConfig`] fields that take precedence over what the checkpoint tells.
            `"backbone"` may hold the name of a backbone.

    Returns:
        The converted model, in eval mode.

    Raises:
        FileNotFoundError: if a file is missing.
        FileExistsError: if `output` exists and is not an empty folder.
        ValueError: if the checkpoint is not one of ReferFormer or does not fit the configuration.
    """
    output = check_output(output)
    overrides = read_overrides(config)
    state_dict, arguments = load_official_checkpoint(checkpoint, "model")
    model_config = infer_config(state_dict, arguments, overrides)
    return save_converted(
        ReferFormerForReferringVideoSegmentation,
        model_config,
        convert_state_dict(state_dict, model_config.backbone_config),
        output,
        # The published protocol resizes the short side to 360 pixels without a limit for the long side.
        RvosVideoProcessor(size={"shortest_edge": 360}),
        DEFAULT_TOKENIZER if tokenizer is None else str(tokenizer),
        overrides.get("backbone") or arguments.get("backbone"),
    )
