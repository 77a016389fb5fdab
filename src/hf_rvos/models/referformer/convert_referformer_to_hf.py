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

import json
import re
import shutil
import tempfile
import warnings
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from hf_rvos.backbones import backbone_config, convert_backbone_state_dict, infer_backbone_config
from hf_rvos.conversion import load_official_checkpoint, rename_keys
from hf_rvos.models.referformer.configuration_referformer import ReferFormerConfig
from hf_rvos.models.referformer.modeling_referformer import ReferFormerForReferringVideoSegmentation
from hf_rvos.processing import RvosProcessor, RvosVideoProcessor


DEFAULT_TOKENIZER = "roberta-base"
BACKBONE_PREFIX = "backbone.0.body."

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
    backbone_weights, others = {}, {}
    for name, tensor in state_dict.items():
        if name.startswith(BACKBONE_PREFIX):
            backbone_weights[name.removeprefix(BACKBONE_PREFIX)] = tensor
        elif not name.startswith("transformer.decoder.bbox_embed."):
            others[name] = tensor
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
    for option, expected in (
        ("with_box_refine", True),
        ("rel_coord", True),
        ("two_stage", False),
        ("num_feature_levels", 4),
    ):
        if arguments.get(option, expected) != expected:
            raise ValueError(
                f"The checkpoint was trained with {option}={arguments[option]!r}; only {expected!r} is supported, "
                "which all released models have."
            )
    overrides = dict(overrides or {})
    try:
        hidden_size = state_dict["query_embed.weight"].shape[1]
        heads = overrides.get("attention_heads", arguments.get("nheads", 8))
        offsets = "transformer.{}.layers.0.{}.sampling_offsets.bias"
        fields = {
            "hidden_size": hidden_size,
            "num_queries": state_dict["query_embed.weight"].shape[0],
            "encoder_layers": _count(state_dict, r"transformer\.encoder\.layers\.(\d+)\."),
            "decoder_layers": _count(state_dict, r"transformer\.decoder\.layers\.(\d+)\."),
            "attention_heads": heads,
            "encoder_points": state_dict[offsets.format("encoder", "self_attn")].shape[0] // (heads * 4 * 2),
            "decoder_points": state_dict[offsets.format("decoder", "cross_attn")].shape[0] // (heads * 4 * 2),
            "feedforward_size": state_dict["transformer.encoder.layers.0.linear1.weight"].shape[0],
            "dropout": arguments.get("dropout", 0.1),
            "mask_feature_size": state_dict["pixel_decoder.mask_features.weight"].shape[0],
            "dynamic_mask_layers": arguments.get("controller_layers", 3),
            "dynamic_mask_channels": arguments.get("dynamic_mask_channels", 8),
            "num_classes": state_dict["class_embed.0.weight"].shape[0],
            "text_config": _infer_text_config(state_dict),
        }
    except KeyError as error:
        raise ValueError(f"The checkpoint has no tensor {error}: it is not one of ReferFormer.") from error
    name = overrides.pop("backbone", None) or arguments.get("backbone")
    if "backbone_config" not in overrides:
        body = {
            key.removeprefix(BACKBONE_PREFIX): value
            for key, value in state_dict.items()
            if key.startswith(BACKBONE_PREFIX)
        }
        fields["backbone_config"] = backbone_config(name) if name else infer_backbone_config(body)
    if isinstance(overrides.get("text_config"), dict):
        overrides["text_config"] = fields["text_config"] | overrides["text_config"]
    if isinstance(overrides.get("backbone_config"), dict) and "model_type" not in overrides["backbone_config"]:
        raise ValueError('config: backbone_config needs a model_type, for example "video_swin".')
    unknown = sorted(set(overrides) - set(ReferFormerConfig.__dataclass_fields__))
    if unknown:
        raise ValueError(f"config has the unknown fields {unknown}; see ReferFormerConfig for the known ones.")
    try:
        return ReferFormerConfig(**(fields | overrides))
    except StrictDataclassError as error:
        raise ValueError(f"config does not describe a ReferFormer: {' '.join(str(error).split())}") from error


def _count(state_dict: dict[str, torch.Tensor], pattern: str) -> int:
    return 1 + max((int(match[1]) for match in map(re.compile(pattern).match, state_dict) if match), default=-1)


