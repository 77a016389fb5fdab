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

"""Multi-scale deformable attention (Deformable DETR, equation 2)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers.integrations import use_kernel_forward_from_hub

from hf_rvos.layers.deformable_sampling import DeformableSampling
from hf_rvos.layers.remembered import remembered


# The CUDA kernel wants the flattened batch to be a multiple of min(batch, step); a step above any batch is always one.
IM2COL_STEP = 1 << 20


class SpatialLayout(NamedTuple):
    """Sizes of the feature levels on a device.

    `shapes` and `starts` are what the CUDA kernel reads: `(num_levels, 2)` heights and widths and `(num_levels,)`
    offsets of the levels in the token sequence, int64. `extents` is `(num_levels, 2)` float32, width first.
    """

    shapes: torch.Tensor
    starts: torch.Tensor
    extents: torch.Tensor


@remembered
def spatial_layout(shapes: tuple[tuple[int, int], ...], device: torch.device) -> SpatialLayout:
    """Tensors of a list of `(height, width)`, kept so that no clip waits for a copy to the device."""
    sizes = torch.tensor(shapes, dtype=torch.int64, device=device)
    starts = sizes.prod(1).cumsum(0) - sizes.prod(1)
    return SpatialLayout(sizes, starts, sizes.flip(1).float())


@use_kernel_forward_from_hub("MultiScaleDeformableAttention")
class MultiScaleDeformableAttention(nn.Module):
    """The sampling step, without parameters, under the name and with the arguments of the kernel on the hub."""

    def forward(
        self,
        value: torch.Tensor,
        value_spatial_shapes: torch.Tensor,
        value_spatial_shapes_list: list[tuple[int, int]],
        level_start_index: torch.Tensor,
        sampling_locations: torch.Tensor,
        attention_weights: torch.Tensor,
        im2col_step: int,
    ) -> torch.Tensor:
        """
        Args:
            value: `(batch_size, num_tokens, num_heads, head_size)`, the levels one after the other.
            value_spatial_shapes: `(num_levels, 2)` heights and widths; read by the CUDA kernel only.
            value_spatial_shapes_list: the same as a list, so that no shape has to come back from the device.
            level_start_index: `(num_levels,)`; read by the CUDA kernel only.
            sampling_locations: `(batch_size, num_queries, num_heads, num_levels, num_points, 2)`, (x, y) in units of
                the padded map.
            attention_weights: `(batch_size, num_queries, num_heads, num_levels, num_points)`.
            im2col_step: clips that the CUDA kernel takes at once.

        Returns:
            `(batch_size, num_queries, num_heads * head_size)` in the dtype of `value`.
        """
        dtype = torch.promote_types(value.dtype, torch.float32)
        sampled = (
            value.to(dtype),
            value_spatial_shapes_list,
            sampling_locations.to(dtype),
            attention_weights.to(dtype),
        )
        # The graph of a compiled or exported model is made of ordinary operations.
        on_cpu = value.device.type == "cpu" and not torch.compiler.is_compiling()
        return (DeformableSampling.apply if on_cpu else sample_maps)(*sampled).to(value.dtype)


def sample_maps(
    value: torch.Tensor, shapes: list[tuple[int, int]], locations: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """The sampling step in operations that every device has; arguments as in `MultiScaleDeformableAttention`."""
    batch_size, _, num_heads, head_size = value.shape
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # (B*heads, Q, levels, points, 2)
    weights = weights.transpose(1, 2).flatten(0, 1)[:, None]  # (B*heads, 1, Q, levels, points)
    output = 0
    for level, tokens in enumerate(value.split([height * width for height, width in shapes], dim=1)):
        maps = tokens.permute(0, 2, 3, 1).reshape(batch_size * num_heads, head_size, *shapes[level])
        samples = F.grid_sample(maps, grids[:, :, level], align_corners=False)
        output = output + (samples * weights[:, :, :, level]).sum(-1)  # (B*heads, head_size, Q)
    return output.view(batch_size, num_heads * head_size, -1).transpose(1, 2).contiguous()


class DeformableAttention(nn.Module):
    """Attention of each query to a few learned places in every feature level.

    Args:
        hidden_size (`int`): Width of queries and values.
        num_heads (`int`): Attention heads; must divide `hidden_size`.
        num_levels (`int`): Feature levels.
        num_points (`int`): Places per head and level.
    """

    def __init__(self, hidden_size: int, num_heads: int, num_levels: int, num_points: int):
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"hidden_size ({hidden_size}) must be divisible by num_heads ({num_heads})")
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        self.sampling_offsets = nn.Linear(hidden_size, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(hidden_size, num_heads * num_levels * num_points)
        self.value_proj = nn.Linear(hidden_size, hidden_size)
        self.output_proj = nn.Linear(hidden_size, hidden_size)
        self.attn = MultiScaleDeformableAttention()

    def forward(
        self,
        query: torch.Tensor,
        memory: torch.Tensor,
        reference_points: torch.Tensor,
        spatial_shapes: list[tuple[int, int]],
        memory_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Args:
            query: `(batch_size, num_queries, hidden_size)`, position code included.
            memory: `(batch_size, num_tokens, hidden_size)`, the levels one after the other.
            reference_points: `(batch_size, num_queries, num_levels, 2)` points (x, y) or `(..., 4)` boxes cxcywh, in
                units of the padded map. `batch_size` and `num_levels` may be 1.
            spatial_shapes: `(height, width)` of each level.
            memory_mask: `(batch_size, num_tokens)`, True at real tokens, or None when all are.

        Returns:
            Same shape as `query`.
        """
        batch_size, num_queries, _ = query.shape
        per_head = (batch_size, num_queries, self.num_heads, self.num_levels, self.num_points)
        # Locations in half precision would move samples by several pixels, and the CUDA kernel wants one dtype.
        dtype = torch.promote_types(query.dtype, torch.float32)
        offsets = self.sampling_offsets(query).view(*per_head, 2).to(dtype)
        weights = self.attention_weights(query).view(*per_head[:3], -1).softmax(-1, dtype=dtype).view(per_head)

        references = reference_points[:, :, None, :, None].to(dtype)
        if references.shape[-1] == 2:
            # Flat, because broadcasting along a dimension of two is slow on CPU.
            layout = spatial_layout(tuple(spatial_shapes), query.device)
            extents = layout.extents.repeat_interleave(self.num_points, 0).flatten()
            steps = (offsets.flatten(-3) / extents).view_as(offsets)
        else:
            steps = offsets / self.num_points * references[..., 2:] * 0.5
        sampling = (spatial_shapes, references[..., :2] + steps, weights)
        if num_queries * self.num_heads < memory.shape[1] and not torch.is_grad_enabled():
            attended = self._sample_and_project(memory, memory_mask, *sampling)
        else:
            value = self.value_proj(memory)
            if memory_mask is not None:
                value = value * memory_mask[..., None].to(value.dtype)
            attended = self._sample(value.unflatten(-1, (self.num_heads, -1)), *sampling)
        return self.output_proj(attended.to(query.dtype))

    def _sample(
        self,
        value: torch.Tensor,
        spatial_shapes: list[tuple[int, int]],
        locations: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        layout = spatial_layout(tuple(spatial_shapes), value.device)
        value = value.to(weights.dtype)
        return self.attn(value, layout.shapes, spatial_shapes, layout.starts, locations, weights, IM2COL_STEP)

    def _sample_and_project(
        self,
        memory: torch.Tensor,
        memory_mask: torch.Tensor | None,
        spatial_shapes: list[tuple[int, int]],
        locations: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        """The same for few queries, where most values would never be looked at.

        Both steps are linear, so what is sampled can be projected in place of all tokens. Samples outside the map and
        at masked tokens are zero and get no bias either: a map of ones tells how much of each sum is real.
        """
        num_queries, num_heads = locations.shape[1:3]
        is_real = memory.new_ones(memory.shape[:2]) if memory_mask is None else memory_mask.to(memory.dtype)
        if memory_mask is not None:
            memory = memory * is_real[..., None]
        # Heads look at all channels here, each like a query of its own.
        sampling = (spatial_shapes, locations.flatten(1, 2).unsqueeze(2), weights.flatten(1, 2).unsqueeze(2))
        sampled = self._sample(memory.contiguous()[:, :, None], *sampling).unflatten(1, (num_queries, num_heads))
        share = self._sample(is_real[:, :, None, None], *sampling).unflatten(1, (num_queries, num_heads))
        weight = self.value_proj.weight.unflatten(0, (num_heads, -1))  # (heads, C / heads, C)
        projected = torch.einsum("bqhc,hdc->bqhd", sampled.to(weight.dtype), weight)
        return (projected + share.to(weight.dtype) * self.value_proj.bias.view(num_heads, -1)).flatten(2)
