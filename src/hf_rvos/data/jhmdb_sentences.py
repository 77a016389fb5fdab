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
"""JHMDB-Sentences: short videos of one actor each, a sentence for the video and a mask in most frames.

A row is one sampled frame, three for each video. The sample was drawn at random and every publication drew its own, so
numbers compare only for the same `samples_file`. `frames` are all frames of the video that have a mask;
`annotated_frames` holds the position of the sampled one.
"""

import math
import os
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hf_rvos.data.benchmark_builder import (
    BenchmarkBuilder,
    BenchmarkConfig,
    Report,
    file_stems,
    read_json,
    row,
    subfolders,
)
from hf_rvos.data.tables import read_table
from hf_rvos.utils.files import check_name


HOMEPAGE = "https://kgavrilyuk.github.io/publication/actor_action/"
LAYOUT = """\
Rename_Images/<action>/<video>/<frame>.png
puppet_mask/<action>/<video>/puppet_mask.mat
jhmdb_annotation.txt
jhmdb_sentences_samples_metadata.json               (optional; the frames to evaluate)"""
EXPECTED = f"Expected below the root, from {HOMEPAGE}:\n{LAYOUT}"

SENTENCES = "jhmdb_annotation.txt"
SAMPLES = "jhmdb_sentences_samples_metadata.json"
SAMPLES_PER_VIDEO = 3
# JHMDB has 15 to 40 frames of 240x320; far beyond that a file is not what it says.
MAX_VALUES = 2**28


def split_files(root: Path, split: str, samples_file: str | None = None, seed: int = 0) -> list[Path]:
    """Files and folders that rows depend on."""
    samples = root / SAMPLES if samples_file is None else Path(samples_file)
    if samples_file is not None and not samples.exists():
        raise ValueError(f"samples_file: there is no file {str(samples_file)!r}, expected a list of samples")
    actions = [action for name in ("Rename_Images", "puppet_mask") for action in subfolders(root / name)]
    videos = [video for action in subfolders(root / "puppet_mask") for video in subfolders(action)]
    # With a list of samples the table of sentences is not needed.
    lists = [samples, root / SENTENCES] if samples.exists() else [root / SENTENCES, samples]
    return [*lists, *actions, *(video / "puppet_mask.mat" for video in videos)]


