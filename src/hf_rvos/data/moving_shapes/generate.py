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
"""From `(split, index)` to a video with its sentences, without any file."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_rvos.data.moving_shapes.config import SPLIT_SIZES, MovingShapesConfig, RandomStream
from hf_rvos.data.moving_shapes.programs import SceneFacts
from hf_rvos.data.moving_shapes.render import render_scene
from hf_rvos.data.moving_shapes.scene import Scene, sample_scene
from hf_rvos.data.moving_shapes.sentences import write_rows


@dataclass
class MovingShapesVideo:
    """A generated video.

    Args:
        video_id (`str`):
            For example `"moving_shapes-test-000012"`.
        frames (`np.ndarray`):
            `(num_frames, height, width, 3)` uint8, RGB.
        object_map (`np.ndarray`):
            `(num_frames, height, width)` uint8, 0 for background and `i + 1` for the visible area of object `i`.
        fps (`int`):
            Frames per second.
        rows (`list[dict]`):
            One for each sentence: `expression_id`, `expression`, `expression_raw`, `skill`, `phrasing_seen`, `program`
            and `object_ids` (0-based).
        scene (`Scene`):
            Objects with attributes, motion programs, tracks and depth.
    """

    video_id: str
    frames: np.ndarray
    object_map: np.ndarray
    fps: int
    rows: list[dict[str, Any]]
    scene: Scene

    def masks(self, row: dict[str, Any]) -> np.ndarray:
        """`(num_frames, height, width)` bool: the union of the visible areas of a row's referents."""
        return np.isin(self.object_map, np.array(row["object_ids"], dtype=np.int64) + 1)


def video_key(split: str, index: int, config: MovingShapesConfig) -> tuple[str, str, int]:
    """What names the random streams of a video; refuses splits and indices that do not exist."""
    if split not in SPLIT_SIZES:
        raise ValueError(f"split is {split!r}, expected one of {tuple(SPLIT_SIZES)}.")
    if index < 0:
        raise ValueError(f"index is {index}, expected 0 or more.")
    return config.version, split, index


def generate_video(split: str, index: int, config: MovingShapesConfig | None = None) -> MovingShapesVideo:
    """Draw video `index` of a split: the same bytes on every machine, in any order, in any worker.

    Args:
        split (`str`):
            `"train"`, `"val"` or `"test"`.
        index (`int`):
            0 or more; the published splits have 8000, 200 and 500 videos, but any index can be drawn.
        config (`MovingShapesConfig`, *optional*):
            Canvas, length and subset; the default one if None.

    Returns:
        `MovingShapesVideo`: frames, object map and sentences.

    Raises:
        ValueError: if the split is unknown or the index negative.

    Example:
        >>> video = generate_video("test", 12)
        >>> video.frames.shape
        (16, 128, 192, 3)
    """
    config = config or MovingShapesConfig()
    key = video_key(split, index, config)
    scene = sample_scene(config, RandomStream(*key, "scene"))
    rendering = render_scene(scene, config, RandomStream(*key, "background"))
    rows = write_rows(SceneFacts(scene, rendering, config), config, split, RandomStream(*key, "sentences"))
    video_id = f"moving_shapes-{split}-{index:06d}"
    return MovingShapesVideo(video_id, rendering.frames, rendering.object_map, config.fps, rows, scene)
