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

"""Sequential alignment (paper, section 3.4): frame queries become trajectories, and trajectories video queries."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.generic import maybe_autocast

from hf_rvos.layers.attention import MultiHeadAttention
from hf_rvos.layers.deformable_transformer import FeedForward
from hf_rvos.models.ssa.configuration_ssa import SsaConfig
from hf_rvos.models.ssa.position_codes import sequence_code


# An operation of its own, because a traced graph cannot hold what the host does here.
@torch.library.custom_op("hf_rvos::associate_queries", mutates_args=())
def associate_queries(queries: torch.Tensor) -> torch.Tensor:
    """Follow every query of the first frame through the clip.

    The queries of a frame are assigned one to one to those of the frame before, with the greatest sum of cosines. The
    costs of all frames are computed at once and copied to the host once. There is no gradient.

    Args:
        queries: `(num_clips, num_frames, num_queries, hidden_size)`.

    Returns:
        `(num_clips, num_frames, num_queries)`: which query of each frame belongs to each query of the first one.
    """
    from scipy.optimize import linear_sum_assignment

    num_clips, num_frames, num_queries, _ = queries.shape
    order = np.tile(np.arange(num_queries), (num_clips, num_frames, 1))
    if num_frames > 1:
        with maybe_autocast(queries.device.type, enabled=False):
            queries = queries.float()
            queries = queries / queries.norm(dim=-1, keepdim=True)
            cosines = (queries[:, :-1] @ queries[:, 1:].mT).cpu().numpy()
        # Of weights that are no longer finite any order will do.
        costs = np.nan_to_num(1 - cosines)
        for clip, cost in enumerate(costs):
            for frame, between in enumerate(cost, start=1):
                order[clip, frame] = linear_sum_assignment(between[order[clip, frame - 1]])[1]
    return torch.from_numpy(order).to(queries.device, non_blocking=True)


@associate_queries.register_fake
def _shape_of_order(queries: torch.Tensor) -> torch.Tensor:
    return queries.new_empty(queries.shape[:-1], dtype=torch.long)


class SsaTrajectoryEncoder(nn.Module):
    """Order the queries of all frames into trajectories, and let each of them look along time."""

    def __init__(self, config: SsaConfig):
        super().__init__()
        size = config.hidden_size
        self.input_proj = nn.Linear(size, size)
        self.convs = nn.ModuleList([nn.Conv1d(size, size, 5), nn.Conv1d(size, size, 3)])
        self.conv_norm = nn.LayerNorm(size)
        self.self_attn = MultiHeadAttention(size, config.attention_heads, config.dropout)
        self.self_attn_norm = nn.LayerNorm(size)
        self.time_weight = nn.Linear(size, 1)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, frame_queries: torch.Tensor, frame_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            frame_queries: `(num_clips, num_frames, num_queries, hidden_size)` after `input_proj`.
            frame_mask: `(num_clips, num_frames)`, True at real frames, which come first. None means all.

        Returns:
            Trajectories, of the same shape, and what they are in the mean over time, weighted by what they say
            themselves: `(num_clips, num_queries, hidden_size)`.
        """
        num_clips, num_frames, num_queries, size = frame_queries.shape
        order = associate_queries(frame_queries.detach())
        aligned = frame_queries.take_along_dim(order[..., None], 2)
        tracks = aligned.transpose(1, 2).flatten(0, 1)  # (B*N, T, C)
        track_mask = None if frame_mask is None else frame_mask.repeat_interleave(num_queries, 0)
        local = self._convolve(1, self._convolve(0, tracks, track_mask).relu(), track_mask)
        tracks = self.conv_norm(tracks + local)
        positioned = tracks + sequence_code(num_frames, size, tracks.device).to(tracks.dtype)
        attended = self.self_attn(positioned, positioned, tracks, track_mask)
        tracks = self.self_attn_norm(tracks + self.dropout(attended))
        weights = self.time_weight(tracks)
        if track_mask is not None:
            weights = weights.masked_fill(~track_mask[..., None], -torch.inf)
        means = (weights.softmax(1) * tracks).sum(1)
        return tracks.unflatten(0, (num_clips, num_queries)).transpose(1, 2), means.unflatten(0, (num_clips, -1))

    def _convolve(self, index: int, tracks: torch.Tensor, track_mask: torch.Tensor | None) -> torch.Tensor:
        """Convolution along time; beyond its ends a track goes on as its first and last frame."""
        if track_mask is not None:
            last = track_mask.sum(1, keepdim=True) - 1
            frames = torch.arange(tracks.shape[1], device=tracks.device).expand_as(track_mask)
            tracks = tracks.take_along_dim(torch.minimum(frames, last)[..., None], 1)
        conv = self.convs[index]
        margin = conv.kernel_size[0] // 2
        return conv(F.pad(tracks.transpose(1, 2), (margin, margin), mode="replicate")).transpose(1, 2)


