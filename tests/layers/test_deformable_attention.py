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
import types

import pytest
import torch
from torch import nn

from hf_rvos.layers import deformable_attention
from hf_rvos.layers.deformable_attention import (
    IM2COL_STEP,
    DeformableAttention,
    MultiScaleDeformableAttention,
    sample_maps,
    spatial_layout,
)


SHAPES = [(5, 7), (3, 4), (2, 2), (1, 1)]
NUM_TOKENS = sum(height * width for height, width in SHAPES)


def naive_sampling(value, shapes, locations, weights):
    """Bilinear samples one by one: pixel centres at half units, zero outside."""
    batch_size, _, num_heads, head_size = value.shape
    num_queries, num_points = locations.shape[1], locations.shape[4]
    output = value.new_zeros(batch_size, num_queries, num_heads, head_size)
    start = 0
    for level, (height, width) in enumerate(shapes):
        maps = value[:, start : start + height * width].unflatten(1, (height, width))
        start += height * width
        for batch, query, head, point in torch.cartesian_prod(
            *(torch.arange(size) for size in (batch_size, num_queries, num_heads, num_points))
        ).tolist():
            x, y = locations[batch, query, head, level, point].tolist()
            x, y = x * width - 0.5, y * height - 0.5
            for row in (math.floor(y), math.floor(y) + 1):
                for column in (math.floor(x), math.floor(x) + 1):
                    if 0 <= row < height and 0 <= column < width:
                        share = (1 - abs(y - row)) * (1 - abs(x - column))
                        weight = weights[batch, query, head, level, point] * share
                        output[batch, query, head] += weight * maps[batch, row, column, head]
    return output.flatten(2)


def sampling_inputs(num_queries=6, num_heads=2, num_points=3, head_size=4, dtype=torch.float64):
    torch.manual_seed(0)
    value = torch.randn(2, NUM_TOKENS, num_heads, head_size, dtype=dtype)
    # From far outside to far outside: some samples fall between the edge and the first pixel centre.
    locations = torch.rand(2, num_queries, num_heads, len(SHAPES), num_points, 2, dtype=dtype) * 1.6 - 0.3
    weights = torch.randn(2, num_queries, num_heads, len(SHAPES) * num_points, dtype=dtype)
    return value, locations, weights.softmax(-1).unflatten(-1, (len(SHAPES), num_points))


def sample(value, locations, weights, shapes=SHAPES):
    layout = spatial_layout(tuple(shapes), value.device)
    return MultiScaleDeformableAttention()(
        value, layout.shapes, shapes, layout.starts, locations, weights, IM2COL_STEP
    )


def tiny_attention(**overrides) -> DeformableAttention:
    torch.manual_seed(0)
    attention = DeformableAttention(
        **{"hidden_size": 16, "num_heads": 2, "num_levels": 4, "num_points": 3} | overrides
    )
    nn.init.uniform_(attention.sampling_offsets.bias, -2, 2)
    return attention


def attention_inputs(batch_size=2, num_queries=5, box=False):
    torch.manual_seed(1)
    return {
        "query": torch.randn(batch_size, num_queries, 16),
        "memory": torch.randn(batch_size, NUM_TOKENS, 16),
        "reference_points": torch.rand(batch_size, num_queries, len(SHAPES), 4 if box else 2),
        "spatial_shapes": SHAPES,
    }


def test_layout_holds_what_the_cuda_kernel_reads():
    layout = spatial_layout(tuple(SHAPES), torch.device("cpu"))
    assert layout.shapes.tolist() == [list(shape) for shape in SHAPES]
    assert layout.starts.tolist() == [0, 35, 47, 51]
    assert layout.extents.tolist() == [[width, height] for height, width in SHAPES]
    assert layout.shapes.dtype == layout.starts.dtype == torch.int64


def test_sampling_equals_bilinear_interpolation_one_by_one():
    value, locations, weights = sampling_inputs()
    expected = naive_sampling(value, SHAPES, locations, weights)
    torch.testing.assert_close(sample(value, locations, weights), expected)


def test_a_level_of_one_pixel_gives_a_tent():
    value = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    positions = torch.tensor([-0.6, -0.5, 0.0, 0.5, 0.75, 1.5], dtype=torch.float64)
    locations = torch.stack((positions, torch.full_like(positions, 0.5)), -1).view(1, 6, 1, 1, 1, 2)
    found = sample(value, locations, torch.ones(1, 6, 1, 1, 1, dtype=torch.float64), shapes=[(1, 1)])
    assert found.flatten().tolist() == pytest.approx([0, 0, 0.5, 1, 0.75, 0], abs=1e-12)


def test_bfloat16_values_give_nearly_the_result_of_float32():
    value, locations, weights = sampling_inputs(num_queries=40, dtype=torch.float32)
    expected = sample(value, locations, weights)
    found = sample(value.bfloat16(), locations, weights)
    assert found.dtype == torch.bfloat16
    # Only the values are rounded, to 8 bits.
    torch.testing.assert_close(found.float(), expected, atol=2**-8 * value.abs().max().item(), rtol=2**-8)


