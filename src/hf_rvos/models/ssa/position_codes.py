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

"""Position codes of SSA. All count from 1; they differ in whether the count is a share of the size."""

import math

import torch

from hf_rvos.layers.position_embedding import EPSILON, sine_code
from hf_rvos.layers.remembered import remembered


@remembered
def sequence_code(length: int, num_channels: int, device: torch.device) -> torch.Tensor:
    """Code `(length, num_channels)` of the places in a sequence: words of an expression, frames of a clip."""
    return sine_code(_count(length, device), num_channels)


@remembered
def pixel_code(
    shape: tuple[int, int], num_channels: int, device: torch.device, as_share: bool = False
) -> torch.Tensor:
    """Code of the pixels of a map, rows in the first half of the channels and columns in the second.

    Args:
        shape: `(height, width)` of the map.
        num_channels: Divisible by 4.
        device: Where the code is needed.
        as_share: Whether the counts are divided by height and width, and multiplied by 2 pi.

    Returns:
        `(height * width, num_channels)` float32.
    """
    rows, columns = (_count(size, device) for size in shape)
    if as_share:
        rows, columns = (count / (count[-1] + EPSILON) * (2 * math.pi) for count in (rows, columns))
    rows, columns = (sine_code(count, num_channels // 2) for count in (rows, columns))
    rows, columns = rows[:, None].expand(*shape, -1), columns[None].expand(*shape, -1)
    return torch.cat((rows, columns), dim=-1).flatten(0, 1)


def _count(size: int, device: torch.device) -> torch.Tensor:
    return torch.arange(1, size + 1, dtype=torch.float32, device=device)
