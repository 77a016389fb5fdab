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

from hf_rvos.utils.visualization import PALETTE, draw_comparison, draw_masks


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


@pytest.fixture
def video():
    """Eight frames, each a little brighter than the one before."""
    return np.full((8, 256, 300, 3), 100, np.uint8) + 10 * np.arange(8, dtype=np.uint8)[:, None, None, None]


def test_comparison_darkens_all_but_the_prediction(video):
    predicted, target = np.zeros((2, 8, 256, 300), bool)
    predicted[:, 50:100, 50:100] = True
    first = draw_comparison(video, predicted, target, [])[-256:, :300]
    assert (first[50:100, 50:100] == 100).all()
    assert (first[~predicted[0]] == 40).all()


def test_comparison_outlines_the_truth(video):
    predicted, target = np.zeros((2, 8, 256, 300), bool)
    target[:, 50:100, 50:100] = True
    first = draw_comparison(video, predicted, target, [])[-256:, :300]
    assert (first[50, 50:100] == 255).all() and (first[50:100, 99] == 255).all()
    assert (first[60:90, 60:90] == 40).all()


@pytest.mark.parametrize("length, shown", [(8, [0, 2, 5, 7]), (2, [0, 1]), (1, [0])], ids=str)
def test_comparison_shows_frames_from_the_first_to_the_last_once(video, length, shown):
    masks = np.ones((length, 256, 300), bool)
    row = draw_comparison(video[:length], masks, ~masks, [])[-100]
    assert row[::304, 0].tolist() == [100 + 10 * index for index in shown]


def test_comparison_enlarges_small_frames_and_makes_room_for_text(video):
    masks = np.zeros((8, 64, 75), bool)
    bare, one, two = (draw_comparison(video[:, ::4, ::4], masks, masks, lines) for lines in ([], ["a"], ["a", "b"]))
    assert bare.shape[1] == 4 * 300 + 3 * 4
    assert 256 < bare.shape[0] < one.shape[0] < two.shape[0]
    assert (one[: one.shape[0] - 256] > 200).any()


def test_comparison_shortens_long_text(video):
    masks = np.zeros((8, 256, 300), bool)
    assert draw_comparison(video, masks, masks, ["word " * 200]).shape[1] == 4 * 300 + 3 * 4
