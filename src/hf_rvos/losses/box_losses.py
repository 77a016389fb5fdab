# Copyright 2026 The hf_rvos authors.
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
"""Losses of box tracks.

Frames without the object count too, against an empty box, as in the released training code.
"""

import torch

from hf_rvos.ops.boxes import cxcywh_to_xyxy, generalized_box_iou


def box_l1_distance(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Sum of absolute differences of `(..., 4)` cxcywh boxes, `(...)`; the shapes broadcast."""
    return (predicted - target).abs().sum(-1)


def box_giou_loss(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """One minus the generalised IoU of `(..., 4)` cxcywh boxes, `(...)`; the shapes broadcast."""
    return 1 - generalized_box_iou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target))
