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

"""Outputs that every model of the library returns."""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class ReferringVideoSegmentationOutput(ModelOutput):
    """Predictions for each expression.

    Args:
        loss (`torch.FloatTensor` of shape `()`, *optional*, returned when `labels` are given):
            Weighted sum of `loss_dict`.
        loss_dict (`dict[str, torch.FloatTensor]`, *optional*, returned when `labels` are given):
            Unweighted terms. Those of earlier decoder layers end in the number of the layer.
        logits (`torch.FloatTensor` of shape `(num_expressions, num_queries, num_frames, num_classes)`):
            Scores of being the object that is referred to, before the sigmoid.
        pred_boxes (`torch.FloatTensor` of shape `(num_expressions, num_queries, num_frames, 4)`):
            Boxes cxcywh, in units of the unpadded frame.
        pred_masks (`torch.Tensor` of shape `(num_expressions, num_queries, num_frames, mask_height, mask_width)`):
            Mask logits on a grid over the padded frame, whose cells have `mask_stride` pixels on a side; the number of
            cells is rounded up. With `queries="best"` the second size is 1.
        query_index (`torch.LongTensor` of shape `(num_expressions,)`, *optional*, returned with `queries="best"`):
            The query of each expression that `pred_masks` shows.
        reference_points (`torch.FloatTensor` of shape `(num_expressions, num_queries, num_frames, 2)`, *optional*):
            Where the last decoder layer looked from, (x, y) in units of the unpadded frame.
        auxiliary_outputs (`list[dict[str, torch.FloatTensor]]`, *optional*):
            `logits`, `pred_boxes` and `pred_masks` of the earlier decoder layers, on request and with `labels`.
        last_hidden_state (`torch.FloatTensor` of shape `(num_expressions, num_queries, num_frames, hidden_size)`):
            Queries after the last decoder layer.
        mask_stride (`int`, *optional*):
            Pixels of the padded frame for each cell of `pred_masks`, in height and width. None means 4.
    """

    loss: torch.FloatTensor | None = None
    loss_dict: dict[str, torch.FloatTensor] | None = None
    logits: torch.FloatTensor | None = None
    pred_boxes: torch.FloatTensor | None = None
    pred_masks: torch.FloatTensor | None = None
    query_index: torch.LongTensor | None = None
    reference_points: torch.FloatTensor | None = None
    auxiliary_outputs: list[dict[str, torch.FloatTensor]] | None = None
    last_hidden_state: torch.FloatTensor | None = None
    mask_stride: int | None = None
