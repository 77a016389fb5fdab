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
"""Scenes of Moving Shapes: reproducible, inside the canvas, and with masks that are what can be seen."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from hf_rvos.data.moving_shapes import MovingShapesConfig, generate_video
from hf_rvos.data.moving_shapes.config import RandomStream
from hf_rvos.data.moving_shapes.motion import SUBPIXELS, Segment, run_program
from hf_rvos.data.moving_shapes.render import PALETTE, render_scene
from hf_rvos.data.moving_shapes.scene import UNSPINNABLE, Scene, sample_scene


SMALL = MovingShapesConfig(height=64, width=96, num_frames=8)


@pytest.fixture(scope="module")
def videos():
    return [generate_video("train", index) for index in range(24)]


def digest(video) -> str:
    rows = repr([sorted(row.items()) for row in video.rows]).encode()
    return hashlib.sha256(video.frames.tobytes() + video.object_map.tobytes() + rows).hexdigest()


def test_version_1_0_0_has_these_bytes():
    # A change of these numbers is a change of the benchmark: raise VERSION with it.
    assert {split: digest(generate_video(split, 3, SMALL))[:16] for split in ("train", "val", "test")} == {
        "train": "b3c0b4213f7af9d7",
        "val": "ad7843fb808b481e",
        "test": "1e68dea5dc7a3e29",
    }


def test_a_video_does_not_depend_on_what_was_drawn_before():
    forwards = [digest(generate_video("val", index, SMALL)) for index in range(4)]
    backwards = [digest(generate_video("val", index, SMALL)) for index in reversed(range(4))]
    assert forwards == backwards[::-1] and len(set(forwards)) == 4


def test_splits_differ():
    assert len({digest(generate_video(split, 0, SMALL)) for split in ("train", "val", "test")}) == 3


def test_subset_all_only_adds_rows():
    for index in range(10):
        single = generate_video("val", index, SMALL)
        everything = generate_video("val", index, replace(SMALL, subset="all"))
        assert np.array_equal(single.frames, everything.frames)
        assert everything.rows[: len(single.rows)] == single.rows
        assert {row["skill"] for row in everything.rows[len(single.rows) :]} <= {"several", "none"}


def test_frame_rate_changes_no_pixel():
    assert digest(generate_video("val", 0, replace(SMALL, fps=25))) == digest(generate_video("val", 0, SMALL))


@pytest.mark.parametrize(("height", "width", "num_frames"), [(128, 192, 16), (96, 64, 9), (100, 150, 20)])
def test_canvas_and_length_are_as_configured(height, width, num_frames):
    video = generate_video("train", 1, MovingShapesConfig(height, width, num_frames))
    assert video.frames.shape == (num_frames, height, width, 3) and video.frames.dtype == np.uint8
    assert video.object_map.shape == (num_frames, height, width) and video.object_map.dtype == np.uint8


def test_masks_are_the_visible_area_exactly(videos):
    config = MovingShapesConfig()
    for video in videos[:8]:
        scene = video.scene
        alone = [
            render_scene(Scene(scene.objects, [index]), config, RandomStream("any")).object_map > 0
            for index in range(len(scene.objects))
        ]
        for place, index in enumerate(scene.depth):
            in_front = np.any([alone[other] for other in scene.depth[place + 1 :]] + [np.zeros_like(alone[0])], axis=0)
            assert np.array_equal(video.object_map == index + 1, alone[index] & ~in_front)


def test_hidden_objects_have_no_pixels(videos):
    hidden = 0
    for video in videos:
        for number, item in enumerate(video.scene.objects, start=1):
            for time in np.flatnonzero(~item.track.shown):
                hidden += 1
                assert not (video.object_map[time] == number).any()
    assert hidden > 0


def test_inside_of_a_plain_object_has_its_colour(videos):
    checked = 0
    for video in videos:
        for number, item in enumerate(video.scene.objects, start=1):
            mask = video.object_map[0] == number
            inner = mask.copy()
            for shift in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                inner &= np.roll(mask, shift, (0, 1))
            inner[[0, -1]] = inner[:, [0, -1]] = False
            if item.fill == "plain" and inner.any():
                checked += 1
                assert (video.frames[0][inner] == PALETTE[item.color]).all(-1).mean() > 0.9
    assert checked > 20


def test_background_is_darker_than_every_colour_is_bright(videos):
    for video in videos[:6]:
        background = video.frames[video.object_map == 0].astype(int)
        assert background.std(axis=0).max() < 40
        assert np.percentile(background.max(-1), 99) < min(max(color) for color in PALETTE.values())


def test_objects_stay_at_least_half_inside_unless_they_leave_or_enter(videos):
    for video in videos:
        for item in video.scene.objects:
            x, y = item.position.T / SUBPIXELS
            inside = (0 <= x) & (x <= 192) & (0 <= y) & (y <= 128)
            if item.edge is None:
                assert inside.all()
            else:
                assert not inside[-1 if item.edge == "leave" else 0]


def test_scenes_have_three_to_six_objects_and_programs_that_fill_the_video(videos):
    for video in videos:
        assert 3 <= len(video.scene.objects) <= 6
        for item in video.scene.objects:
            assert 1 <= len(item.program) <= 3
            assert sum(segment.duration for segment in item.program) == 16
            assert not (item.shape in UNSPINNABLE and "spin" in {segment.primitive for segment in item.program})


def test_most_scenes_have_look_alikes():
    scenes = [sample_scene(MovingShapesConfig(), RandomStream("scenes", index)) for index in range(50)]
    alike = [len({item.shape for item in scene.objects}) < len(scene.objects) for scene in scenes]
    assert np.mean(alike) > 0.95


@pytest.mark.parametrize(("primitive", "sense"), [("clockwise", 1), ("counterclockwise", -1)])
def test_circles_close_and_turn_as_seen_on_the_screen(primitive, sense):
    offset = run_program((Segment(primitive, 16, 7.0, 5),), 1.0).offset
    steps = np.diff(offset, axis=0)
    turning = steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0]  # y points down
    assert (np.sign(turning) == sense).all()
    assert np.abs(offset[-1] - offset[0]).max() <= 1


@pytest.mark.parametrize(
    ("argument", "value"), [("height", 32), ("num_frames", 4), ("fps", 0), ("subset", "some"), ("version", "0.0.1")]
)
def test_configuration_that_cannot_be_drawn_is_refused(argument, value):
    with pytest.raises(ValueError, match=argument):
        MovingShapesConfig(**{argument: value})


@pytest.mark.parametrize(("split", "index"), [("valid", 0), ("train", -1)])
def test_videos_that_do_not_exist_are_refused(split, index):
    with pytest.raises(ValueError, match="expected"):
        generate_video(split, index)
