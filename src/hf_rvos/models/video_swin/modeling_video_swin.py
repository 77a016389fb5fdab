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
"""Shifted-window transformer backbone for clips ("Video Swin Transformer") and for single frames ("Swin Transformer").

Maps are kept channels last and flattened, `(batch_size, num_positions, channels)` with `num_positions = num_frames *
height * width`. Cutting them into windows, padding and shift included, is one gather, and so is the way back.
"""

import functools
import itertools
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.backbone_utils import BackboneMixin, filter_output_hidden_states
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BackboneOutput
from transformers.utils.generic import can_return_tuple

from hf_rvos.models.video_swin.configuration_video_swin import VideoSwinConfig


class WindowLayout(NamedTuple):
    """Where the positions of a batch of maps go when the maps are cut into windows.

    Attributes:
        tokens: `(num_windows * batch_size * window_tokens,)` long, the row of the flattened maps that each window
            token reads. Windows that need the same mask are neighbours. One past the last row means padding.
        slots: `(batch_size * num_positions,)` long, the inverse: the window token that each row went to.
        masks: one for each group of windows, `(window_tokens, window_tokens)` to add to the attention logits, or None.
        group_sizes: number of windows, times `batch_size`, of each group.
        window_tokens: tokens of a window.
        is_padded: whether any token is padding.
    """

    tokens: torch.Tensor
    slots: torch.Tensor
    masks: list[torch.Tensor | None]
    group_sizes: list[int]
    window_tokens: int
    is_padded: bool


def window_layout(
    batch_size: int,
    size: tuple[int, int, int],
    window: tuple[int, int, int],
    shift: tuple[int, int, int],
    device: torch.device,
) -> WindowLayout:
    """Cut maps of `size` (frames, rows, columns) into windows after rolling them towards the origin by `shift`.

    Rolling puts both ends of a map into the last window of a dimension. Attention across this seam gets -100 and not
    minus infinity, as in the released code; which mask a window needs depends only on the dimensions it is last in.
    """
    counts = [math.ceil(length / side) for length, side in zip(size, window)]
    window_tokens, num_positions = math.prod(window), math.prod(size)

    positions, is_real = 0, True
    for axis, (length, side, step, count) in enumerate(zip(size, window, shift, counts)):
        shape = [1] * 6  # windows along each dimension, then tokens along each dimension
        shape[axis], shape[axis + 3] = count, side
        coordinate = (torch.arange(count * side, device=device) + step).remainder(count * side).view(shape)
        positions = positions * length + coordinate
        is_real = is_real & (coordinate < length)
    tokens = torch.where(is_real, positions, num_positions).view(*counts, window_tokens)

    # Each dimension with a shift has inner windows and a last one; the others have one kind of window.
    kinds = [[slice(0, -1), slice(-1, None)] if step else [slice(None)] for step in shift]
    groups, masks = [], []
    for kind in itertools.product(*kinds):
        group = tokens[kind].reshape(-1, window_tokens)
        if not len(group):
            continue
        groups.append(group)
        seamed = [axis for axis in range(3) if kind[axis].start == -1]
        if not seamed:
            masks.append(None)
            continue
        segments = torch.zeros(window, dtype=torch.long, device=device)
        for axis in seamed:
            beyond = torch.arange(window[axis], device=device) >= window[axis] - shift[axis]
            segments += 2**axis * beyond.view([-1 if other == axis else 1 for other in range(3)])
        segments = segments.flatten()
        masks.append((segments[:, None] != segments).float() * -100.0)

    tokens = torch.cat(groups)[:, None]  # (num_windows, 1, window_tokens)
    rows = tokens + torch.arange(0, batch_size * num_positions, num_positions, device=device)[:, None]
    tokens = torch.where(tokens < num_positions, rows, batch_size * num_positions).flatten()
    slots = torch.empty(batch_size * num_positions + 1, dtype=torch.long, device=device)
    slots = slots.scatter(0, tokens, torch.arange(len(tokens), device=device))[:-1]
    return WindowLayout(
        tokens=tokens,
        slots=slots,
        masks=masks,
        group_sizes=[len(group) * batch_size for group in groups],
        window_tokens=window_tokens,
        is_padded=math.prod(counts) * window_tokens > num_positions,
    )


