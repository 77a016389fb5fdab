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
import torch

from hf_rvos.layers.frame_geometry import (
    keep_annotated_frames,
    level_positions,
    resize_pixel_mask,
    unpadded_frame_sizes,
    valid_ratios_of,
    whole_frame_sizes,
)


def mask_of(*sizes: tuple[int, int], num_frames: int = 2, padded: tuple[int, int] = (8, 12)) -> torch.Tensor:
    mask = torch.zeros(len(sizes), num_frames, *padded, dtype=torch.bool)
    for video, (height, width) in zip(mask, sizes):
        video[:, :height, :width] = True
    return mask


def test_real_size_of_each_video():
    assert unpadded_frame_sizes(mask_of((8, 9), (5, 12))).tolist() == [[8, 9], [5, 12]]


def test_size_without_mask_is_that_of_a_full_one():
    expected = unpadded_frame_sizes(mask_of((8, 12), (8, 12)))
    torch.testing.assert_close(whole_frame_sizes(2, (8, 12), torch.device("cpu")), expected, rtol=0, atol=0)


def test_masks_are_resized_by_the_nearest_pixel():
    mask = mask_of((5, 12))
    (found,) = resize_pixel_mask(mask, [(4, 3)])
    assert torch.equal(found, mask[:, :, ::2, ::4])


def test_ratios_are_width_first_and_never_zero():
    masks = resize_pixel_mask(mask_of((8, 9), (4, 12)), [(8, 12), (2, 4)])
    ratios = valid_ratios_of(masks)
    assert ratios.shape == (2, 2, 2, 2)
    assert ratios[:, 0].tolist() == [[[0.75, 1], [0.75, 1]], [[1, 0.5], [1, 0.5]]]
    assert valid_ratios_of([mask_of((0, 0))]).tolist() == [[[[1, 1]], [[1, 1]]]]


def test_positions_without_mask_are_those_of_a_full_one():
    shapes = [(4, 6), (1, 2)]
    masks = resize_pixel_mask(mask_of((8, 12)), shapes)
    for found, expected in zip(
        level_positions(shapes, None, 8, torch.device("cpu")), level_positions(shapes, masks, 8, torch.device("cpu"))
    ):
        assert found.shape[:2] == (1, 1)
        assert torch.equal(found.expand_as(expected), expected)


def test_annotated_frames_are_taken_from_their_own_clip():
    maps = torch.arange(6.0).view(6, 1, 1, 1)  # two clips of three frames
    mask = torch.arange(6).view(2, 3, 1, 1) % 2 == 0
    (kept,), kept_mask = keep_annotated_frames([maps], mask, torch.tensor([[2, 0], [1, 1]]), num_frames=3)
    assert kept.flatten().tolist() == [2, 0, 4, 4]
    assert kept_mask.flatten().tolist() == [True, True, True, True]
    assert keep_annotated_frames([maps], None, torch.tensor([[0], [1]]), num_frames=3)[1] is None
