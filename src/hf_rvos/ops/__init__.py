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
"""Arithmetic on boxes and masks, without parameters."""

from hf_rvos.ops.boxes import (
    boxes_from_masks,
    cxcywh_to_xyxy,
    denormalize_boxes,
    generalized_box_iou,
    normalize_boxes,
    xyxy_to_cxcywh,
)
from hf_rvos.ops.masks import mask_iou, merge_objects, resize_mask_logits, resize_masks
from hf_rvos.ops.rle import decode_rle, encode_rle


__all__ = [
    "boxes_from_masks",
    "cxcywh_to_xyxy",
    "decode_rle",
    "denormalize_boxes",
    "encode_rle",
    "generalized_box_iou",
    "mask_iou",
    "merge_objects",
    "normalize_boxes",
    "resize_mask_logits",
    "resize_masks",
    "xyxy_to_cxcywh",
]