@functools.lru_cache(maxsize=64)
def _remembered_window_layout(*args) -> WindowLayout:
    with torch.inference_mode(False):  # tensors born in inference mode could not serve a training step later
        return window_layout(*args)


def relative_position_index(window: tuple[int, int, int]) -> torch.Tensor:
    """`(window_tokens, window_tokens)` long: row of the bias table for each query and key of a full window."""
    index = 0
    for axis, side in enumerate(window):
        shape = [1] * 6
        shape[axis], shape[axis + 3] = side, side
        offset = torch.arange(side)[:, None] - torch.arange(side) + side - 1
        index = index * (2 * side - 1) + offset.view(shape)
    return index.reshape(math.prod(window), math.prod(window))


def biased_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Attention with a bias on the logits that all windows share.

    Args:
        query, key, value: `(num_windows, num_heads, window_tokens, head_dim)`.
        bias: `(num_heads, window_tokens, window_tokens)`.

    Returns:
        `(num_windows, num_heads, window_tokens, head_dim)`.
    """
    if bias.requires_grad and bias.device.type == "cpu":
        # The fused CPU kernel has no gradient for the bias, and what replaces it takes 1.4 times as long as this.
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return logits.add_(bias).softmax(-1) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])


def drop_path(branch: torch.Tensor, probability: float, training: bool) -> torch.Tensor:
    """Zero a residual branch `(batch_size, ...)` for a random part of the clips, and scale up the others."""
    if not training or probability == 0:
        return branch
    keep = branch.new_empty(len(branch), *[1] * (branch.ndim - 1)).bernoulli_(1 - probability)
    return branch * (keep / (1 - probability))


class VideoSwinPatchEmbedding(nn.Module):
    """Project the patches of each frame."""

    def __init__(self, config: VideoSwinConfig):
        super().__init__()
        self.patch_size = config.patch_size
        size = (1, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(config.num_channels, config.embed_dim, kernel_size=size, stride=size)
        self.norm = nn.LayerNorm(config.embed_dim)

    def forward(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """`(B, T, num_channels, H, W)` to `(B, T, ceil(H / patch_size), ceil(W / patch_size), embed_dim)`."""
        height, width = pixel_values_videos.shape[-2:]
        clips = pixel_values_videos.transpose(1, 2)
        clips = F.pad(clips, (0, -width % self.patch_size, 0, -height % self.patch_size))
        return self.norm(self.proj(clips).permute(0, 2, 3, 4, 1))


class VideoSwinAttention(nn.Module):
    """Self-attention inside windows with a learned bias for each relative position."""

    def __init__(self, dim: int, num_heads: int, window_size: tuple[int, int, int], qkv_bias: bool):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        num_offsets = math.prod(2 * side - 1 for side in window_size)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(num_offsets, num_heads))

    def forward(self, hidden_states: torch.Tensor, layout: WindowLayout, position_index: torch.Tensor) -> torch.Tensor:
        """
        Args:
            hidden_states: `(batch_size, num_positions, dim)`.
            layout: the partition into windows.
            position_index: [`relative_position_index`] of the configured window.

        Returns:
            Same shape as `hidden_states`.
        """
        rows = hidden_states.flatten(0, 1)
        if layout.is_padded:
            rows = F.pad(rows, (0, 0, 0, 1))
        num_tokens = layout.window_tokens
        qkv = self.qkv(rows.index_select(0, layout.tokens))
        qkv = qkv.view(-1, num_tokens, 3, self.num_heads, qkv.shape[-1] // (3 * self.num_heads))

        # The released code takes this block of the full index for every smaller window. That is the true geometry if
        # only the frames are fewer; with fewer rows or columns it is not, but the weights were trained with it.
        index = position_index[:num_tokens, :num_tokens].flatten()
        bias = self.relative_position_bias_table.t().contiguous().index_select(1, index)
        bias = bias.view(self.num_heads, num_tokens, num_tokens).to(qkv.dtype)

        groups = []
        for group, mask in zip(qkv.split(layout.group_sizes), layout.masks):
            group_bias = bias if mask is None else bias + mask.to(bias.dtype)
            query, key, value = group.permute(2, 0, 3, 1, 4).unbind(0)
            groups.append(biased_attention(query, key, value, group_bias).transpose(1, 2))
        context = groups[0] if len(groups) == 1 else torch.cat(groups)
        context = context.reshape(-1, hidden_states.shape[-1]).index_select(0, layout.slots)
        return self.proj(context).view(hidden_states.shape)


class VideoSwinMLP(nn.Module):
    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(hidden_states)))


class VideoSwinBlock(GradientCheckpointingLayer):
    def __init__(self, config: VideoSwinConfig, stage: int, drop_path_probability: float):
        super().__init__()
        dim = config.embed_dim * 2**stage
        self.drop_path_probability = drop_path_probability
        self.norm1 = nn.LayerNorm(dim)
        self.attn = VideoSwinAttention(dim, config.num_heads[stage], config.window_size, config.qkv_bias)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = VideoSwinMLP(dim, int(dim * config.mlp_ratio))

    def forward(self, hidden_states: torch.Tensor, layout: WindowLayout, position_index: torch.Tensor) -> torch.Tensor:
        attended = self.attn(self.norm1(hidden_states), layout, position_index)
        hidden_states = hidden_states + drop_path(attended, self.drop_path_probability, self.training)
        updated = self.mlp(self.norm2(hidden_states))
        return hidden_states + drop_path(updated, self.drop_path_probability, self.training)


class VideoSwinStage(nn.Module):
    """The blocks of one resolution, every second one with shifted windows."""

    def __init__(self, config: VideoSwinConfig, stage: int, drop_path_probabilities: list[float]):
        super().__init__()
        self.window_size = tuple(config.window_size)
        self.shrink_window = config.shrink_window
        self.blocks = nn.ModuleList(
            VideoSwinBlock(config, stage, probability) for probability in drop_path_probabilities
        )

    def forward(self, hidden_states: torch.Tensor, position_index: torch.Tensor) -> torch.Tensor:
        """`(batch_size, num_frames, height, width, dim)` to the same shape."""
        batch_size, *size, dim = hidden_states.shape
        window, shift = self.window_size, tuple(side // 2 for side in self.window_size)
        if self.shrink_window:
            shift = tuple(step if length > side else 0 for step, length, side in zip(shift, size, window))
            window = tuple(min(length, side) for length, side in zip(size, window))
        # A traced program must build its own tensors, so nothing is remembered then.
        make_layout = window_layout if torch.compiler.is_compiling() else _remembered_window_layout
        layouts = [make_layout(batch_size, tuple(size), window, (0, 0, 0), hidden_states.device)] * 2
        if any(shift) and len(self.blocks) > 1:
            layouts[1] = make_layout(batch_size, tuple(size), window, shift, hidden_states.device)

        tokens = hidden_states.view(batch_size, -1, dim)
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, layouts[index % 2], position_index)
        return tokens.view(hidden_states.shape)


class VideoSwinPatchMerging(nn.Module):
    """Halve rows and columns and double the channels."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(B, T, H, W, dim)` to `(B, T, ceil(H / 2), ceil(W / 2), 2 * dim)`."""
        height, width = hidden_states.shape[2:4]
        hidden_states = F.pad(hidden_states, (0, 0, 0, width % 2, 0, height % 2))
        hidden_states = hidden_states.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # (B, T, H/2, 2, W/2, 2, C)
        merged = hidden_states.permute(0, 1, 2, 4, 5, 3, 6).flatten(4)  # rows alternate faster than columns
        return self.reduction(self.norm(merged))


