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
"""What a Moving Shapes video depends on: its configuration and one counter-based random stream."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


VERSION = "1.0.0"
SPLIT_SIZES = {"train": 8000, "val": 200, "test": 500}
SUBSETS = ("single", "all")


@dataclass(frozen=True)
class MovingShapesConfig:
    """What, besides split and index, decides the pixels and sentences of a video.

    Args:
        height (`int`, *optional*, defaults to 128):
            Canvas height in pixels; object sizes and speeds scale with the canvas.
        width (`int`, *optional*, defaults to 192):
            Canvas width in pixels.
        num_frames (`int`, *optional*, defaults to 16):
            Frames of a video, at least 8. The same motion is spread over all of them.
        fps (`int`, *optional*, defaults to 8):
            Frames per second, for players and files; no pixel depends on it.
        subset (`str`, *optional*, defaults to `"single"`):
            `"single"` for sentences with one referent, `"all"` to add those with several and with none.
        version (`str`, *optional*, defaults to `"1.0.0"`):
            Part of the random key; it changes whenever a pixel or a word would.
    """

    height: int = 128
    width: int = 192
    num_frames: int = 16
    fps: int = 8
    subset: str = "single"
    version: str = VERSION

    def __post_init__(self):
        if self.height < 64 or self.width < 64:
            raise ValueError(f"height and width are ({self.height}, {self.width}), expected at least 64 pixels each.")
        if self.num_frames < 8:
            raise ValueError(f"num_frames is {self.num_frames}, expected at least 8: motions need time to be seen.")
        if self.fps < 1:
            raise ValueError(f"fps is {self.fps}, expected at least 1.")
        if self.subset not in SUBSETS:
            raise ValueError(f"subset is {self.subset!r}, expected one of {SUBSETS}.")
        if self.version != VERSION:
            raise ValueError(f"version is {self.version!r}, but this release of the library draws {VERSION!r} only.")

    @property
    def unit(self) -> float:
        """Pixels of this canvas for one pixel of the default 128 x 192 canvas."""
        return min(self.height / 128, self.width / 192)


class RandomStream:
    """Random numbers that depend on the key alone, on every machine and with every version of NumPy.

    Only the raw output of the counter-based Philox generator is used, which NumPy keeps stable; the distributions of
    `numpy.random.Generator` may change between releases.

    Args:
        key: values that name the stream, for example version, split and index.
    """

    def __init__(self, *key: Any):
        digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
        self._bits = np.random.Philox(key=np.frombuffer(digest[:16], dtype="<u8").astype(np.uint64))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * ((self._bits.random_raw() >> 11) * 2.0**-53)

    def below(self, bound: int) -> int:
        return int(self._bits.random_raw() % bound)

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def choice(self, items: Sequence) -> Any:
        return items[self.below(len(items))]

    def weighted(self, weights: dict[Any, float]) -> Any:
        point = self.uniform(0.0, sum(weights.values()))
        for item, weight in weights.items():
            point -= weight
            if point < 0:
                return item
        return item

    def sample(self, items: Sequence, count: int) -> list:
        """`count` different entries of `items` in random order."""
        pool = list(items)
        for position in range(count):
            other = position + self.below(len(pool) - position)
            pool[position], pool[other] = pool[other], pool[position]
        return pool[:count]

    def integers(self, shape: tuple[int, ...], bound: int) -> np.ndarray:
        """Array of `shape` with values in [0, bound), bound at most 65536."""
        size = int(np.prod(shape))
        raw = self._bits.random_raw((size + 3) // 4).astype("<u8").view("<u2")[:size]
        return (raw.astype(np.int32) % bound).reshape(shape)
