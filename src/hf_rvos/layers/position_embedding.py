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

"""Sine position codes of words and pixels, as functions of masks.

The order of the float32 operations (subtract, divide, multiply) is part of the contract: in columns and rows that are
all padding the arguments of the sines are huge, and released weights react to the values that come out.
"""

import math

import torch

from hf_rvos.layers.remembered import remembered


TEMPERATURE = 10000.0
EPSILON = 1e-6


def sine_code(angles: torch.Tensor, num_channels: int) -> torch.Tensor:
    """`(...)` angles to `(..., num_channels)`: sines in even channels, cosines in odd ones."""
    channels = torch.arange(num_channels, dtype=torch.float32, device=angles.device)
    frequencies = TEMPERATURE ** (2 * torch.div(channels, 2, rounding_mode="floor") / num_channels)
    arguments = angles[..., None] / frequencies
    return torch.stack((arguments[..., 0::2].sin(), arguments[..., 1::2].cos()), dim=-1).flatten(-2)


def word_position_embedding(attention_mask: torch.Tensor, num_channels: int) -> torch.Tensor:
    """Position code of the tokens of an expression.

    Args:
        attention_mask: `(num_expressions, num_words)`, True (or 1) at real words.
        num_channels: Width of the code, even.

    Returns:
        `(num_expressions, num_words, num_channels)` float32. The count starts at 1 and is divided by the number of
        real words, so a code depends on the length of its expression but not on the padding.
    """
    count = attention_mask.cumsum(1, dtype=torch.float32)
    return sine_code(count / (count[:, -1:] + EPSILON) * (2 * math.pi), num_channels)


def pixel_position_embedding(pixel_mask: torch.Tensor, num_channels: int) -> torch.Tensor:
    """Position code of the cells of feature maps: first half of the channels for rows, second half for columns.

    Args:
        pixel_mask: `(num_maps, height, width)`, True at real cells.
        num_channels: Width of the code, divisible by 4.

    Returns:
        `(num_maps, height, width, num_channels)` float32.
    """
    mask = pixel_mask.float()
    rows, columns = mask.cumsum(1), mask.cumsum(2)
    rows = (rows - 0.5) / (rows[:, -1:, :] + EPSILON) * (2 * math.pi)
    columns = (columns - 0.5) / (columns[:, :, -1:] + EPSILON) * (2 * math.pi)
    return torch.cat((sine_code(rows, num_channels // 2), sine_code(columns, num_channels // 2)), dim=-1)


@remembered
def unpadded_pixel_position_embedding(
    height: int, width: int, num_channels: int, device: torch.device
) -> torch.Tensor:
    """The code of one map without padding, `(1, height, width, num_channels)`, kept for the next clip of this size."""
    mask = torch.ones(1, height, width, dtype=torch.bool, device=device)
    return pixel_position_embedding(mask, num_channels)
