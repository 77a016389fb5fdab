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

"""What padding and frame choice mean for the feature maps of a batch of clips."""

import torch
import torch.nn.functional as F

from hf_rvos.layers.position_embedding import pixel_position_embedding, unpadded_pixel_position_embedding


def keep_annotated_frames(
    feature_maps: list[torch.Tensor], pixel_mask: torch.Tensor | None, frames: torch.Tensor, num_frames: int
) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """Leave only some frames of each clip.

    Args:
        feature_maps: `(num_videos * num_frames, channels, height, width)` each.
        pixel_mask: `(num_videos, num_frames, height, width)` or None.
        frames: `(num_videos, num_annotated)` indices into the frames of each clip.
        num_frames: Frames of a clip.

    Returns:
        Both for `num_annotated` frames.
    """
    # (num_videos, num_annotated) places among the frames of all videos.
    rows = frames + num_frames * torch.arange(len(frames), device=frames.device)[:, None]
    kept = [feature_map[rows.flatten()] for feature_map in feature_maps]
    return kept, None if pixel_mask is None else pixel_mask.flatten(0, 1)[rows]


def resize_pixel_mask(pixel_mask: torch.Tensor, shapes: list[tuple[int, int]]) -> list[torch.Tensor]:
    """The mask `(num_videos, num_frames, height, width)` at other sizes: nearest neighbour, boolean."""
    full = pixel_mask.flatten(0, 1)[:, None].float()
    masks = (F.interpolate(full, size=shape, mode="nearest")[:, 0].bool() for shape in shapes)
    return [mask.unflatten(0, pixel_mask.shape[:2]) for mask in masks]


def valid_ratios_of(masks: list[torch.Tensor]) -> torch.Tensor:
    """Share of real columns and rows in each level.

    Args:
        masks: `(num_videos, num_frames, height, width)` of each level, True at real cells.

    Returns:
        `(num_videos, num_frames, num_levels, 2)` float32.
    """
    ratios = torch.stack(
        [torch.stack((mask[:, :, 0].float().mean(2), mask[:, :, :, 0].float().mean(2)), -1) for mask in masks], dim=2
    )
    # Frames without a real pixel, at the end of a shorter clip, must not divide by zero.
    return torch.where(ratios > 0, ratios, 1.0)


def unpadded_frame_sizes(pixel_mask: torch.Tensor) -> torch.Tensor:
    """Height and width `(num_videos, 2)` of the real part of the frames, float32."""
    first = pixel_mask[:, 0]
    return torch.stack((first[:, :, 0].sum(1), first[:, 0].sum(1)), dim=-1).float()


def whole_frame_sizes(num_videos: int, size: tuple[int, int], device: torch.device) -> torch.Tensor:
    """The same for frames without padding, which all have the same `(height, width)`."""
    return torch.stack([torch.full((num_videos,), float(side), device=device) for side in size], dim=-1)


def level_positions(
    shapes: list[tuple[int, int]], masks: list[torch.Tensor] | None, num_channels: int, device: torch.device
) -> list[torch.Tensor]:
    """Position code of the cells of each level.

    Args:
        shapes: `(height, width)` of each level.
        masks: `(num_videos, num_frames, height, width)` of each level, or None without padding.
        num_channels: Width of the code.
        device: Where the codes are needed.

    Returns:
        `(num_videos, num_frames, height, width, num_channels)` of each level, 1 in the first places without padding.
    """
    if masks is None:
        return [unpadded_pixel_position_embedding(*shape, num_channels, device)[None] for shape in shapes]
    return [pixel_position_embedding(mask.flatten(0, 1), num_channels).unflatten(0, mask.shape[:2]) for mask in masks]
