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

"""What the conversion of official checkpoints has in common: safe loading and accounting for every key."""

import argparse
import re
from collections.abc import Iterable
from pathlib import Path

import torch


# Counters of a profiling tool, and buffers of old library versions that the modules compute for themselves.
IGNORED_KEYS = re.compile(r"(total_ops|total_params|num_batches_tracked|relative_position_index|position_ids)$")


def load_official_checkpoint(path: str | Path, state_key: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Read a checkpoint of a research repository without running anything that it contains.

    Args:
        path: The file, made by `torch.save`.
        state_key: Name of the state dict in the file. A bare state dict is taken as well.

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
        with torch.serialization.safe_globals([argparse.Namespace]):
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
    state_dict = content.get(state_key, content)
    if isinstance(state_dict, dict):
        state_dict = {name: value for name, value in state_dict.items() if isinstance(value, torch.Tensor)}
    if not isinstance(state_dict, dict) or not state_dict or not all(isinstance(name, str) for name in state_dict):
        raise ValueError(
            f"checkpoint {str(path)!r} has no state dict under {state_key!r}; it holds {sorted(map(str, content))}."
        )
    arguments = content.get("args")
    if isinstance(arguments, argparse.Namespace):
        arguments = vars(arguments)
    state_dict = {
        name.removeprefix("module."): tensor for name, tensor in state_dict.items() if not IGNORED_KEYS.search(name)
    }
    return state_dict, arguments if isinstance(arguments, dict) else {}


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
