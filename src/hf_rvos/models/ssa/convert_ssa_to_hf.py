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

"""Turn an official SSA checkpoint into a folder that `from_pretrained` reads.

    hf-rvos convert --model ssa --checkpoint ssa_mevis.pth --output ssa-convnext-large-mevis

Sizes come from the tensors. Numbers of heads, the type of the adapters and what the model was trained for cannot be
seen in them: they are the published ones unless `--config` says otherwise, so that a model for MeViS needs
`{"multi_target": true}`.
"""

import re
from pathlib import Path

import torch

from hf_rvos.conversion import (
    build_config,
    check_output,
    count_modules,
    load_official_checkpoint,
    read_overrides,
    rename_keys,
    save_converted,
)
from hf_rvos.models.ssa.configuration_ssa import SsaConfig
from hf_rvos.models.ssa.frame_decoder import NUM_LEVELS
from hf_rvos.models.ssa.modeling_ssa import SsaForReferringVideoSegmentation
from hf_rvos.models.ssa.processing_ssa import build_video_processor


# That of all models of CLIP; it pads with its end token, which the attention mask tells from the real one.
DEFAULT_TOKENIZER = "openai/clip-vit-large-patch14"
SIZE_FOR_MEVIS = {"shortest_edge": 448, "longest_edge": 1333}  # of the published evaluation

_CLIP = r"backbone\.clip_model"
_TRUNK = rf"{_CLIP}\.visual\.trunk"
_ADAPTER = r"backbone\.stage_adapter_layers\.(\d+)"
_PIXELS = r"sem_seg_head\.pixel_decoder"
_FUSION = rf"{_PIXELS}\.transformer\.encoder\.fusion_layers\.(\d+)"
_ENCODER = rf"{_PIXELS}\.transformer\.encoder\.layers\.(\d+)"
_FRAMES = r"sem_seg_head\.predictor"
_VIDEO = r"vita_module"
# Parts of CLIP that the model does not use, and weights of the losses.
UNUSED = re.compile(rf"{_CLIP}\.(logit_scale|visual\.(trunk\.)?head\..*)|(vita_)?criterion\.empty_weight")

