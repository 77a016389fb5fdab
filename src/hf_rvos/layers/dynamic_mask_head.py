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

"""Masks from convolutions whose weights the queries predict (CondInst; ReferFormer section 3.3)."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils.generic import maybe_autocast


class DynamicMaskHead(nn.Module):
    """Run a small 1x1 network per query and frame over shared mask features.

    The network also sees how far each cell is from the centre of the query's box, in pixels of the model input and
    not scaled by anything: released weights assume it. Parameters of a query are all weights (row-major, output
    channel first; in the first layer the features, then x, then y), then all biases.

    Features are never copied per query, and coordinates never materialised: the first layer is one matrix product
    plus a term for the columns and one for the rows.

    Args:
        feature_size (`int`): Channels of the mask features.
        channels (`int`): Channels between the layers.
        num_layers (`int`): Number of 1x1 layers, at least 2.
        stride (`int`): Pixels of the model input per cell.
        output_channels (`int`): Logits per cell.
    """

    def __init__(
        self, feature_size: int, channels: int = 8, num_layers: int = 3, stride: int = 4, output_channels: int = 1
    ):
        super().__init__()
        self.feature_size, self.channels, self.stride = feature_size, channels, stride
        inputs = [feature_size + 2] + [channels] * (num_layers - 1)
        outputs = [channels] * (num_layers - 1) + [output_channels]
        self.weight_shapes = list(zip(outputs, inputs))
        self.split_sizes = [rows * columns for rows, columns in self.weight_shapes] + outputs
        self.num_parameters = sum(self.split_sizes)

    def extra_repr(self) -> str:
        return f"feature_size={self.feature_size}, layers={self.weight_shapes}, stride={self.stride}"

    def forward(
        self,
        features: torch.Tensor,
        parameters: torch.Tensor,
        centers: torch.Tensor,
        frame_sizes: torch.Tensor,
        projection: nn.Conv2d | None = None,
    ) -> torch.Tensor:
        """
        Args:
            features: `(num_frames, feature_size, height, width)` mask features.
            parameters: `(num_frames, num_queries, num_parameters)`.
            centers: `(num_frames, num_queries, 2)` (x, y) in units of the unpadded frame.
            frame_sizes: `(num_frames, 2)` height and width of the unpadded frame, in pixels.
            projection: 3x3 convolution that makes the mask features from `features`. It is merged with the first
                layer, which pays when there are few queries: `channels` maps per query are convolved instead of
                `feature_size`.

        Returns:
            `(num_frames, num_queries * output_channels, height, width)` logits, those of a query side by side.
        """
        num_frames, num_queries, _ = parameters.shape
        height, width = features.shape[-2:]
        pieces = parameters.split(self.split_sizes, dim=-1)
        num_layers = len(self.weight_shapes)
        weights = [piece.unflatten(-1, shape) for piece, shape in zip(pieces, self.weight_shapes)]
        biases = pieces[num_layers:]

        feature_weights = weights[0][..., : self.feature_size].flatten(1, 2)  # (N, Q * channels, feature_size)
        if projection is None:
            hidden = feature_weights @ features.flatten(2)
        else:
            hidden = self._project_and_mix(features, feature_weights, projection)
        hidden = hidden.view(num_frames, num_queries, self.channels, height, width)

        # Offsets reach hundreds of pixels, which half precision would round to whole ones, and their terms cancel.
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        with maybe_autocast(features.device.type, enabled=False):
            center_x = centers[..., 0].to(dtype) * frame_sizes[:, None, 1]
            center_y = centers[..., 1].to(dtype) * frame_sizes[:, None, 0]
            columns = torch.arange(width, device=features.device, dtype=dtype) * self.stride + self.stride // 2
            rows = torch.arange(height, device=features.device, dtype=dtype) * self.stride + self.stride // 2
            weight_x, weight_y = weights[0][..., -2].to(dtype), weights[0][..., -1].to(dtype)  # (N, Q, channels)
            along_x = weight_x[..., None] * (center_x[..., None] - columns)[:, :, None]
            along_y = weight_y[..., None] * (center_y[..., None] - rows)[:, :, None] + biases[0].to(dtype)[..., None]
            mixed = (hidden.to(dtype) + along_x[..., None, :] + along_y[..., :, None]).flatten(3)
            for weight, bias in zip(weights[1:], biases[1:]):
                mixed = weight.to(dtype) @ mixed.relu() + bias.to(dtype)[..., None]
        return mixed.view(num_frames, -1, height, width).to(hidden.dtype)

    @staticmethod
    def _project_and_mix(features: torch.Tensor, weights: torch.Tensor, projection: nn.Conv2d) -> torch.Tensor:
        """`weights @ projection(features)` as nine small products that are shifted and added."""
        num_frames, num_outputs, _ = weights.shape
        height, width = features.shape[-2:]
        taps = torch.einsum("nof,fcyx->nyxoc", weights, projection.weight.to(weights.dtype))
        taps = taps.flatten(1, 3)  # (N, 9 * outputs, C)
        responses = (taps @ features.flatten(2)).view(num_frames, 3, 3, num_outputs, height, width)
        padded = F.pad(responses, (1, 1, 1, 1))
        mixed = (weights @ projection.bias.to(weights.dtype))[..., None, None]
        for y in range(3):
            for x in range(3):
                mixed = mixed + padded[:, y, x, :, y : y + height, x : x + width]
        return mixed
