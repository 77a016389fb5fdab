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
import itertools
import math

import pytest
import torch
from torch import nn

from hf_rvos.layers.attention import MultiHeadAttention
from hf_rvos.layers.box_decoder import BoxRefiningDecoder
from hf_rvos.layers.deformable_attention import DeformableAttention
from hf_rvos.layers.deformable_transformer import FeedForward
from hf_rvos.layers.initialization import init_shared_layer
from hf_rvos.layers.mlp import MLP
from hf_rvos.layers.projections import LevelProjection, TextProjection


@torch.no_grad()
def initialised(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.fill_(9.0)
    init_shared_layer(module)
    return module


def assert_xavier(layer: nn.Linear | nn.Conv2d):
    """Xavier's uniform distribution for the weight, and no bias."""
    weight = layer.weight
    bound = math.sqrt(6 / (weight[0].numel() + weight.shape[0] * weight[0, 0].numel()))
    assert 0.95 * bound < weight.abs().max().item() <= bound
    assert not layer.bias.any()


@pytest.mark.parametrize(
    "module",
    [MultiHeadAttention(32, 4), FeedForward(32, 48, 0.0), MLP(32, 48, 24, 3)],
    ids=lambda module: type(module).__name__,
)
def test_linear_maps_of_a_block_start_uniform(module):
    linear = [layer for layer in initialised(module).modules() if isinstance(layer, nn.Linear)]
    assert len(linear) > 1
    for layer in linear:
        assert_xavier(layer)


def test_heads_of_deformable_attention_look_around_a_circle_at_growing_distance():
    attention = initialised(DeformableAttention(64, num_heads=8, num_levels=2, num_points=3))
    assert not attention.sampling_offsets.weight.any()
    ring = attention.sampling_offsets.bias.view(8, 2, 3, 2)
    corner = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    for head, level, point in itertools.product(range(8), range(2), range(3)):
        expected = [(point + 1) * coordinate for coordinate in corner[head]]
        assert ring[head, level, point].tolist() == pytest.approx(expected, abs=1e-5)


def test_points_of_deformable_attention_start_with_equal_weight():
    attention = initialised(DeformableAttention(64, num_heads=8, num_levels=2, num_points=3))
    assert not attention.attention_weights.weight.any()
    assert not attention.attention_weights.bias.any()
    assert_xavier(attention.value_proj)
    assert_xavier(attention.output_proj)


def test_first_boxes_are_small_and_later_layers_keep_them():
    decoder = initialised(BoxRefiningDecoder(64, 100, 3, 4, num_levels=2, num_points=2, feedforward_size=8, dropout=0))
    for index, head in enumerate(decoder.box_heads):
        assert not head.layers[-1].weight.any()
        assert head.layers[-1].bias.tolist() == ([0, 0, -2, -2] if index == 0 else [0, 0, 0, 0])


def test_queries_differ_and_their_points_are_spread():
    decoder = initialised(BoxRefiningDecoder(64, 100, 1, 4, num_levels=2, num_points=2, feedforward_size=8, dropout=0))
    assert decoder.query_positions.mean().item() == pytest.approx(0, abs=0.05)
    assert decoder.query_positions.std().item() == pytest.approx(1, abs=0.05)
    assert_xavier(decoder.reference_points)


def test_convolution_of_a_level_starts_uniform():
    assert_xavier(initialised(LevelProjection(16, 32, kernel_size=3, stride=2)).conv)


@pytest.mark.parametrize("module", [nn.Linear(4, 4), TextProjection(4, 4, 0.0)], ids=["linear", "text"])
def test_others_are_left_as_they_are(module):
    assert all((parameter == 9.0).all() for parameter in initialised(module).parameters())
