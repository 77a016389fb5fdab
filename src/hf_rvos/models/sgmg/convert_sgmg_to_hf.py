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

"""Turn an official SgMg checkpoint into a folder that `from_pretrained` reads.

    hf-rvos convert --model sgmg --checkpoint ytvos_swin_tiny.pth --output sgmg-swin-tiny

The official weights are licensed under CC BY-NC 4.0, for non-commercial use only, and a converted checkpoint stays
under this licence. Sizes come from the tensors, numbers of heads and the name of the backbone from the arguments that
are stored in the file.
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
from hf_rvos.models.sgmg.configuration_sgmg import SgMgConfig
from hf_rvos.models.sgmg.modeling_sgmg import SgMgForReferringVideoSegmentation
from hf_rvos.processing import RvosVideoProcessor
from hf_rvos.utils.logging import get_logger


logger = get_logger(__name__)

DEFAULT_TOKENIZER = "roberta-base"
LICENCE_NOTE = (
    "The official SgMg weights are licensed under CC BY-NC 4.0: non-commercial use only, with attribution. A "
    "converted checkpoint stays under this licence."
)

_DEFORMABLE = "(sampling_offsets|attention_weights|value_proj|output_proj)"
_ENCODER, _DECODER = r"transformer\.encoder\.layers\.(\d+)", r"transformer\.decoder\.layers\.(\d+)"
RENAMING_RULES = [
    (r"text_encoder\.text_backbone\.(.*)", r"model.text_encoder.\1"),
    (r"text_proj\.fc\.(.*)", r"model.word_projection.linear.\1"),
    (r"text_proj\.layer_norm\.(.*)", r"model.word_projection.norm.\1"),
    (r"sentence_proj\.fc\.(.*)", r"model.sentence_projection.linear.\1"),
    (r"sentence_proj\.layer_norm\.(.*)", r"model.sentence_projection.norm.\1"),
    (r"input_proj\.(\d+)\.0\.(.*)", r"model.level_projections.\1.conv.\2"),
    (r"input_proj\.(\d+)\.1\.(.*)", r"model.level_projections.\1.norm.\2"),
    (r"fusion_module\.multihead_attn\.(.*)", r"model.fusion.attention.\1"),
    (r"transformer\.level_embed", r"model.level_embedding"),
    (rf"{_ENCODER}\.self_attn\.{_DEFORMABLE}\.(.*)", r"model.encoder_layers.\1.self_attn.\2.\3"),
    (rf"{_ENCODER}\.norm1\.(.*)", r"model.encoder_layers.\1.self_attn_norm.\2"),
    (rf"{_ENCODER}\.linear([12])\.(.*)", r"model.encoder_layers.\1.feed_forward.fc\2.\3"),
    (rf"{_ENCODER}\.norm2\.(.*)", r"model.encoder_layers.\1.feed_forward.norm.\2"),
    (rf"{_DECODER}\.cross_attn\.{_DEFORMABLE}\.(.*)", r"model.decoder.layers.\1.cross_attn.\2.\3"),
    (rf"{_DECODER}\.self_attn\.(.*)", r"model.decoder.layers.\1.self_attn.\2"),
    # The official numbers follow the order of definition; norm2 is applied after the self-attention, norm1 after the
    # cross-attention.
    (rf"{_DECODER}\.norm1\.(.*)", r"model.decoder.layers.\1.cross_attn_norm.\2"),
    (rf"{_DECODER}\.norm2\.(.*)", r"model.decoder.layers.\1.self_attn_norm.\2"),
    (rf"{_DECODER}\.linear([12])\.(.*)", r"model.decoder.layers.\1.feed_forward.fc\2.\3"),
    (rf"{_DECODER}\.norm3\.(.*)", r"model.decoder.layers.\1.feed_forward.norm.\2"),
    (r"transformer\.reference_points\.(.*)", r"model.decoder.reference_points.\1"),
    (r"query_embed\.weight", r"model.decoder.query_positions"),
    (r"bbox_embed\.(\d+)\.(.*)", r"model.decoder.box_heads.\1.\2"),
    (r"class_embed\.(.*)", r"class_heads.\1"),
    (r"controller\.(.*)", r"mask_controller.\1"),
]
for _official, _own in (("input_fft", "pixel_spectra"), ("input_fft_post", "fused_spectra")):
    RENAMING_RULES += [
        (rf"{_official}\.(\d+)\.laplace\.(.*)", rf"model.{_own}.\1.scale_conv.\2"),
        (rf"{_official}\.(\d+)\.fc\.0\.(.*)", rf"model.{_own}.\1.scale_hidden.\2"),
        (rf"{_official}\.(\d+)\.fc\.2\.(.*)", rf"model.{_own}.\1.scale_output.\2"),
        (rf"{_official}\.(\d+)\.conv([12])\.(.*)", rf"model.{_own}.\1.spectrum_conv\2.\3"),
    ]
for _official, _own in (("1div8", "coarse"), ("1div4", "fine")):
    RENAMING_RULES += [
        (rf"mask_refine\.conv1_{_official}\.(.*)", rf"mask_refiner.{_own}.mask_conv.\1"),
        (rf"mask_refine\.conv2_{_official}\.(.*)", rf"mask_refiner.{_own}.output_conv.\1"),
    ]
# The official first convolution runs over mask logits and backbone map side by side; here each has its own.
_GUIDES = {"mask_refine.conv1_1div8.weight": 0, "mask_refine.conv1_1div4.weight": 1}


def convert_state_dict(state_dict: dict[str, torch.Tensor], backbone: PreTrainedConfig) -> dict[str, torch.Tensor]:
    """Official names to ours.

    Args:
        state_dict: Tensors under their official names. `transformer.decoder.bbox_embed` holds the box heads a second
            time and is dropped.
        backbone: Configuration of the backbone.

    Returns:
        State dict of [`SgMgForReferringVideoSegmentation`].

    Raises:
        ValueError: if a tensor is not one of SgMg.
    """
    backbone_weights, others = split_backbone(state_dict)
    guides = {}
    for name, level in _GUIDES.items():
        if name in others:
            mask_channels = len(others[name])  # the released model has as many between the convolutions
            guides[f"model.guide_convs.{level}.weight"] = others[name][:, mask_channels:].clone()
            others[name] = others[name][:, :mask_channels].clone()
    renamed = rename_keys(others, RENAMING_RULES, "SgMg") | guides
    for name, tensor in convert_backbone_state_dict(backbone_weights, backbone).items():
        renamed[f"model.backbone.{name}"] = tensor
    return renamed


def infer_config(state_dict: dict[str, torch.Tensor], arguments: dict, overrides: dict | None = None) -> SgMgConfig:
    """Configuration of an official checkpoint.

    Args:
        state_dict: Tensors under their official names.
        arguments: Arguments of the training run; may be empty.
        overrides: Fields of [`SgMgConfig`] that take precedence.

    Returns:
        [`SgMgConfig`]

    Raises:
        ValueError: if the tensors are not those of SgMg, or the run used an option that no released model has.
    """
    check_options(arguments, with_box_refine=True, rel_coord=True, two_stage=False, num_feature_levels=4)
    overrides = dict(overrides or {})
    try:
        heads = overrides.get("attention_heads", arguments.get("nheads", 8))
        offsets = "transformer.{}.layers.0.{}.sampling_offsets.bias"
        fields = {
            "hidden_size": state_dict["query_embed.weight"].shape[1],
            "num_queries": state_dict["query_embed.weight"].shape[0],
            "encoder_layers": count_modules(state_dict, r"transformer\.encoder\.layers\.(\d+)\."),
            "decoder_layers": count_modules(state_dict, r"transformer\.decoder\.layers\.(\d+)\."),
            "attention_heads": heads,
            "encoder_points": state_dict[offsets.format("encoder", "self_attn")].shape[0] // (heads * 4 * 2),
            "decoder_points": state_dict[offsets.format("decoder", "cross_attn")].shape[0] // (heads * 4 * 2),
            "feedforward_size": state_dict["transformer.encoder.layers.0.linear1.weight"].shape[0],
            "dropout": arguments.get("dropout", 0.1),
            "refinement_channels": state_dict["mask_refine.conv1_1div8.weight"].shape[0],
            "num_classes": state_dict["class_embed.0.weight"].shape[0],
            "text_config": infer_roberta_config(state_dict, "text_encoder.text_backbone."),
        }
    except KeyError as error:
        raise ValueError(f"The checkpoint has no tensor {error}: it is not one of SgMg.") from error
    name = overrides.pop("backbone", None) or arguments.get("backbone")
    if "backbone_config" not in overrides:
        body, _ = split_backbone(state_dict)
        fields["backbone_config"] = backbone_config(name) if name else infer_backbone_config(body)
    return build_config(SgMgConfig, fields, overrides, "SgMg")


def convert_checkpoint(
    checkpoint: str | Path,
    output: str | Path,
    tokenizer: str | Path | None = None,
    config: str | Path | dict | None = None,
) -> SgMgForReferringVideoSegmentation:
    """Convert an official checkpoint and save model, video processor and tokenizer.

    The official weights are for non-commercial use (CC BY-NC 4.0), and so is what comes out; a message says so.

    Args:
        checkpoint (`str` or `Path`):
            The official `.pth` file.
        output (`str` or `Path`):
            Folder to write. It appears when everything is in it; an existing folder is not touched.
        tokenizer (`str` or `Path`, *optional*):
            Folder or hub name of the tokenizer. Defaults to `roberta-base`. Where it cannot be reached, the folder is
            written without tokenizer and a warning says how to add it.
        config (`str`, `Path` or `dict`, *optional*):
            JSON file (or dict) of [`SgMgConfig`] fields that take precedence over what the checkpoint tells.
            `"backbone"` may hold the name of a backbone.

    Returns:
        The converted model, in eval mode.

    Raises:
        FileNotFoundError: if a file is missing.
        FileExistsError: if `output` exists and is not an empty folder.
        ValueError: if the checkpoint is not one of SgMg or does not fit the configuration.
    """
    output = check_output(output)
    overrides = read_overrides(config)
    logger.warning(LICENCE_NOTE)
    state_dict, arguments = load_official_checkpoint(checkpoint, "model")
    model_config = infer_config(state_dict, arguments, overrides)
    return save_converted(
        SgMgForReferringVideoSegmentation,
        model_config,
        convert_state_dict(state_dict, model_config.backbone_config),
        output,
        # The published protocol: short side 360 pixels without a limit for the long side, padding to multiples of 16.
        RvosVideoProcessor(size={"shortest_edge": 360}, pad_to_multiple_of=16),
        DEFAULT_TOKENIZER if tokenizer is None else str(tokenizer),
        overrides.get("backbone") or arguments.get("backbone"),
    )
