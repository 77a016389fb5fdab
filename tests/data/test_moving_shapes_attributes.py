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

from hf_rvos.data.moving_shapes import MovingShapesConfig, generate_video
from hf_rvos.data.moving_shapes_attributes import (
    ATTRIBUTE_CLASSES,
    IGNORED,
    MOTIONS,
    MovingShapesAttributes,
    motion_names,
)


def test_a_sample_depends_on_its_key_alone():
    first, second = (MovingShapesAttributes(seed=1)[0, 5, 4] for _ in range(2))
    assert torch.equal(first["frames"], second["frames"])
    assert all(torch.equal(label, second["labels"][name]) for name, label in first["labels"].items())


def test_frames_are_those_of_the_video():
    sample, video = MovingShapesAttributes(flip_probability=0)[0, 5, 16], generate_video("train", 5)
    assert torch.equal(sample["frames"].permute(0, 2, 3, 1), torch.from_numpy(video.frames))


@pytest.mark.parametrize("name", ["shape", "color", "size", "fill"])
def test_each_object_has_its_attribute_where_it_is_seen(name):
    labels = MovingShapesAttributes(flip_probability=0, label_stride=1)[0, 5, 16]["labels"][name]
    video = generate_video("train", 5)
    owners = torch.from_numpy(video.object_map)
    assert (labels[owners == 0] == IGNORED).all()
    for number, item in enumerate(video.scene.objects):
        assert (labels[owners == number + 1] == ATTRIBUTE_CLASSES[name].index(getattr(item, name))).all()


def test_motions_are_those_of_the_frame_and_of_the_ends_of_the_clip():
    labels = MovingShapesAttributes(flip_probability=0, label_stride=1)[0, 5, 16]["labels"]
    video = generate_video("train", 5)
    owners = torch.from_numpy(video.object_map)
    for number, item in enumerate(video.scene.objects):
        numbers = torch.tensor([MOTIONS.index(name) for name in motion_names(item)])
        frame, *place = (owners == number + 1).nonzero(as_tuple=True)
        assert torch.equal(labels["motion"][frame, *place], numbers[frame])
        assert (labels["first_motion"][frame, *place] == numbers[0]).all()
        assert (labels["last_motion"][frame, *place] == numbers[-1]).all()


def test_velocity_is_what_moves_the_object():
    labels = MovingShapesAttributes(flip_probability=0, label_stride=1)[0, 5, 16]["labels"]
    video = generate_video("train", 5)
    owners = torch.from_numpy(video.object_map)
    for number, item in enumerate(video.scene.objects):
        right = [segment.primitive == "right" for segment in item.program for _ in range(segment.duration)]
        for time in range(1, 15):
            if all(right[time - 1 : time + 2]) and (owners[time] == number + 1).any():
                speeds = labels["velocity"][time][:, owners[time] == number + 1]
                assert (speeds[0] > 0.2).all() and (speeds[1:] == 0).all()


def test_mirrored_clip_moves_the_other_way():
    plain, mirrored = (MovingShapesAttributes(flip_probability=p, label_stride=1)[0, 5, 16] for p in (0, 1))
    assert torch.equal(mirrored["frames"], plain["frames"].flip(-1))
    of_plain, of_mirrored = (
        {name: label.flip(-1) if sample is plain else label for name, label in sample["labels"].items()}
        for sample in (plain, mirrored)
    )
    assert torch.equal(of_mirrored["shape"], of_plain["shape"])
    signs = torch.tensor([-1.0, 1, 1, -1]).view(4, 1, 1)
    assert torch.equal(of_mirrored["velocity"], of_plain["velocity"] * signs)
    left, right = MOTIONS.index("left"), MOTIONS.index("right")
    assert torch.equal(of_mirrored["motion"] == left, of_plain["motion"] == right)


def test_labels_are_coarser_than_frames():
    sample = MovingShapesAttributes(size=(66, 96))[0, 5, 2]
    assert sample["frames"].shape == (2, 3, 66, 96)
    assert {label.shape[-2:] for label in sample["labels"].values()} == {(17, 24)}


def test_one_frame_tells_no_motion():
    labels = MovingShapesAttributes()[0, 5, 1]["labels"]
    assert (labels["motion"] == IGNORED).all() and (labels["velocity"] == 0).all()
    assert (labels["shape"] != IGNORED).any()


def test_canvas_of_the_configuration_is_kept():
    sample = MovingShapesAttributes(config=MovingShapesConfig(height=64, width=96))[0, 0, 2]
    assert sample["frames"].shape[-2:] == (64, 96)
