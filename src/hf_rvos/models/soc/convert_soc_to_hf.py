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

"""Turn an official SOC checkpoint into a folder that `from_pretrained` reads.

    hf-rvos convert --model soc --checkpoint soc_ytvos_joint_tiny.pth --output soc-video-swin-tiny

Sizes come from the tensors. Numbers of heads cannot be seen in them: they are the published ones unless `--config`
says otherwise.
"""

from pathlib import Path

import torch
from transformers import PreTrainedConfig

from hf_rvos.backbones import backbone_config, convert_backbone_state_dict, infer_backbone_config
from hf_rvos.conversion import (
    build_config,
    check_output,
    count_modules,
    infer_roberta_config,
    load_official_checkpoint,
    read_overrides,
    rename_keys,
    save_converted,
    split_backbone,
)
from hf_rvos.models.soc.configuration_soc import SocConfig
from hf_rvos.models.soc.modeling_soc import NUM_FEATURE_LEVELS, SocForReferringVideoSegmentation
from hf_rvos.processing import RvosVideoProcessor
from hf_rvos.utils.logging import get_logger


logger = get_logger(__name__)

DEFAULT_TOKENIZER = "roberta-base"
LICENCE_NOTE = (
    "The repository of the official SOC code and checkpoints states no licence. Without one you may not be allowed to "
    "use or pass on its checkpoints, converted or not: ask its authors first."
)

_DEFORMABLE = "(sampling_offsets|attention_weights|value_proj|output_proj)"
_ENCODER = r"transformer\.encoder\.layers\.(\d+)"
_DECODER = r"transformer\.decoder\.layers\.(\d+)"
_CLUSTER = "model.object_cluster"
RENAMING_RULES = [
    (r"text_encoder\.(.*)", r"model.text_encoder.\1"),
    (r"txt_proj\.fc\.(.*)", r"model.text_projection.linear.\1"),
    (r"txt_proj\.layer_norm\.(.*)", r"model.text_projection.norm.\1"),
    (r"input_proj\.(\d+)\.0\.(.*)", r"model.level_projections.\1.conv.\2"),
    (r"input_proj\.(\d+)\.1\.(.*)", r"model.level_projections.\1.norm.\2"),
    (r"vlf\.multihead_attn\.(.*)", r"model.pixel_fusion.attention.\1"),
    (r"lvf\.multihead_attn\.(.*)", r"model.word_fusion.attention.\1"),
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
    (r"voc\.enc_self_attn\.(\d+)\.self_attn\.(.*)", rf"{_CLUSTER}.encoder_layers.\1.self_attn.\2"),
    (r"voc\.enc_self_attn\.(\d+)\.norm\.(.*)", rf"{_CLUSTER}.encoder_layers.\1.self_attn_norm.\2"),
    (r"voc\.enc_ffn\.(\d+)\.linear([12])\.(.*)", rf"{_CLUSTER}.encoder_layers.\1.feed_forward.fc\2.\3"),
    (r"voc\.enc_ffn\.(\d+)\.norm\.(.*)", rf"{_CLUSTER}.encoder_layers.\1.feed_forward.norm.\2"),
    (
        r"voc\.transformer_cross_attention_layers\.(\d+)\.multihead_attn\.(.*)",
        rf"{_CLUSTER}.decoder_layers.\1.cross_attn.\2",
    ),
    (
        r"voc\.transformer_cross_attention_layers\.(\d+)\.norm\.(.*)",
        rf"{_CLUSTER}.decoder_layers.\1.cross_attn_norm.\2",
    ),
    (r"voc\.transformer_self_attention_layers\.(\d+)\.self_attn\.(.*)", rf"{_CLUSTER}.decoder_layers.\1.self_attn.\2"),
    (r"voc\.transformer_self_attention_layers\.(\d+)\.norm\.(.*)", rf"{_CLUSTER}.decoder_layers.\1.self_attn_norm.\2"),
    (r"voc\.transformer_ffn_layers\.(\d+)\.linear([12])\.(.*)", rf"{_CLUSTER}.decoder_layers.\1.feed_forward.fc\2.\3"),
    (r"voc\.transformer_ffn_layers\.(\d+)\.norm\.(.*)", rf"{_CLUSTER}.decoder_layers.\1.feed_forward.norm.\2"),
    (r"voc\.fq_pos\.weight", rf"{_CLUSTER}.frame_query_positions"),
    (r"voc\.query_embed\.weight", rf"{_CLUSTER}.query_positions"),
    (r"voc\.decoder_norm\.(.*)", rf"{_CLUSTER}.norm.\1"),
    (r"spatial_decoder\.adapter1\.(.*)", r"model.pixel_decoder.adapters.0.\1"),
    (r"spatial_decoder\.adapter2\.(.*)", r"model.pixel_decoder.adapters.1.\1"),
    (r"spatial_decoder\.adapter3\.(.*)", r"model.pixel_decoder.fine_adapter.\1"),
    (r"spatial_decoder\.out_lay\.(.*)", r"model.pixel_decoder.projection.\1"),
    (r"class_embed\.(.*)", r"class_heads.\1"),
    (r"controller\.(.*)", r"mask_controller.\1"),
]
for _index in range(5):
    RENAMING_RULES += [
        (rf"spatial_decoder\.lay{_index + 1}\.(.*)", rf"model.pixel_decoder.convs.{_index}.\1"),
        (rf"spatial_decoder\.gn{_index + 1}\.(.*)", rf"model.pixel_decoder.norms.{_index}.\1"),
    ]


