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

from hf_rvos.data.collate import ClipCollator
from hf_rvos.processing.word_tokenizer import build_word_tokenizer


def sample(height=32, width=64, num_frames=2, expressions=("a star",), value=0):
    count = len(expressions)
    return {
        "frames": torch.full((num_frames, 3, height, width), value, dtype=torch.uint8),
        "expressions": list(expressions),
        "masks": torch.ones(count, num_frames, height, width, dtype=torch.bool),
        "boxes": torch.rand(count, num_frames, 4),
        "valid_frames": torch.ones(count, num_frames, dtype=torch.bool),
        "video_id": "train/0",
    }


@pytest.fixture
def collate():
    return ClipCollator(build_word_tokenizer(["a", "star", "red", "ring"]))


def test_video_index_names_the_video_of_each_expression(collate):
    batch = collate([sample(expressions=["a star", "a ring"]), sample(), sample(expressions=["a", "star", "ring"])])
    assert batch["video_index"].tolist() == [0, 0, 1, 2, 2, 2]
    assert len(batch["labels"]) == len(batch["input_ids"]) == 6


def test_groups_of_two_clips_have_different_numbers(collate):
    groups = torch.tensor([0, 1, 0])
    batch = collate([sample(expressions=["a", "star", "ring"]) | {"group_index": groups} for _ in range(2)])
    first, second = batch["group_index"].split(3)
    assert first.tolist() == [0, 1, 0]
    assert second[0] == second[2] != second[1]
    assert not set(first.tolist()) & set(second.tolist())


def test_samples_without_groups_make_a_batch_without(collate):
    assert "group_index" not in collate([sample()])


def test_pixels_are_normalised(collate):
    batch = collate([sample(value=255)])
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(batch["pixel_values_videos"][0, 0, :, 0, 0], expected)


def test_clips_of_one_fitting_size_need_no_mask(collate):
    assert collate([sample(), sample()])["pixel_mask"] is None


@pytest.mark.parametrize("sizes", [[(32, 64), (64, 32)], [(30, 60)]], ids=["different", "not a multiple"])
def test_padding_is_zero_and_masked(collate, sizes):
    batch = collate([sample(*size, value=9) for size in sizes])
    height, width = batch["pixel_values_videos"].shape[-2:]
    assert height % 32 == width % 32 == 0
    for index, size in enumerate(sizes):
        expected = torch.zeros(height, width, dtype=torch.bool)
        expected[: size[0], : size[1]] = True
        assert (batch["pixel_mask"][index] == expected).all()
        assert (batch["pixel_values_videos"][index, ..., ~expected] == 0).all()
        assert batch["labels"][index]["masks"].shape[-2:] == size


def test_short_expressions_are_padded(collate):
    batch = collate([sample(expressions=["a red star", "ring"])])
    assert batch["attention_mask"].sum(1).tolist() == [5, 3]


def test_clips_of_different_length_are_refused(collate):
    with pytest.raises(ValueError, match=r"have \[2, 3\] frames"):
        collate([sample(num_frames=2), sample(num_frames=3)])


def test_clips_with_and_without_unlabelled_frames_are_refused(collate):
    with pytest.raises(ValueError, match="train/0, train/0 some have annotated_frames"):
        collate([sample(), sample() | {"annotated_frames": torch.tensor([1])}])


def test_expressions_longer_than_the_limit_are_refused(collate):
    with pytest.raises(ValueError, match="train/0 has 42 tokens, the limit is 32"):
        collate([sample(expressions=["star " * 40])])


def test_labels_have_the_objects_of_their_expression(collate):
    objects = [torch.ones(count, 2, 32, 64, dtype=torch.bool) for count in (2, 0)]
    batch = collate([sample(expressions=["a star", "a ring"]) | {"object_masks": objects}])
    assert [len(label["object_masks"]) for label in batch["labels"]] == [2, 0]
    assert "object_masks" not in collate([sample()])["labels"][0]
