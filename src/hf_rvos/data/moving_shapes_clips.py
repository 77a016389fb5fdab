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
"""Training clips of Moving Shapes, rendered while the model trains."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from hf_rvos.data.moving_shapes import MovingShapesConfig, generate_video
from hf_rvos.data.sampling import MAX_TRIES, sample_clip, sample_generator, sample_groups
from hf_rvos.data.transforms import mirror_expression, resize_clip, training_boxes


class MovingShapesClips(Dataset):
    """One sample is a clip of one video with all expressions whose single target is visible in it.

    With `object_masks`, expressions about several objects or none are among them if the configuration has them.

    Samples are asked for by `(epoch, index, clip_length)`; what is random about them follows from the seed, epoch
    and index.

    Args:
        split: "train", "val" or "test".
        num_videos: Videos of the split to use, from the first.
        max_stride: Largest distance between two frames of a clip; None lets every clip span its video.
        size: `(height, width)` of the frames given to the model; None keeps the size of the video.
        flip_probability: How often a clip is mirrored, along with its expressions.
        seed: Seed of all draws.
        config: Configuration of the generator.
        skills: Skills of the expressions to learn from; None takes all. What a picture shows can be learned before
            what only a video shows. A dict gives skills for lengths of clips, and other lengths take all.
        num_annotated: Frames of a clip, drawn at random, that have labels; None gives all of them labels. What a model
            does for each sentence can cost more than the backbone, which sees the whole clip in any case.
        max_group_size: Deal the expressions of a clip out to random groups of at most so many, which a model like
            Fast SgMg answers together; samples then have `group_index`. Random sizes make it robust to the number of
            sentences that it is asked for later. None makes no groups.
        object_masks: Give the objects of each expression apart as well, as `object_masks`, without those that the clip
            does not show.
    """

    def __init__(
        self,
        split: str = "train",
        num_videos: int = 8000,
        max_stride: int | None = None,
        size: tuple[int, int] | None = None,
        flip_probability: float = 0.5,
        seed: int = 0,
        config: MovingShapesConfig | None = None,
        skills: tuple[str, ...] | dict[int, tuple[str, ...]] | None = None,
        num_annotated: int | None = None,
        max_group_size: int | None = None,
        object_masks: bool = False,
    ):
        self.split, self.num_videos, self.max_stride = split, num_videos, max_stride
        self.size, self.flip_probability, self.seed = size, flip_probability, seed
        self.config, self.skills = config or MovingShapesConfig(), skills
        self.num_annotated, self.max_group_size = num_annotated, max_group_size
        self.object_masks = object_masks

    def __len__(self) -> int:
        return self.num_videos

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, Any]:
        epoch, index, clip_length = key
        generator = sample_generator(self.seed, epoch, index)
        # A clip that shows none of the targets teaches nothing, so another video takes its place.
        for _ in range(MAX_TRIES):
            if (sample := self._sample(index, clip_length, generator)) is not None:
                return sample
            index = int(generator.integers(self.num_videos))
        raise ValueError(
            f"none of {MAX_TRIES} clips of {clip_length} frames has a sentence to learn from: skills is "
            f"{self.skills}, subset is {self.config.subset!r}"
        )

    def _sample(self, index: int, clip_length: int, generator: np.random.Generator) -> dict[str, Any] | None:
        video = generate_video(self.split, index, self.config)
        rows = [row for row in video.rows if self.object_masks or len(row["object_ids"]) == 1]
        skills = self.skills.get(clip_length) if isinstance(self.skills, dict) else self.skills
        if skills is not None:
            rows = [row for row in rows if row["skill"] in skills]
        if not rows:
            return None
        chosen = sample_clip(len(video.frames), clip_length, generator, self.max_stride)
        frames = torch.from_numpy(video.frames[chosen]).permute(0, 3, 1, 2)
        annotated = np.arange(clip_length)
        if self.num_annotated is not None and self.num_annotated < clip_length:
            annotated = np.sort(generator.permutation(clip_length)[: self.num_annotated])
        object_map = torch.from_numpy(video.object_map[chosen[annotated]])
        numbers = [number + 1 for row in rows for number in row["object_ids"]]
        masks = object_map == torch.tensor(numbers, dtype=object_map.dtype).view(-1, 1, 1, 1)  # (objects, T, H, W)
        expressions = [row["expression"] for row in rows]

        if generator.random() < self.flip_probability:
            frames, masks = frames.flip(-1), masks.flip(-1)
            expressions = [mirror_expression(expression) for expression in expressions]
        if self.size is not None:
            frames, masks = resize_clip(frames, masks, self.size)
        objects = masks.split([len(row["object_ids"]) for row in rows])
        if self.object_masks:
            masks = torch.stack([entry.any(0) for entry in objects])
        boxes, valid_frames = training_boxes(masks)
        visible = valid_frames.any(-1) | torch.tensor([not row["object_ids"] for row in rows])
        if not visible.any():
            return None
        extras = {}
        if self.max_group_size is not None:  # drawn last, so that clips are the same with and without groups
            drawn = sample_groups(int(visible.sum()), self.max_group_size, generator)
            extras = {"group_index": torch.from_numpy(drawn)}
        if self.object_masks:
            seen = [entry for entry, is_seen in zip(objects, visible, strict=True) if is_seen]
            extras["object_masks"] = [entry[entry.flatten(1).any(1)] for entry in seen]
        return extras | {
            "frames": frames,
            "expressions": [expression for expression, seen in zip(expressions, visible, strict=True) if seen],
            "masks": masks[visible],
            "boxes": boxes[visible],
            "valid_frames": valid_frames[visible],
            "annotated_frames": torch.from_numpy(annotated),
            "video_id": f"{self.split}/{index}",
        }
