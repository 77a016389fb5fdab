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
"""What comes piece by piece: the next one made in the background, those that are needed again put aside."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch


Item = TypeVar("Item")

DEVICE_LIMIT = 2**30  # bytes of a spool that stay on an accelerator
MEMORY_LIMIT = 2 * 2**30  # bytes of a spool that stay in memory
_END = object()


def read_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, each made in the background while the one before it is used."""
    with ThreadPoolExecutor(1) as reader:
        iterator = iter(items)
        upcoming = reader.submit(next, iterator, _END)
        while (item := upcoming.result()) is not _END:
            upcoming = reader.submit(next, iterator, _END)
            yield item


class Spool:
    """Tensors that are put aside until they are needed, in memory up to a limit and in a temporary folder after it.

    Those of an accelerator stay there up to a limit, too, before they come into memory: a copy back and forth takes
    about as long as making them.

    Args:
        memory_limit: Bytes that stay in memory; `MEMORY_LIMIT` if None.

    Example:
        >>> with Spool() as spool:
        ...     spool.append(maps=torch.zeros(2, 3), mask=None)
        ...     print(spool[0]["maps"].shape)
        torch.Size([2, 3])
    """

    def __init__(self, memory_limit: int | None = None):
        self._left_on_device = DEVICE_LIMIT
        self._left = MEMORY_LIMIT if memory_limit is None else memory_limit
        self._items: list[dict[str, torch.Tensor | None] | Path] = []
        self._folder: TemporaryDirectory | None = None

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *error: object) -> None:
        self._items.clear()
        if self._folder is not None:
            self._folder.cleanup()

    def __len__(self) -> int:
        return len(self._items)

    def append(self, **tensors: torch.Tensor | None) -> None:
        """Put tensors aside; where they were, their memory is free when nothing else holds them."""
        present = [tensor for tensor in tensors.values() if tensor is not None]
        size = sum(tensor.nbytes for tensor in present)
        if size <= self._left_on_device and any(tensor.device.type != "cpu" for tensor in present):
            self._left_on_device -= size
            self._items.append(tensors)
            return
        item = {name: tensor if tensor is None else tensor.cpu().contiguous() for name, tensor in tensors.items()}
        if size <= self._left:
            self._left -= size
            self._items.append(item)
            return
        self._left = 0  # what comes later goes to files, too, also where it would fit
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="hf_rvos_")
        path = Path(self._folder.name) / f"{len(self._items)}.pt"
        torch.save(item, path)
        self._items.append(path)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor | None]:
        """The tensors that were put aside as number `number`, where they are now: on their device or the CPU."""
        item = self._items[number]
        return torch.load(item, weights_only=True) if isinstance(item, Path) else item
