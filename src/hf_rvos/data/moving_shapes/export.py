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
"""Moving Shapes as files: the layout of Ref-YouTube-VOS, or one mp4 for each video."""

import os
from pathlib import Path

import numpy as np

from hf_rvos.data.image_files import write_index_png, write_jpeg, write_json
from hf_rvos.data.moving_shapes.config import SPLIT_SIZES, MovingShapesConfig
from hf_rvos.data.moving_shapes.generate import MovingShapesVideo, generate_video
from hf_rvos.utils.files import check_output_folder, replace_when_done
from hf_rvos.utils.video_io import VideoWriter


# Ref-YouTube-VOS calls its validation split so; readers of the layout look for this name.
FOLDER_NAMES = {"train": "train", "val": "valid", "test": "test"}


def _write_frames(video: MovingShapesVideo, folder: Path) -> None:
    images, masks = folder / "JPEGImages" / video.video_id, folder / "Annotations" / video.video_id
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    for time, (frame, owners) in enumerate(zip(video.frames, video.object_map)):
        write_jpeg(images / f"{time:05d}.jpg", frame)
        write_index_png(masks / f"{time:05d}.png", owners)


def export_ref_youtube_vos(
    folder: str | os.PathLike,
    split: str = "test",
    num_videos: int | None = None,
    config: MovingShapesConfig | None = None,
) -> Path:
    """Write a split as JPEG frames, indexed PNG masks and JSON files in the layout of Ref-YouTube-VOS.

    Object ids are those of the rows plus one, because 0 is the background. Unlike in Ref-YouTube-VOS all splits have
    masks and `obj_id`, and each expression also has its `skill` and `phrasing_seen`.

    Args:
        folder (`str` or `os.PathLike`):
            Root of the layout. It gets `<split>/` and `meta_expressions/<split>/`, which must be new or empty; `val`
            goes by the name `valid` there.
        split (`str`, *optional*, defaults to `"test"`):
            `"train"`, `"val"` or `"test"`.
        num_videos (`int`, *optional*):
            Videos to write, from the first; the whole split if None.
        config (`MovingShapesConfig`, *optional*):
            Canvas and length; the default one if None. The layout has one object for each expression, so the subset
            must be `"single"`.

    Returns:
        `Path`: the root.

    Raises:
        ValueError: if the split is unknown, the subset is not `"single"`, or there are files already.
    """
    config = config or MovingShapesConfig()
    if config.subset != "single":
        raise ValueError(
            f"config.subset is {config.subset!r}, expected 'single': the layout knows one object a sentence."
        )
    root, name = Path(folder), _folder_name(split)
    data_folder = check_output_folder(root / name, "folder")
    text_folder = check_output_folder(root / "meta_expressions" / name, "folder")
    expressions, objects = {}, {}
    with replace_when_done(text_folder) as text_part, replace_when_done(data_folder) as data_part:
        for index in range(num_videos or SPLIT_SIZES[split]):
            video = generate_video(split, index, config)
            _write_frames(video, data_part)
            names = np.array([f"{time:05d}" for time in range(config.num_frames)])
            expressions[video.video_id] = {
                "frames": names.tolist(),
                "expressions": {
                    row["expression_id"]: {
                        "exp": row["expression_raw"],
                        "obj_id": str(row["object_ids"][0] + 1),
                        "skill": row["skill"],
                        "phrasing_seen": row["phrasing_seen"],
                    }
                    for row in video.rows
                },
            }
            objects[video.video_id] = {
                "objects": {
                    str(number): {
                        "category": item.shape,
                        "frames": names[(video.object_map == number).any((1, 2))].tolist(),
                    }
                    for number, item in enumerate(video.scene.objects, start=1)
                }
            }
        write_json(data_part / "meta.json", {"videos": objects})
        text_part.mkdir()
        write_json(text_part / "meta_expressions.json", {"videos": expressions})
    return root


def export_mp4(
    folder: str | os.PathLike,
    split: str = "test",
    num_videos: int | None = None,
    config: MovingShapesConfig | None = None,
) -> Path:
    """Write the videos of a split as `<video_id>.mp4`, and their sentences as `expressions.json`.

    Args:
        folder (`str` or `os.PathLike`):
            A new or an empty folder.
        split (`str`, *optional*, defaults to `"test"`):
            `"train"`, `"val"` or `"test"`.
        num_videos (`int`, *optional*):
            Videos to write, from the first; the whole split if None.
        config (`MovingShapesConfig`, *optional*):
            Canvas, length and subset; the default one if None.

    Returns:
        `Path`: the folder.

    Raises:
        ValueError: if the split is unknown, or there are files already.
    """
    config = config or MovingShapesConfig()
    _folder_name(split)
    rows = {}
    with replace_when_done(check_output_folder(folder, "folder")) as part:
        part.mkdir()
        for index in range(num_videos or SPLIT_SIZES[split]):
            video = generate_video(split, index, config)
            rows[video.video_id] = video.rows
            with VideoWriter(part / f"{video.video_id}.mp4", config.fps, (config.height, config.width)) as writer:
                for frame in video.frames:
                    writer.write(frame)
        write_json(part / "expressions.json", rows)
    return Path(folder)


def _folder_name(split: str) -> str:
    if split not in FOLDER_NAMES:
        raise ValueError(f"split is {split!r}, expected one of {tuple(FOLDER_NAMES)}.")
    return FOLDER_NAMES[split]
