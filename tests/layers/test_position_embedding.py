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
import math

import pytest
import torch

from hf_rvos.layers.position_embedding import (
    pixel_position_embedding,
    unpadded_pixel_position_embedding,
    word_position_embedding,
)


def sine(angle: float, channel: int, num_channels: int) -> float:
    argument = angle / 10000 ** (2 * (channel // 2) / num_channels)
    return math.cos(argument) if channel % 2 else math.sin(argument)


def padded_mask(num_maps: int, height: int, width: int, real_height: int, real_width: int) -> torch.Tensor:
    mask = torch.zeros(num_maps, height, width, dtype=torch.bool)
    mask[:, :real_height, :real_width] = True
    return mask


def test_word_codes_follow_the_formula():
    code = word_position_embedding(torch.tensor([[1, 1, 1, 0]]), 8)
    for word, count in enumerate((1, 2, 3, 3)):
        expected = [sine(count / (3 + 1e-6) * 2 * math.pi, channel, 8) for channel in range(8)]
        assert code[0, word].tolist() == pytest.approx(expected, abs=1e-6)


def test_word_codes_do_not_depend_on_padding():
    short = word_position_embedding(torch.ones(1, 3, dtype=torch.long), 8)
    padded = word_position_embedding(torch.tensor([[1, 1, 1, 0, 0]]), 8)
    assert torch.equal(padded[:, :3], short)


def test_pixel_codes_have_rows_first_and_follow_the_formula():
    code = pixel_position_embedding(padded_mask(1, 5, 7, 4, 6), 16)
    for row, column in [(0, 0), (3, 5), (1, 4)]:
        angles = ((row + 0.5) / (4 + 1e-6) * 2 * math.pi, (column + 0.5) / (6 + 1e-6) * 2 * math.pi)
        expected = [sine(angle, channel, 8) for angle in angles for channel in range(8)]
        assert code[0, row, column].tolist() == pytest.approx(expected, abs=1e-5)


def test_pixel_codes_in_padding_are_sines_of_the_huge_float32_argument():
    code = pixel_position_embedding(padded_mask(1, 4, 6, 4, 3), 16)
    # A padded column has no real pixel: (0 - 0.5) / 1e-6 * 2 pi, each step rounded to float32.
    argument = torch.tensor(-0.5) / torch.tensor(1e-6) * torch.tensor(2 * math.pi)
    assert argument.item() == pytest.approx(-math.pi * 1e6, rel=1e-6)
    frequencies = 10000.0 ** (2 * torch.arange(4, dtype=torch.float32) / 8)
    expected = torch.stack(((argument / frequencies).sin(), (argument / frequencies).cos()), -1).flatten()
    torch.testing.assert_close(code[0, 2, 5, :8], expected, atol=1e-6, rtol=0)


def test_pixel_codes_of_real_cells_do_not_depend_on_padding():
    alone = pixel_position_embedding(padded_mask(1, 4, 6, 4, 6), 16)
    padded = pixel_position_embedding(padded_mask(1, 7, 8, 4, 6), 16)
    assert torch.equal(padded[:, :4, :6], alone)


def test_each_map_has_the_code_of_its_own_mask():
    masks = torch.cat((padded_mask(1, 5, 7, 5, 7), padded_mask(1, 5, 7, 3, 4)))
    together = pixel_position_embedding(masks, 16)
    alone = torch.cat([pixel_position_embedding(mask[None], 16) for mask in masks])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float32, torch.bfloat16])
def test_codes_are_float32_for_masks_of_any_dtype(dtype):
    mask = padded_mask(1, 40, 300, 40, 290)
    words = torch.ones(1, 300, dtype=dtype)
    assert torch.equal(pixel_position_embedding(mask.to(dtype), 8), pixel_position_embedding(mask, 8))
    assert torch.equal(word_position_embedding(words, 8), word_position_embedding(words.bool(), 8))
    assert word_position_embedding(words, 8).dtype == torch.float32


def test_code_without_padding_is_the_code_of_a_mask_of_ones():
    device = torch.device("cpu")
    remembered = unpadded_pixel_position_embedding(5, 7, 16, device)
    assert torch.equal(remembered, pixel_position_embedding(torch.ones(1, 5, 7), 16))
    assert unpadded_pixel_position_embedding(5, 7, 16, device) is remembered


def test_code_made_in_inference_mode_serves_training():
    with torch.inference_mode():
        unpadded_pixel_position_embedding(3, 11, 8, torch.device("cpu"))
    code = unpadded_pixel_position_embedding(3, 11, 8, torch.device("cpu"))
    scale = torch.ones(8, requires_grad=True)
    (code * scale).sum().backward()
    assert scale.grad.isfinite().all()