def read_rows(
    root: Path, split: str, report: Report, samples_file: str | os.PathLike | None = None, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Rows in the order of the samples.

    Args:
        root: Folder of the data set.
        split: `"test"`, the only one there is.
        report: Counts what is left out.
        samples_file: JSON list of the frames to evaluate; the one in the root if None. If there is none, three frames
            of each video are drawn, and the report says so.
        seed: Of that draw.

    Yields:
        One dict for each sampled frame.

    Raises:
        ValueError: if a file of annotations is missing or cannot be read.
    """
    root = Path(root)
    actions = _list_videos(root)
    videos: dict[str, tuple[list[str], tuple[int, int]] | None] = {}
    if samples_file is None and not (root / SAMPLES).exists():
        samples = _draw_samples(root, actions, videos, seed, report)
    else:
        samples = _read_samples(root / SAMPLES if samples_file is None else Path(samples_file))
    for place, frame, sentence in samples:
        if place not in videos:
            videos[place] = _describe_video(root, place, report)
        if videos[place] is None:
            continue
        names, (height, width) = videos[place]
        numbers = [int(name) for name in names]
        if frame not in numbers:
            report.add("missing frames", f"{place}/{frame:05d}, with picture and mask")
            continue
        if not sentence.strip():
            report.add("expressions without text", place)
            continue
        video_id = place.split("/")[1]
        yield row(
            "jhmdb_sentences",
            video_id,
            f"v_{video_id}_f_{frame}",
            sentence,
            names,
            f"Rename_Images/{place}",
            object_ids=[1],
            mask_kind="mat",
            mask_dir=f"puppet_mask/{place}/puppet_mask.mat",
            annotated_frames=[numbers.index(frame)],
            height=height,
            width=width,
        )


def read_puppet_mask(path: str | os.PathLike, index: int) -> np.ndarray:
    """The mask of one frame of a video.

    Args:
        path: The `.mat` file of the video.
        index: Number of the frame, from 0 (one less than in the name of its picture).

    Returns:
        `(height, width)` bool.

    Raises:
        ValueError: if the file is missing or damaged, or has no such mask.
    """
    shape = puppet_mask_shape(path)
    if not 0 <= index < shape[2]:
        raise ValueError(f"{path} has {shape[2]} masks, so there is none with index {index}")
    return np.ascontiguousarray(_load_masks(str(path), os.stat(path).st_mtime_ns)[:, :, index] != 0)


def puppet_mask_shape(path: str | os.PathLike) -> tuple[int, int, int]:
    """`(height, width, num_masks)` of a `.mat` file; reads no mask.

    Raises:
        ValueError: if the file is missing or damaged, or has no masks.
    """
    from scipy.io import whosmat

    found = {name: shape for name, shape, _ in _read_mat(whosmat, path)}
    shape = found.get("part_mask")
    if shape is not None and len(shape) == 2:  # MATLAB drops a last axis of length 1
        shape = (*shape, 1)
    if shape is None or len(shape) != 3 or 0 in shape or math.prod(shape) > MAX_VALUES:
        raise ValueError(
            f"{path} has the arrays {found}, expected 'part_mask' of shape (height, width, num_masks); get it again"
        )
    return shape


@lru_cache(maxsize=2)  # the three samples of a video follow one another
def _load_masks(path: str, changed: int) -> np.ndarray:
    from scipy.io import loadmat

    masks = _read_mat(loadmat, path, variable_names=["part_mask"])["part_mask"]
    if not isinstance(masks, np.ndarray) or not np.issubdtype(masks.dtype, np.number):
        raise ValueError(f"{path} has a 'part_mask' that holds no numbers, expected masks; get it again")
    return masks.reshape(*masks.shape[:2], -1)


def _read_mat(reader: Callable, path: str | os.PathLike, **options: Any) -> Any:
    try:
        return reader(os.fspath(path), appendmat=False, **options)
    except FileNotFoundError:
        raise ValueError(f"there is no file {str(path)!r}, expected the masks of a video") from None
    except NotImplementedError as error:
        raise ValueError(f"{path} is a MATLAB file of version 7.3, expected version 5 as published") from error
    except Exception as error:  # scipy lets through whatever a damaged file runs into
        raise ValueError(f"{path} is damaged or no MATLAB file ({error}); get it again") from error


def _list_videos(root: Path) -> dict[str, str]:
    """Action of each video that has pictures. Names have brackets and more, so no patterns are used."""
    for name in ("Rename_Images", "puppet_mask"):
        if not (root / name).is_dir():
            raise ValueError(f"{root} has no folder {name}. {EXPECTED}")
    folder = root / "Rename_Images"
    actions = sorted(path for path in folder.iterdir() if path.is_dir())
    return {video: action.name for action in actions for video in sorted(os.listdir(action))}


def _describe_video(root: Path, place: str, report: Report) -> tuple[list[str], tuple[int, int]] | None:
    """Frames that have a mask, and `(height, width)`; None if there are none."""
    stems = file_stems(root / "Rename_Images" / place, (".png",))
    if not stems:
        report.add("missing videos", f"Rename_Images/{place}")
        return None
    try:
        height, width, num_masks = puppet_mask_shape(root / "puppet_mask" / place / "puppet_mask.mat")
    except ValueError as error:
        report.add("unreadable masks", str(error))
        return None
    names = sorted((name for name in stems if re.fullmatch("[0-9]{1,6}", name)), key=int)
    return [name for name in names if 1 <= int(name) <= num_masks], (height, width)


def _read_samples(path: Path) -> Iterator[tuple[str, int, str]]:
    """`<action>/<video>`, number of the frame and sentence. Only the tails of the stored paths mean something here."""
    samples = read_json(path, "samples")
    if not isinstance(samples, list):
        raise ValueError(f"{path} holds a {type(samples).__name__}, expected a list of samples; get it again")
    for number, sample in enumerate(samples):
        what = f"sample {number} of {path}"
        fits = isinstance(sample, list) and len(sample) == 5 and all(isinstance(sample[k], str) for k in (0, 1, 2, 4))
        tail = sample[1].split("/")[-3:] if fits else []
        if len(tail) != 3 or not re.fullmatch(r"[0-9]{1,6}\.png", tail[2]):
            raise ValueError(
                f"{what} is {str(sample)[:200]}, expected [video, .../<action>/<video>/<frame>.png, "
                ".../<action>/<video>/puppet_mask.mat, number of frames, sentence]"
            )
        action, video_id = check_name(tail[0], what), check_name(tail[1], what)
        if video_id != sample[0] or sample[2].split("/")[-3:] != [action, video_id, "puppet_mask.mat"]:
            raise ValueError(f"{what} names different videos: {sample[:3]}; get the file again")
        yield f"{action}/{video_id}", int(tail[2].removesuffix(".png")), sample[4]


def _draw_samples(
    root: Path, actions: dict[str, str], videos: dict[str, Any], seed: int, report: Report
) -> Iterator[tuple[str, int, str]]:
    """Three frames of each video, the same ones wherever the data is."""
    for number, fields in read_table(root / SENTENCES, ["video_id", "query"], EXPECTED):
        if len(fields) != 2:
            report.add("lines that cannot be read", f"{SENTENCES}:{number}")
            continue
        video_id, sentence = check_name(fields[0], f"line {number} of {SENTENCES}"), fields[1]
        if video_id not in actions:
            report.add("missing videos", video_id)
            continue
        place = f"{actions[video_id]}/{video_id}"
        videos[place] = _describe_video(root, place, report)
        if videos[place] is None:
            continue
        numbers = [int(name) for name in videos[place][0]]
        # Seeded by the name: a video that is missing does not change the frames of the others.
        chosen = random.Random(f"{seed}/{video_id}").sample(numbers, min(SAMPLES_PER_VIDEO, len(numbers)))
        report.note(f"frames drawn with seed {seed} for want of {SAMPLES}", video_id, len(chosen))
        yield from ((place, frame, sentence) for frame in sorted(chosen))


@dataclass
class JHMDBSentencesConfig(BenchmarkConfig):
    """Configuration of [`JHMDBSentences`].

    Args:
        samples_file (`str`, *optional*):
            JSON list of the frames to evaluate; the one in the root if None.
        seed (`int`, *optional*, defaults to 0):
            Seed of the frames that are drawn if there is no list.
    """

    samples_file: str | None = None
    seed: int = 0


class JHMDBSentences(BenchmarkBuilder):
    """JHMDB-Sentences, split `test`: three frames of each video.

    Publications drew these frames at random, each for itself, so numbers compare only for the same `samples_file`.

    Example:
        >>> builder = JHMDBSentences("data/jhmdb_sentences", samples_file="samples_of_the_paper.json")
        >>> builder.download_and_prepare()
        >>> rows = builder.as_dataset(split="test")
    """

    BUILDER_CONFIG_CLASS = JHMDBSentencesConfig
    SPLITS = ("test",)
    HOMEPAGE = HOMEPAGE
    LAYOUT = LAYOUT

    split_files = staticmethod(split_files)
    read_rows = staticmethod(read_rows)
