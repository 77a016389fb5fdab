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
import colorsys

import numpy as np
import pytest
import torch

from hf_rvos.data.augmentation import ClipAugmentation, change_hue_and_saturation


PHOTOMETRIC = {"photometric_probability": 1.0}


def clip(height=24, width=32, num_frames=3, seed=0):
    """Smooth noise, and masks of a box that is another one in each frame."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (num_frames, 3, 4, 5), generator=generator, dtype=torch.uint8)
    frames = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear", antialias=True)
    masks = torch.zeros(1, num_frames, height, width, dtype=torch.bool)
    for time in range(num_frames):
        masks[0, time, height // 4 : height // 2 + time, width // 8 : width // 2 + time] = True
    return frames, masks, ["the bright box on the left"]


def augment(sample, seed=0, **settings):
    return ClipAugmentation(**settings)(*sample, np.random.default_rng(seed))


def test_nothing_is_changed_unless_asked_for():
    frames, masks, expressions = clip()
    changed = augment((frames, masks, expressions))
    assert torch.equal(changed[0], frames) and torch.equal(changed[1], masks) and changed[2] == expressions


def test_flip_mirrors_frames_masks_and_words():
    frames, masks, _ = clip()
    changed = augment(clip(), flip_probability=1.0)
    assert torch.equal(changed[0], frames.flip(-1)) and torch.equal(changed[1], masks.flip(-1))
    assert changed[2] == ["the bright box on the right"]


def test_flips_are_as_frequent_as_asked():
    flips = [augment(clip(8, 8, 1), seed, flip_probability=0.3)[2] != clip()[2] for seed in range(400)]
    assert 0.22 < np.mean(flips) < 0.38


@pytest.mark.parametrize(
    "settings",
    [
        {"brightness": 40},
        {"contrast": (0.5, 1.5)},
        {"saturation": (0.5, 1.5)},
        {"hue": 18},
        {"channel_shuffle_probability": 1.0},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_colours_change_in_each_frame_on_its_own(settings):
    frames, masks, expressions = clip()
    frames = frames[:1].expand(4, -1, -1, -1)
    changed = augment((frames, masks, expressions), **PHOTOMETRIC, **settings)[0]
    assert changed.dtype == torch.uint8 and changed.shape == frames.shape
    assert len({frame.numpy().tobytes() for frame in changed}) > 2


def test_colours_do_not_touch_masks():
    frames, masks, expressions = clip()
    changed = augment((frames, masks, expressions), hue=18, brightness=40, **PHOTOMETRIC)
    assert torch.equal(changed[1], masks)


def test_brightness_is_clipped_at_both_ends():
    for value in (5, 250):
        frames = torch.full((200, 3, 2, 2), value, dtype=torch.uint8)
        changed = augment((frames, clip()[1], []), brightness=32, **PHOTOMETRIC)[0]
        # A value that wraps around would be at the other end.
        assert (changed.int() - value).abs().max() <= 32
        assert changed.min() == 0 if value == 5 else changed.max() == 255


def test_contrast_stays_in_its_range():
    frames = torch.full((300, 3, 1, 1), 100, dtype=torch.uint8)
    changed = augment((frames, clip()[1], []), contrast=(0.8, 1.2), **PHOTOMETRIC)[0]
    assert changed.min() in (80, 81) and changed.max() in (119, 120)


def test_channels_are_put_into_every_order():
    frames = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1).expand(100, -1, 2, 2)
    changed = augment((frames, clip()[1], []), channel_shuffle_probability=1.0)[0]
    assert len({tuple(frame[:, 0, 0].tolist()) for frame in changed}) == 6


@pytest.mark.parametrize(
    "hue, factor, offset", [(50, 1, 0), (-70, 0.5, 0), (0, 3, 0), (340, 1, 0.2), (-340, 1, 0), (0, 1, -1)]
)
def test_hue_and_saturation_are_those_of_hsv(hue, factor, offset):
    colors = np.random.default_rng(0).uniform(0, 255, (1, 50, 3)).astype(np.float32)
    expected = []
    for color in colors[0] / 255:
        h, s, v = colorsys.rgb_to_hsv(*map(float, color))
        expected.append(colorsys.hsv_to_rgb((h + hue / 360) % 1, min(max(s * factor + offset, 0), 1), v))
    changed = change_hue_and_saturation(colors, hue, factor, offset)
    np.testing.assert_allclose(changed[0] / 255, expected, atol=1e-4)


@pytest.mark.parametrize("size, expected", [((60, 80), (30, 40)), ((80, 60), (40, 30)), ((20, 100), (8, 40))])
def test_short_side_gives_way_to_the_limit_of_the_long_one(size, expected):
    frames, masks, _ = augment(clip(*size), short_sides=[30], max_long_side=40)
    assert frames.shape[-2:] == masks.shape[-2:] == expected


def test_all_sizes_are_drawn_and_shared_by_the_clip():
    shapes = {tuple(augment(clip(), seed, short_sides=[12, 18, 30])[0].shape) for seed in range(30)}
    assert shapes == {(3, 3, 12, 16), (3, 3, 18, 24), (3, 3, 30, 40)}


def test_crop_is_a_part_of_the_clip():
    frames, masks, expressions = clip(50, 60)
    places = torch.arange(50 * 60).view(1, 1, 50, 60)
    numbered = torch.cat([places // 60, places % 60, places * 0], dim=1).byte().repeat(3, 1, 1, 1)
    sizes = set()
    for seed in range(20):
        changed, changed_masks, _ = augment(
            (numbered, masks, expressions), seed, crop_probability=1.0, crop_short_sides=[50], crop_range=[30, 45]
        )
        height, width = changed.shape[-2:]
        assert 30 <= height <= 45 and 30 <= width <= 45
        top, left = changed[0, :2, 0, 0].tolist()
        assert torch.equal(changed, numbered[..., top : top + height, left : left + width])
        assert torch.equal(changed_masks, masks[..., top : top + height, left : left + width])
        sizes.add((height, width))
    assert len(sizes) > 10


def test_crop_is_resized_with_its_own_limits():
    settings = {"short_sides": [10], "crop_probability": 1.0, "crop_short_sides": [50], "crop_range": [30, 40]}
    plain = augment(clip(), **settings)[0]
    own = augment(clip(), **settings, cropped_short_sides=[20], cropped_max_long_side=22)[0]
    assert min(plain.shape[-2:]) == 10
    assert max(own.shape[-2:]) <= 22 and min(own.shape[-2:]) > 15


@pytest.mark.parametrize("size", [(2, 2), (3, 200), (200, 3)])
def test_pictures_narrower_than_the_crop_are_kept_whole_there(size):
    for seed in range(10):
        frames, masks, _ = augment(
            clip(*size), seed, crop_probability=1.0, crop_short_sides=[20], crop_range=[38, 60], short_sides=[16]
        )
        assert frames.shape[-2:] == masks.shape[-2:]
        assert min(frames.shape[-2:]) == 16


def test_labels_of_fewer_frames_than_the_clip_has_are_fine():
    frames, masks, expressions = clip()
    changed = augment(
        (frames, masks[:, :1], expressions), flip_probability=1.0, short_sides=[12], hue=5, crop_probability=0
    )
    assert changed[0].shape[:1] == (3,) and changed[1].shape == (1, 1, 12, 16)


def test_colours_can_change_after_the_resize():
    settings = {"short_sides": [6], "contrast": (0.0, 0.0), **PHOTOMETRIC}
    for after in (False, True):
        frames = augment(clip(), photometric_after_resize=after, **settings)[0]
        assert frames.shape[-2:] == (6, 8) and frames.max() == 0


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"flip_probability": 2}, "flip_probability is 2"),
        ({"contrast": (1.5, 0.5)}, "contrast is"),
        ({"crop_range": (5,)}, "crop_range is"),
        ({"short_sides": []}, "short_sides is"),
        ({"short_sides": 480}, "short_sides is 480"),
        ({"hue": -1}, "hue"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ClipAugmentation(**settings)
