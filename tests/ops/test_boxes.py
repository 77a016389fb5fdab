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
import pytest
import torch

from hf_rvos.ops.boxes import (
    boxes_from_masks,
    cxcywh_to_xyxy,
    denormalize_boxes,
    generalized_box_iou,
    normalize_boxes,
    xyxy_to_cxcywh,
)


def test_forms_are_inverse():
    boxes = torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(xyxy_to_cxcywh(cxcywh_to_xyxy(boxes)), boxes)


def test_corners_lie_half_a_side_from_the_centre():
    assert cxcywh_to_xyxy(torch.tensor([5.0, 3.0, 4.0, 2.0])).tolist() == [3, 2, 7, 4]


def test_normalisation_divides_x_by_width_and_y_by_height():
    boxes = torch.tensor([[2.0, 3.0, 4.0, 6.0]])
    assert normalize_boxes(boxes, (12, 8)).tolist() == [[0.25, 0.25, 0.5, 0.5]]
    torch.testing.assert_close(denormalize_boxes(normalize_boxes(boxes, (12, 8)), (12, 8)), boxes)


@pytest.mark.parametrize(
    "predicted, target, expected",
    [
        ([0, 0, 2, 2], [0, 0, 2, 2], 1.0),
        ([0, 0, 2, 2], [1, 1, 3, 3], 1 / 7 - 2 / 9),
        ([0, 0, 1, 1], [2, 0, 3, 1], -1 / 3),
        ([0, 0, 4, 4], [1, 1, 2, 2], 1 / 16),
        ([0, 0, 1, 1], [0, 0, 0, 0], 0.0),
        # Two empty boxes: the smoothed IoU is 1, and so is the smoothed share of the hull outside their union.
        ([0, 0, 0, 0], [0, 0, 0, 0], 0.0),
    ],
)
def test_generalized_iou_of_known_pairs(predicted, target, expected):
    value = generalized_box_iou(torch.tensor(predicted).double(), torch.tensor(target).double())
    assert value.item() == pytest.approx(expected, abs=3e-6)


def test_generalized_iou_forms_pairs_by_broadcasting():
    predicted = cxcywh_to_xyxy(torch.rand(2, 5, 3, 4, generator=torch.Generator().manual_seed(0)))
    target = cxcywh_to_xyxy(torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(1)))
    values = generalized_box_iou(predicted, target)
    assert values.shape == (2, 5, 3)
    torch.testing.assert_close(values[1, 4, 2], generalized_box_iou(predicted[1, 4, 2], target[1, 0, 2]))


def test_gradient_of_equal_and_empty_boxes_is_finite():
    boxes = torch.tensor([[0.1, 0.1, 0.3, 0.4], [0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    generalized_box_iou(boxes, boxes.detach()).sum().backward()
    assert boxes.grad.isfinite().all()


def test_box_of_a_mask_has_inclusive_corners():
    masks = torch.zeros(4, 6, 8, dtype=torch.uint8)
    masks[0, 2:5, 3:8] = 255
    masks[1, 4, 1] = 1
    masks[2] = 1
    assert boxes_from_masks(masks).tolist() == [[3, 2, 7, 4], [1, 4, 1, 4], [0, 0, 7, 5], [0, 0, 0, 0]]


def test_boxes_of_masks_keep_leading_dimensions():
    assert boxes_from_masks(torch.ones(2, 3, 4, 5, dtype=torch.bool)).shape == (2, 3, 4)
