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

"""Queries of single frames (paper, section 3.3): pixel decoder with fusion, and decoder with masked attention."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.generic import maybe_autocast

from hf_rvos.layers.attention import MultiHeadAttention
from hf_rvos.layers.deformable_transformer import DeformableEncoderLayer, FeedForward, encoder_reference_points
from hf_rvos.layers.mlp import MLP
from hf_rvos.layers.projections import LevelProjection
from hf_rvos.models.ssa.configuration_ssa import SsaConfig
from hf_rvos.models.ssa.position_codes import pixel_code
from hf_rvos.models.ssa.text_fusion import SsaTextFusion, attend_to_one_token


NUM_LEVELS = 3  # strides 32, 16 and 8, in this order


class SsaPixels(NamedTuple):
    """What the pixel decoder makes of frames.

    `levels` are three maps `(num_frames, height * width, hidden_size)` with the `(height, width)` in `shapes`, `text`
    is `(num_frames, 1, hidden_size)` and `fine_maps` `(num_frames, hidden_size, height, width)` at stride 4.
    """

    levels: list[torch.Tensor]
    shapes: list[tuple[int, int]]
    text: torch.Tensor
    fine_maps: torch.Tensor


class SsaPixelDecoder(nn.Module):
    """Deformable pixel decoder of Mask2Former, before each layer of which pixels and sentence look at each other.

    It runs in float32 under autocast. Padding is not masked: released weights saw it.
    """

    def __init__(self, config: SsaConfig):
        super().__init__()
        size = config.hidden_size
        fine_channels, *channels = config.backbone_config.hidden_sizes
        self.level_projections = nn.ModuleList(LevelProjection(ins, size) for ins in reversed(channels))
        self.level_embedding = nn.Parameter(torch.empty(NUM_LEVELS, size))
        self.fusion_layers = nn.ModuleList(
            SsaTextFusion(
                size, config.encoder_feedforward_size // 2, config.attention_heads // 2, config.fusion_dropout
            )
            for _ in range(config.encoder_layers)
        )
        self.encoder_layers = nn.ModuleList(
            DeformableEncoderLayer(
                size,
                config.attention_heads,
                NUM_LEVELS,
                config.encoder_points,
                config.encoder_feedforward_size,
                config.dropout,
            )
            for _ in range(config.encoder_layers)
        )
        self.fine_projection = nn.Conv2d(fine_channels, size, 1, bias=False)
        self.fine_projection_norm = nn.GroupNorm(32, size)
        self.fine_conv = nn.Conv2d(size, size, 3, padding=1, bias=False)
        self.fine_norm = nn.GroupNorm(32, size)

    def forward(self, feature_maps: list[torch.Tensor], text: torch.Tensor) -> SsaPixels:
        """
        Args:
            feature_maps: Four maps `(num_frames, channels, height, width)` at strides 4, 8, 16 and 32.
            text: `(num_frames, 1, hidden_size)`.
        """
        with maybe_autocast(text.device.type, enabled=False):
            dtype = self.level_embedding.dtype
            return self._decode([entry.to(dtype) for entry in feature_maps], text.to(dtype))

    def _decode(self, feature_maps: list[torch.Tensor], text: torch.Tensor) -> SsaPixels:
        fine, *coarse = feature_maps
        shapes = [tuple(entry.shape[-2:]) for entry in reversed(coarse)]
        levels = [project(entry) for project, entry in zip(self.level_projections, reversed(coarse))]
        pixels = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
        positions = torch.cat(
            [
                pixel_code(shape, pixels.shape[-1], pixels.device, as_share=True).to(pixels.dtype) + code
                for shape, code in zip(shapes, self.level_embedding)
            ]
        )
        references = encoder_reference_points(shapes, None, pixels.device)
        for fuse, layer in zip(self.fusion_layers, self.encoder_layers):
            pixels, text = fuse(pixels, text)
            pixels = layer(pixels, positions, references, shapes, None)
        levels = list(pixels.split([height * width for height, width in shapes], dim=1))
        finest = levels[-1].transpose(1, 2).unflatten(2, shapes[-1])
        lateral = self.fine_projection_norm(self.fine_projection(fine))
        fine = lateral + F.interpolate(finest, size=lateral.shape[-2:], mode="bilinear", align_corners=False)
        return SsaPixels(levels, shapes, text, self.fine_norm(self.fine_conv(fine)).relu())


class SsaFrameDecoderLayer(GradientCheckpointingLayer):
    """Queries look at the pixels of their mask, at each other and at the sentence (post-norm)."""

    def __init__(self, config: SsaConfig):
        super().__init__()
        size, num_heads, dropout = config.hidden_size, config.attention_heads, config.dropout
        self.cross_attn = MultiHeadAttention(size, num_heads, dropout)
        self.cross_attn_norm = nn.LayerNorm(size)
        self.self_attn = MultiHeadAttention(size, num_heads, dropout)
        self.self_attn_norm = nn.LayerNorm(size)
        # With one token to look at, projections of queries and keys have no effect and no gradient. They are kept
        # because released weights have them.
        self.text_attn = MultiHeadAttention(size, num_heads, dropout)
        self.text_attn_norm = nn.LayerNorm(size)
        self.feed_forward = FeedForward(size, config.feedforward_size, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: torch.Tensor,
        query_positions: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        attention_mask: torch.Tensor,
        text: torch.Tensor,
    ) -> torch.Tensor:
        """
        Args:
            queries: `(num_frames, num_queries, hidden_size)`.
            query_positions: `(num_queries, hidden_size)`.
            keys: `(num_frames, num_pixels, hidden_size)`, a map with position codes.
            values: The same without.
            attention_mask: `(num_frames, num_queries, num_pixels)`, True at pixels that a query may look at.
            text: `(num_frames, 1, hidden_size)`.

        Returns:
            Same shape as `queries`.
        """
        attended = self.cross_attn(queries + query_positions, keys, values, attention_mask)
        queries = self.cross_attn_norm(queries + self.dropout(attended))
        positioned = queries + query_positions
        queries = self.self_attn_norm(queries + self.dropout(self.self_attn(positioned, positioned, queries)))
        queries = self.text_attn_norm(queries + self.dropout(self._attend_to_text(queries + query_positions, text)))
        return self.feed_forward(queries)

    def _attend_to_text(self, queries: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        attention = self.text_attn
        if torch.is_grad_enabled():  # where every parameter needs a gradient, if only zero
            return attention(queries, text, text)
        return attend_to_one_token(attention.v_proj(text[:, 0]), attention.out_proj, attention.num_heads, 1, 0.0)


class SsaFrameDecoder(nn.Module):
    """Decoder with masked attention of Mask2Former, whose queries start as the sentence."""

    def __init__(self, config: SsaConfig):
        super().__init__()
        size = config.hidden_size
        self.query_positions = nn.Parameter(torch.empty(config.num_queries, size))
        self.level_embedding = nn.Parameter(torch.empty(NUM_LEVELS, size))
        self.layers = nn.ModuleList(SsaFrameDecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(size)
        self.mask_head = MLP(size, size, config.mask_size, 3)

    def forward(
        self, pixels: SsaPixels, level_mask_features: list[torch.Tensor], every_layer: bool = False
    ) -> tuple[torch.Tensor, ...]:
        """
        Args:
            pixels: Output of the pixel decoder.
            level_mask_features: Mask features at the three levels, `(num_frames, mask_size, height * width)`.
            every_layer: Whether to return the queries before the first layer and after each one.

        Returns:
            Normalised queries `(num_frames, num_queries, hidden_size)`, with `every_layer` False only the last.
        """
        values = [level + code for level, code in zip(pixels.levels, self.level_embedding)]
        keys = [
            value + pixel_code(shape, value.shape[-1], value.device, as_share=True).to(value.dtype)
            for value, shape in zip(values, pixels.shapes)
        ]
        queries = pixels.text.expand(-1, len(self.query_positions), -1)
        hidden_states = [self.norm(queries)]
        for index, layer in enumerate(self.layers):
            level = index % NUM_LEVELS
            mask = self.attention_mask(hidden_states[-1], level_mask_features[level])
            queries = layer(queries, self.query_positions, keys[level], values[level], mask, pixels.text)
            hidden_states.append(self.norm(queries))
        return tuple(hidden_states if every_layer else hidden_states[-1:])

    @torch.no_grad()
    def attention_mask(self, queries: torch.Tensor, mask_features: torch.Tensor) -> torch.Tensor:
        """Where each query may look: at its mask, or everywhere if that is empty.

        Resizing and the product commute, so the mask is drawn at the size of the level.
        """
        inside = self.mask_head(queries) @ mask_features >= 0
        return inside | ~inside.any(-1, keepdim=True)
