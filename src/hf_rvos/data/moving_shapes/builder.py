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
"""Moving Shapes as a `datasets` builder: rows in the shared schema, pixels drawn again when they are asked for."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import datasets
import numpy as np
from datasets import Features, Value

from hf_rvos.data.moving_shapes.config import SPLIT_SIZES, VERSION, MovingShapesConfig, RandomStream
from hf_rvos.data.moving_shapes.generate import generate_video, video_key
from hf_rvos.data.moving_shapes.render import render_scene
from hf_rvos.data.moving_shapes.scene import sample_scene
from hf_rvos.data.schema import FEATURES
from hf_rvos.ops.rle import encode_rle


MOVING_SHAPES_FEATURES = Features(
    {**FEATURES, "skill": Value("string"), "phrasing_seen": Value("bool"), "program": Value("string")}
)


@dataclass
class MovingShapesBuilderConfig(datasets.BuilderConfig):
    """Configuration of the builder; see [`MovingShapesConfig`] for canvas, length and version.

    Args:
        num_videos (`int`, *optional*):
            Videos in every split; the published sizes if None.
        splits (`tuple[str, ...]`, *optional*):
            Splits to build, all if None; drawing those that are not needed takes minutes.
    """

    height: int = 128
    width: int = 192
    num_frames: int = 16
    fps: int = 8
    num_videos: int | None = None
    splits: tuple[str, ...] | None = None
    version: str = VERSION

    def create_config_id(self, config_kwargs: dict, custom_features: Any = None) -> str:
        # The version is that of the drawings: rows that were cached with other columns are stale all the same.
        return super().create_config_id(config_kwargs, custom_features or MOVING_SHAPES_FEATURES)

    def drawing(self) -> MovingShapesConfig:
        """What the generator needs to know."""
        return MovingShapesConfig(self.height, self.width, self.num_frames, self.fps, self.name, str(self.version))


class MovingShapes(datasets.GeneratorBasedBuilder):
    """Rows of the generated benchmark, in configuration `single` (one referent each) or `all`.

    Rows hold sentences and run-length coded masks; the frames of a row come from [`load_clip`], or from
    `dataset.with_transform(RowReader())`.

    Example:
        >>> builder = MovingShapes(config_name="single", num_videos=10)
        >>> builder.download_and_prepare()
        >>> rows = builder.as_dataset(split="test")
        >>> load_clip(rows[0]).shape
        (16, 128, 192, 3)
    """

    BUILDER_CONFIG_CLASS = MovingShapesBuilderConfig
    BUILDER_CONFIGS = [MovingShapesBuilderConfig(name="single"), MovingShapesBuilderConfig(name="all")]
    DEFAULT_CONFIG_NAME = "single"

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="A generated diagnostic benchmark for referring video object segmentation.",
            features=MOVING_SHAPES_FEATURES,
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        self.config.drawing()  # refuses a canvas that cannot be drawn before any file is written
        # One shard for each video: `num_proc`, streaming and loader workers all divide this list.
        return [
            datasets.SplitGenerator(split, {"split": split, "indices": list(range(self.config.num_videos or size))})
            for split, size in SPLIT_SIZES.items()
            if self.config.splits is None or split in self.config.splits
        ]

    def _generate_examples(self, split: str, indices: list[int]) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
        for index in indices:
            for number, row in enumerate(build_rows(split, index, self.config.drawing())):
                yield (index, number), row


def build_rows(split: str, index: int, config: MovingShapesConfig) -> list[dict[str, Any]]:
    """The rows of one video in the shared schema.

    Args:
        split: `"train"`, `"val"` or `"test"`.
        index: number of the video in its split.
        config: canvas, length and subset.

    Returns:
        One dict for each sentence, with the columns of `MOVING_SHAPES_FEATURES`.
    """
    video = generate_video(split, index, config)
    shared = {
        "dataset": "moving_shapes",
        "video_id": video.video_id,
        "frames": [f"{time:05d}" for time in range(config.num_frames)],
        "media_dir": f"moving_shapes-{config.version}",
        "media_kind": "generated",
        "mask_kind": "rle",
        "mask_dir": None,
        "boxes": None,
        "annotated_frames": None,
        "height": config.height,
        "width": config.width,
        "num_frames": config.num_frames,
    }
    rows = []
    for row in video.rows:
        codes = _codes(video.masks(row))
        categories = [video.scene.objects[number].shape for number in row["object_ids"]]
        columns = {"expression_type": row["skill"], "categories": categories, "masks": codes, "target_masks": None}
        if len(row["object_ids"]) > 1:
            tracks = [video.object_map == number + 1 for number in row["object_ids"]]
            columns["target_masks"] = [_codes(track) for track in tracks]
        rows.append({**shared, **row, **columns})
    return rows


def _codes(masks: np.ndarray) -> list[dict[str, Any] | None]:
    return [code if mask.any() else None for code, mask in zip(encode_rle(masks), masks)]


@lru_cache(maxsize=8)
def _draw_frames(split: str, index: int, config: MovingShapesConfig) -> np.ndarray:
    key = video_key(split, index, config)
    frames = render_scene(
        sample_scene(config, RandomStream(*key, "scene")), config, RandomStream(*key, "background")
    ).frames
    frames.flags.writeable = False  # shared by all rows of the video
    return frames


def draw_clip(row: dict[str, Any], positions: list[int] | None = None) -> np.ndarray:
    """Draw the frames of a row again; no file is read.

    Args:
        row (`dict`):
            A row of the builder.
        positions (`list[int]`, *optional*):
            Which frames, in which order; all if None.

    Returns:
        `np.ndarray`: `(num_frames, height, width, 3)` uint8, RGB, read-only if all frames are asked for.

    Raises:
        ValueError: if the row comes from another dataset or from another version of this one.
    """
    name = re.fullmatch(r"moving_shapes-(\w+)-(\d+)", row["video_id"])
    version = row["media_dir"].removeprefix("moving_shapes-")
    if name is None or row["media_kind"] != "generated":
        raise ValueError(
            f"row has video_id {row['video_id']!r} and media_kind {row['media_kind']!r}, expected a generated video "
            "such as 'moving_shapes-test-000012'. Frames of other datasets are read from their root."
        )
    config = MovingShapesConfig(row["height"], row["width"], row["num_frames"], version=version)
    frames = _draw_frames(name[1], int(name[2]), config)
    return frames if positions is None else frames[list(positions)]
