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

"""Encoder and decoder layers of the deformable transformer, and its reference points."""

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from hf_rvos.layers.attention import MultiHeadAttention
from hf_rvos.layers.deformable_attention import DeformableAttention
from hf_rvos.layers.remembered import remembered


# Rows of a feed-forward block that inference takes at once.
ROWS_IN_CACHE = 2048  # on CPU
ROWS_ON_ACCELERATOR = 1 << 16


def inverse_sigmoid(probabilities: torch.Tensor, epsilon: float = 1e-5) -> torch.Tensor:
    """Logit that stays finite: the probability and its complement are at least `epsilon`."""
    probabilities = probabilities.clamp(0, 1)
    return torch.log(probabilities.clamp(min=epsilon) / (1 - probabilities).clamp(min=epsilon))


@remembered
def _cell_centers(shapes: tuple[tuple[int, int], ...], device: torch.device) -> torch.Tensor:
    centers = []
    for height, width in shapes:
        y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
        x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
        centers.append(torch.stack((x.expand(height, width), y[:, None].expand(height, width)), -1).flatten(0, 1))
    return torch.cat(centers)


def encoder_reference_points(
    spatial_shapes: list[tuple[int, int]], valid_ratios: torch.Tensor | None, device: torch.device
) -> torch.Tensor:
    """Where each token of the encoder stands in every level.

    Args:
        spatial_shapes: `(height, width)` of each level.
        valid_ratios: `(num_frames, num_levels, 2)` share of real columns and rows, or None without padding.
        device: Where the result is needed.

    Returns:
        `(num_frames, num_tokens, num_levels, 2)` (x, y) in units of the padded maps; sizes are 1 where all are equal.
    """
    centers = _cell_centers(tuple(spatial_shapes), device)[None, :, None]
    if valid_ratios is None:
        return centers
    own_ratios = [
        ratios[:, None].expand(-1, height * width, -1)
        for ratios, (height, width) in zip(valid_ratios.unbind(1), spatial_shapes)
    ]
    return centers / torch.cat(own_ratios, dim=1)[:, :, None] * valid_ratios[:, None]


class FeedForward(nn.Module):
    """Linear, ReLU, linear, added to the input and normalised.

    Inference goes through the rows in pieces, so that the wide tensor between the linear maps stays small.
    """

    def __init__(self, hidden_size: int, feedforward_size: int, dropout: float):
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, feedforward_size)
        self.fc2 = nn.Linear(feedforward_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.forward_at_once(x)
        num_rows = ROWS_IN_CACHE if x.device.type == "cpu" else ROWS_ON_ACCELERATOR
        return torch.cat([self.forward_at_once(rows) for rows in x.flatten(0, -2).split(num_rows)]).view_as(x)

    def forward_at_once(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x + self.dropout(self.fc2(self.dropout(self.fc1(x).relu_()))))


class DeformableEncoderLayer(GradientCheckpointingLayer):
    """Deformable self-attention over the pixels of one frame, then the feed-forward block (post-norm)."""

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        feedforward_size: int,
        dropout: float,
    ):
        super().__init__()
        self.self_attn = DeformableAttention(hidden_size, num_heads, num_levels, num_points)
        self.self_attn_norm = nn.LayerNorm(hidden_size)
        self.feed_forward = FeedForward(hidden_size, feedforward_size, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        reference_points: torch.Tensor,
        spatial_shapes: list[tuple[int, int]],
        token_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """
        Args:
            tokens: `(num_frames, num_tokens, hidden_size)`.
            positions: same shape, or 1 in place of `num_frames`.
            reference_points: see `encoder_reference_points`.
            spatial_shapes: `(height, width)` of each level.
            token_mask: `(num_frames, num_tokens)`, True at real tokens, or None.

        Returns:
            Same shape as `tokens`.
        """
        attended = self.self_attn(tokens + positions, tokens, reference_points, spatial_shapes, token_mask)
        return self.feed_forward(self.self_attn_norm(tokens + self.dropout(attended)))


class DeformableDecoderLayer(GradientCheckpointingLayer):
    """Self-attention among the queries of one frame, deformable attention to its pixels, feed-forward (post-norm)."""

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        feedforward_size: int,
        dropout: float,
    ):
        super().__init__()
        self.self_attn = MultiHeadAttention(hidden_size, num_heads, dropout)
        self.self_attn_norm = nn.LayerNorm(hidden_size)
        self.cross_attn = DeformableAttention(hidden_size, num_heads, num_levels, num_points)
        self.cross_attn_norm = nn.LayerNorm(hidden_size)
        self.feed_forward = FeedForward(hidden_size, feedforward_size, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: torch.Tensor,
        query_positions: torch.Tensor,
        memory: torch.Tensor,
        reference_points: torch.Tensor,
        spatial_shapes: list[tuple[int, int]],
        memory_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """
        Args:
            queries: `(num_frames, num_queries, hidden_size)`.
            query_positions: broadcastable to `queries`.
            memory: `(num_frames, num_tokens, hidden_size)` encoded pixels.
            reference_points: `(num_frames, num_queries, num_levels, 2 or 4)`, see `DeformableAttention`.
            spatial_shapes: `(height, width)` of each level.
            memory_mask: `(num_frames, num_tokens)`, True at real tokens, or None.

        Returns:
            Same shape as `queries`.
        """
        positioned = queries + query_positions
        queries = self.self_attn_norm(queries + self.dropout(self.self_attn(positioned, positioned, queries)))
        attended = self.cross_attn(queries + query_positions, memory, reference_points, spatial_shapes, memory_mask)
        return self.feed_forward(self.cross_attn_norm(queries + self.dropout(attended)))
