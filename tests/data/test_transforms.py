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

from hf_rvos.data.transforms import mirror_expression, resize_clip, training_boxes


@pytest.mark.parametrize(
    "expression, mirrored",
    [
        ("the circle moving left", "the circle moving right"),
        ("left of the right one", "right of the left one"),
        ("the leftmost bright star", "the rightmost bright star"),
        ("turning clockwise", "turning counterclockwise"),
        ("turning counterclockwise", "turning clockwise"),
        ("turning counter-clockwise", "turning clockwise"),
        ("turning counter clockwise", "turning clockwise"),
        ("turning anticlockwise", "turning clockwise"),
        ("turning anti-clockwise", "turning clockwise"),
        ("the lefthand cup", "the righthand cup"),
        ("the red square that goes up", "the red square that goes up"),
    ],
)
def test_mirror_swaps_whole_words(expression, mirrored):
    assert mirror_expression(expression) == mirrored


def test_mirroring_twice_changes_nothing():
    expression = "the shape going rightwards and clockwise to the left of the leftmost one"
    assert mirror_expression(mirror_expression(expression)) == expression


def test_boxes_span_the_first_and_last_pixel():
    mask = torch.zeros(10, 20, dtype=torch.bool)
    mask[2:7, 4:15] = True  # rows 2 to 6, columns 4 to 14
    boxes, present = training_boxes(mask)
    torch.testing.assert_close(boxes, torch.tensor([9 / 20, 4 / 10, 10 / 20, 4 / 10]))
    assert present


@pytest.mark.parametrize("rows, columns", [((0, 0), (0, 0)), ((2, 3), (4, 9)), ((2, 8), (4, 5))])
def test_object_without_area_is_absent(rows, columns):
    mask = torch.zeros(10, 20, dtype=torch.bool)
    mask[slice(*rows), slice(*columns)] = True
    boxes, present = training_boxes(mask)
    assert not present
    assert (boxes == 0).all()


def test_each_mask_of_a_stack_has_its_own_box():
    masks = torch.zeros(2, 3, 8, 8, dtype=torch.bool)
    masks[1, 2, 2:5, 2:5] = True
    boxes, present = training_boxes(masks)
    assert boxes.shape == (2, 3, 4)
    assert present.nonzero().tolist() == [[1, 2]]


def test_resize_keeps_the_mean_of_frames_and_the_share_of_masks():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (2, 3, 32, 48), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(1, 2, 32, 48, dtype=torch.bool)
    masks[..., :16, :24] = True
    small_frames, small_masks = resize_clip(frames, masks, (16, 24))
    assert small_frames.dtype == torch.uint8 and small_masks.dtype == torch.bool
    assert abs(small_frames.float().mean() - frames.float().mean()) < 2
    assert small_masks.float().mean() == 0.25


def test_clip_of_the_right_size_is_left_alone():
    frames, masks = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 2, 8, 8, dtype=torch.bool)
    same_frames, same_masks = resize_clip(frames, masks, (8, 8))
    assert same_frames is frames and same_masks is masks
