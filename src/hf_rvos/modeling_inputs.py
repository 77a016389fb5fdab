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

"""Checks of the inputs that every model of the library takes."""

import torch


def check_video_index(video_index: torch.Tensor | None, num_expressions: int, num_videos: int):
    """Raise `ValueError` if `video_index` does not name a video for each expression."""
    if video_index is None:
        if num_expressions != num_videos:
            raise ValueError(
                f"There are {num_expressions} expressions for {num_videos} videos. Give video_index, of shape "
                "(num_expressions,), to say which video each expression refers to."
            )
        return
    if video_index.shape != (num_expressions,):
        raise ValueError(f"video_index has shape {tuple(video_index.shape)}, expected ({num_expressions},)")
    _check_range("video_index", video_index, num_videos)


def _check_range(name: str, index: torch.Tensor, size: int):
    """Look at values where that is free: on an accelerator the host would wait for them, and a trace has none."""
    if index.device.type == "cpu" and not torch.compiler.is_compiling() and not ((0 <= index) & (index < size)).all():
        raise ValueError(f"{name} is {index.tolist()}, expected values from 0 to {size - 1}")


def check_videos(
    pixel_values_videos: torch.Tensor,
    pixel_mask: torch.Tensor | None,
    annotated_frames: torch.Tensor | None,
    min_size: int = 1,
):
    """Raise `ValueError` if clips have the wrong rank or size, or do not fit mask and chosen frames."""
    if pixel_values_videos.ndim != 5:
        raise ValueError(
            f"pixel_values_videos has {pixel_values_videos.ndim} dimensions, expected 5: (num_videos, num_frames, 3, "
            "height, width). A single clip needs a leading dimension, e.g. clip.unsqueeze(0)."
        )
    num_videos, num_frames, num_channels, height, width = pixel_values_videos.shape
    if num_channels != 3:
        raise ValueError(
            f"pixel_values_videos has shape {tuple(pixel_values_videos.shape)}, expected 3 channels in the third place"
        )
    if min(height, width) < min_size:
        raise ValueError(
            f"pixel_values_videos has frames of {height}x{width} pixels, expected at least {min_size}x{min_size}: "
            "resize the video."
        )
    if pixel_mask is not None and pixel_mask.shape != (num_videos, num_frames, height, width):
        raise ValueError(
            f"pixel_mask has shape {tuple(pixel_mask.shape)}, expected {(num_videos, num_frames, height, width)}: "
            "pixel_values_videos without the channels."
        )
    if annotated_frames is not None:
        if annotated_frames.ndim > 2 or len(annotated_frames) != num_videos:
            raise ValueError(
                f"annotated_frames has shape {tuple(annotated_frames.shape)}, expected ({num_videos},) or "
                f"({num_videos}, num_annotated)"
            )
        _check_range("annotated_frames", annotated_frames, num_frames)


def check_text(input_ids: torch.Tensor, attention_mask: torch.Tensor):
    """Raise `ValueError` if `input_ids` does not have two dimensions or `attention_mask` another shape."""
    if input_ids.ndim != 2:
        raise ValueError(
            f"input_ids has {input_ids.ndim} dimensions, expected 2: (num_expressions, num_words). A single "
            "expression needs a leading dimension, e.g. input_ids.unsqueeze(0)."
        )
    if attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"attention_mask has shape {tuple(attention_mask.shape)}, expected that of input_ids: "
            f"{tuple(input_ids.shape)}"
        )
