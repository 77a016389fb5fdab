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
"""A2D-Sentences: videos of actors and actions, each object of three to five frames described and segmented.

A row is one sentence in one annotated frame, as the published lists have it. Its `frames` are the numbers of the whole
video, so that a clip around the frame can be read; `annotated_frames` holds the position of the one frame with a mask.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hf_rvos.data.benchmark_builder import (
    BenchmarkBuilder,
    Report,
    read_json,
    row,
)
from hf_rvos.data.tables import read_table
from hf_rvos.utils.files import check_name


HOMEPAGE = "https://kgavrilyuk.github.io/publication/actor_action/"
LAYOUT = """\
Release/videoset.csv
Release/clips320H/<video>.mp4                       (or Release/CLIPS320)
text_annotations/a2d_annotation.txt
text_annotations/a2d_missed_videos.txt              (optional)
text_annotations/a2d_annotation_with_instances/<video>/<frame>.h5
a2d_sentences_single_frame_{train,test}_annotations.json   (optional, compared with what is built)"""
EXPECTED = f"Expected below the root, from {HOMEPAGE}:\n{LAYOUT}"

SUBSETS = {"train": "0", "test": "1"}
VIDEO_LIST = Path("Release", "videoset.csv")
CLIP_FOLDERS = ("clips320H", "CLIPS320")
SENTENCES = Path("text_annotations", "a2d_annotation.txt")
MISSED_VIDEOS = Path("text_annotations", "a2d_missed_videos.txt")
MASKS = Path("text_annotations", "a2d_annotation_with_instances")
# This video is listed, but its annotation is known to be wrong.
FAULTY_VIDEOS = ("e7Kjy13woXg",)
# A mask of A2D has 320 rows; far beyond that a file is not what it says.
MAX_PIXELS = 2**26


def split_files(root: Path, split: str) -> list[Path]:
    """Files and folders that rows of a split depend on."""
    names = (SENTENCES, VIDEO_LIST, MISSED_VIDEOS, "Release", MASKS, _sample_list(split))
    return [root / name for name in names]


def read_rows(root: Path, split: str, report: Report) -> Iterator[dict[str, Any]]:
    """Rows of a split in the order of the sentences, the frames of a sentence in order.

    Rows are made of the sentences and the mask files themselves. If the list of samples that is published beside them
    is there, differences are reported.

    Args:
        root: Folder of the data set.
        split: `"train"` or `"test"`.
        report: Counts what is left out.

    Raises:
        ValueError: if a file of annotations is missing or cannot be read.
    """
    root = Path(root)
    videos = _read_video_list(root / VIDEO_LIST, report)
    unused = _read_missed_videos(root / MISSED_VIDEOS)
    clip_folder, clips = _list_clips(root)
    frames_of_video: dict[str, list[tuple[int, list[int], tuple[int, int]]]] = {}
    made = []
    for number, (video_id, instance, sentence) in _read_sentences(root / SENTENCES, report):
        where = f"{SENTENCES}:{number}"
        check_name(video_id, f"video_id in {where}")
        if video_id not in videos:
            report.add("videos that videoset.csv does not list", f"{video_id} ({where})")
            continue
        num_frames, subset = videos[video_id]
        if subset != SUBSETS[split] or video_id in unused:
            continue
        if not instance.isdecimal() or video_id in FAULTY_VIDEOS:  # one published line says "1 (copy)"
            report.note("sentences known to be faulty", f"{video_id} instance {instance!r} ({where})")
            continue
        if not sentence.strip():
            report.add("expressions without text", f"{video_id} instance {instance} ({where})")
            continue
        if f"{video_id}.mp4" not in clips:
            report.add("missing videos", f"{clip_folder}/{video_id}.mp4")
            continue
        if video_id not in frames_of_video:
            frames_of_video[video_id] = _read_annotated_frames(root, video_id, report)
        for frame, instances, (height, width) in frames_of_video[video_id]:
            if int(instance) not in instances:
                continue
            if frame > num_frames:
                report.note(
                    "annotated frames beyond the end of the video", f"{video_id} frame {frame} of {num_frames}"
                )
            last = max(frame, num_frames)
            made.append((sentence.lower(), video_id, frame, int(instance)))
            yield row(
                "a2d_sentences",
                video_id,
                f"v_{video_id}_f_{frame}_i_{int(instance)}",
                sentence,
                [str(index) for index in range(1, last + 1)],
                f"{clip_folder}/{video_id}.mp4",
                object_ids=[int(instance)],
                media_kind="video",
                mask_kind="h5",
                mask_dir=(MASKS / video_id).as_posix(),
                annotated_frames=[frame - 1],
                height=height,
                width=width,
            )
    if (root / _sample_list(split)).exists():
        _compare(read_json(root / _sample_list(split), "the list of samples"), made, split, report)


def annotation_window(frame_index: int, num_frames: int, window: int, placement: str) -> tuple[list[int], int]:
    """Frames that a model sees around the one annotated frame, in evaluation.

    At the ends of the video frames are repeated, so that there are always `window` of them.

    Args:
        frame_index: Position of the annotated frame in the video, from 0; one behind the end means the last.
        num_frames: Frames in the video.
        window: Frames to take. Published numbers use 5 (ReferFormer, SgMg), 8 (SOC) and 8 or 10 (MTTR).
        placement: Where the target is sought among the repeated frames: `"first"`, the first position that shows the
            frame (ReferFormer, SgMg), or `"middle"`, position `window // 2` (SOC, MTTR).

    Returns:
        Positions in the video, and the place of the target among them.

    Raises:
        ValueError: if there is no such window.
    """
    if num_frames < 1 or window < 1 or frame_index < 0:
        raise ValueError(
            f"got frame_index {frame_index}, num_frames {num_frames} and window {window}, expected an index from 0 "
            "and at least one frame each"
        )
    if placement not in ("first", "middle"):
        raise ValueError(f"placement is {placement!r}, expected 'first' or 'middle'")
    frame_index = min(frame_index, num_frames - 1)
    start = frame_index - window // 2
    positions = [min(max(index, 0), num_frames - 1) for index in range(start, start + window)]
    return positions, positions.index(frame_index) if placement == "first" else window // 2


def read_instance_mask(path: str | os.PathLike, instance_id: int) -> np.ndarray:
    """The mask of one object in one annotated frame.

    An object that a file lists twice is the first of the two; masks behind the listed objects are ignored.

    Args:
        path: The `.h5` file of the frame.
        instance_id: Number of the object in the video.

    Returns:
        `(height, width)` bool.

    Raises:
        ValueError: if the file is missing or damaged, or the object is not in it.
    """
    with _open_masks(path) as file:
        instances, shape = _describe_masks(file, path)
        if instance_id not in instances:
            raise ValueError(f"{path} has no object {instance_id}, only {sorted(set(instances))}")
        masks = file["reMask"]
        # One object has masks (width, height), or (n, width, height) if there are more masks than objects.
        stored = masks[instances.index(instance_id)] if masks.ndim == 3 else masks[()]
    return np.ascontiguousarray(stored.T != 0)  # MATLAB writes columns first


class _open_masks:  # noqa: N801
    """The file as a context manager in which everything that h5py raises is one ValueError."""

    def __init__(self, path: str | os.PathLike):
        self.path = path

    def __enter__(self) -> Any:
        import h5py

        try:
            self.file = h5py.File(self.path, "r")
        except OSError as error:
            raise ValueError(_unreadable(self.path, error)) from error
        return self.file

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        self.file.close()
        # h5py tells of damage found while reading by these.
        if isinstance(error, (OSError, RuntimeError, KeyError, TypeError)):
            raise ValueError(_unreadable(self.path, error)) from error


def _unreadable(path: str | os.PathLike, error: BaseException) -> str:
    if not Path(path).exists():
        return f"there is no file {path}, expected the masks of a frame"
    return f"{path} cannot be read as an HDF5 file of masks ({error}); get the file again"


def _describe_masks(file: Any, path: str | os.PathLike) -> tuple[list[int], tuple[int, int]]:
    """Objects in the order of their masks, and `(height, width)`; reads no mask."""
    import h5py

    for name in ("instance", "reMask"):
        # Links to other files and data kept elsewhere would read what is not part of the data set.
        if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
            raise ValueError(f"{path} has no array {name!r}; expected 'instance' and 'reMask'. Get the file again.")
        if file[name].external or file[name].is_virtual:
            raise ValueError(f"{path} keeps {name!r} in other files, expected the array itself. Get the file again.")
        if not np.issubdtype(file[name].dtype, np.number):
            raise ValueError(f"{path} has {name!r} of type {file[name].dtype}, expected numbers. Get the file again.")
    if file["instance"].size > 10_000:
        raise ValueError(f"{path} lists {file['instance'].size} objects, expected a few. Get the file again.")
    numbers = np.ravel(file["instance"][()])
    if not np.isfinite(numbers).all():
        raise ValueError(f"{path} lists objects {numbers.tolist()}, expected whole numbers. Get the file again.")
    instances = [int(value) for value in numbers]
    shape = file["reMask"].shape
    num_masks = 1 if len(shape) == 2 else shape[0] if len(shape) == 3 else 0
    if not instances or num_masks < len(instances) or 0 in shape or shape[-1] * shape[-2] > MAX_PIXELS:
        raise ValueError(
            f"{path} has {len(instances)} objects and masks of shape {shape}, expected (num_objects, width, height), "
            "or (width, height) of a single object. Get the file again."
        )
    return instances, (shape[-1], shape[-2])


def _read_annotated_frames(root: Path, video_id: str, report: Report) -> list[tuple[int, list[int], tuple[int, int]]]:
    """Number, objects and `(height, width)` of each annotated frame of a video."""
    folder = root / MASKS / video_id
    if not folder.is_dir():
        report.add("missing masks", f"{MASKS / video_id}")
        return []
    frames = []
    for path in sorted(folder.glob("*.h5")):
        try:
            if not re.fullmatch("[0-9]{1,5}", path.stem) or not int(path.stem):
                raise ValueError(f"{path} is not named by the number of a frame, counted from 1")
            with _open_masks(path) as file:
                frames.append((int(path.stem), *_describe_masks(file, path)))
        except ValueError as error:
            report.add("unreadable masks", str(error))
    return frames


def _read_missed_videos(path: Path) -> set[str]:
    """Videos without sentences, one in a line; a copy of the data may lack the file."""
    return {fields[0].strip() for _, fields in read_table(path, None, EXPECTED)} if path.exists() else set()


def _read_video_list(path: Path, report: Report) -> dict[str, tuple[int, str]]:
    """Number of frames and subset of each video; the file has no line of titles."""
    videos = {}
    for number, fields in read_table(path, None, EXPECTED):
        if len(fields) != 9 or not re.fullmatch("[0-9]{1,5}", fields[6]) or fields[8] not in SUBSETS.values():
            report.add("lines that cannot be read", f"{VIDEO_LIST}:{number}")
            continue
        videos[fields[0]] = int(fields[6]), fields[8]
    if not videos:
        raise ValueError(f"{path} lists no video, expected lines of 9 fields with the number of frames in the 7th")
    return videos


def _read_sentences(path: Path, report: Report) -> Iterator[tuple[int, list[str]]]:
    for number, fields in read_table(path, ["video_id", "instance_id", "query"], EXPECTED):
        if len(fields) != 3:
            report.add("lines that cannot be read", f"{SENTENCES}:{number}")
        else:
            yield number, fields


def _list_clips(root: Path) -> tuple[str, set[str]]:
    """The folder of the videos, relative to the root, and what is in it."""
    for name in CLIP_FOLDERS:
        if (root / "Release" / name).is_dir():
            return f"Release/{name}", set(os.listdir(root / "Release" / name))
    raise ValueError(f"{root} has no folder of videos. {EXPECTED}")


def _sample_list(split: str) -> str:
    return f"a2d_sentences_single_frame_{split}_annotations.json"


def _compare(listed: Any, made: list[tuple], split: str, report: Report) -> None:
    if not isinstance(listed, list) or not all(isinstance(entry, list) and len(entry) == 4 for entry in listed):
        raise ValueError(f"{_sample_list(split)} is not a list of [sentence, video, frame, instance]; get it again")
    try:
        listed = {tuple(entry) for entry in listed}
    except TypeError as error:
        raise ValueError(f"{_sample_list(split)} has an entry that is not text and numbers; get it again") from error
    for kind, samples in (
        ("samples of the published list that are not in the files", listed.difference(made)),
        ("samples that the published list does not have", set(made) - listed),
    ):
        for sample in sorted(samples, key=str):
            report.note(kind, f"{sample[1]} frame {sample[2]} instance {sample[3]}")


class A2DSentences(BenchmarkBuilder):
    """A2D-Sentences, splits `train` and `test`: one row for each sentence and annotated frame.

    Example:
        >>> rows = load_dataset("a2d_sentences", "data/a2d_sentences", split="test")
        >>> positions, target = annotation_window(rows[0]["annotated_frames"][0], rows[0]["num_frames"], 5, "first")
        >>> load_clip(rows[0], "data/a2d_sentences", positions).shape
        (5, 320, 568, 3)
    """

    SPLITS = tuple(SUBSETS)
    HOMEPAGE = HOMEPAGE
    LAYOUT = LAYOUT

    split_files = staticmethod(split_files)
    read_rows = staticmethod(read_rows)
