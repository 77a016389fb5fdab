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
import numpy as np
import pytest

from hf_rvos.utils.visualization import PALETTE, draw_masks


@pytest.fixture
def frame():
    return np.full((80, 120, 3), 100, np.uint8)


def box_mask(top, left, size=20):
    mask = np.zeros((80, 120), bool)
    mask[top : top + size, left : left + size] = True
    return mask


def test_pixels_outside_the_masks_stay(frame):
    mask = box_mask(30, 40)
    drawn = draw_masks(frame, [mask])
    np.testing.assert_array_equal(drawn[~mask], frame[~mask])
    assert (frame == 100).all()


def test_inside_is_blended_and_the_edge_is_the_full_colour(frame):
    drawn = draw_masks(frame, [box_mask(30, 40)], alpha=0.25)
    np.testing.assert_array_equal(drawn[40, 50], np.round(75 + 0.25 * np.array(PALETTE[0])))
    np.testing.assert_array_equal(drawn[30, 40], PALETTE[0])


def test_each_mask_has_its_colour(frame):
    drawn = draw_masks(frame, [box_mask(30, 10), box_mask(30, 60)], alpha=1.0)
    np.testing.assert_array_equal(drawn[40, 20], PALETTE[0])
    np.testing.assert_array_equal(drawn[40, 70], PALETTE[1])


def test_more_masks_than_colours_start_over(frame):
    drawn = draw_masks(frame, [box_mask(0, 0, 1)] * len(PALETTE) + [box_mask(30, 10)], alpha=1.0)
    np.testing.assert_array_equal(drawn[40, 20], PALETTE[0])


def test_empty_mask_changes_nothing(frame):
    np.testing.assert_array_equal(draw_masks(frame, [np.zeros((80, 120), bool)]), frame)


def test_legend_shows_the_colour_of_each_sentence(frame):
    masks = [np.zeros((80, 120), bool)] * 2
    corner = draw_masks(frame, masks, ["red", "blue"])[:30, :30].reshape(-1, 3)
    for color in PALETTE[:2]:
        assert (corner == color).all(1).any()


@pytest.mark.parametrize("size", [(80, 120), (16, 24), (4, 4)], ids=str)
@pytest.mark.parametrize("labels", [["the red circle moving left " * 20], ["étoile"] * 30], ids=["long", "many"])
def test_legend_never_leaves_the_frame(size, labels):
    frame = np.zeros((*size, 3), np.uint8)
    assert draw_masks(frame, [np.zeros(size, bool)] * len(labels), labels).shape == frame.shape


def test_mask_of_another_size_is_refused(frame):
    with pytest.raises(ValueError, match=r"masks\[1\] has shape \(40, 60\), expected .*\(80, 120\)"):
        draw_masks(frame, [box_mask(0, 0), np.zeros((40, 60), bool)])