def _infer_text_config(state_dict: dict[str, torch.Tensor]) -> dict:
    prefix = "text_encoder."
    vocab_size, hidden_size = state_dict[f"{prefix}embeddings.word_embeddings.weight"].shape
    return {
        "model_type": "roberta",
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "num_hidden_layers": _count(state_dict, r"text_encoder\.encoder\.layer\.(\d+)\."),
        "num_attention_heads": max(1, hidden_size // 64),
        "intermediate_size": state_dict[f"{prefix}encoder.layer.0.intermediate.dense.weight"].shape[0],
        "max_position_embeddings": state_dict[f"{prefix}embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": state_dict[f"{prefix}embeddings.token_type_embeddings.weight"].shape[0],
        "layer_norm_eps": 1e-5,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }


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
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"output {str(output)!r} exists already. Remove it or name another folder.")
    overrides = _read_overrides(config)
    state_dict, arguments = load_official_checkpoint(checkpoint, state_key="model")
    model_config = infer_config(state_dict, arguments, overrides)
    weights = convert_state_dict(state_dict, model_config.backbone_config)
    with torch.device("meta"):
        model = ReferFormerForReferringVideoSegmentation(model_config)
    _check_weights(model, weights, overrides.get("backbone") or arguments.get("backbone"))

    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        model.save_pretrained(scratch, state_dict=dict(weights))  # a copy, because saving empties it
        _save_processor(scratch, output, tokenizer)
        converted = ReferFormerForReferringVideoSegmentation.from_pretrained(scratch)
        loaded = converted.state_dict()
        different = [name for name, tensor in weights.items() if not torch.equal(loaded[name], tensor)]
        if different:
            raise RuntimeError(f"Reading back the converted weights gave other values in {different[:3]}.")
        if output.exists():
            output.rmdir()
        scratch.chmod(0o755)
        scratch.rename(output)
        converted.name_or_path = converted.config.name_or_path = str(output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return converted


def _read_overrides(config: str | Path | dict | None) -> dict:
    if config is None or isinstance(config, dict):
        return config or {}
    if not Path(config).is_file():
        raise FileNotFoundError(f"config is {str(config)!r}, which is not a file. Expected JSON.")
    try:
        overrides = json.loads(Path(config).read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"config {str(config)!r} is not JSON: {error}") from error
    if not isinstance(overrides, dict):
        raise ValueError(f"config {str(config)!r} holds a {type(overrides).__name__}, expected an object of fields")
    return overrides


def _check_weights(model: torch.nn.Module, weights: dict[str, torch.Tensor], backbone_name: str | None):
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    names = [*expected, *sorted(found.keys() - expected.keys())]  # those of the backbone come first
    wrong = [name for name in names if expected.get(name) != found.get(name)]
    if not wrong:
        return
    # A tensor of another size says more than one that is missing.
    name = next((name for name in wrong if name in expected and name in found), wrong[0])
    part = "configuration"
    if any(name.startswith("model.backbone.") for name in wrong):
        name = next((name for name in wrong if name.startswith("model.backbone.") and name in expected), name)
        part = f"backbone {backbone_name!r}" if backbone_name else "backbone"
    raise ValueError(
        f"The checkpoint does not fit the {part}: {name} has shape {found.get(name, 'none')} in the checkpoint, "
        f"expected {expected.get(name, 'none')} ({len(wrong)} tensors differ). Name the right sizes with --config."
    )


def _save_processor(folder: Path, output: Path, tokenizer: str | Path | None):
    # The published protocol resizes the short side to 360 pixels without a limit for the long side.
    video_processor = RvosVideoProcessor(size={"shortest_edge": 360})
    name = str(tokenizer) if tokenizer is not None else DEFAULT_TOKENIZER
    try:
        text_tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # whatever keeps the hub away: no network, offline mode, no such name
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        warnings.warn(
            f"The tokenizer {name!r} could not be loaded ({reason}). Model and video processor are saved without it; "
            f'add it later with RvosProcessor(video_processor=RvosVideoProcessor.from_pretrained("{output}"), '
            f'tokenizer=AutoTokenizer.from_pretrained("{name}")).save_pretrained("{output}").',
            stacklevel=3,
        )
        video_processor.save_pretrained(folder)
        return
    RvosProcessor(video_processor=video_processor, tokenizer=text_tokenizer).save_pretrained(folder)
