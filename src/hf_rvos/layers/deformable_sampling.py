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

"""The sampling step of multi-scale deformable attention on CPU, forward and backward.

`grid_sample` reads its maps channel by channel and keeps every sample. Here a sample never exists: a query's output is
one weighted sum over rows of a table of tokens, four rows per location, which an embedding bag computes in one pass.
All works in chunks of frames that stay in the cache.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable


# Locations treated at once, and entries of the dense sampling matrices of the backward: both about what a cache takes.
CHUNK_LOCATIONS = 1 << 16
DENSE_ENTRIES = 1 << 20


class _Corners(NamedTuple):
    """Cells around the locations of a chunk; all have the shape `(groups, num_queries, locations of a query)`.

    A group is a head of a frame. `x` and `y` are pairs: the cell before the location and the one after.
    """

    inside_x: tuple[torch.Tensor, torch.Tensor]  # 1 where the cell exists, else 0
    inside_y: tuple[torch.Tensor, torch.Tensor]
    share_x: tuple[torch.Tensor, torch.Tensor]  # bilinear weight, 0 outside
    share_y: tuple[torch.Tensor, torch.Tensor]
    tokens: torch.Tensor  # (groups, num_queries, 4 * locations), int64, in the order of `_in_corners`


def _in_corners(x: tuple[torch.Tensor, torch.Tensor], y: tuple[torch.Tensor, torch.Tensor], combine) -> torch.Tensor:
    return torch.cat([combine(row, column) for row in y for column in x], dim=-1)


def _cells(positions: torch.Tensor, size: torch.Tensor):
    """Neighbouring cells along one axis, clamped to the map, whether they exist, and their bilinear weights."""
    before = positions.floor()
    share = positions - before
    cells, inside = [], []
    for cell in (before, before + 1):
        clamped = cell.clamp(min=0).minimum(size - 1)
        cells.append(clamped)
        inside.append(1 - (cell - clamped).abs().clamp(max=1))
    return tuple(cells), tuple(inside), ((1 - share) * inside[0], share * inside[1])


class _Levels(NamedTuple):
    """Width, height and first token of the level of each location, `(num_queries, locations of a query)`."""

    widths: torch.Tensor
    heights: torch.Tensor
    starts: torch.Tensor

    @classmethod
    def of(cls, shapes: list[tuple[int, int]], weights: torch.Tensor) -> "_Levels":
        sizes = weights.new_tensor(shapes)
        starts = sizes.prod(1).cumsum(0) - sizes.prod(1)
        num_queries, num_points = weights.shape[1], weights.shape[-1]
        columns = (sizes[:, 1], sizes[:, 0], starts)
        # Materialised for all queries: element-wise operations on equal shapes are the fast ones.
        return cls(*(column.repeat_interleave(num_points).repeat(num_queries, 1) for column in columns))

    def corners(self, locations: torch.Tensor, num_tokens: int) -> _Corners:
        """`locations` is `(groups, num_queries, locations of a query, 2)`."""
        columns, inside_x, share_x = _cells(locations[..., 0] * self.widths - 0.5, self.widths)
        rows, inside_y, share_y = _cells(locations[..., 1] * self.heights - 0.5, self.heights)
        first = tuple(row * self.widths + self.starts for row in rows)
        tokens = _in_corners(columns, first, torch.add).long()
        # Locations that are not finite give any number.
        return _Corners(inside_x, inside_y, share_x, share_y, tokens.clamp_(0, num_tokens - 1))


def _fold_heads(x: torch.Tensor) -> torch.Tensor:
    """`(frames, length, heads, ...)` to `(frames * heads, length, ...)`."""
    return x.transpose(1, 2).flatten(0, 1).contiguous()


def _unfold_heads(x: torch.Tensor, num_heads: int) -> torch.Tensor:
    return x.unflatten(0, (-1, num_heads)).transpose(1, 2)


def _chunks(weights: torch.Tensor) -> Iterator[slice]:
    step = max(1, CHUNK_LOCATIONS // weights[0].numel())
    return (slice(start, start + step) for start in range(0, len(weights), step))


class DeformableSampling(torch.autograd.Function):
    """Arguments and result as in `MultiScaleDeformableAttention`, in float32 or float64.

    The gradient of the sum scatters to tokens and gathers from them. In the backward both go through dense blocks
    (queries x tokens) of the sampling matrix: filling them and two matrix products are several times faster on CPU
    than scattering rows.
    """

    @staticmethod
    def forward(
        ctx, value: torch.Tensor, shapes: list[tuple[int, int]], locations: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(value, locations, weights)
        ctx.shapes = shapes
        num_tokens, num_heads = value.shape[1:3]
        levels = _Levels.of(shapes, weights)
        output = torch.empty_like(value[:, :1]).expand(-1, weights.shape[1], -1, -1).contiguous()
        for chunk in _chunks(weights):
            tables = _fold_heads(value[chunk])
            corners = levels.corners(_fold_heads(locations[chunk]).flatten(2, 3), num_tokens)
            bag_weights = _fold_heads(weights[chunk]).flatten(2)
            bag_weights = _in_corners(corners.share_x, [y * bag_weights for y in corners.share_y], torch.mul)
            rows = corners.tokens + torch.arange(0, len(tables) * num_tokens, num_tokens)[:, None, None]
            sums = F.embedding_bag(
                rows.flatten(0, 1), tables.flatten(0, 1), mode="sum", per_sample_weights=bag_weights.flatten(0, 1)
            )
            output[chunk] = _unfold_heads(sums.unflatten(0, rows.shape[:2]), num_heads)
        return output.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, None, torch.Tensor, torch.Tensor]:
        value, locations, weights = ctx.saved_tensors
        num_tokens, num_heads = value.shape[1:3]
        levels = _Levels.of(ctx.shapes, weights)
        grad = grad.unflatten(2, (num_heads, -1))
        grad_value, grad_locations = torch.empty_like(value), torch.empty_like(locations)
        grad_weights = torch.empty_like(weights)
        for chunk in _chunks(weights):
            corners = levels.corners(_fold_heads(locations[chunk]).flatten(2, 3), num_tokens)
            chunk_weights = _fold_heads(weights[chunk]).flatten(2)
            bag_weights = _in_corners(corners.share_x, [y * chunk_weights for y in corners.share_y], torch.mul)
            table_grads, bag_grads = _bag_backward(
                _fold_heads(value[chunk]), corners.tokens, bag_weights, _fold_heads(grad[chunk])
            )
            grad_value[chunk] = _unfold_heads(table_grads, num_heads)

            upper_left, upper_right, lower_left, lower_right = bag_grads.chunk(4, dim=-1)
            (left, right), (upper, lower) = corners.share_x, corners.share_y
            at_left, at_right = upper * upper_left + lower * lower_left, upper * upper_right + lower * lower_right
            at_upper, at_lower = left * upper_left + right * upper_right, left * lower_left + right * lower_right
            grad_x = at_right * corners.inside_x[1] - at_left * corners.inside_x[0]
            grad_y = at_lower * corners.inside_y[1] - at_upper * corners.inside_y[0]
            grad_xy = torch.stack((grad_x * levels.widths, grad_y * levels.heights), -1) * chunk_weights[..., None]
            per_location = weights.shape[-2:]
            grad_locations[chunk] = _unfold_heads(grad_xy.unflatten(2, per_location), num_heads)
            chunk_grads = (left * at_left + right * at_right).unflatten(2, per_location)
            grad_weights[chunk] = _unfold_heads(chunk_grads, num_heads)
        return grad_value, None, grad_locations, grad_weights


def _bag_backward(
    tables: torch.Tensor, tokens: torch.Tensor, weights: torch.Tensor, grad: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of `sum over k of weights[g, q, k] * tables[g, tokens[g, q, k]]` with regard to tables and weights."""
    num_groups, num_tokens, _ = tables.shape
    num_queries = tokens.shape[1]
    table_grads, weight_grads = torch.zeros_like(tables), torch.empty_like(weights)
    query_step = min(num_queries, max(1, DENSE_ENTRIES // num_tokens))
    group_step = max(1, DENSE_ENTRIES // (num_tokens * query_step))
    for group in range(0, num_groups, group_step):
        groups = slice(group, group + group_step)
        by_channel = tables[groups].transpose(1, 2)
        for query in range(0, num_queries, query_step):
            block = (groups, slice(query, query + query_step))
            matrix = weights.new_zeros(*tokens[block].shape[:2], num_tokens)
            matrix.scatter_add_(2, tokens[block], weights[block])
            table_grads[groups] += matrix.transpose(1, 2) @ grad[block]
            weight_grads[block] = (grad[block] @ by_channel).gather(2, tokens[block])
    return table_grads, weight_grads
