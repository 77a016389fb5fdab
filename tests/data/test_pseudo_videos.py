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
import numpy as np
import pytest

from hf_rvos.data.pseudo_videos import pseudo_video


STILL = {
    "perspective": 0,
    "rotation": 0,
    "translation": 0,
    "blur_probability": 0,
    "brightness": 0,
    "hue_saturation": 0,
}


def picture(height=48, width=64):
    """A white box on grey, and its mask."""
    mask = np.zeros((1, height, width), bool)
    mask[0, height // 4 : 3 * height // 4, width // 4 : width // 2] = True
    return np.where(mask[0][..., None], 230, 60).astype(np.uint8).repeat(3, axis=2), mask


def make(clip_length=8, seed=0, **settings):
    return pseudo_video(*picture(), clip_length, np.random.default_rng(seed), **settings)


def test_the_picture_itself_is_in_the_clip_once():
    frames, masks = make()
    same = [np.array_equal(frame, picture()[0]) for frame in frames]
    assert sum(same) == 1
    assert np.array_equal(masks[:, same.index(True)], picture()[1])


def test_the_picture_takes_every_place():
    places = {
        next(t for t, frame in enumerate(make(3, seed)[0]) if (frame == picture()[0]).all()) for seed in range(20)
    }
    assert places == {0, 1, 2}


def test_copies_that_do_not_move_are_the_picture():
    frames, masks = make(**STILL)
    assert (frames == picture()[0]).all() and (masks == picture()[1][:, None]).all()


@pytest.mark.parametrize("moved", ["perspective", "rotation", "translation"])
def test_masks_move_with_the_object(moved):
    settings = {**STILL, moved: {"perspective": 0.08, "rotation": 20, "translation": 0.1}[moved]}
    frames, masks = make(**settings)
    assert len({mask.tobytes() for mask in masks[0]}) > 4
    bright = frames[..., 0] > 145
    # Pixels of the outline are between the two greys.
    assert np.mean(bright != masks[0]) < 0.01


def test_shift_stays_in_its_range():
    height, width = picture()[0].shape[:2]
    masks = make(200, **STILL | {"translation": 0.1})[1][0]
    tops, lefts = masks.any(2).argmax(1) - height // 4, masks.any(1).argmax(1) - width // 4
    assert np.abs(tops).max() == round(0.1 * height) and np.abs(lefts).max() == round(0.1 * width)


def test_corners_only_move_inwards():
    # Something of the picture is cut off, and nothing from outside comes in.
    frames = make(50, **STILL | {"perspective": 0.08})[0]
    assert frames.min() >= 60


def test_brightness_is_clipped():
    white = np.full((4, 4, 3), 250, np.uint8)
    frames, _ = pseudo_video(
        white, np.ones((1, 4, 4), bool), 50, np.random.default_rng(0), **STILL | {"brightness": 40}
    )
    assert frames.min() >= 210 and frames.max() == 255


def test_colour_is_left_alone_without_hue_and_saturation():
    color = np.tile(np.array([90, 120, 150], np.uint8), (4, 4, 1))
    masks = np.ones((1, 4, 4), bool)
    for hue_saturation in (0, 5):
        settings = STILL | {"brightness": 40, "hue_saturation": hue_saturation}
        frames = pseudo_video(color, masks, 50, np.random.default_rng(0), **settings)[0].astype(int)
        kept = (np.diff(frames, axis=-1) == 30).all()
        assert kept == (hue_saturation == 0)


def test_blur_keeps_the_mean_and_the_mask():
    frames, masks = make(30, **STILL | {"blur_probability": 1.0})
    blurred = [frame for frame in frames if (frame != picture()[0]).any()]
    assert len(blurred) == 29
    assert max(abs(frame.mean() - picture()[0].mean()) for frame in blurred) < 3
    assert (masks == picture()[1][:, None]).all()


def test_every_expression_has_its_track():
    frame, mask = picture()
    both = np.concatenate([mask, ~mask])
    _, tracks = pseudo_video(frame, both, 4, np.random.default_rng(0))
    assert tracks.shape == (2, 4, 48, 64) and not (tracks[0] & tracks[1]).any()


@pytest.mark.parametrize("size", [(1, 1), (2, 300)])
def test_tiny_pictures_are_fine(size):
    frames, masks = pseudo_video(
        np.zeros((*size, 3), np.uint8), np.ones((1, *size), bool), 3, np.random.default_rng(0), blur_probability=1.0
    )
    assert frames.shape == (3, *size, 3) and masks.shape == (1, 3, *size)
