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
    check_name,
    file_stems,
    frame_size,
    present_frames,
    read_videos,
    row,
)


def expressions_file(root: Path, split: str) -> Path:
    """Where the layout has the sentences of a split."""
    return root / "meta_expressions" / split / "meta_expressions.json"


def split_files(root: Path, split: str, valid_includes_test: bool = False) -> list[Path]:
    """Files and folders that rows of a split depend on."""
    paths = [expressions_file(root, split), root / split / "meta.json"]
    paths += [root / split / "JPEGImages", root / split / "Annotations"]
    if split == "valid":
        paths.append(expressions_file(root, "test"))
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
            present = {path.name for path in folder.iterdir()}
            videos = {video: entry for video, entry in videos.items() if video in present}
    return dict(sorted(videos.items()))


def video_ids(root: Path, split: str, **options: Any) -> list[str]:
    """Names of the videos of a split, in order."""
    return list(split_videos(root, split, **options))


def read_rows(
    root: Path,
    split: str,
    report: Report,
    videos: list[str] | None = None,
    valid_includes_test: bool = False,
    dataset: str = "ref_youtube_vos",
) -> Iterator[dict[str, Any]]:
    """Rows of a split.

    Args:
        root: Folder with `meta_expressions` and the splits.
        split: `"train"`, `"valid"` or `"test"`.
        report: Counts what is left out.
        videos: Read only these; all of the split if None.
        valid_includes_test: Keep the videos of `test` that the list of `valid` also has.
        dataset: Name that the rows get.

    Yields:
        One dict for each expression, videos and expressions in the order of the file; `valid` is sorted by video.
    """
    entries = split_videos(root, split, valid_includes_test)
    objects = _read_objects(root / split / "meta.json")
    for video in entries if videos is None else videos:
        entry = entries[video]
        expressions, frames = _read_entry(video, entry, report)
        if not expressions:
            report.note("videos without expressions", video)
            continue
        media_dir = _video_folder(root, [split] + ["test"] * (split == "valid" and valid_includes_test), video)
        present = present_frames(root / media_dir, frames, video, report)
        if not present:
            continue
        frames = [frames[position] for position in present]
        height, width = frame_size(root / media_dir, frames[0], report)
        mask_dir, annotated = _find_masks(root, split, video, frames, report)
        for expression_id, text, number in expressions:
            columns = {"object_ids": None if number is None else [number], "height": height, "width": width}
            if number is not None:
                category = objects.get(video, {}).get(str(number), {}).get("category")
                columns["categories"] = None if category is None else [category]
                if mask_dir is not None:
                    columns |= {"mask_kind": "index_png", "mask_dir": mask_dir, "annotated_frames": annotated}
            yield row(dataset, video, expression_id, text, frames, media_dir, **columns)


def _read_entry(
    video: str, entry: dict[str, Any], report: Report
) -> tuple[list[tuple[str, str, int | None]], list[str]]:
    """`(expression_id, sentence, object id)` of a video, and its sorted frames."""
    if "objects" in entry and "expressions" not in entry:  # files of 2020 list sentences and frames by object
        items, frames = {}, set(entry.get("frames", []))
        for number, item in entry["objects"].items():
            frames |= set(item.get("frames", []))
            for text in item.get("expressions", []):
                items[str(len(items))] = {"exp": text, "obj_id": number}
    else:
        items, frames = entry.get("expressions", {}), entry.get("frames", [])
    expressions = []
    for expression_id, item in items.items():
        check_name(expression_id, f"expression of video {video!r}")
        text, number = item.get("exp"), item.get("obj_id")
        if not isinstance(text, str) or not text.strip():
            report.add("expressions without text", f"{video}/{expression_id}")
            continue
        try:
            number = None if number is None else int(number)
        except (TypeError, ValueError):
            raise ValueError(f"obj_id of {video}/{expression_id} is {number!r}, expected one number") from None
        expressions.append((expression_id, text, number))
    return expressions, sorted(frames)


def _read_objects(path: Path) -> dict[str, dict[str, Any]]:
    """`{video: {object id: {"category": ...}}}`, empty without the file: the categories are a nicety."""
    if not path.exists():
        return {}
    return {video: entry.get("objects", {}) for video, entry in read_videos(path, "categories").items()}


def _subfolder(folder: Path) -> Path:
    """Some conversions of DAVIS keep its resolution as a level of folders."""
    return folder / "480p" if (folder / "480p").is_dir() else folder


def _video_folder(root: Path, splits: list[str], video: str) -> str:
    """Folder of frames relative to the root, in the first split that has it."""
    folders = [_subfolder(root / split / "JPEGImages") / video for split in splits]
    return next((folder for folder in folders if folder.is_dir()), folders[0]).relative_to(root).as_posix()


def _find_masks(
    root: Path, split: str, video: str, frames: list[str], report: Report
) -> tuple[str | None, list[int] | None]:
    """Folder of masks relative to the root, and the positions that have one if not all do."""
    folder = _subfolder(root / split / "Annotations")
    if not folder.is_dir():
        if split == "train":
            report.add("missing masks", f"{video}: no folder {folder.relative_to(root).as_posix()}", len(frames))
        return None, None
    stems = file_stems(folder / video, (".png",)) or set()
    annotated = [position for position, name in enumerate(frames) if name in stems]
    if len(annotated) < len(frames):
        first = next(name for name in frames if name not in stems)
        report.add("missing masks", f"{video}/{first}", len(frames) - len(annotated))
    if not annotated:
        return None, None
    mask_dir = (folder / video).relative_to(root).as_posix()
    return mask_dir, None if len(annotated) == len(frames) else annotated


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
