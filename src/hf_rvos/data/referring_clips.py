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
"""Training clips of any benchmark: which frames are shown, with which expressions, read when they are asked for."""

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from hf_rvos.data.a2d_sentences import annotation_window
from hf_rvos.data.augmentation import ClipAugmentation
from hf_rvos.data.media import load_clip, load_masks, load_target_masks
from hf_rvos.data.pseudo_videos import pseudo_video
from hf_rvos.data.sampling import (
    MAX_TRIES,
    sample_anchor_clip,
    sample_generator,
    sample_neighbor_clip,
    window_positions,
    window_starts,
)
from hf_rvos.data.transforms import training_boxes
from hf_rvos.data.visibility import visible_frames


SAMPLINGS = ("anchors", "windows", "neighbors")
PLACEMENTS = ("first", "middle")


class ReferringClips(Dataset):
    """One sample is a clip of a video with an expression about it, or with several.

    Samples are asked for by `(epoch, index, clip_length)`; what is random about them follows from the seed, epoch and
    index. A sample whose object is in no frame, because it is absent or was cropped away, is replaced by another one,
    drawn in the same way. A picture becomes a pseudo video if more than one frame is asked for.

    Of a video in which every row has one annotated frame, as in A2D-Sentences, the clip is sampled around that frame,
    and only it has labels. If more frames are annotated but not all of them, the others are left out.

    Args:
        rows: `datasets.Dataset` with one expression in each row, all with masks.
        root: Root of the data set; None if it has no files.
        clip_length: Frames of a clip, by which videos are divided into samples.
        sampling: "anchors" makes one sample for each expression and every `clip_length`-th frame, around which frames
            near and far are drawn (ReferFormer, SgMg); "windows" one for each expression and window of consecutive
            frames that shows its object (SOC); "neighbors" one for each expression, around whose random frame others
            near it are drawn (SSA).
        augmentation: Changes of the clip; None for none.
        seed: Seed of all draws.
        reverse_probability: How often a clip of "anchors" runs backwards.
        max_expressions: Most expressions of a clip. With more than one, each number from 1 on is equally likely, as
            far as the video has expressions, and those that the clip does not show are left out (Fast SgMg).
        placement: Which frame of a window around the only annotated one has the labels if frames are repeated at the
            ends of the video: "middle" (SOC) or "first", the first that shows it.
        pseudo_video_options: Arguments of `pseudo_video`, such as `{"hue_saturation": 0}` for SOC.
        object_masks: Give the objects of each expression apart as well, as `object_masks`, without those that the clip
            does not show. Expressions about nothing that is there are then learned from, too.

    Raises:
        ValueError: if a row has no masks, there is no sample, or an option has no such value.
    """

    def __init__(
        self,
        rows: Any,
        root: str | os.PathLike | None,
        clip_length: int,
        sampling: str = "anchors",
        augmentation: ClipAugmentation | None = None,
        seed: int = 0,
        reverse_probability: float = 0.0,
        max_expressions: int = 1,
        placement: str = "middle",
        pseudo_video_options: dict[str, Any] | None = None,
        object_masks: bool = False,
    ):
        if sampling not in SAMPLINGS:
            raise ValueError(f"sampling is {sampling!r}, expected one of {', '.join(SAMPLINGS)}")
        if placement not in PLACEMENTS:
            raise ValueError(f"placement is {placement!r}, expected one of {', '.join(PLACEMENTS)}")
        if min(clip_length, max_expressions) < 1:
            raise ValueError(f"clip_length ({clip_length}) and max_expressions ({max_expressions}) must be at least 1")
        if not object_masks and "target_masks" in rows.column_names:
            rows = rows.remove_columns("target_masks")  # which would be read for nothing
        self.rows, self.root, self.sampling, self.augmentation = rows.with_format(None), root, sampling, augmentation
        self.seed, self.reverse_probability, self.max_expressions = seed, reverse_probability, max_expressions
        self.placement, self.pseudo_video_options = placement, pseudo_video_options or {}
        self.object_masks = object_masks
        self._build_index(clip_length)

    def _build_index(self, clip_length: int) -> None:
        names = ["dataset", "video_id", "expression_id", "media_dir", "mask_kind", "object_ids", "annotated_frames"]
        columns = self.rows.select_columns([*names, "num_frames"])[:]
        self.name = " and ".join(sorted(set(columns["dataset"]))) or "the data set"
        table = [dict(zip(columns, values)) for values in zip(*columns.values())]
        bare = [row for row in table if row["mask_kind"] == "none"]
        if bare:
            raise ValueError(
                f"rows: {len(bare)} of {len(table)} rows have no masks to learn from, the first is {_name(bare[0])}; "
                "take a split with ground truth, such as train, or filter them out by mask_kind"
            )
        annotated = [row["annotated_frames"] for row in table]
        self.has_single_labels = bool(table) and all(frames is not None and len(frames) == 1 for frames in annotated)
        # The one window of a picture is tried without knowing: it nearly always shows its object.
        has_windows = self.sampling == "windows" and any(row["num_frames"] > 1 for row in table)
        visible = visible_frames(self.rows, self.root) if has_windows and not self.has_single_labels else None
        index, videos = [], {}
        for number, row in enumerate(table):
            is_absent = _is_absent(row)
            if is_absent and not self.object_masks:
                continue
            frames = row["annotated_frames"]
            if self.has_single_labels:
                starts = frames
            elif self.sampling == "neighbors":
                starts = [0]  # the center is drawn
            elif visible is not None:
                seen = visible[number] if frames is None else visible[number][frames]
                starts = window_starts(len(seen), clip_length)
                starts = [start for start in starts if is_absent or seen[start : start + clip_length].any()]
            else:
                starts = range(0, row["num_frames"] if frames is None else len(frames), clip_length)
            index += [(number, start) for start in starts]
            if self.max_expressions > 1:
                video = (row["dataset"], row["media_dir"], row["video_id"], tuple(frames or ()))
                videos.setdefault(video, []).append(number)
        if not index:
            raise ValueError(f"rows: {self.name} has no clip that shows an object, so there is nothing to learn from")
        self.row_numbers, self.starts = np.array(index, np.int32).T.copy()
        self.companions = {number: rows for rows in videos.values() for number in rows}

    def __len__(self) -> int:
        return len(self.row_numbers)

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, Any]:
        if get_worker_info() is not None:
            cv2.setNumThreads(0)  # a worker has one core, and threads that were running before the fork are gone
        epoch, index, clip_length = key
        generator = sample_generator(self.seed, epoch, index)
        for _ in range(MAX_TRIES):
            if (sample := self._sample(index, clip_length, generator)) is not None:
                return sample
            index = int(generator.integers(len(self)))
        raise ValueError(
            f"{self.name}: none of {MAX_TRIES} samples drawn one after the other shows its object, the last was "
            f"{_name(self.rows[int(self.row_numbers[index])])}; check the masks, or crop and resize less"
        )

    def _sample(self, index: int, clip_length: int, generator: np.random.Generator) -> dict[str, Any] | None:
        row, start = self.rows[int(self.row_numbers[index])], int(self.starts[index])
        rows = [row, *self._draw_companions(int(self.row_numbers[index]), generator)]
        is_picture = row["media_kind"] == "image" and clip_length > 1
        positions, place = self._draw_positions(row, start, 1 if is_picture else clip_length, generator)
        # Masks first: if they are empty, frames need not be decoded.
        tracks = self._read_masks(rows, positions if place is None else [start])
        ends = np.cumsum([len(track) for track in tracks])[:-1]
        masks = np.concatenate(tracks)
        if not (masks.any() or _is_absent(row)):
            return None
        frames = self._read_frames(row, positions)
        if is_picture:
            frames, masks = pseudo_video(frames[0], masks[:, 0], clip_length, generator, **self.pseudo_video_options)
        frames, masks = torch.from_numpy(frames).permute(0, 3, 1, 2), torch.from_numpy(masks)
        expressions = [row["expression"] for row in rows]
        if self.augmentation is not None:
            frames, masks, expressions = self.augmentation(frames, masks, expressions, generator)
        objects = masks.tensor_split(ends.tolist())
        if self.object_masks:
            masks = torch.stack([entry.any(0) for entry in objects])
        boxes, valid_frames = training_boxes(masks)
        seen = valid_frames.any(-1)
        kept = [index for index, entry in enumerate(rows) if seen[index] or (self.object_masks and _is_absent(entry))]
        if not kept:
            return None
        sample = {
            "frames": frames.contiguous(),
            "expressions": [expressions[index] for index in kept],
            "masks": masks[kept],
            "boxes": boxes[kept],
            "valid_frames": valid_frames[kept],
            "video_id": _name(row),
        }
        if place is not None:
            sample["annotated_frames"] = torch.tensor([place])
        if self.object_masks:
            sample["object_masks"] = [entry[entry.flatten(1).any(1)] for entry in (objects[index] for index in kept)]
        return sample

    def _draw_companions(self, number: int, generator: np.random.Generator) -> list[dict[str, Any]]:
        """Further rows of the same video."""
        others = [other for other in self.companions.get(number, ()) if other != number]
        if not others:
            return []
        count = int(generator.integers(min(self.max_expressions, len(others) + 1)))
        return [self.rows[int(other)] for other in generator.choice(others, count, replace=False)]

    def _draw_positions(
        self, row: dict[str, Any], start: int, clip_length: int, generator: np.random.Generator
    ) -> tuple[Sequence[int], int | None]:
        """Frames of the clip, and the place of the only annotated one among them if there is only one."""
        annotated = None if self.has_single_labels else row["annotated_frames"]
        num_frames = row["num_frames"] if annotated is None else len(annotated)
        if self.sampling == "neighbors":
            center = start if self.has_single_labels else int(generator.integers(num_frames))
            positions = sample_neighbor_clip(num_frames, clip_length, center, generator)
            place = positions.tolist().index(center)
        elif self.sampling == "anchors":
            positions = sample_anchor_clip(num_frames, clip_length, start, generator, self.reverse_probability)
            place = positions.tolist().index(start)
        elif self.has_single_labels:
            positions, place = annotation_window(start, num_frames, clip_length, self.placement)
        else:
            positions, place = window_positions(num_frames, clip_length, start), None
        positions = positions if annotated is None else np.asarray(annotated)[positions]
        return positions, place if self.has_single_labels else None

    def _read_masks(self, rows: list[dict[str, Any]], positions: Sequence[int]) -> list[np.ndarray]:
        """`(num_objects, num_frames, height, width)` of each row; a frame that occurs twice is read once.

        Objects that are not asked for apart are one.
        """
        distinct, order = np.unique(positions, return_inverse=True)
        if self.object_masks:
            return [load_target_masks(row, self.root, distinct)[:, order] for row in rows]
        return [load_masks(row, self.root, distinct)[None, order] for row in rows]

    def _read_frames(self, row: dict[str, Any], positions: Sequence[int]) -> np.ndarray:
        distinct, order = np.unique(positions, return_inverse=True)
        return load_clip(row, self.root, distinct)[order]