class VideoSwinPreTrainedModel(PreTrainedModel):
    config: VideoSwinConfig
    base_model_prefix = "video_swin"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["VideoSwinBlock"]
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, VideoSwinAttention):
            init.trunc_normal_(module.relative_position_bias_table, std=self.config.initializer_range)
        elif isinstance(module, VideoSwinBackbone):
            init.copy_(module.position_index, relative_position_index(self.config.window_size))


class VideoSwinBackbone(BackboneMixin, VideoSwinPreTrainedModel):
    """Shifted-window transformer that turns a clip into a pyramid of maps for each frame.

    Frames look at each other as far as the window reaches in time; with a window of one frame this is a Swin of single
    frames. Module names are those of the released checkpoints.
    """

    has_attentions = False

    def __init__(self, config: VideoSwinConfig):
        super().__init__(config)
        self.num_features = [config.embed_dim * 2**stage for stage in range(len(config.depths))]
        num_blocks = sum(config.depths)
        probabilities = [config.drop_path_rate * index / max(num_blocks - 1, 1) for index in range(num_blocks)]

        self.patch_embed = VideoSwinPatchEmbedding(config)
        self.layers = nn.ModuleList()
        for stage, depth in enumerate(config.depths):
            start = sum(config.depths[:stage])
            self.layers.append(VideoSwinStage(config, stage, probabilities[start : start + depth]))
        self.downsamples = nn.ModuleList(VideoSwinPatchMerging(dim) for dim in self.num_features[:-1])
        if config.normalize_stages:
            for stage in self.out_indices:
                self.add_module(f"norm{stage}", nn.LayerNorm(self.num_features[stage]))
        self.position_index = nn.Buffer(relative_position_index(config.window_size), persistent=False)
        self.post_init()

    @can_return_tuple
    @filter_output_hidden_states
    def forward(self, pixel_values_videos: torch.Tensor, **kwargs) -> BackboneOutput:
        """
        Args:
            pixel_values_videos (`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
                Normalised frames. Any size; sides are padded with zeros to multiples of `patch_size`.

        Returns:
            [`BackboneOutput`]: `feature_maps`, one for each exported stage, of shape `(batch_size * num_frames,
            channels, height / stride, width / stride)` with sizes rounded up, strides 4, 8, 16 and 32 by default, and
            the frames of a clip side by side. Maps are in channels-last memory. `hidden_states`, on request: the
            embedded patches and the output of every stage before its norm, in the same form.

        Raises:
            ValueError: if `pixel_values_videos` is not a batch of clips with the configured number of channels.
        """
        if pixel_values_videos.ndim != 5:
            raise ValueError(
                f"pixel_values_videos has {pixel_values_videos.ndim} dimensions, expected 5: (batch_size, num_frames, "
                "num_channels, height, width). A single clip needs a leading batch dimension, e.g. clip.unsqueeze(0)."
            )
        if pixel_values_videos.shape[2] != self.config.num_channels:
            raise ValueError(
                f"pixel_values_videos has {pixel_values_videos.shape[2]} channels in dimension 2, expected "
                f"{self.config.num_channels}. The order is (batch_size, num_frames, num_channels, height, width)."
            )

        hidden_state = self.patch_embed(pixel_values_videos)
        hidden_states = [hidden_state]
        feature_maps = []
        for stage, layer in enumerate(self.layers):
            if stage > 0:
                hidden_state = self.downsamples[stage - 1](hidden_state)
            hidden_state = layer(hidden_state, self.position_index)
            hidden_states.append(hidden_state)
            if stage in self.out_indices:
                norm = getattr(self, f"norm{stage}") if self.config.normalize_stages else nn.Identity()
                feature_maps.append(norm(hidden_state))
        return BackboneOutput(
            feature_maps=tuple(frame_maps(maps) for maps in feature_maps),
            hidden_states=tuple(frame_maps(maps) for maps in hidden_states),
        )


def frame_maps(clip_maps: torch.Tensor) -> torch.Tensor:
    """`(B, T, H, W, C)` to `(B * T, C, H, W)` without a copy."""
    return clip_maps.flatten(0, 1).permute(0, 3, 1, 2)


__all__ = ["VideoSwinBackbone", "VideoSwinPreTrainedModel"]
