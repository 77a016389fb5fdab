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
import torch

from hf_rvos.layers.box_decoder import BoxRefiningDecoder


SHAPES = [(4, 6), (2, 3)]


def decoder() -> BoxRefiningDecoder:
    torch.manual_seed(0)
    module = BoxRefiningDecoder(16, 3, 2, 2, num_levels=2, num_points=2, feedforward_size=8, dropout=0.0)
    torch.nn.init.normal_(module.query_positions)
    return module


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 16, generator=generator), torch.randn(2, 30, 16, generator=generator)


def test_boxes_refine_those_of_the_layer_before():
    module, (queries, memory) = decoder(), inputs()
    hidden_states, boxes, initial = module(queries, memory, SHAPES, None, None)
    assert initial.shape == (1, 3, 2)
    torch.testing.assert_close(boxes[0], module.refine(0, hidden_states[0], initial.expand(2, -1, -1)))
    torch.testing.assert_close(boxes[1], module.refine(1, hidden_states[1], boxes[0]))


def test_head_that_says_nothing_keeps_the_box_and_makes_a_point_a_box_of_half_the_frame():
    module, (queries, _) = decoder(), inputs()
    for parameter in module.box_heads.parameters():
        torch.nn.init.zeros_(parameter)
    box = torch.tensor([0.3, 0.6, 0.2, 0.1]).expand(2, 3, 4)
    torch.testing.assert_close(module.refine(0, queries, box), box)
    expected = torch.tensor([0.3, 0.6, 0.5, 0.5]).expand(2, 3, 4)
    torch.testing.assert_close(module.refine(0, queries, box[..., :2]), expected)


def test_references_pass_no_gradient_from_layer_to_layer():
    module, (queries, memory) = decoder(), inputs()
    _, boxes, _ = module(queries, memory, SHAPES, None, None)
    boxes[1].sum().backward()
    assert all(parameter.grad is None for parameter in module.box_heads[0].parameters())


def test_ratios_of_one_are_no_padding():
    module, (queries, memory) = decoder(), inputs()
    expected = module(queries, memory, SHAPES, None, None)
    found = module(queries, memory, SHAPES, torch.ones(2, 30, dtype=torch.bool), torch.ones(2, 2, 2))
    torch.testing.assert_close(found[1][-1], expected[1][-1])
    other = module(queries, memory, SHAPES, None, torch.full((2, 2, 2), 0.5))
    assert not torch.allclose(other[1][-1], expected[1][-1])
