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

"""Projections of the outputs of backbone and text encoder to the width of the transformer."""

import torch
from torch import nn


class LevelProjection(nn.Module):
    """Bring a feature map of the backbone to the width of the transformer."""

    def __init__(self, in_channels: int, hidden_size: int, kernel_size: int = 1, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, hidden_size, kernel_size, stride, padding=kernel_size // 2)
        self.norm = nn.GroupNorm(32, hidden_size)

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(feature_map))


class TextProjection(nn.Module):
    """Bring words and sentence to the width of the transformer; one module for both."""

    def __init__(self, text_size: int, hidden_size: int, dropout: float):
        super().__init__()
        self.linear = nn.Linear(text_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.norm(self.linear(features)))
