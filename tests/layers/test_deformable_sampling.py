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

"""Tests of the sampling step on CPU against grid_sample and finite differences."""

import pytest
import torch

from hf_rvos.layers import deformable_sampling
from hf_rvos.layers.deformable_attention import MultiScaleDeformableAttention, sample_maps
from hf_rvos.layers.deformable_sampling import DeformableSampling


SHAPES = [(5, 7), (3, 4), (2, 1), (1, 1)]


def random_inputs(dtype=torch.float64, frames=3, queries=6, heads=2, head_size=4, points=3, shapes=SHAPES):
    generator = torch.Generator().manual_seed(0)
    num_tokens = sum(height * width for height, width in shapes)
    value = torch.randn(frames, num_tokens, heads, head_size, generator=generator, dtype=dtype)
    # Inside, across the border and far outside of the maps.
    locations = torch.rand(frames, queries, heads, len(SHAPES), points, 2, generator=generator, dtype=dtype) * 2 - 0.5
    weights = torch.rand(frames, queries, heads, len(SHAPES), points, generator=generator, dtype=dtype)
    return value, locations, weights


def values_and_gradients(function, value, locations, weights, shapes=SHAPES):
    inputs = [x.clone().requires_grad_() for x in (value, locations, weights)]
    output = function(inputs[0], shapes, *inputs[1:])
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [output.detach(), *torch.autograd.grad(output, inputs, upstream.to(output.dtype))]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("queries", [1, 6])
def test_agrees_with_grid_sample_in_values_and_gradients(dtype, tolerance, queries):
    inputs = random_inputs(dtype, queries=queries)
    expected = values_and_gradients(sample_maps, *inputs)
    for result, wanted in zip(values_and_gradients(DeformableSampling.apply, *inputs), expected):
        torch.testing.assert_close(result, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("chunk_locations, dense_entries", [(1, 1), (150, 60), (150, 300)])
def test_the_size_of_chunks_and_blocks_changes_nothing(monkeypatch, chunk_locations, dense_entries):
    inputs = random_inputs()
    expected = values_and_gradients(DeformableSampling.apply, *inputs)
    monkeypatch.setattr(deformable_sampling, "CHUNK_LOCATIONS", chunk_locations)
    monkeypatch.setattr(deformable_sampling, "DENSE_ENTRIES", dense_entries)
    for result, wanted in zip(values_and_gradients(DeformableSampling.apply, *inputs), expected):
        torch.testing.assert_close(result, wanted)


def test_gradients_at_cell_centers_are_those_of_grid_sample():
    # A fresh model looks exactly at cell centers, where the bilinear weight has a kink. Powers of two are exact.
    shapes = [(4, 8), (2, 4), (2, 1), (1, 1)]
    value, locations, weights = random_inputs(queries=4, shapes=shapes)
    sizes = torch.tensor(shapes).flip(1)[:, None]
    inputs = (value, ((locations * sizes).floor() + 0.5) / sizes, weights, shapes)
    expected = values_and_gradients(sample_maps, *inputs)
    for result, wanted in zip(values_and_gradients(DeformableSampling.apply, *inputs), expected):
        torch.testing.assert_close(result, wanted)


def test_gradients_are_those_of_finite_differences():
    inputs = [x.requires_grad_() for x in random_inputs(frames=1, queries=2, head_size=2, points=1)]
    assert torch.autograd.gradcheck(lambda v, x, w: DeformableSampling.apply(v, SHAPES, x, w), inputs)


def test_strided_inputs_give_the_same():
    value, locations, weights = random_inputs(torch.float32)
    expected = values_and_gradients(DeformableSampling.apply, value, locations, weights)
    strided = value.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    result = DeformableSampling.apply(strided, SHAPES, locations, weights)
    torch.testing.assert_close(result, expected[0])


def test_half_precision_is_summed_in_float32():
    value, locations, weights = (x.bfloat16() for x in random_inputs(torch.float32))
    locations = locations.float()
    layer = MultiScaleDeformableAttention()
    result = layer(value, None, SHAPES, None, locations, weights, 1)
    exact = sample_maps(value.double(), SHAPES, locations.double(), weights.double())
    torch.testing.assert_close(result, exact.bfloat16(), rtol=2**-8, atol=1e-6)


def test_locations_that_are_not_finite_do_not_stop_the_program():
    value, locations, weights = random_inputs(torch.float32)
    locations[0, 0, 0, 0, 0, 0] = torch.nan
    locations[1, 0, 0, 0, 0, 0] = torch.inf
    output = DeformableSampling.apply(value, SHAPES, locations, weights)
    assert output[0, 0, :4].isnan().all()
    assert output[2].isfinite().all()


def test_an_exported_layer_uses_ordinary_operations():
    value, locations, weights = random_inputs(torch.float32)

    class Sampling(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attn = MultiScaleDeformableAttention()

        def forward(self, value, locations, weights):
            return self.attn(value, None, SHAPES, None, locations, weights, 1)

    module = Sampling()
    exported = torch.export.export(module, (value, locations, weights)).module()
    torch.testing.assert_close(exported(value, locations, weights), module(value, locations, weights))
