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

"""Decoder whose queries look for their object in a frame and refine its box from layer to layer."""

import torch
import torch.nn.functional as F
from torch import nn

from hf_rvos.layers.deformable_transformer import DeformableDecoderLayer, inverse_sigmoid
from hf_rvos.layers.mlp import MLP


class BoxRefiningDecoder(nn.Module):
    """Deformable decoder with iterative box refinement (Deformable DETR, section 4.2).

    Args:
        hidden_size (`int`): Width of queries and memory.
        num_queries (`int`): Queries per frame.
        num_layers (`int`): Decoder layers, each with its own box head.
        num_heads (`int`): Attention heads.
        num_levels (`int`): Feature levels of the memory.
        num_points (`int`): Places per head and level.
        feedforward_size (`int`): Width of the feed-forward blocks.
        dropout (`float`): Dropout of the layers.
    """

    def __init__(
        self,
        hidden_size: int,
        num_queries: int,
        num_layers: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        feedforward_size: int,
        dropout: float,
    ):
        super().__init__()
        self.query_positions = nn.Parameter(torch.empty(num_queries, hidden_size))
        self.reference_points = nn.Linear(hidden_size, 2)
        self.layers = nn.ModuleList(
            DeformableDecoderLayer(hidden_size, num_heads, num_levels, num_points, feedforward_size, dropout)
            for _ in range(num_layers)
        )
        self.box_heads = nn.ModuleList(MLP(hidden_size, hidden_size, 4, 3) for _ in range(num_layers))

    def refine(self, layer: int, queries: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """Boxes that the head of a layer makes of the references with which the layer began.

        Args:
            layer: Which head.
            queries: `(num_frames, num_queries, hidden_size)`.
            references: `(num_frames, num_queries, 2 or 4)`. A point becomes the centre of the first box, whose size
                starts from the head alone.

        Returns:
            `(num_frames, num_queries, 4)` float32, cxcywh.
        """
        start = F.pad(inverse_sigmoid(references), (0, 4 - references.shape[-1]))
        return (self.box_heads[layer](queries).float() + start).sigmoid()

    def forward(
        self,
        queries: torch.Tensor,
        memory: torch.Tensor,
        spatial_shapes: list[tuple[int, int]],
        memory_mask: torch.Tensor | None,
        valid_ratios: torch.Tensor | None,
    ) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...], torch.Tensor]:
        """
        Args:
            queries: `(num_frames, num_queries, hidden_size)`, what the queries know before they see a frame.
            memory: `(num_frames, num_tokens, hidden_size)` encoded pixels.
            spatial_shapes: `(height, width)` of each level.
            memory_mask: `(num_frames, num_tokens)`, True at real tokens, or None.
            valid_ratios: `(num_frames, num_levels, 2)` share of real columns and rows, or None.

        Returns:
            Queries after each layer `(num_frames, num_queries, hidden_size)`, boxes after each layer
            `(num_frames, num_queries, 4)` cxcywh, and the initial points `(1, num_queries, 2)`.
        """
        positions = self.query_positions[None]
        initial_points = self.reference_points(positions).float().sigmoid()
        references = initial_points.expand(queries.shape[0], -1, -1)
        hidden_states, boxes = (), ()
        for index, layer in enumerate(self.layers):
            in_padded_frame = references[:, :, None]
            if valid_ratios is not None:
                in_padded_frame = in_padded_frame * valid_ratios[:, None].repeat(1, 1, 1, references.shape[-1] // 2)
            queries = layer(queries, positions, memory, in_padded_frame, spatial_shapes, memory_mask)
            box = self.refine(index, queries, references)
            references = box.detach()
            hidden_states, boxes = (*hidden_states, queries), (*boxes, box)
        return hidden_states, boxes, initial_points
