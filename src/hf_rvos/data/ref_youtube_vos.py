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
"""Ref-YouTube-VOS (Seo et al. 2020), and every data set that was converted to its layout."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_rvos.data.benchmark_builder import (
    BenchmarkBuilder,
    BenchmarkConfig,
    Report,
    annotated_positions,
    frame_size,
    present_frames,
    read_entry,
    read_ids,
    read_videos,
    row,
)


def expressions_file(root: Path, split: str) -> Path:
    """Where the layout has the sentences of a split."""
    return root / "meta_expressions" / split / "meta_expressions.json"


def split_files(root: Path, split: str, valid_includes_test: bool = False) -> list[Path]:
    """Files and folders that rows of a split depend on."""
    paths = [expressions_file(root, split), root / split / "meta.json"]
    paths += [_subfolder(root / split / kind) for kind in ("JPEGImages", "Annotations")]
    if split == "valid":
        paths.append(expressions_file(root, "test"))
        if valid_includes_test:
            paths.append(_subfolder(root / "test" / "JPEGImages"))
    return paths


def split_videos(root: Path, split: str, valid_includes_test: bool = False) -> dict[str, dict[str, Any]]:
    """Entries of the videos of a split, in order.

    The published list of `valid` also has the videos of `test`. They are told apart by the list of `test` or, without
    one, by the folders that there are.
    """
    videos = read_videos(expressions_file(root, split))
    if split != "valid":
        return videos
    if not valid_includes_test:
        if expressions_file(root, "test").exists():
            others = read_videos(expressions_file(root, "test"))
            videos = {video: entry for video, entry in videos.items() if video not in others}
        elif (folder := _subfolder(root / "valid" / "JPEGImages")).is_dir():
            videos = {video: entry for video, entry in videos.items() if (folder / video).is_dir()}
    return dict(sorted(videos.items()))


def video_ids(root: Path, split: str, **options: Any) -> list[str]:
    """Names of the videos of a split, in order."""
    return list(split_videos(root, split, **options))


def read_rows(
    root: Path, split: str, report: Report, videos: list[str] | None = None, valid_includes_test: bool = False
) -> Iterator[dict[str, Any]]:
    """Rows of a split.

    Args:
        root: Folder with `meta_expressions` and the splits.
        split: `"train"`, `"valid"` or `"test"`.
        report: Counts what is left out.
        videos: Read only these; all of the split if None.
        valid_includes_test: Keep the videos of `test` that the list of `valid` also has.

    Yields:
        One dict for each expression, videos and expressions in the order of the file; `valid` is sorted by video.
    """
    entries = split_videos(root, split, valid_includes_test)
    if videos is not None:
        entries = {video: entries[video] for video in videos}
    folders = ["valid", "test"] if split == "valid" and valid_includes_test else [split]
    yield from layout_rows("ref_youtube_vos", root, folders, entries, report)


def layout_rows(
    dataset: str, root: Path, folders: list[str], entries: dict[str, dict[str, Any]], report: Report
) -> Iterator[dict[str, Any]]:
    """Rows of videos in the layout of Ref-YouTube-VOS.

    Args:
        dataset: Name that the rows get.
        root: Folder with the splits.
        folders: Folder of the split; frames that are not there are looked for in the others.
        entries: Videos of the JSON file.
        report: Counts what is left out.
    """
    split = folders[0]
    objects = _read_objects(root / split / "meta.json")
    mask_folder = _subfolder(root / split / "Annotations")
    for video, entry in entries.items():
        expressions, frames = read_entry(video, _listed_by_video(video, entry), report)
        media_dir = _video_folder(root, folders, video)
        # In the order of time, whatever the order of the list.
        frames = sorted(frames)
        present = present_frames(root / media_dir, frames, video, report) if expressions else []
        if not present:
            continue
        frames = [frames[position] for position in present]
        height, width = frame_size(root / media_dir, frames[0], report)
        masks = {}
        if split == "train" or mask_folder.is_dir():  # masks of the other splits were not published for long
            masks = find_masks(root, mask_folder.relative_to(root), video, frames, report)
        for expression_id, text, item in expressions:
            columns = {"object_ids": read_ids(item.get("obj_id"), f"obj_id of {video}/{expression_id}")}
            if columns["object_ids"] is not None:
                known = [objects.get(video, {}).get(str(number), {}) for number in columns["object_ids"]]
                if known and all("category" in item for item in known):
                    columns["categories"] = [item["category"] for item in known]
                columns |= masks
            yield row(dataset, video, expression_id, text, frames, media_dir, height=height, width=width, **columns)


def _listed_by_video(video: str, entry: dict[str, Any]) -> dict[str, Any]:
    """The entry of a video; files of 2020 list sentences and frames by object."""
    if "objects" not in entry or "expressions" in entry:
        return entry
    expressions, frames = {}, _read_list(entry, "frames", video)
    for number, item in check_objects(entry["objects"], f"objects of video {video!r}").items():
        frames += _read_list(item, "frames", video)
        for text in _read_list(item, "expressions", video):
            expressions[str(len(expressions))] = {"exp": text, "obj_id": number}
    return {"expressions": expressions, "frames": list(dict.fromkeys(frames))}


def _read_list(entry: dict[str, Any], key: str, video: str) -> list[str]:
    values = entry.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{key} of video {video!r} is {str(values)[:80]}, expected a list of texts")
    return list(values)


def check_objects(objects: Any, what: str) -> dict[str, dict[str, Any]]:
    """Objects of a video as a JSON file has them.

    Raises:
        ValueError: if they are not dicts by object id.
    """
    if not isinstance(objects, dict) or not all(isinstance(item, dict) for item in objects.values()):
        raise ValueError(f"{what}: found {str(objects)[:80]}, expected {{'<object id>': {{...}}}}")
    return objects


def _read_objects(path: Path) -> dict[str, dict[str, Any]]:
    """`{video: {object id: {"category": ...}}}`, empty without the file: the categories are a nicety."""
    if not path.exists():
        return {}
    entries = read_videos(path, "categories")
    return {
        video: check_objects(entry.get("objects", {}), f"objects of video {video!r} in {str(path)!r}")
        for video, entry in entries.items()
    }


def _subfolder(folder: Path) -> Path:
    """Some conversions of DAVIS keep its resolution as a level of folders."""
    return folder / "480p" if (folder / "480p").is_dir() else folder


def _video_folder(root: Path, splits: list[str], video: str) -> str:
    """Folder of frames relative to the root, in the first split that has it."""
    folders = [_subfolder(root / split / "JPEGImages") / video for split in splits]
    return next((folder for folder in folders if folder.is_dir()), folders[0]).relative_to(root).as_posix()


def find_masks(root: Path, folder: Path, video: str, frames: list[str], report: Report) -> dict[str, Any]:
    """Mask columns of the rows of a video with indexed PNG files, none if there are no files.

    Args:
        root: Root of the data set.
        folder: Folder with the masks of all videos, relative to the root.
        video: Name of the video.
        frames: Names of its frames.
        report: Counts the missing files.
    """
    annotated = annotated_positions(root / folder / video, frames)
    for position in sorted(set(range(len(frames))).difference(annotated)):
        report.add("missing masks", f"{video}/{frames[position]}")
    if not annotated:
        return {}
    return {
        "mask_kind": "index_png",
        "mask_dir": (folder / video).as_posix(),
        "annotated_frames": None if len(annotated) == len(frames) else annotated,
    }


@dataclass
class RefYouTubeVOSConfig(BenchmarkConfig):
    """Configuration of [`RefYouTubeVOS`].

    Args:
        valid_includes_test (`bool`, *optional*, defaults to `False`):
            Keep the videos of `test` that the published list of `valid` also has.
    """

    valid_includes_test: bool = False


class RefYouTubeVOS(BenchmarkBuilder):
    """Ref-YouTube-VOS: sentences about objects of YouTube-VOS, two by each of two annotators.

    Ground truth is published for `train`. Masks in `valid/Annotations` are used if they are there and the expressions
    have `obj_id`.

    Example:
        >>> builder = RefYouTubeVOS("data/ref-youtube-vos")
        >>> builder.download_and_prepare()
        >>> rows = builder.as_dataset(split="train")
    """

    BUILDER_CONFIG_CLASS = RefYouTubeVOSConfig
    SPLITS = ("train", "valid", "test")
    HOMEPAGE = "https://youtube-vos.org/dataset/rvos"
    LAYOUT = """<data_dir>/
  meta_expressions/{train,valid,test}/meta_expressions.json
  train/JPEGImages/<video>/<frame>.jpg   train/Annotations/<video>/<frame>.png   train/meta.json
  valid/JPEGImages/<video>/<frame>.jpg   test/JPEGImages/<video>/<frame>.jpg"""

    split_files = staticmethod(split_files)
    video_ids = staticmethod(video_ids)
    read_rows = staticmethod(read_rows)