class SsaVideoDecoderLayer(GradientCheckpointingLayer):
    """Video queries look at the sentence, at the trajectories and at each other (post-norm)."""

    def __init__(self, config: SsaConfig):
        super().__init__()
        size, num_heads, dropout = config.hidden_size, config.attention_heads, config.dropout
        self.text_attn = MultiHeadAttention(size, num_heads, dropout)
        self.text_attn_norm = nn.LayerNorm(size)
        self.cross_attn = MultiHeadAttention(size, num_heads, dropout)
        self.cross_attn_norm = nn.LayerNorm(size)
        self.self_attn = MultiHeadAttention(size, num_heads, dropout)
        self.self_attn_norm = nn.LayerNorm(size)
        self.feed_forward = FeedForward(size, config.feedforward_size, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: torch.Tensor,
        query_positions: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        value_mask: torch.Tensor | None,
        text: torch.Tensor,
        text_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """
        Args:
            queries: `(num_clips, num_queries, hidden_size)`.
            query_positions: `(num_queries, hidden_size)`.
            keys: `(num_clips, num_frames * num_queries, hidden_size)`, trajectories with positions.
            values: The same without.
            value_mask: `(num_clips, num_frames * num_queries)`, True at real frames, or None.
            text: `(num_clips, num_frames, hidden_size)`, the sentence as each frame knows it.
            text_mask: `(num_clips, num_frames)`, True at real frames, or None.

        Returns:
            Same shape as `queries`.
        """
        attended = self.text_attn(queries + query_positions, text, text, text_mask)
        queries = self.text_attn_norm(queries + self.dropout(attended))
        attended = self.cross_attn(queries + query_positions, keys, values, value_mask)
        queries = self.cross_attn_norm(queries + self.dropout(attended))
        positioned = queries + query_positions
        queries = self.self_attn_norm(queries + self.dropout(self.self_attn(positioned, positioned, queries)))
        return self.feed_forward(queries)


class SsaVideoDecoder(nn.Module):
    """Make video queries of trajectories."""

    def __init__(self, config: SsaConfig):
        super().__init__()
        size = config.hidden_size
        self.query_positions = nn.Parameter(torch.empty(config.num_queries, size))
        self.track_positions = nn.Parameter(torch.empty(config.num_queries, size))
        self.layers = nn.ModuleList(SsaVideoDecoderLayer(config) for _ in range(config.video_decoder_layers))
        self.norm = nn.LayerNorm(size)

    def forward(
        self,
        tracks: torch.Tensor,
        queries: torch.Tensor,
        text: torch.Tensor,
        frame_mask: torch.Tensor | None,
        every_layer: bool = False,
    ) -> tuple[torch.Tensor, ...]:
        """
        Args:
            tracks: `(num_clips, num_frames, num_queries, hidden_size)`.
            queries: `(num_clips, num_queries, hidden_size)` to start from.
            text: `(num_clips, num_frames, hidden_size)`.
            frame_mask: `(num_clips, num_frames)`, True at real frames, or None.
            every_layer: Whether to return the queries after each layer.

        Returns:
            Normalised queries `(num_clips, num_queries, hidden_size)`, with `every_layer` False only the last.
        """
        values = tracks.flatten(1, 2)
        keys = (tracks + self.track_positions).flatten(1, 2)
        value_mask = None if frame_mask is None else frame_mask.repeat_interleave(tracks.shape[2], 1)
        hidden_states = []
        for layer in self.layers:
            queries = layer(queries, self.query_positions, keys, values, value_mask, text, frame_mask)
            hidden_states.append(queries)
        return tuple(self.norm(queries) for queries in (hidden_states if every_layer else hidden_states[-1:]))
