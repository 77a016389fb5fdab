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
"""Sub-models that are not trained are the same in many checkpoints: they are kept once and left out of the others.

A checkpoint without them says in its `config.json` where they are and what they must be:

    "frozen_parts": {"backbone": {"source": "video-swin-tiny", "fingerprint": "0b25..."}}
"""

import copy
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.modeling_utils import load_state_dict
from transformers.utils import logging

from hf_rvos.backbones import load_backbone
from hf_rvos.checkpoints import find_part


# Those of `from_pretrained` that are about the machine and its user, not about one repository.
_DOWNLOAD_OPTIONS = ("cache_dir", "force_download", "proxies", "local_files_only", "token")
_NUMBERS_OF_TENSOR = 4096  # that fingerprints are made of, up to twice as many


class FrozenPartsMixin:
    """Saves a model without its frozen sub-models, and finds them again when it is loaded.

    Goes before [`PreTrainedModel`] in the list of bases. The sub-models are those models that the base model has as
    attributes, such as `backbone` and `text_encoder`.
    """

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        is_main_process: bool = True,
        state_dict: Mapping[str, torch.Tensor] | None = None,
        push_to_hub: bool = False,
        *args: Any,
        trainable_only: bool = False,
        sources: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Save the model, as every model of transformers does, or without its frozen sub-models.

        Args:
            save_directory (`str` or `os.PathLike`):
                Folder to write.
            is_main_process (`bool`, *optional*, defaults to `True`):
                Whether this process is the one that writes.
            state_dict (`Mapping[str, torch.Tensor]`, *optional*):
                Weights to save, if not those of the model.
            push_to_hub (`bool`, *optional*, defaults to `False`):
                Whether to upload the folder.
            args:
                Passed on to transformers.
            trainable_only (`bool`, *optional*, defaults to `False`):
                Leave out every sub-model without a parameter that requires a gradient. `from_pretrained` takes it from
                its source, whose weights are compared now and whose fingerprint is checked then.
            sources (`Mapping[str, str]`, *optional*):
                Where the weights of a sub-model are, by its name: a folder, a hub id or the name of an embedded part.
                A model that was loaded without its sub-models knows.
            kwargs:
                Passed on to transformers.

        Raises:
            ValueError: if a source is not known, cannot be read or has other weights, or nothing is frozen.
        """
        remembered = self.config.__dict__.pop("frozen_parts", None)
        entries = None
        try:
            if trainable_only:
                state_dict = dict(self.state_dict() if state_dict is None else state_dict)
                entries = _leave_out(self, state_dict, sources or {}, remembered or {}, is_main_process, push_to_hub)
                self.config.frozen_parts = entries
            super().save_pretrained(save_directory, is_main_process, state_dict, push_to_hub, *args, **kwargs)
        finally:
            self.config.__dict__.pop("frozen_parts", None)
            if remembered or entries:
                self.config.frozen_parts = (remembered or {}) | (entries or {})

    def read_frozen_part(self, name: str, source: str, **download_options: Any) -> dict[str, torch.Tensor]:
        """Read the weights of a sub-model. A model whose sub-models come from files of another form overrides it.

        Args:
            name (`str`):
                Of the sub-model.
            source (`str`):
                Folder or hub id.
            download_options:
                Passed on to transformers.

        Returns:
            `dict[str, torch.Tensor]`: as stored, under the names that they have in the sub-model.
        """
        part = _parts(self)[name]
        if part.config.model_type == "timm_backbone":  # whose from_pretrained reads no folder
            return load_backbone(source).state_dict()
        config = copy.deepcopy(part.config)
        config.dtype = None  # that of the file
        options = {"config": config, "output_loading_info": True, **download_options}
        with _silence():
            saved, info = type(part).from_pretrained(source, **options)
        weights = saved.state_dict()
        return {name: weights[name] for name in weights.keys() - info["missing_keys"]}

    @staticmethod
    def _load_pretrained_model(
        model: PreTrainedModel,
        state_dict: dict[str, torch.Tensor] | None,
        checkpoint_files: list[str] | None,
        load_config: Any,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Any, Any]:
        # What the sources hold is put to what the checkpoint holds before transformers sees either, so that devices,
        # number formats, offloading and the report of missing weights are the same for all.
        if entries := getattr(model.config, "frozen_parts", None):
            if state_dict is None:
                state_dict = {}
                for file in checkpoint_files:
                    state_dict |= load_state_dict(file, disable_mmap=load_config.disable_mmap)
            options = {name: value for name, value in load_config.download_kwargs.items() if name in _DOWNLOAD_OPTIONS}
            state_dict = state_dict | _restore(model, state_dict, entries, options)
        return PreTrainedModel._load_pretrained_model(
            model, state_dict, checkpoint_files, load_config, *args, **kwargs
        )


def _parts(model: PreTrainedModel) -> dict[str, PreTrainedModel]:
    return {name: part for name, part in model.base_model.named_children() if isinstance(part, PreTrainedModel)}


def _prefix(model: PreTrainedModel, name: str) -> str:
    return f"{name}." if model.base_model is model else f"{model.base_model_prefix}.{name}."


def _leave_out(
    model: PreTrainedModel,
    state_dict: dict[str, torch.Tensor],
    sources: Mapping[str, str],
    remembered: Mapping[str, Mapping[str, str]],
    is_main_process: bool,
    is_public: bool,
) -> dict[str, dict[str, str]]:
    """Take frozen sub-models out of `state_dict`, and say where they are found again.

    Only the main process reads sources; the others do all that does not need them, since they save parts of a model
    that is divided among them.
    """
    parts = _parts(model)
    frozen = [
        name for name, part in parts.items() if not any(parameter.requires_grad for parameter in part.parameters())
    ]
    if not frozen:
        raise ValueError(
            f"trainable_only: all sub-models ({', '.join(parts)}) have parameters that are trained. Freeze one, for "
            f"example with model.base_model.{next(iter(parts))}.requires_grad_(False), or save the whole model."
        )
    if other := sorted(sources.keys() - frozen):
        raise ValueError(f"sources names {', '.join(other)}, but the frozen sub-models are: {', '.join(frozen)}")
    entries = {}
    for name in frozen:
        source = sources.get(name) or remembered.get(name, {}).get("source")
        if not source:
            raise ValueError(
                f"trainable_only: {name} is frozen, but where its weights are is not known. Name the folder, the hub "
                f'id or the embedded part: save_pretrained(..., trainable_only=True, sources={{"{name}": ...}}).'
            )
        if find_part(source) is None and Path(source).is_dir():
            source = str(Path(source).resolve())
            if is_public:
                raise ValueError(f"push_to_hub: {name} would be left out, but {source} is a folder of this machine")
        prefix = _prefix(model, name)
        weights = {key: state_dict.pop(prefix + key, value) for key, value in parts[name].state_dict().items()}
        entries[name] = {"source": source}
        if not is_main_process:
            continue
        found = _read(model, name, source, list(weights), {})
        for key, value in weights.items():
            if not torch.equal(found[key].to(value.device, value.dtype), value):
                raise ValueError(
                    f"trainable_only: {name} cannot be left out, since {source} has other weights, in {key} for one. "
                    "Name where its own are, or save the whole model."
                )
        entries[name]["fingerprint"] = _fingerprint(found)
    return entries


def _restore(
    model: PreTrainedModel, state_dict: Mapping[str, Any], entries: Any, download_options: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """The weights of the sub-models that are left out of `state_dict`, under their names in the model."""
    restored = {}
    for name, entry in _checked(entries, model).items():
        prefix, own = _prefix(model, name), (f"{name}.", f"{model.base_model_prefix}.{name}.")
        if any(key.startswith(own) for key in state_dict):
            continue  # what a checkpoint has itself goes first
        names = list(_parts(model)[name].state_dict())
        found = _read(model, name, entry["source"], names, download_options)
        if (fingerprint := _fingerprint(found)) != entry["fingerprint"]:
            raise ValueError(
                f"{name} is left out of the checkpoint, and {entry['source']} does not have the weights that it was "
                f"saved with: their fingerprint is {fingerprint[:12]}..., expected {entry['fingerprint'][:12]}...."
            )
        restored |= {prefix + key: value for key, value in found.items()}
    return restored


def _checked(entries: Any, model: PreTrainedModel) -> dict[str, dict[str, str]]:
    """What a configuration says of sub-models that are left out, or `ValueError` if that is not as it must be."""
    keys = {"source", "fingerprint"}
    is_readable = isinstance(entries, dict) and all(
        isinstance(entry, dict) and entry.keys() == keys and all(isinstance(value, str) for value in entry.values())
        for entry in entries.values()
    )
    if not is_readable or entries.keys() - _parts(model):
        raise ValueError(
            f"frozen_parts in config.json is {entries!r}, expected source and fingerprint of one or more of: "
            f"{', '.join(_parts(model))}"
        )
    return entries


def _read(
    model: PreTrainedModel, name: str, source: str, names: list[str], download_options: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """The tensors `names` of a sub-model from its source, or one `ValueError` whatever keeps them away."""
    try:
        location = find_part(source)
        if location is None:
            location = source
            if not Path(source).is_absolute():
                validate_repo_id(source)  # no path to a place that depends on where the program was started
        found = model.read_frozen_part(name, str(location), **download_options)
        if missing := [key for key in names if key not in found]:
            raise ValueError(f"it has no {missing[0]}" + f" and {len(missing) - 1} more" * (len(missing) > 1))
    except HFValidationError:
        reason = "that is no name of an embedded part, no whole path of a folder and no hub id"
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
    else:
        return {key: found[key] for key in names}
    raise ValueError(
        f"{name} is not in the checkpoint and cannot be read from {source!r}: {reason}. If the same weights are "
        f'elsewhere, name that place as "source" of {name} under "frozen_parts" in config.json.'
    )


def _fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over name, number format, shape and numbers of every tensor, of large ones some from all over it.

    Weights of another training differ everywhere, and to go through all numbers of a CLIP takes seconds at each load.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach()
        sample = value.flatten()[:: max(1, value.numel() // _NUMBERS_OF_TENSOR)].cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(sample.view(torch.uint8).numpy())
    return digest.hexdigest()


@contextmanager
def _silence() -> Iterator[None]:
    """Without the report of transformers on weights that only other classes than the sub-model use, and its bar."""
    level, has_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bar:
            logging.enable_progress_bar()
