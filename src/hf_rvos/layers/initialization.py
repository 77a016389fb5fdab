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

"""Initial values that the released models give to the layers they share."""

import math

import torch
from torch import nn
from transformers import initialization as init

from hf_rvos.layers.attention import MultiHeadAttention
from hf_rvos.layers.box_decoder import BoxRefiningDecoder
from hf_rvos.layers.deformable_attention import DeformableAttention
from hf_rvos.layers.deformable_transformer import FeedForward
from hf_rvos.layers.mlp import MLP
from hf_rvos.layers.projections import LevelProjection


def init_shared_layer(module: nn.Module):
    """Initialise a module of `hf_rvos.layers`; others are left as they are."""
    if isinstance(module, (MultiHeadAttention, FeedForward, MLP)):
        for child in module.modules():
            if isinstance(child, nn.Linear):
                init.xavier_uniform_(child.weight)
                init.zeros_(child.bias)
    elif isinstance(module, DeformableAttention):
        _init_deformable_attention(module)
    elif isinstance(module, LevelProjection):
        init.xavier_uniform_(module.conv.weight)
        init.zeros_(module.conv.bias)
    elif isinstance(module, BoxRefiningDecoder):
        init.normal_(module.query_positions)
        init.xavier_uniform_(module.reference_points.weight)
        init.zeros_(module.reference_points.bias)
        for head in module.box_heads:
            init.zeros_(head.layers[-1].weight)
            init.zeros_(head.layers[-1].bias)
        first_bias = torch.tensor([0.0, 0.0, -2.0, -2.0])  # boxes start small
        init.copy_(module.box_heads[0].layers[-1].bias, first_bias)


def _init_deformable_attention(module: DeformableAttention):
    """Heads look in directions around a circle, points at growing distance (Deformable DETR, appendix A.4)."""
    angles = torch.arange(module.num_heads, dtype=torch.float32) * (2 * math.pi / module.num_heads)
    directions = torch.stack((angles.cos(), angles.sin()), -1)
    directions = directions / directions.abs().amax(-1, keepdim=True)
    steps = torch.arange(1, module.num_points + 1, dtype=torch.float32)
    offsets = directions[:, None, None] * steps[:, None]
    offsets = offsets.expand(module.num_heads, module.num_levels, module.num_points, 2)
    init.zeros_(module.sampling_offsets.weight)
    init.copy_(module.sampling_offsets.bias, offsets.flatten())
    init.zeros_(module.attention_weights.weight)
    init.zeros_(module.attention_weights.bias)
    for projection in (module.value_proj, module.output_proj):
        init.xavier_uniform_(projection.weight)
        init.zeros_(projection.bias)
