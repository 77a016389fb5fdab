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
"""The frozen towers of SSA, read from a CLIP as OpenCLIP publishes it."""

from typing import Any

import torch
from safetensors import safe_open
from transformers.utils import cached_file

from hf_rvos.conversion import load_official_checkpoint
from hf_rvos.models.ssa.convert_ssa_to_hf import convert_state_dict


FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_OFFICIAL = "backbone.clip_model."  # where official checkpoints of SSA have the whole CLIP


def read_tower(name: str, source: str, **download_options: Any) -> dict[str, torch.Tensor] | None:
    """Read one tower.

    Args:
        name: `"backbone"` or `"text_encoder"`.
        source: Folder or hub id.
        download_options: Passed on to transformers.

    Returns:
        Its weights under our names, or None if there is no file of OpenCLIP.

    Raises:
        ValueError: if the file is damaged, or not a CLIP with a ConvNeXt.
    """
    optional = dict.fromkeys(("missing_entries", "gated_repo", "connection_errors"), False)
    download_options |= {f"_raise_exceptions_for_{reason}": value for reason, value in optional.items()}
    file = next(filter(None, (cached_file(source, entry, **download_options) for entry in FILES)), None)
    if file is None:
        return None

    def is_wanted(key: str) -> bool:
        return key.startswith("visual.") == (name == "backbone")

    if file.endswith(".safetensors"):
        with safe_open(file, "pt") as content:  # of the two towers only the one is read
            weights = {key: content.get_tensor(key) for key in filter(is_wanted, content.keys())}
    else:
        weights = load_official_checkpoint(file, "state_dict")[0]
    weights = {_OFFICIAL + key: value for key, value in weights.items() if is_wanted(key)}
    return {key.removeprefix(f"model.{name}."): value for key, value in convert_state_dict(weights).items()}
