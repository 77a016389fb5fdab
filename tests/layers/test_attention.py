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
from torch import nn

from hf_rvos.layers.attention import MultiHeadAttention


def packed_twin(attention: MultiHeadAttention, num_heads: int) -> nn.MultiheadAttention:
    twin = nn.MultiheadAttention(attention.out_proj.in_features, num_heads, batch_first=True)
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    twin.in_proj_weight.data = torch.cat([projection.weight for projection in projections])
    twin.in_proj_bias.data = torch.cat([projection.bias for projection in projections])
    twin.out_proj.load_state_dict(attention.out_proj.state_dict())
    return twin


@pytest.mark.parametrize("masked", [False, True])
def test_equals_packed_attention_of_torch(masked):
    torch.manual_seed(0)
    attention = MultiHeadAttention(24, 3)
    for projection in attention.children():
        nn.init.normal_(projection.bias)
    query, key, value = torch.randn(2, 5, 24), torch.randn(2, 7, 24), torch.randn(2, 7, 24)
    key_mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3]) if masked else None
    expected, _ = packed_twin(attention, 3)(
        query, key, value, key_padding_mask=None if key_mask is None else ~key_mask, need_weights=False
    )
    torch.testing.assert_close(attention(query, key, value, key_mask), expected, atol=1e-6, rtol=1e-5)


def test_masked_keys_do_not_count():
    torch.manual_seed(0)
    attention = MultiHeadAttention(8, 2)
    query, key = torch.randn(1, 3, 8), torch.randn(1, 6, 8)
    key_mask = torch.tensor([[True, True, True, True, False, False]])
    expected = attention(query, key[:, :4], key[:, :4])
    torch.testing.assert_close(attention(query, key, key, key_mask), expected)


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    attention = MultiHeadAttention(8, 2, dropout=0.5)
    tokens = torch.randn(1, 6, 8)
    assert not torch.equal(attention(tokens, tokens, tokens), attention(tokens, tokens, tokens))
    attention.eval()
    assert torch.equal(attention(tokens, tokens, tokens), attention(tokens, tokens, tokens))


def test_sizes_that_do_not_divide_are_named():
    with pytest.raises(ValueError, match=r"hidden_size \(10\) must be divisible by num_heads \(4\)"):
        MultiHeadAttention(10, 4)
