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
import pytest
import torch

from hf_rvos.layers import deformable_transformer
from hf_rvos.layers.deformable_transformer import (
    DeformableDecoderLayer,
    DeformableEncoderLayer,
    FeedForward,
    encoder_reference_points,
    inverse_sigmoid,
)


SHAPES = [(4, 6), (2, 3), (1, 2), (1, 1)]
NUM_TOKENS = sum(height * width for height, width in SHAPES)
SIZES = {"hidden_size": 16, "num_heads": 2, "num_levels": 4, "num_points": 2, "feedforward_size": 8, "dropout": 0.0}
CPU = torch.device("cpu")


def test_inverse_sigmoid_undoes_the_sigmoid():
    logits = torch.linspace(-8, 8, 33)
    torch.testing.assert_close(inverse_sigmoid(logits.sigmoid()), logits, atol=1e-3, rtol=0)


def test_inverse_sigmoid_keeps_each_side_at_least_epsilon():
    found = inverse_sigmoid(torch.tensor([-1.0, 0.0, 1.0, 2.0]))
    limit = torch.log(torch.tensor(1e-5))
    torch.testing.assert_close(found, torch.stack((limit, limit, -limit, -limit)))


def test_encoder_references_follow_the_formula_with_padding():
    torch.manual_seed(0)
    ratios = torch.rand(2, 4, 2) * 0.5 + 0.5
    references = encoder_reference_points(SHAPES, ratios, CPU)
    assert references.shape == (2, NUM_TOKENS, 4, 2)
    token = 0
    for own, (height, width) in enumerate(SHAPES):
        for row in range(height):
            for column in range(width):
                for level in range(4):
                    x = (column + 0.5) / (ratios[:, own, 0] * width) * ratios[:, level, 0]
                    y = (row + 0.5) / (ratios[:, own, 1] * height) * ratios[:, level, 1]
                    torch.testing.assert_close(references[:, token, level], torch.stack((x, y), -1))
                token += 1


def test_encoder_references_without_padding_are_those_of_ratios_of_one():
    expected = encoder_reference_points(SHAPES, torch.ones(2, 4, 2), CPU)
    found = encoder_reference_points(SHAPES, None, CPU)
    assert torch.equal(found.expand_as(expected), expected)


def test_feed_forward_adds_to_its_input_and_normalises():
    torch.manual_seed(0)
    block, tokens = FeedForward(6, 10, 0.0), torch.randn(2, 3, 6)
    inner = (tokens @ block.fc1.weight.T + block.fc1.bias).clamp(min=0)
    expected = block.norm(tokens + inner @ block.fc2.weight.T + block.fc2.bias)
    torch.testing.assert_close(block(tokens), expected)


@pytest.mark.parametrize("num_rows", [1, 4, 6, 100])
def test_feed_forward_in_pieces_gives_the_same_as_all_rows_at_once(monkeypatch, num_rows):
    torch.manual_seed(0)
    block, tokens, pieces = FeedForward(6, 10, 0.0), torch.randn(2, 3, 6), []
    expected = block(tokens)  # gradients are wanted here, so all rows go at once
    monkeypatch.setattr(deformable_transformer, "ROWS_IN_CACHE", num_rows)
    block.fc1.register_forward_hook(lambda module, args, output: pieces.append(len(args[0])))
    with torch.no_grad():
        torch.testing.assert_close(block(tokens), expected)
    assert sum(pieces) == 6 and max(pieces) == min(num_rows, 6)


def encoder_layer_inputs():
    return torch.randn(2, NUM_TOKENS, 16), torch.randn(1, NUM_TOKENS, 16), encoder_reference_points(SHAPES, None, CPU)


def test_encoder_layer_normalises_after_each_step_and_has_positions_on_queries_only():
    torch.manual_seed(0)
    layer = DeformableEncoderLayer(**SIZES)
    tokens, positions, references = encoder_layer_inputs()
    attended = layer.self_attn(tokens + positions, tokens, references, SHAPES, None)
    expected = layer.feed_forward(layer.self_attn_norm(tokens + attended))
    torch.testing.assert_close(layer(tokens, positions, references, SHAPES, None), expected)


def test_decoder_layer_attends_to_queries_then_to_pixels():
    torch.manual_seed(0)
    layer = DeformableDecoderLayer(**SIZES)
    queries, positions, memory = torch.randn(2, 3, 16), torch.randn(1, 3, 16), torch.randn(2, NUM_TOKENS, 16)
    references, mask = torch.rand(2, 3, 4, 4), torch.rand(2, NUM_TOKENS) > 0.3
    positioned = queries + positions
    expected = layer.self_attn_norm(queries + layer.self_attn(positioned, positioned, queries))
    attended = layer.cross_attn(expected + positions, memory, references, SHAPES, mask)
    expected = layer.feed_forward(layer.cross_attn_norm(expected + attended))
    torch.testing.assert_close(layer(queries, positions, memory, references, SHAPES, mask), expected)


@pytest.mark.parametrize("layer_class", [DeformableEncoderLayer, DeformableDecoderLayer])
def test_dropout_acts_in_training_only(layer_class):
    torch.manual_seed(0)
    layer = layer_class(**SIZES | {"dropout": 0.5})
    tokens, positions, references = encoder_layer_inputs()
    inputs = [tokens, positions, references, SHAPES, None]
    if layer_class is DeformableDecoderLayer:
        inputs.insert(2, torch.randn(2, NUM_TOKENS, 16))
    assert not torch.equal(layer(*inputs), layer(*inputs))
    layer.eval()
    assert torch.equal(layer(*inputs), layer(*inputs))