_TEXT = "model.text_encoder.text_model"
RENAMING_RULES = [
    (rf"{_CLIP}\.positional_embedding", rf"{_TEXT}.embeddings.position_embedding.weight"),
    (rf"{_CLIP}\.token_embedding\.weight", rf"{_TEXT}.embeddings.token_embedding.weight"),
    (rf"{_CLIP}\.transformer\.resblocks\.(\d+)\.ln_([12])\.(.*)", rf"{_TEXT}.encoder.layers.\1.layer_norm\2.\3"),
    (rf"{_CLIP}\.transformer\.resblocks\.(\d+)\.attn\.(.*)", rf"{_TEXT}.encoder.layers.\1.self_attn.\2"),
    (rf"{_CLIP}\.transformer\.resblocks\.(\d+)\.mlp\.c_fc\.(.*)", rf"{_TEXT}.encoder.layers.\1.mlp.fc1.\2"),
    (rf"{_CLIP}\.transformer\.resblocks\.(\d+)\.mlp\.c_proj\.(.*)", rf"{_TEXT}.encoder.layers.\1.mlp.fc2.\2"),
    (rf"{_CLIP}\.ln_final\.(.*)", rf"{_TEXT}.final_layer_norm.\1"),
    (rf"{_CLIP}\.text_projection", "model.text_encoder.text_projection.weight"),
    (rf"{_TRUNK}\.stem\.0\.(.*)", r"model.backbone.embeddings.patch_embeddings.\1"),
    (rf"{_TRUNK}\.stem\.1\.(.*)", r"model.backbone.embeddings.layernorm.\1"),
    (rf"{_TRUNK}\.stages\.(\d+)\.downsample\.(.*)", r"model.backbone.encoder.stages.\1.downsampling_layer.\2"),
    (rf"{_ADAPTER}\.conv([12])\.(.*)", r"model.adapters.\1.bottleneck.layers.conv\2.\3"),
    (rf"{_ADAPTER}\.linear_v\.(.*)", r"model.adapters.\1.pixel_proj.\2"),
    (rf"{_ADAPTER}\.linear_l\.(.*)", r"model.adapters.\1.text_proj.\2"),
    (rf"{_ADAPTER}\.up_v\.(.*)", r"model.adapters.\1.out_proj.\2"),
    (rf"{_ADAPTER}\.cross_attention\.multihead_attn\.(.*)", r"model.adapters.\1.attention.\2"),
    (rf"{_ADAPTER}\.cross_attention\.norm\.(.*)", r"model.adapters.\1.norm.\2"),
    (rf"{_ADAPTER}\.gate\.(.*)", r"model.adapters.\1.gate.\2"),
    (r"resizer\.fc\.(.*)", r"model.text_projection.linear.\1"),
    (r"resizer\.layer_norm\.(.*)", r"model.text_projection.norm.\1"),
    (rf"{_PIXELS}\.input_proj\.(\d+)\.0\.(.*)", r"model.pixel_decoder.level_projections.\1.conv.\2"),
    (rf"{_PIXELS}\.input_proj\.(\d+)\.1\.(.*)", r"model.pixel_decoder.level_projections.\1.norm.\2"),
    (rf"{_PIXELS}\.transformer\.level_embed", "model.pixel_decoder.level_embedding"),
    (rf"{_ENCODER}\.self_attn\.(.*)", r"model.pixel_decoder.encoder_layers.\1.self_attn.\2"),
    (rf"{_ENCODER}\.norm1\.(.*)", r"model.pixel_decoder.encoder_layers.\1.self_attn_norm.\2"),
    (rf"{_ENCODER}\.linear([12])\.(.*)", r"model.pixel_decoder.encoder_layers.\1.feed_forward.fc\2.\3"),
    (rf"{_ENCODER}\.norm2\.(.*)", r"model.pixel_decoder.encoder_layers.\1.feed_forward.norm.\2"),
    (rf"{_PIXELS}\.adapter_1\.norm\.(.*)", r"model.pixel_decoder.fine_projection_norm.\1"),
    (rf"{_PIXELS}\.adapter_1\.weight", "model.pixel_decoder.fine_projection.weight"),
    (rf"{_PIXELS}\.layer_1\.norm\.(.*)", r"model.pixel_decoder.fine_norm.\1"),
    (rf"{_PIXELS}\.layer_1\.weight", "model.pixel_decoder.fine_conv.weight"),
    (rf"{_PIXELS}\.mask_features\.(.*)", r"model.frame_mask_projection.\1"),
    (rf"{_FRAMES}\.query_embed\.weight", "model.frame_decoder.query_positions"),
    (rf"{_FRAMES}\.level_embed\.weight", "model.frame_decoder.level_embedding"),
    (rf"{_FRAMES}\.decoder_norm\.(.*)", r"model.frame_decoder.norm.\1"),
    (rf"{_FRAMES}\.mask_embed\.(.*)", r"model.frame_decoder.mask_head.\1"),
    (rf"{_FRAMES}\.class_embed\.(.*)", r"frame_class_head.\1"),
    (rf"{_VIDEO}\.input_proj_dec\.(.*)", r"model.trajectory_encoder.input_proj.\1"),
    (rf"{_VIDEO}\.short_temporal\.0\.(.*)", r"model.trajectory_encoder.convs.0.\1"),
    (rf"{_VIDEO}\.short_temporal\.2\.(.*)", r"model.trajectory_encoder.convs.1.\1"),
    (rf"{_VIDEO}\.temporal_norm\.(.*)", r"model.trajectory_encoder.conv_norm.\1"),
    (rf"{_VIDEO}\.long_temporal\.self_attn\.(.*)", r"model.trajectory_encoder.self_attn.\1"),
    (rf"{_VIDEO}\.long_temporal\.norm\.(.*)", r"model.trajectory_encoder.self_attn_norm.\1"),
    (rf"{_VIDEO}\.time_aware_attn\.(.*)", r"model.trajectory_encoder.time_weight.\1"),
    (rf"{_VIDEO}\.query_embed\.weight", "model.video_decoder.query_positions"),
    (rf"{_VIDEO}\.fq_pos\.weight", "model.video_decoder.track_positions"),
    (rf"{_VIDEO}\.decoder_norm\.(.*)", r"model.video_decoder.norm.\1"),
    (rf"{_VIDEO}\.vita_mask_features\.(.*)", r"model.mask_projection.\1"),
    (rf"{_VIDEO}\.class_embed\.(.*)", r"class_head.\1"),
    (rf"{_VIDEO}\.mask_embed\.(.*)", r"mask_head.\1"),
    (rf"{_VIDEO}\.sim_embed_frame\.(.*)", r"frame_similarity_head.\1"),
    (rf"{_VIDEO}\.sim_embed_clip\.(.*)", r"video_similarity_head.\1"),
]
_IN_BLOCK = {"conv_dw": "dwconv", "norm": "layernorm", r"mlp\.fc1": "pwconv1", r"mlp\.fc2": "pwconv2"}
_BLOCK = "model.backbone.encoder.stages.{}.layers.{}"
for _official, _own in _IN_BLOCK.items():
    RENAMING_RULES.append(
        (rf"{_TRUNK}\.stages\.(\d+)\.blocks\.(\d+)\.{_official}\.(.*)", _BLOCK.format(r"\1", r"\2") + rf".{_own}.\3")
    )
