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
"""Long-RVOS (Liang et al. 2025): videos of hundreds of frames in which objects leave and come back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hf_rvos.data.benchmark_builder import (
    BenchmarkBuilder,
    Report,
    frame_size,
    present_frames,
    read_entry,
    read_ids,
    read_videos,
    row,
)


def split_files(root: Path, split: str) -> list[Path]:
    """Files and folders that rows of a split depend on."""
    return [root / split / name for name in ("meta_expressions.json", "JPEGImages", "Annotations")]


def video_ids(root: Path, split: str) -> list[str]:
    """Names of the videos of a split, in order."""
    return list(read_videos(root / split / "meta_expressions.json"))


def read_rows(root: Path, split: str, report: Report, videos: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of a split; `expression_type` is `"static"`, `"dynamic"` or `"hybrid"`.

    Args:
        root: Folder with the splits.
        split: `"train"`, `"valid"` or `"test"`.
        report: Counts what is left out.
        videos: Read only these; all of the split if None.

    Yields:
        One dict for each expression, in the order of the file.
    """
    entries = read_videos(root / split / "meta_expressions.json")
    for video in entries if videos is None else videos:
        media_dir, mask_dir = Path(split, "JPEGImages", video), Path(split, "Annotations", video)
        expressions, frames = read_entry(video, entries[video], report)
        present = present_frames(root / media_dir, frames, video, report) if expressions else []
        if not present:
            continue
        frames = [frames[position] for position in present]
        height, width = frame_size(root / media_dir, frames[0], report)
        for expression_id, text, item in expressions:
            numbers = read_ids(item.get("obj_id"), f"obj_id of {video}/{expression_id}")
            columns = {"object_ids": numbers, "height": height, "width": width, "expression_type": item.get("type")}
            if numbers is not None:
                # Where an object is away its file is missing, but never its folder.
                lost = [number for number in numbers if not (root / mask_dir / str(number)).is_dir()]
                if lost:
                    for number in lost:
                        report.add("missing masks", f"{video}/{number}")
                else:
                    columns |= {"mask_kind": "object_png", "mask_dir": mask_dir.as_posix()}
            yield row("long_rvos", video, expression_id, text, frames, media_dir.as_posix(), **columns)


class LongRVOS(BenchmarkBuilder):
    """Long-RVOS; all splits have masks. Ask for frames by their positions: a video is too long to decode whole.

    Example:
        >>> builder = LongRVOS("data/long_rvos")
        >>> builder.download_and_prepare()
        >>> rows = builder.as_dataset(split="valid")
        >>> clip = load_clip(rows[0], "data/long_rvos", positions=[0, 100, 200])
    """

    SPLITS = ("train", "valid", "test")
    HOMEPAGE = "https://huggingface.co/datasets/iSEE-Laboratory/Long-RVOS"
    LAYOUT = """<data_dir>/
  {train,valid,test}/meta_expressions.json
  {train,valid,test}/JPEGImages/<video>/<frame>.jpg
  {train,valid,test}/Annotations/<video>/<object id>/<frame>.png"""

    split_files = staticmethod(split_files)
    video_ids = staticmethod(video_ids)
    read_rows = staticmethod(read_rows)