class ConcatClips(Dataset):
    """Several data sets of clips as one, in which each has as many samples as it has alone.

    Args:
        parts: Data sets that are asked for `(epoch, index, clip_length)`. One can be there more than once.
    """

    def __init__(self, parts: Sequence[Dataset]):
        self.parts = list(parts)
        self.ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self.ends[-1]) if self.parts else 0

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, Any]:
        epoch, index, clip_length = key
        number = int(np.searchsorted(self.ends, index, side="right"))
        begin = int(self.ends[number - 1]) if number else 0
        return self.parts[number][epoch, index - begin, clip_length]


class MixedClips(Dataset):
    """Several data sets of clips, each of which is seen as often as its weight says, whatever its size.

    An epoch has all samples of the first, and of each other one as many as its weight relative to the first allows:
    the next ones in a random order, in which all come once before any comes again.

    Args:
        parts: Data sets that are asked for `(epoch, index, clip_length)`.
        weights: One for each.
        seed: Seed of the orders.
    """

    def __init__(self, parts: Sequence[Dataset], weights: Sequence[float], seed: int = 0):
        self.parts, self.seed = list(parts), seed
        first = len(self.parts[0]) / weights[0]
        self.counts = [max(1, round(first * weight)) for weight in weights]
        self.ends = np.cumsum(self.counts)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, Any]:
        epoch, index, clip_length = key
        number = int(np.searchsorted(self.ends, index, side="right"))
        part, count = self.parts[number], self.counts[number]
        seen = epoch * count + index - int(self.ends[number]) + count
        passes, place = divmod(seen, len(part))
        order = _order_of_pass(len(part), self.seed, number, passes)
        return part[passes, int(order[place]), clip_length]


@lru_cache(maxsize=8)  # an epoch may lie in two passes of a part
def _order_of_pass(size: int, *seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(size)


def _is_absent(row: dict[str, Any]) -> bool:
    """Whether the expression is about nothing that is there."""
    return row["object_ids"] == []


def _name(row: dict[str, Any]) -> str:
    return f"{row['dataset']} {row['video_id']}/{row['expression_id']}"