RENAMING_RULES.append(
    (rf"{_TRUNK}\.stages\.(\d+)\.blocks\.(\d+)\.gamma", _BLOCK.format(r"\1", r"\2") + ".layer_scale_parameter")
)
_IN_FUSION = {
    "layer_norm_v": "pixel_norm",
    "layer_norm_l": "text_norm",
    r"attn\.v_proj": "pixel_proj",
    r"attn\.l_proj": "text_proj",
    r"attn\.values_v_proj": "pixel_value_proj",
    r"attn\.values_l_proj": "text_value_proj",
    r"attn\.out_v_proj": "pixel_out_proj",
    r"attn\.out_l_proj": "text_out_proj",
}
for _official, _own in _IN_FUSION.items():
    RENAMING_RULES.append((rf"{_FUSION}\.{_official}\.(.*)", rf"model.pixel_decoder.fusion_layers.\1.{_own}.\2"))
for _official, _own in (("gamma_v", "pixel_scale"), ("gamma_l", "text_scale")):
    RENAMING_RULES.append((rf"{_FUSION}\.{_official}", rf"model.pixel_decoder.fusion_layers.\1.{_own}"))
# Frame and video decoder have the same kinds of layers; only the attention to the text has two names.
for _official, _own, _text_attention in (
    (_FRAMES, "model.frame_decoder.layers", "text_cross_attention_layers"),
    (_VIDEO, "model.video_decoder.layers", "fusion"),
):
    for _list, _name in (
        ("transformer_cross_attention_layers", "cross_attn"),
        ("transformer_self_attention_layers", "self_attn"),
        (_text_attention, "text_attn"),
    ):
        RENAMING_RULES += [
            (rf"{_official}\.{_list}\.(\d+)\.(?:multihead|self)_attn\.(.*)", rf"{_own}.\1.{_name}.\2"),
            (rf"{_official}\.{_list}\.(\d+)\.norm\.(.*)", rf"{_own}.\1.{_name}_norm.\2"),
        ]
    _list = "transformer_ffn_layers"
    RENAMING_RULES += [
        (rf"{_official}\.{_list}\.(\d+)\.linear([12])\.(.*)", rf"{_own}.\1.feed_forward.fc\2.\3"),
        (rf"{_official}\.{_list}\.(\d+)\.norm\.(.*)", rf"{_own}.\1.feed_forward.norm.\2"),
    ]


