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
"""Deterministic tensors that stand in for official checkpoints.

A parity fixture ships the name, shape and kind of every tensor of an official state dict (`*.keys.json`), not the
values. The values come from a counter-based generator keyed by `(seed, name)`, so every machine fills the same
checkpoint and can compare its outputs with the recorded ones.
"""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch


STANDARD_DEVIATIONS = {"embedding": 0.5, "bias": 0.1, "mean": 0.1, "offset": 1.5, "free": 0.5}


def normal(name: str, shape: tuple[int, ...], seed: int, scale: float = 1.0) -> np.ndarray:
    """float32 samples of N(0, scale²): a pure function of the arguments."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    return (generator.standard_normal(size=tuple(shape)) * scale).astype(np.float32)


def _fill(entry: dict, seed: int) -> np.ndarray | None:
    name, shape, kind = entry.get("tied_to", entry["name"]), tuple(entry["shape"]), entry["kind"]
    gain = entry.get("gain", 1.0)
    if kind == "const":
        return np.asarray(entry["value"], dtype=entry["dtype"]).reshape(shape) if "value" in entry else None
    if kind == "matrix":
        return normal(name, shape, seed, gain / math.sqrt(max(1, math.prod(shape[1:]))))
    if kind == "norm":
        return 1.0 + normal(name, shape, seed, 0.1 * gain)
    if kind == "var":
        return 1.0 + np.abs(normal(name, shape, seed, 0.1 * gain))
    return normal(name, shape, seed, STANDARD_DEVIATIONS[kind] * gain)


def official_state_dict(keys_file: str | Path, seed: int) -> dict[str, torch.Tensor]:
    """The state dict that an official checkpoint holds under `"model"`.

    Entries that the official layers compute for themselves (index buffers without a stored value) are left out.
    """
    entries = json.loads(Path(keys_file).read_text())
    values = {entry["name"]: _fill(entry, seed) for entry in entries}
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in values.items() if value is not None}
