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
from hf_rvos.data.moving_shapes_clips import MovingShapesClips
from hf_rvos.data.transforms import mirror_expression


def test_a_sample_depends_on_its_key_alone():
    first, second = (MovingShapesClips(seed=1)[0, 5, 4] for _ in range(2))
    assert first["expressions"] == second["expressions"]
    assert torch.equal(first["frames"], second["frames"]) and torch.equal(first["masks"], second["masks"])


def test_epochs_show_different_clips_of_a_video():
    clips = MovingShapesClips(flip_probability=0)
    assert len({clips[epoch, 5, 4]["frames"].sum().item() for epoch in range(8)}) > 1


def test_whole_video_gives_its_frames_and_masks():
    clip, video = MovingShapesClips(flip_probability=0)[0, 5, 16], generate_video("train", 5)
    assert torch.equal(clip["frames"].permute(0, 2, 3, 1), torch.from_numpy(video.frames))
    rows = {row["expression"]: row["object_ids"][0] + 1 for row in video.rows}
    for expression, masks in zip(clip["expressions"], clip["masks"]):
        assert torch.equal(masks, torch.from_numpy(video.object_map) == rows[expression])


def test_mirrored_clip_has_mirrored_expressions():
    plain, mirrored = (MovingShapesClips(flip_probability=p)[0, 5, 16] for p in (0, 1))
    assert torch.equal(mirrored["frames"], plain["frames"].flip(-1))
    assert torch.equal(mirrored["masks"], plain["masks"].flip(-1))
    assert mirrored["expressions"] == [mirror_expression(expression) for expression in plain["expressions"]]


def test_skills_that_no_video_asks_for_are_one_clear_error():
    clips = MovingShapesClips(num_videos=3, skills=("several",))
    with pytest.raises(ValueError, match="has a sentence to learn from: skills is .*several.*, subset is 'single'"):
        clips[0, 0, 2]


def test_clip_is_resized_with_its_masks():
    clip = MovingShapesClips(size=(64, 96))[0, 5, 4]
    assert clip["frames"].shape == (4, 3, 64, 96)
    assert clip["masks"].shape[1:] == (4, 64, 96)


@pytest.mark.parametrize("index", range(4))
def test_every_target_is_visible_somewhere(index):
    clip = MovingShapesClips()[0, index, 1]
    assert clip["valid_frames"].any(-1).all()
    assert (clip["boxes"][clip["valid_frames"]] > 0).all()


def test_labels_of_some_frames_are_those_of_the_whole_clip():
    few, all_frames = (MovingShapesClips(flip_probability=0, num_annotated=n)[0, 5, 16] for n in (3, None))
    assert few["frames"].shape == all_frames["frames"].shape
    assert few["annotated_frames"].tolist() == sorted(set(few["annotated_frames"].tolist()))
    assert len(few["annotated_frames"]) == 3
    whole = dict(zip(all_frames["expressions"], all_frames["masks"]))
    for expression, masks in zip(few["expressions"], few["masks"], strict=True):
        assert torch.equal(masks, whole[expression][few["annotated_frames"]])


def test_groups_change_nothing_else_about_a_clip():
    plain, grouped = (MovingShapesClips(num_annotated=2, max_group_size=size)[0, 5, 8] for size in (None, 3))
    groups = grouped.pop("group_index")
    assert len(groups) == len(grouped["expressions"])
    assert groups.bincount().max() <= 3
    assert plain.keys() == grouped.keys()
    for name, value in plain.items():
        assert torch.equal(grouped[name], value) if torch.is_tensor(value) else grouped[name] == value


def test_skills_can_depend_on_the_length_of_the_clip():
    video = generate_video("train", 5)
    of = {row["expression"]: row["skill"] for row in video.rows}
    clips = MovingShapesClips(flip_probability=0, skills={1: ("appearance",)})
    assert {of.get(expression, "appearance") for expression in clips[0, 5, 1]["expressions"]} == {"appearance"}
    assert len({of[expression] for expression in clips[0, 5, 16]["expressions"]}) > 1


def test_objects_of_all_sentences_are_given_apart():
    clips = MovingShapesClips(flip_probability=0, config=MovingShapesConfig(subset="all"), object_masks=True)
    numbers = set()
    for index in range(6):
        clip, video = clips[0, index, 16], generate_video("train", index, MovingShapesConfig(subset="all"))
        rows = {row["expression"]: row["object_ids"] for row in video.rows}
        for expression, objects, union in zip(clip["expressions"], clip["object_masks"], clip["masks"], strict=True):
            expected = [torch.from_numpy(video.object_map) == number + 1 for number in rows[expression]]
            assert len(objects) == len(expected)
            assert all(torch.equal(mask, wanted) for mask, wanted in zip(objects, expected))
            assert torch.equal(objects.any(0), union)
            numbers.add(len(objects))
    assert numbers > {0, 1, 2}


def test_objects_that_a_clip_does_not_show_are_left_out():
    clips = MovingShapesClips(size=(16, 24), config=MovingShapesConfig(subset="all"), object_masks=True)
    for index in range(12):
        for objects in clips[0, index, 1]["object_masks"]:
            assert objects.flatten(1).any(1).all()


def test_without_objects_apart_there_are_sentences_about_one():
    clip = MovingShapesClips(config=MovingShapesConfig(subset="all"))[0, 5, 4]
    assert "object_masks" not in clip and clip["expressions"] == MovingShapesClips()[0, 5, 4]["expressions"]