def convert_state_dict(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Official names and shapes to ours.

    Args:
        state_dict: Tensors under their official names. Those that nothing uses are dropped.

    Returns:
        State dict of [`SsaForReferringVideoSegmentation`].

    Raises:
        ValueError: if a tensor is not one of SSA.
    """
    used = {name: tensor for name, tensor in state_dict.items() if not UNUSED.fullmatch(name)}
    converted = {}
    for name, tensor in rename_keys(used, RENAMING_RULES, "SSA").items():
        if name == "model.text_encoder.text_projection.weight":
            tensor = tensor.t().contiguous()  # stored for a product from the right
        elif name.startswith("model.adapters.") and tensor.ndim == 4:
            tensor = tensor.flatten(1)  # a convolution of single pixels
        name = name.replace("layers.conv1", "layers.0").replace("layers.conv2", "layers.1")
        converted[name] = tensor
    return converted


def infer_config(state_dict: dict[str, torch.Tensor], overrides: dict | None = None) -> SsaConfig:
    """Configuration of an official checkpoint.

    Args:
        state_dict: Tensors under their official names.
        overrides: Fields of [`SsaConfig`] that take precedence.

    Returns:
        [`SsaConfig`]

    Raises:
        ValueError: if the tensors are not those of SSA.
    """
    overrides = dict(overrides or {})
    clip, trunk = "backbone.clip_model", "backbone.clip_model.visual.trunk"
    pixels, frames, video = "sem_seg_head.pixel_decoder", "sem_seg_head.predictor", "vita_module"
    encoder = f"{pixels}.transformer.encoder.layers.0"
    heads = overrides.get("attention_heads", 8)
    try:
        vocab_size, text_size = state_dict[f"{clip}.token_embedding.weight"].shape
        fields = {
            "backbone_config": {
                "model_type": "convnext",
                "hidden_sizes": [
                    len(state_dict[f"{trunk}.stages.{stage}.blocks.0.conv_dw.weight"]) for stage in range(4)
                ],
                "depths": [
                    count_modules(state_dict, rf"{_TRUNK}\.stages\.{stage}\.blocks\.(\d+)\.") for stage in range(4)
                ],
            },
            "text_config": {
                "model_type": "clip_text_model",
                "vocab_size": vocab_size,
                "hidden_size": text_size,
                "intermediate_size": len(state_dict[f"{clip}.transformer.resblocks.0.mlp.c_fc.weight"]),
                "projection_dim": state_dict[f"{clip}.text_projection"].shape[1],
                "num_hidden_layers": count_modules(state_dict, rf"{_CLIP}\.transformer\.resblocks\.(\d+)\."),
                "num_attention_heads": max(1, text_size // 64),
                "max_position_embeddings": len(state_dict[f"{clip}.positional_embedding"]),
                "hidden_act": "gelu",
                "bos_token_id": vocab_size - 2,
                "eos_token_id": vocab_size - 1,
            },
            "hidden_size": state_dict[f"{frames}.query_embed.weight"].shape[1],
            "mask_size": len(state_dict[f"{pixels}.mask_features.weight"]),
            "num_queries": len(state_dict[f"{frames}.query_embed.weight"]),
            "adapter_size": len(state_dict["backbone.stage_adapter_layers.0.linear_l.weight"]),
            "encoder_layers": count_modules(state_dict, rf"{_ENCODER}\."),
            "encoder_points": len(state_dict[f"{encoder}.self_attn.sampling_offsets.bias"])
            // (heads * NUM_LEVELS * 2),
            "encoder_feedforward_size": len(state_dict[f"{encoder}.linear1.weight"]),
            "decoder_layers": count_modules(state_dict, rf"{_FRAMES}\.transformer_ffn_layers\.(\d+)\."),
            "video_decoder_layers": count_modules(state_dict, rf"{_VIDEO}\.transformer_ffn_layers\.(\d+)\."),
            "attention_heads": heads,
            "feedforward_size": len(state_dict[f"{video}.transformer_ffn_layers.0.linear1.weight"]),
        }
    except KeyError as error:
        raise ValueError(f"The checkpoint has no tensor {error}: it is not one of SSA.") from error
    return build_config(SsaConfig, fields, overrides, "SSA")


def convert_checkpoint(
    checkpoint: str | Path,
    output: str | Path,
    tokenizer: str | Path | None = None,
    config: str | Path | dict | None = None,
) -> SsaForReferringVideoSegmentation:
    """Convert an official checkpoint and save model, video processor and tokenizer.

    Args:
        checkpoint (`str` or `Path`):
            The official `.pth` file.
        output (`str` or `Path`):
            Folder to write. It appears when everything is in it; an existing folder is not touched.
        tokenizer (`str` or `Path`, *optional*):
            Folder or hub name of the tokenizer. Defaults to that of CLIP. Where it cannot be reached, the folder is
            written without tokenizer and a warning says how to add it.
        config (`str`, `Path` or `dict`, *optional*):
            JSON file (or dict) of [`SsaConfig`] fields that take precedence over what the checkpoint tells. With
            `multi_target` the video processor has the frame size that is published for MeViS.

    Returns:
        The converted model, in eval mode.

    Raises:
        FileNotFoundError: if a file is missing.
        FileExistsError: if `output` exists and is not an empty folder.
        ValueError: if the checkpoint is not one of SSA or does not fit the configuration.
    """
    output = check_output(output)
    overrides = read_overrides(config)
    state_dict, _ = load_official_checkpoint(checkpoint, "model")
    model_config = infer_config(state_dict, overrides)
    size = {"size": SIZE_FOR_MEVIS} if model_config.multi_target else {}
    return save_converted(
        SsaForReferringVideoSegmentation,
        model_config,
        convert_state_dict(state_dict),
        output,
        build_video_processor(**size),
        DEFAULT_TOKENIZER if tokenizer is None else str(tokenizer),
    )
