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

"""What the conversion of official checkpoints has in common: safe loading, accounting for every key, saving."""

import argparse
import json
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_rvos.processing import RvosProcessor, RvosVideoProcessor


# Counters of a profiling tool, and buffers of old library versions that the modules compute for themselves.
IGNORED_KEYS = re.compile(r"(total_ops|total_params|num_batches_tracked|relative_position_index|position_ids)$")
# What a score that NumPy computed is made of, under the names of NumPy 1 and 2.
_SCALAR = np.float64(0).__reduce__()[0]
NUMPY_NUMBERS = [
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32)), type(np.dtype(np.int64))),
]


def load_official_checkpoint(path: str | Path, *state_keys: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Read a checkpoint of a research repository without running anything that it contains.

    Args:
        path: The file, made by `torch.save`.
        state_keys: Names that the state dict may have in the file. A bare state dict is taken as well.

    Returns:
        The state dict without a `module.` prefix and without keys that carry no weights, and the arguments of the
        training run (empty if the file has none).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a checkpoint, contains objects other than tensors, containers, numbers and
            `argparse.Namespace`, or has no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"checkpoint is {str(path)!r}, which is not a file. Expected a .pth made by torch.save."
        )
    try:
        with torch.serialization.safe_globals([argparse.Namespace, *NUMPY_NUMBERS]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a damaged file can break its reader anywhere
        # The message of torch advises to load the file unsafely, so only the name of the object is taken from it.
        foreign = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
        reason = (
            f"it holds the object {foreign[1]}, and loading objects other than tensors, containers, numbers and "
            "argparse.Namespace could run foreign code"
            if foreign
            else f"it is damaged or was not made by torch.save ({type(error).__name__})"
        )
        raise ValueError(f"checkpoint {str(path)!r} cannot be read: {reason}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"checkpoint {str(path)!r} holds a {type(content).__name__}, expected a dict")
    state_dict = next((content[key] for key in state_keys if key in content), content)
    if isinstance(state_dict, dict):
        state_dict = {name: value for name, value in state_dict.items() if isinstance(value, torch.Tensor)}
    if not isinstance(state_dict, dict) or not state_dict or not all(isinstance(name, str) for name in state_dict):
        raise ValueError(
            f"checkpoint {str(path)!r} has no state dict under {' or '.join(map(repr, state_keys))}; it holds "
            f"{sorted(map(str, content))}."
        )
    arguments = content.get("args")
    if isinstance(arguments, argparse.Namespace):
        arguments = vars(arguments)
    state_dict = {
        name.removeprefix("module."): tensor for name, tensor in state_dict.items() if not IGNORED_KEYS.search(name)
    }
    return state_dict, arguments if isinstance(arguments, dict) else {}


def split_backbone(
    state_dict: dict[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The tensors of the backbone, under the names that they have in it, and the others.

    `transformer.decoder.bbox_embed` holds the box heads a second time and is dropped.
    """
    prefix, doubled = "backbone.0.body.", "transformer.decoder.bbox_embed."
    backbone = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
    return backbone, {name: value for name, value in state_dict.items() if not name.startswith((prefix, doubled))}


def rename_keys(
    state_dict: dict[str, torch.Tensor], rules: Iterable[tuple[str, str]], model_name: str
) -> dict[str, torch.Tensor]:
    """Give every tensor its own name here.

    Args:
        state_dict: Tensors under their official names.
        rules: Pairs of a regular expression for the whole official name and its replacement, tried in order. A
            packed attention projection, whose replacement ends in `in_proj_weight` or `in_proj_bias`, is cut in three.
        model_name: What the rules are for, for the error.

    Returns:
        Tensors under their own names.

    Raises:
        ValueError: if a name matches no rule.
    """
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    renamed, unknown = {}, []
    for name, tensor in state_dict.items():
        for pattern, replacement in compiled:
            if match := pattern.fullmatch(name):
                renamed |= _unpack_attention(match.expand(replacement), tensor)
                break
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(state_dict)} tensors do not belong to {model_name}, for example "
            f"{', '.join(unknown[:3])}. Is this a checkpoint of another model?"
        )
    return renamed


def _unpack_attention(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    prefix, _, kind = name.rpartition("in_proj_")
    if not prefix:
        return {name: tensor}
    return {f"{prefix}{part}_proj.{kind}": piece.clone() for part, piece in zip("qkv", tensor.chunk(3))}


def read_overrides(config: str | Path | dict | None) -> dict:
    """Fields of a configuration that take precedence over what a checkpoint tells, from a dict or a JSON file."""
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


def check_options(arguments: dict, **expected: bool | int):
    """Raise `ValueError` if a training run used an option that no released model has."""
    for option, value in expected.items():
        if arguments.get(option, value) != value:
            raise ValueError(
                f"The checkpoint was trained with {option}={arguments[option]!r}; only {value!r} is supported, "
                "which all released models have."
            )


def count_modules(state_dict: dict[str, torch.Tensor], pattern: str) -> int:
    """Length of the list of modules whose number is the first group of a regular expression."""
    return 1 + max((int(match[1]) for match in map(re.compile(pattern).match, state_dict) if match), default=-1)


def infer_roberta_config(state_dict: dict[str, torch.Tensor], prefix: str) -> dict:
    """Fields of the configuration of a RoBERTa whose tensors have the names of transformers after `prefix`."""
    vocab_size, hidden_size = state_dict[f"{prefix}embeddings.word_embeddings.weight"].shape
    return {
        "model_type": "roberta",
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "num_hidden_layers": count_modules(state_dict, rf"{re.escape(prefix)}encoder\.layer\.(\d+)\."),
        "num_attention_heads": max(1, hidden_size // 64),
        "intermediate_size": state_dict[f"{prefix}encoder.layer.0.intermediate.dense.weight"].shape[0],
        "max_position_embeddings": state_dict[f"{prefix}embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": state_dict[f"{prefix}embeddings.token_type_embeddings.weight"].shape[0],
        "layer_norm_eps": 1e-5,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }


def build_config(
    config_class: type[PreTrainedConfig], fields: dict, overrides: dict, model_name: str
) -> PreTrainedConfig:
    """A configuration of what was inferred from a checkpoint (`fields`) and what a user wants otherwise.

    Raises:
        ValueError: if a field is unknown or the configuration impossible.
    """
    if isinstance(overrides.get("text_config"), dict):
        overrides = overrides | {"text_config": fields["text_config"] | overrides["text_config"]}
    if isinstance(overrides.get("backbone_config"), dict) and "model_type" not in overrides["backbone_config"]:
        raise ValueError('config: backbone_config needs a model_type, for example "video_swin".')
    unknown = sorted(set(overrides) - set(config_class.__dataclass_fields__))
    if unknown:
        raise ValueError(f"config has the unknown fields {unknown}; see {config_class.__name__} for the known ones.")
    try:
        return config_class(**(fields | overrides))
    except StrictDataclassError as error:
        raise ValueError(f"config does not describe a {model_name}: {' '.join(str(error).split())}") from error


def check_output(output: str | Path) -> Path:
    """The folder to write, or FileExistsError if there is something in it."""
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"output {str(output)!r} exists already. Remove it or name another folder.")
    return output


def save_converted(
    model_class: type[PreTrainedModel],
    config: PreTrainedConfig,
    weights: dict[str, torch.Tensor],
    output: Path,
    video_processor: RvosVideoProcessor,
    tokenizer: str,
    backbone_name: str | None = None,
) -> PreTrainedModel:
    """Write model, video processor and tokenizer to a folder, and read the model back.

    Args:
        model_class: Class of the model.
        config: Its configuration.
        weights: Its state dict.
        output: Folder to write. It appears when everything is in it.
        video_processor: What prepares videos for the model.
        tokenizer: Folder or hub name. Where it cannot be reached, the folder is written without tokenizer and a
            warning says how to add it.
        backbone_name: What the backbone is called, for errors.

    Returns:
        The converted model, in eval mode.

    Raises:
        ValueError: if weights and configuration do not fit.
    """

    def save_processor(folder: Path) -> None:
        _save_processor(folder, output, video_processor, tokenizer)

    return save_weights(
        model_class, config, weights, output, model_class.from_pretrained, save_processor, backbone_name
    )


def save_weights(
    model_class: Callable[[PreTrainedConfig], PreTrainedModel],
    config: PreTrainedConfig,
    weights: dict[str, torch.Tensor],
    output: Path,
    load: Callable[[Path], PreTrainedModel],
    save_more: Callable[[Path], None] | None = None,
    backbone_name: str | None = None,
) -> PreTrainedModel:
    """Write a model to a folder, which appears when everything is in it, and read it back.

    Args:
        model_class: Class of the model, or a function that makes one.
        config: Its configuration.
        weights: Its state dict.
        output: Folder to write.
        load: Reads the folder.
        save_more: Writes what else belongs into the folder.
        backbone_name: What the backbone is called, for errors.

    Returns:
        The model as read, in eval mode.

    Raises:
        ValueError: if weights and configuration do not fit.
    """
    with torch.device("meta"):
        model = model_class(config)
    _check_weights(model, weights, backbone_name)
    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        model.save_pretrained(scratch, state_dict=dict(weights))  # a copy, because saving empties it
        if save_more is not None:
            save_more(scratch)
        converted = load(scratch)
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


def _save_processor(folder: Path, output: Path, video_processor: RvosVideoProcessor, tokenizer: str):
    try:
        text_tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tokenizer)
    except Exception as error:  # whatever keeps the hub away: no network, offline mode, no such name
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        warnings.warn(
            f"The tokenizer {tokenizer!r} could not be loaded ({reason}). Model and video processor are saved without "
            f'it; add it later with RvosProcessor(video_processor=RvosVideoProcessor.from_pretrained("{output}"), '
            f'tokenizer=AutoTokenizer.from_pretrained("{tokenizer}")).save_pretrained("{output}").',
            stacklevel=6,
        )
        video_processor.save_pretrained(folder)
        return
    RvosProcessor(video_processor=video_processor, tokenizer=text_tokenizer).save_pretrained(folder)
