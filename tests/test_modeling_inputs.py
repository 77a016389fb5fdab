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

from hf_rvos.modeling_inputs import check_text, check_video_index, check_videos


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_values_videos": torch.zeros(5, 3, 8, 12)}, "has 4 dimensions, expected 5: .*clip.unsqueeze"),
        ({"pixel_values_videos": torch.zeros(2, 5, 1, 8, 12)}, r"\(2, 5, 1, 8, 12\), expected 3 channels"),
        ({"pixel_mask": torch.ones(2, 5, 12, 8)}, r"pixel_mask has shape .*, expected \(2, 5, 8, 12\)"),
        ({"annotated_frames": torch.tensor([0])}, r"annotated_frames has shape \(1,\), expected \(2,\)"),
        ({"annotated_frames": torch.zeros(2, 1, 1)}, r"annotated_frames has shape \(2, 1, 1\), expected \(2,\)"),
        ({"annotated_frames": torch.tensor([0, 5])}, r"annotated_frames is \[0, 5\], expected values from 0 to 4"),
        ({"annotated_frames": torch.tensor([0, -1])}, r"annotated_frames is \[0, -1\], expected values from 0 to 4"),
        ({"min_size": 9}, "frames of 8x12 pixels, expected at least 9x9: resize the video"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_videos_are_named(change, message):
    inputs = {"pixel_values_videos": torch.zeros(2, 5, 3, 8, 12), "pixel_mask": None, "annotated_frames": None}
    with pytest.raises(ValueError, match=message):
        check_videos(**inputs | change)


@pytest.mark.parametrize("annotated_frames", [None, torch.tensor([0, 4]), torch.tensor([[1], [2]])])
def test_fitting_videos_pass(annotated_frames):
    videos, mask = torch.zeros(2, 5, 3, 8, 12), torch.ones(2, 5, 8, 12, dtype=torch.bool)
    assert check_videos(videos, mask, annotated_frames, min_size=8) is None


@pytest.mark.parametrize(
    ("input_ids", "attention_mask", "message"),
    [
        (torch.zeros(7), torch.ones(7), "input_ids has 1 dimensions, expected 2: .*input_ids.unsqueeze"),
        (torch.zeros(2, 7), torch.ones(2, 6), r"attention_mask has shape \(2, 6\), expected that of .*\(2, 7\)"),
    ],
)
def test_wrong_text_is_named(input_ids, attention_mask, message):
    with pytest.raises(ValueError, match=message):
        check_text(input_ids, attention_mask)


@pytest.mark.parametrize(
    ("video_index", "num_expressions", "message"),
    [
        (None, 3, "3 expressions for 2 videos. Give video_index"),
        ([0], 3, r"video_index has shape \(1,\), expected \(3,\)"),
        ([0, 2, 1], 3, r"video_index is \[0, 2, 1\], expected values from 0 to 1"),
        ([0, -1, 1], 3, r"video_index is \[0, -1, 1\], expected values from 0 to 1"),
    ],
)
def test_wrong_video_index_is_named(video_index, num_expressions, message):
    index = None if video_index is None else torch.tensor(video_index)
    with pytest.raises(ValueError, match=message):
        check_video_index(index, num_expressions, num_videos=2)


def test_values_on_an_accelerator_are_not_looked_at():
    index = torch.zeros(2, dtype=torch.long, device="meta")  # whose values cannot be had
    assert check_video_index(index, 2, num_videos=2) is None
