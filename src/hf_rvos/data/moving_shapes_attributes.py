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
"""Moving Shapes with labels for every pixel: what kind of object it belongs to and how that object moves.

One clip teaches a backbone about all objects at once, which no single sentence does.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from hf_rvos.data.moving_shapes import MovingShapesConfig
from hf_rvos.data.moving_shapes.config import RandomStream
from hf_rvos.data.moving_shapes.generate import video_key
from hf_rvos.data.moving_shapes.motion import IN_PLACE, SUBPIXELS, TRAVELLING
from hf_rvos.data.moving_shapes.render import render_scene
from hf_rvos.data.moving_shapes.scene import COLORS, FILLS, SHAPES, SIZES, ShapeObject, sample_scene
from hf_rvos.data.sampling import sample_clip, sample_generator


MOTIONS = ("still", "hide", *TRAVELLING, *IN_PLACE)
_MIRRORED = {"left": "right", "right": "left", "clockwise": "counterclockwise", "counterclockwise": "clockwise"}
_MIRROR_SIGNS = np.array([-1, 1, 1, -1])  # of a velocity
# `motion` is what the object does in the frame, `first_motion` and `last_motion` at the ends of the clip.
ATTRIBUTE_CLASSES = {
    "object": ("background", "object"),
    "shape": SHAPES,
    "color": COLORS,
    "size": SIZES,
    "fill": FILLS,
    "motion": MOTIONS,
    "first_motion": MOTIONS,
    "last_motion": MOTIONS,
}
# Change from frame to frame of a clip, each brought to about 1: x and y in pixels of the default canvas, logarithm of
# the size, degrees.
VELOCITY_SCALES = (4.0, 4.0, 0.04, 15.0)
IGNORED = -100


def motion_names(item: ShapeObject) -> list[str]:
    """What an object does in each frame, one of `MOTIONS`."""
    # Once shown, an object stands still.
    return [
        "still" if segment.primitive == "show" else segment.primitive
        for segment in item.program
        for _ in range(segment.duration)
    ]


def velocity(item: ShapeObject, frames: np.ndarray, unit: float) -> np.ndarray:
    """`(len(frames), 4)`: how fast an object moves to the right and down, grows and turns, see `VELOCITY_SCALES`."""
    track, pixels = item.track, item.track.offset / SUBPIXELS / unit
    state = np.column_stack((pixels, np.log(track.scale), track.angle))[frames]
    return np.gradient(state, axis=0) / VELOCITY_SCALES if len(frames) > 1 else np.zeros_like(state)


class MovingShapesAttributes(Dataset):
    """One sample is a clip of one video with the attributes of the object at every label position.

    Samples are asked for by `(epoch, index, clip_length)`; what is random about them follows from the seed, epoch
    and index.

    Args:
        split: "train", "val" or "test".
        num_videos: Videos of the split to use, from the first.
        max_stride: Largest distance between two frames of a clip; None lets every clip span its video.
        size: `(height, width)` of the frames given to the model; None keeps the size of the video.
        label_stride: Pixels of a frame for each label.
        flip_probability: How often a clip is mirrored, along with its motions.
        seed: Seed of all draws.
        config: Configuration of the generator.
    """

    def __init__(
        self,
        split: str = "train",
        num_videos: int = 8000,
        max_stride: int | None = None,
        size: tuple[int, int] | None = None,
        label_stride: int = 4,
        flip_probability: float = 0.5,
        seed: int = 0,
        config: MovingShapesConfig | None = None,
    ):
        self.split, self.num_videos, self.max_stride = split, num_videos, max_stride
        self.config = config or MovingShapesConfig()
        self.size = tuple(size or (self.config.height, self.config.width))
        self.label_stride, self.flip_probability, self.seed = label_stride, flip_probability, seed

    def __len__(self) -> int:
        return self.num_videos

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, Any]:
        """
        Returns:
            `frames` `(num_frames, 3, height, width)` uint8; `labels`, for each of `ATTRIBUTE_CLASSES` the numbers of
            its classes as `(num_frames, height / label_stride, width / label_stride)` int64, and "velocity"
            `(num_frames, 4, height / label_stride, width / label_stride)` float32; and `video_id`. Off the objects
            "object" and "velocity" are 0, the others `IGNORED`. So are motions in a clip of one frame.
        """
        epoch, index, clip_length = key
        generator = sample_generator(self.seed, epoch, index)
        names = video_key(self.split, index, self.config)
        scene = sample_scene(self.config, RandomStream(*names, "scene"))
        chosen = sample_clip(self.config.num_frames, clip_length, generator, self.max_stride)
        clip = render_scene(scene, self.config, RandomStream(*names, "background"), chosen)
        frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)
        owners = torch.from_numpy(clip.object_map)
        motions = [[motion_names(item)[time] for time in chosen] for item in scene.objects]
        if flip := generator.random() < self.flip_probability:
            frames, owners = frames.flip(-1), owners.flip(-1)
            motions = [[_MIRRORED.get(name, name) for name in row] for row in motions]
        if frames.shape[-2:] != self.size:
            frames = F.interpolate(frames, size=self.size, mode="bilinear", antialias=True)
        grid = tuple(-(-side // self.label_stride) for side in self.size)
        owners = F.interpolate(owners[:, None], size=grid, mode="nearest-exact")[:, 0].long()

        constant = np.ones((1, len(chosen)), int)
        numbers = {"object": constant.repeat(len(scene.objects), 0)}
        for name in ("shape", "color", "size", "fill"):
            classes = ATTRIBUTE_CLASSES[name]
            numbers[name] = np.array([[classes.index(getattr(item, name))] for item in scene.objects]) * constant
        # A single frame does not tell.
        motions = [[MOTIONS.index(name) if len(row) > 1 else IGNORED for name in row] for row in motions]
        motions = np.array(motions)
        numbers |= {
            "motion": motions,
            "first_motion": motions[:, :1] * constant,
            "last_motion": motions[:, -1:] * constant,
        }
        labels = {name: self._paint(owners, entry, IGNORED) for name, entry in numbers.items()}
        labels["object"] = labels["object"].clamp(min=0)
        speeds = np.stack([velocity(item, chosen, self.config.unit) for item in scene.objects]) * _MIRROR_SIGNS**flip
        labels["velocity"] = torch.stack([self._paint(owners, speeds[..., axis], 0.0) for axis in range(4)], 1).float()
        return {"frames": frames, "labels": labels, "video_id": f"{self.split}/{index}"}

    @staticmethod
    def _paint(owners: torch.Tensor, values: np.ndarray, background: float) -> torch.Tensor:
        """Give each position of `owners` `(T, h, w)` the value of its owner, of `values` `(num_objects, T)`."""
        table = torch.from_numpy(np.pad(values, ((1, 0), (0, 0)), constant_values=background)).T  # (T, 1 + objects)
        return table.gather(1, owners.flatten(1)).view_as(owners)
