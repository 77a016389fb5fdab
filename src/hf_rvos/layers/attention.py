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

"""Multi-head attention between two token sequences."""

import torch
import torch.nn.functional as F
from torch import nn


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention with separate projections, always through the fused kernel.

    The projections can be called on their own (`project`), because what they see is often shared: the words of an
    expression by all levels, the pixels of a video by all its expressions.

    Args:
        hidden_size (`int`): Width of all inputs and of the output.
        num_heads (`int`): Attention heads; must divide `hidden_size`.
        dropout (`float`): Dropout of the attention weights while training.
    """

    def __init__(self, hidden_size: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"hidden_size ({hidden_size}) must be divisible by num_heads ({num_heads})")
        self.num_heads = num_heads
        self.dropout = dropout
        self.q_proj = nn.Linear(hidden_size, hidden_size)
        self.k_proj = nn.Linear(hidden_size, hidden_size)
        self.v_proj = nn.Linear(hidden_size, hidden_size)
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def split_heads(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (N, heads, length, C / heads)

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, key_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attention over projected tokens.

        Args:
            query: `(batch_size, num_queries, hidden_size)`, already projected.
            key: `(batch_size, num_keys, hidden_size)`, already projected.
            value: same shape as `key`, already projected.
            key_mask: `(batch_size, num_keys)`, or `(batch_size, num_queries, num_keys)` where queries differ, True at
                the keys that may be looked at. None allows all.

        Returns:
            Same shape as `query`.
        """
        if key_mask is not None:
            key_mask = key_mask[:, None, None] if key_mask.ndim == 2 else key_mask[:, None]
        attended = F.scaled_dot_product_attention(
            self.split_heads(query),
            self.split_heads(key),
            self.split_heads(value),
            attn_mask=key_mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, key_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The same for tokens before projection."""
        return self.attend(self.q_proj(query), self.k_proj(key), self.v_proj(value), key_mask)
