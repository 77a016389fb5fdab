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

"""The two attentions of SSA that a fused kernel does not do best."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


def attend_to_one_token(
    value: torch.Tensor, out_proj: nn.Linear, num_heads: int, num_queries: int, dropout: float
) -> torch.Tensor:
    """Multi-head attention to a single token, whose weight is 1 whatever the query is.

    All queries get the same vector; only a dropout of the weights, drawn for each query and head, tells them apart.

    Args:
        value: `(batch_size, inner_size)`, the projected value of the token.
        out_proj: Projection of the heads.
        num_heads: Heads, which divide `inner_size`.
        num_queries: Queries.
        dropout: Dropout of the weights; 0 outside training.

    Returns:
        `(batch_size, num_queries, hidden_size)`, or with 1 in place of `num_queries` without dropout.
    """
    if not dropout:
        return out_proj(value)[:, None]
    weights = F.dropout(value.new_ones(len(value), num_queries, num_heads), dropout)
    per_head = torch.einsum(
        "nhd,chd->nhc", value.unflatten(-1, (num_heads, -1)), out_proj.weight.unflatten(-1, (num_heads, -1))
    )
    return weights @ per_head + out_proj.bias


class SsaTextFusion(GradientCheckpointingLayer):
    """Let the pixels of a frame and the sentence look at each other (paper's Eq. 5).

    The fusion layer of Grounding DINO for a text of one token. Its products then simplify: the pixels need neither to
    be projected to scores and values, as scores are products with a vector per head and the values of pixels can be
    projected after they are pooled; nor do they weigh anything, as there is one token to look at. The residuals are on
    the normalised inputs.

    Args:
        hidden_size (`int`): Width of pixels and sentence.
        inner_size (`int`): Width of all heads together.
        num_heads (`int`): Attention heads.
        dropout (`float`): Dropout of the weights of both directions.
    """

    def __init__(self, hidden_size: int, inner_size: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.pixel_norm = nn.LayerNorm(hidden_size)
        self.text_norm = nn.LayerNorm(hidden_size)
        self.pixel_proj = nn.Linear(hidden_size, inner_size)
        self.text_proj = nn.Linear(hidden_size, inner_size)
        self.pixel_value_proj = nn.Linear(hidden_size, inner_size)
        self.text_value_proj = nn.Linear(hidden_size, inner_size)
        self.pixel_out_proj = nn.Linear(inner_size, hidden_size)
        self.text_out_proj = nn.Linear(inner_size, hidden_size)
        self.pixel_scale = nn.Parameter(torch.empty(hidden_size))
        self.text_scale = nn.Parameter(torch.empty(hidden_size))

    def forward(self, pixels: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            pixels: `(num_frames, num_pixels, hidden_size)`.
            text: `(num_frames, 1, hidden_size)`, the sentence as each frame knows it.

        Returns:
            Both, changed.
        """
        dropout = self.dropout if self.training else 0.0
        heads = (self.num_heads, -1)
        pixels, text = self.pixel_norm(pixels), self.text_norm(text)
        key = self.text_proj(text[:, 0]).unflatten(-1, heads)  # (F, heads, d)
        key = key * key.shape[-1] ** -0.5
        direction = torch.einsum("nhd,hdc->nhc", key, self.pixel_proj.weight.unflatten(0, heads))
        # The bias shifts all scores of a head alike; it is kept so that it has a gradient, which is zero.
        offset = (key * self.pixel_proj.bias.unflatten(0, heads)).sum(-1, keepdim=True)
        weights = F.dropout((direction @ pixels.mT + offset).softmax(-1), dropout)  # (F, heads, S)
        pooled = torch.einsum("nhc,hdc->nhd", weights @ pixels, self.pixel_value_proj.weight.unflatten(0, heads))
        pooled = pooled + weights.sum(-1, keepdim=True) * self.pixel_value_proj.bias.unflatten(0, heads)
        text_change = self.text_out_proj(pooled.flatten(1))[:, None]
        pixel_change = attend_to_one_token(
            self.text_value_proj(text[:, 0]), self.pixel_out_proj, self.num_heads, pixels.shape[1], dropout
        )
        return pixels + self.pixel_scale * pixel_change, text + self.text_scale * text_change
