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
import torch

from hf_rvos.ops.masks import mask_iou, merge_objects, resize_mask_logits, resize_masks


def test_iou_of_known_masks():
    predicted, target = torch.zeros(2, 4, 4, 4, dtype=torch.bool)
    predicted[0, :2], target[0, 1:3] = True, True  # 4 of 12 pixels in common
    predicted[1, 0, 0] = True  # the target is empty
    predicted[2, 1], target[2, 1] = True, True
    # the fourth frame is empty in both
    torch.testing.assert_close(mask_iou(predicted, target), torch.tensor([1 / 3, 0, 1, 1]))


def test_iou_counts_more_pixels_than_half_precision_could():
    predicted = torch.ones(1, 3000, 3000, dtype=torch.bool)
    target = predicted.clone()
    target[0, 0, 0] = False
    assert mask_iou(predicted, target).item() == torch.tensor(1 - 1 / 9e6).item()


def test_logits_are_resized_without_aligned_corners():
    resized = resize_mask_logits(torch.tensor([[[[0.0, 4.0]]]]), (1, 4))
    assert resized.tolist() == [[[[0, 1, 3, 4]]]]


def test_logits_keep_leading_dimensions_and_dtype():
    resized = resize_mask_logits(torch.zeros(2, 5, 3, 4, 6, dtype=torch.bfloat16), (9, 7))
    assert resized.shape == (2, 5, 3, 9, 7)
    assert resized.dtype == torch.bfloat16


def test_masks_take_the_nearest_pixel():
    mask = torch.tensor([[True, False, True, True], [False, False, True, False]])
    assert torch.equal(resize_masks(mask, (4, 8)), mask.repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert torch.equal(resize_masks(mask, (1, 2)), torch.tensor([[True, True]]))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_merged_objects_equal_the_official_maps(fixtures_dir, kind):
    with np.load(fixtures_dir / "metrics/davis_merge.npz") as arrays:
        for case in sorted({name.split("/")[0] for name in arrays}):
            merged = merge_objects(kind(arrays[f"{case}/prob"]))
            assert type(merged) is type(kind(arrays[f"{case}/merged"]))
            assert np.array_equal(merged, arrays[f"{case}/merged"]), case


def test_first_of_equally_sure_objects_wins_from_one_half_on():
    probabilities = np.array([[0.5, 0.49, 0.2, 0.7], [0.5, 0.3, 0.9, 0.7], [0.5, 0.49, 0.9, 0.71]])
    assert merge_objects(probabilities).tolist() == [1, 0, 2, 3]


@pytest.mark.parametrize("num_objects", [0, 255])
def test_index_maps_have_room_for_some_objects_only(num_objects):
    with pytest.raises(ValueError, match="expected 1 to 254"):
        merge_objects(np.zeros((num_objects, 2, 2)))