@pytest.mark.parametrize("box", [False, True], ids=["points", "boxes"])
def test_locations_are_references_plus_scaled_offsets(box):
    attention, inputs = tiny_attention(), attention_inputs(box=box)
    seen = []
    attention.attn.register_forward_pre_hook(lambda module, args: seen.extend(args))
    attention(**inputs)
    locations, weights = seen[4:6]
    query, references = inputs["query"], inputs["reference_points"]
    offsets = attention.sampling_offsets(query).view(2, 5, 2, 4, 3, 2)
    for level, (height, width) in enumerate(SHAPES):
        centre, offset = references[:, :, None, level, None, :2], offsets[:, :, :, level]
        if box:
            expected = centre + offset / 3 * references[:, :, None, level, None, 2:] * 0.5
        else:
            expected = centre + offset / torch.tensor([width, height])
        torch.testing.assert_close(locations[:, :, :, level], expected)
    expected = attention.attention_weights(query).view(2, 5, 2, 12).softmax(-1)
    torch.testing.assert_close(weights.flatten(3), expected)


def test_one_reference_serves_all_frames_and_levels():
    attention, inputs = tiny_attention(), attention_inputs()
    shared = inputs["reference_points"][:1, :, :1]
    expected = attention(**inputs | {"reference_points": shared.expand(2, -1, 4, -1)})
    torch.testing.assert_close(attention(**inputs | {"reference_points": shared}), expected)


def test_masked_tokens_have_value_zero():
    attention, inputs = tiny_attention(), attention_inputs()
    mask = torch.rand(2, NUM_TOKENS) > 0.4
    seen = []
    attention.attn.register_forward_pre_hook(lambda module, args: seen.append(args[0].flatten(2)))
    found = attention(**inputs, memory_mask=mask)
    assert (seen[0][~mask] == 0).all()
    assert torch.equal(seen[0][mask], attention.value_proj(inputs["memory"])[mask])
    inputs["memory"] = inputs["memory"].masked_fill(~mask[..., None], 1e4)
    torch.testing.assert_close(attention(**inputs, memory_mask=mask), found)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("device_op", [False, True], ids=["cpu", "any device"])
def test_few_queries_that_sample_first_get_the_same(masked, device_op, monkeypatch):
    torch.manual_seed(0)
    module = DeformableAttention(16, 4, len(SHAPES), 3).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    query, memory = torch.randn(2, 3, 16).double(), torch.randn(2, NUM_TOKENS, 16).double()
    # Boxes that reach beyond the map, where a sample has no bias.
    references = torch.rand(2, 3, 1, 4).double()
    mask = torch.rand(2, NUM_TOKENS) > 0.3 if masked else None
    if device_op:
        monkeypatch.setattr(deformable_attention, "DeformableSampling", types.SimpleNamespace(apply=sample_maps))
    calls = []
    module.value_proj.register_forward_hook(lambda *args: calls.append(args))
    expected = module(query, memory, references, SHAPES, mask)
    with torch.no_grad():
        found = module(query, memory, references, SHAPES, mask)
    assert len(calls) == 1
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("box", [False, True], ids=["points", "boxes"])
@torch.no_grad()
def test_bfloat16_module_stays_near_float32(box):
    attention, inputs = tiny_attention(), attention_inputs(num_queries=40, box=box)
    expected = attention(**inputs)
    half = {name: inputs[name].bfloat16() for name in ("query", "memory")}
    found = attention.bfloat16()(**inputs | half)
    assert found.dtype == torch.bfloat16
    # Offsets of at most 2.5 cells are rounded to 1/128 of a cell, values to 8 bits.
    assert (found.float() - expected).abs().mean() < 0.02 * expected.abs().mean()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("setting", ["float32", "bfloat16", "autocast"])
def test_the_kernel_gets_contiguous_inputs_of_one_dtype(setting, training):
    attention, inputs = tiny_attention(), attention_inputs(box=True)
    if setting == "bfloat16":
        attention.bfloat16()
        inputs |= {name: inputs[name].bfloat16() for name in ("query", "memory")}
    seen = []
    attention.attn.register_forward_pre_hook(lambda module, args: seen.append(args))
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=setting == "autocast")
    with torch.set_grad_enabled(training), autocast:
        attention(**inputs, memory_mask=torch.ones(2, NUM_TOKENS, dtype=torch.bool))
    assert len(seen) == (1 if training else 2)  # without gradients few queries sample first
    for value, shapes, _, starts, locations, weights, step in seen:
        assert {tensor.dtype for tensor in (value, locations, weights)} == {torch.float32}
        assert all(tensor.is_contiguous() for tensor in (value, shapes, starts, locations, weights))
        assert len(value) % min(len(value), step) == 0


def test_gradients_of_the_sampling_are_right():
    value, locations, weights = sampling_inputs(num_queries=2, num_heads=1, num_points=2, head_size=2)
    inputs = [tensor.requires_grad_() for tensor in (value, locations, weights)]
    assert torch.autograd.gradcheck(sample, inputs, fast_mode=True)


def test_sizes_that_do_not_divide_are_named():
    with pytest.raises(ValueError, match=r"hidden_size \(10\) must be divisible by num_heads \(4\)"):
        DeformableAttention(10, 4, 4, 4)