def convert_state_dict(state_dict: dict[str, torch.Tensor], backbone: PreTrainedConfig) -> dict[str, torch.Tensor]:
    """Official names to ours.

    Args:
        state_dict: Tensors under their official names. `transformer.decoder.bbox_embed` holds the box heads a second
            time and is dropped.
        backbone: Configuration of the backbone.

    Returns:
        State dict of [`SocForReferringVideoSegmentation`].

    Raises:
        ValueError: if a tensor is not one of SOC.
    """
    backbone_weights, others = split_backbone(state_dict)
    renamed = rename_keys(others, RENAMING_RULES, "SOC")
    for name, tensor in convert_backbone_state_dict(backbone_weights, backbone).items():
        renamed[f"model.backbone.{name}"] = tensor
    return renamed


def infer_config(
    state_dict: dict[str, torch.Tensor], arguments: dict | None = None, overrides: dict | None = None
) -> SocConfig:
    """Configuration of an official checkpoint, which predicts as the official code evaluates.

    Args:
        state_dict: Tensors under their official names.
        arguments: Arguments of the training run; official files have none.
        overrides: Fields of [`SocConfig`] that take precedence.

    Returns:
        [`SocConfig`]

    Raises:
        ValueError: if the tensors are not those of SOC.
    """
    overrides = dict(overrides or {})
    heads = overrides.get("attention_heads", 8)
    offsets = "transformer.{}.layers.0.{}.sampling_offsets.bias"
    try:
        fields = {
            "hidden_size": state_dict["query_embed.weight"].shape[1],
            "num_queries": state_dict["query_embed.weight"].shape[0],
            "encoder_layers": count_modules(state_dict, rf"{_ENCODER}\."),
            "decoder_layers": count_modules(state_dict, rf"{_DECODER}\."),
            "attention_heads": heads,
            "encoder_points": len(state_dict[offsets.format("encoder", "self_attn")])
            // (heads * NUM_FEATURE_LEVELS * 2),
            "decoder_points": len(state_dict[offsets.format("decoder", "cross_attn")])
            // (heads * NUM_FEATURE_LEVELS * 2),
            "feedforward_size": len(state_dict["transformer.encoder.layers.0.linear1.weight"]),
            "cluster_encoder_layers": count_modules(state_dict, r"voc\.enc_ffn\.(\d+)\."),
            "cluster_decoder_layers": count_modules(state_dict, r"voc\.transformer_ffn_layers\.(\d+)\."),
            "cluster_feedforward_size": len(state_dict["voc.enc_ffn.0.linear1.weight"]),
            "mask_feature_size": len(state_dict["spatial_decoder.out_lay.weight"]),
            "num_classes": len(state_dict["class_embed.0.weight"]),
            "prediction_layer": 0,
            "text_config": infer_roberta_config(state_dict, "text_encoder."),
        }
    except KeyError as error:
        raise ValueError(f"The checkpoint has no tensor {error}: it is not one of SOC.") from error
    name = overrides.pop("backbone", None) or (arguments or {}).get("backbone")
    if "backbone_config" not in overrides:
        body, _ = split_backbone(state_dict)
        fields["backbone_config"] = backbone_config(name) if name else infer_backbone_config(body)
    return build_config(SocConfig, fields, overrides, "SOC")


def convert_checkpoint(
    checkpoint: str | Path,
    output: str | Path,
    tokenizer: str | Path | None = None,
    config: str | Path | dict | None = None,
) -> SocForReferringVideoSegmentation:
    """Convert an official checkpoint and save model, video processor and tokenizer.

    The repository of the checkpoints states no licence; a message says so before anything is read.

    Args:
        checkpoint (`str` or `Path`):
            The official `.pth` file.
        output (`str` or `Path`):
            Folder to write. It appears when everything is in it; an existing folder is not touched.
        tokenizer (`str` or `Path`, *optional*):
            Folder or hub name of the tokenizer. Defaults to `roberta-base`. Where it cannot be reached, the folder is
            written without tokenizer and a warning says how to add it.
        config (`str`, `Path` or `dict`, *optional*):
            JSON file (or dict) of [`SocConfig`] fields that take precedence over what the checkpoint tells.
            `"backbone"` may hold the name of a backbone.

    Returns:
        The converted model, in eval mode.

    Raises:
        FileNotFoundError: if a file is missing.
        FileExistsError: if `output` exists and is not an empty folder.
        ValueError: if the checkpoint is not one of SOC or does not fit the configuration.
    """
    output = check_output(output)
    overrides = read_overrides(config)
    logger.warning(LICENCE_NOTE)
    state_dict, arguments = load_official_checkpoint(checkpoint, "model_state_dict")
    model_config = infer_config(state_dict, arguments, overrides)
    return save_converted(
        SocForReferringVideoSegmentation,
        model_config,
        convert_state_dict(state_dict, model_config.backbone_config),
        output,
        # The published protocol resizes the short side to 360 pixels without a limit for the long side.
        RvosVideoProcessor(size={"shortest_edge": 360}),
        DEFAULT_TOKENIZER if tokenizer is None else str(tokenizer),
        overrides.get("backbone") or arguments.get("backbone"),
    )
