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
"""Your own videos and sentences as a data set: a folder with videos and one file that lists the sentences.

The file is `annotations.json` (a list of objects), `annotations.jsonl` (an object in each line) or `annotations.csv`
(with titles), with these fields for each pair of video and sentence:

| field | |
|---|---|
| `video` | video file, or folder of `.jpg` or `.png` frames, relative to the root; required |
| `expression` | the sentence; required |
| `expression_id` | how to tell sentences of a video apart; their number in the file, from 0, if left out |
| `split` | name of the split, `train` if left out |
| `type` | anything by which results should be told apart |
| `masks` | one for each frame: run-length code of COCO, polygons, or null where the target is absent; not in CSV |
| `mask_dir` | instead of `masks`: a folder of PNG files, named like the frames, that are 0 outside of the target |
| `object_id` | with `mask_dir`: the pixel values of the target, a number or a list (in CSV with blanks between) |

Frames of a video file are named by their number, from `00001`, as ffmpeg does with `%05d`. A frame without PNG file
counts as not annotated; where the target is absent there must be a PNG of zeros.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hf_rvos.data.benchmark_builder import (
    BenchmarkBuilder,
    BenchmarkConfig,
    Report,
    annotated_positions,
    file_stems,
    frame_size,
    read_json,
    row,
)
from hf_rvos.data.segmentations import encode_segmentation
from hf_rvos.data.tables import read_table
from hf_rvos.utils.files import check_name
from hf_rvos.utils.video_io import natural_order, open_video


LAYOUT = """\
annotations.json, annotations.jsonl or annotations.csv
videos and folders of frames, wherever the file says"""
ANNOTATIONS = ("annotations.json", "annotations.jsonl", "annotations.csv")
FIELDS = ("video", "expression", "expression_id", "split", "type", "masks", "mask_dir", "object_id")


def annotations_file(root: Path, annotations: str | os.PathLike | None = None) -> Path:
    """The file with the sentences: the given one, relative to the root, or the first of `ANNOTATIONS` that is there.

    Raises:
        ValueError: if there is none.
    """
    names = ANNOTATIONS if annotations is None else (annotations,)
    found = next((root / name for name in names if (root / name).is_file()), None)
    if found is None:
        raise ValueError(
            f"annotations: {root} has no file {' or '.join(map(str, names))}, expected one that lists the sentences"
        )
    if found.suffix not in (".json", ".jsonl", ".csv"):
        raise ValueError(f"annotations: {found} must be a .json, .jsonl or .csv file")
    return found


def split_files(root: Path, split: str, annotations: str | os.PathLike | None = None) -> list[Path]:
    """Files and folders that rows depend on."""
    path = annotations_file(root, annotations)
    names = {name: None for of, *names in _list_entries(path) if of == split for name in names if name is not None}
    return [path, *(root / name for name in names)]


def read_rows(
    root: Path, split: str, report: Report, annotations: str | os.PathLike | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of a split in the order of the file.

    Args:
        root: Folder with the videos.
        split: Name of a split in the file.
        report: Counts what is left out.
        annotations: File with the sentences, see [`annotations_file`].

    Yields:
        One dict for each sentence.

    Raises:
        ValueError: if an entry of the file is wrong; the message has its place.
    """
    root = Path(root)
    videos: dict[str, dict[str, Any] | None] = {}
    for where, entry in read_entries(annotations_file(root, annotations)):
        if entry["split"] != split:
            continue
        name = entry["video"]
        if name not in videos:
            videos[name] = _describe_video(root, name, report)
        if videos[name] is None:
            continue
        yield row(
            "custom",
            name,
            entry["expression_id"],
            entry["expression"],
            expression_type=entry["type"],
            **videos[name],
            **_describe_masks(root, entry, videos[name], where, report),
        )


def read_entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries of a file of sentences, checked and with all fields, each with its place for messages.

    Args:
        path: `.json`, `.jsonl` or `.csv`.

    Yields:
        Place and fields; `object_id` is a list or None.

    Raises:
        ValueError: if the file cannot be read, or an entry is wrong.
    """
    seen: set[tuple[str, str, str]] = set()
    number_in_video: Counter[str] = Counter()
    for where, stored in _READERS[path.suffix](path):
        entry = _check_entry(stored, where)
        if entry["expression_id"] is None:
            entry["expression_id"] = str(number_in_video[entry["video"]])
        number_in_video[entry["video"]] += 1
        key = (entry["split"], entry["video"], entry["expression_id"])
        if key in seen:
            raise ValueError(
                f"{where}: video {key[1]!r} has an expression_id {key[2]!r} already, expected another one"
            )
        seen.add(key)
        yield where, entry


def _list_entries(path: Path) -> list[tuple[str, str, str | None]]:
    """Split, video and folder of masks of each entry."""
    status = path.stat()
    return _list_version(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)  # asked for each split, and masks can make the file large
def _list_version(path: Path, changed: int, size: int) -> list[tuple[str, str, str | None]]:
    return [(entry["split"], entry["video"], entry["mask_dir"]) for _, entry in read_entries(path)]


def _read_list(path: Path) -> Iterator[tuple[str, Any]]:
    entries = read_json(path, "annotations")
    if not isinstance(entries, list):
        raise ValueError(f"{path} holds a {type(entries).__name__}, expected a list with an object for each sentence")
    for number, entry in enumerate(entries):
        yield f"{path}, entry {number}", entry


def _read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        yield f"{path}, line {number}", json.loads(line)
                    except (json.JSONDecodeError, RecursionError) as error:
                        raise ValueError(f"{path}, line {number}: is not JSON ({error})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path} ({error}), expected JSON in UTF-8, an object in each line") from error


def _read_table(path: Path) -> Iterator[tuple[str, Any]]:
    lines = read_table(path, None, "Expected comma-separated fields in UTF-8, with titles in the first line.")
    _, titles = next(lines, (0, []))
    for number, fields in lines:
        where = f"{path}, line {number}"
        if len(fields) != len(titles):
            raise ValueError(f"{where}: has {len(fields)} fields, expected {len(titles)} ({', '.join(titles)})")
        entry: dict[str, Any] = {title: field for title, field in zip(titles, fields) if field}
        if "masks" in entry:
            raise ValueError(f"{where}: has masks, which CSV cannot hold; use mask_dir, JSON or JSONL")
        if "object_id" in entry:
            numbers = entry["object_id"].split()
            entry["object_id"] = [int(value) if value.isdecimal() else value for value in numbers]
        yield where, entry


_READERS = {".json": _read_list, ".jsonl": _read_lines, ".csv": _read_table}


def _check_entry(stored: Any, where: str) -> dict[str, Any]:
    """All fields, with the defaults of those that are left out."""
    if not isinstance(stored, dict):
        raise ValueError(
            f"{where}: is a {type(stored).__name__}, expected an object with the fields {', '.join(FIELDS)}"
        )
    unknown = [field for field in stored if field not in FIELDS]
    if unknown:
        raise ValueError(f"{where}: has a field {unknown[0]!r}, expected {', '.join(FIELDS)}")
    entry = {**dict.fromkeys(FIELDS), "split": "train"}
    entry |= {field: value for field, value in stored.items() if value is not None}
    for field in ("expression_id", "type"):
        if type(entry[field]) is int:
            entry[field] = str(entry[field])
    for field in ("video", "expression", "expression_id", "split", "type", "mask_dir"):
        required = field in ("video", "expression")
        if (required or entry[field] is not None) and not (isinstance(entry[field], str) and entry[field].strip()):
            raise ValueError(f"{where}: {field} is {entry[field]!r}, expected text")
    for field in ("video", "mask_dir", "expression_id"):
        if entry[field] is not None:
            entry[field] = check_name(entry[field].rstrip("/"), f"{where}: {field}")
    if not re.fullmatch(r"\w+", entry["split"]):
        raise ValueError(f"{where}: split is {entry['split']!r}, expected letters, digits and _")
    if type(entry["object_id"]) is int:
        entry["object_id"] = [entry["object_id"]]
    ids = entry["object_id"]
    if ids is not None and not (isinstance(ids, list) and ids and all(type(i) is int and 0 < i < 256 for i in ids)):
        raise ValueError(f"{where}: object_id is {ids!r}, expected one or more values of pixels in 1 ... 255")
    if entry["masks"] is not None and entry["mask_dir"] is not None:
        raise ValueError(f"{where}: has masks and mask_dir, expected one of them")
    if ids is not None and entry["mask_dir"] is None:
        raise ValueError(f"{where}: has object_id, which needs mask_dir")
    return entry


def _describe_video(root: Path, name: str, report: Report) -> dict[str, Any] | None:
    """Columns of a row that say where the frames are; None if they cannot be read."""
    path = root / name
    if not path.exists():
        report.add("missing videos", name)
        return None
    if path.is_dir():
        # By the name, too: frame1 and frame01 have the same number.
        frames = sorted(file_stems(path) or (), key=lambda stem: (natural_order(stem), stem))
        height, width = frame_size(path, frames[0], report) if frames else (None, None)
        if height is None:
            report.add("unreadable videos", name)
            return None
        return {"frames": frames, "media_dir": name, "media_kind": "frames", "height": height, "width": width}
    try:
        video = open_video(path)
    except ValueError as error:
        report.add("unreadable videos", str(error))
        return None
    frames = [f"{number:05d}" for number in range(1, video.num_frames + 1)]
    return {"frames": frames, "media_dir": name, "media_kind": "video", "height": video.height, "width": video.width}


def _describe_masks(
    root: Path, entry: dict[str, Any], video: dict[str, Any], where: str, report: Report
) -> dict[str, Any]:
    """Columns of a row that say where the ground truth is."""
    frames, ids, mask_dir = video["frames"], entry["object_id"], entry["mask_dir"]
    if entry["masks"] is not None:
        return {"mask_kind": "rle", "masks": _encode_masks(entry["masks"], video, where)}
    if mask_dir is None:
        return {}
    annotated = annotated_positions(root / mask_dir, frames)
    if not annotated:
        report.add("missing masks", f"{mask_dir} has no PNG file named like a frame of {entry['video']}")
        return {"object_ids": ids}
    return {
        "mask_kind": "object_png" if ids is None else "index_png",
        "mask_dir": mask_dir,
        "object_ids": ids,
        "annotated_frames": None if len(annotated) == len(frames) else annotated,
    }


def _encode_masks(masks: Any, video: dict[str, Any], where: str) -> list[dict[str, Any] | None]:
    if not isinstance(masks, list) or len(masks) != len(video["frames"]):
        found = f"{len(masks)} of them" if isinstance(masks, list) else f"a {type(masks).__name__}"
        raise ValueError(f"{where}: masks is {found}, expected a list with one of {len(video['frames'])} frames each")
    codes = []
    for position, mask in enumerate(masks):
        try:
            codes.append(None if mask is None else encode_segmentation(mask, video["height"], video["width"]))
        except ValueError as error:
            raise ValueError(f"{where}: mask {position}: {error}") from None
    return codes


@dataclass
class CustomConfig(BenchmarkConfig):
    """Configuration of [`Custom`].

    Args:
        annotations (`str`, *optional*):
            File with the sentences, relative to the root; `annotations.json`, `.jsonl` or `.csv` if None.
    """

    annotations: str | None = None


class Custom(BenchmarkBuilder):
    """Your own videos and sentences; see the top of `hf_rvos/data/custom.py` for the file that lists them.

    Example:
        >>> Path("mine/annotations.jsonl").write_text('{"video": "cats.mp4", "expression": "the cat that jumps"}')
        >>> builder = Custom("mine")
        >>> builder.download_and_prepare()
        >>> rows = builder.as_dataset(split="train")
    """

    BUILDER_CONFIG_CLASS = CustomConfig
    LAYOUT = LAYOUT

    def __init__(self, data_dir: Any, cache_dir: Any = None, **options: Any):
        path = annotations_file(Path(data_dir).expanduser(), options.get("annotations"))
        self.SPLITS = tuple(dict.fromkeys(split for split, *_ in _list_entries(path)))
        if not self.SPLITS:
            raise ValueError(f"{path} lists no sentence, expected at least one")
        super().__init__(data_dir, cache_dir=cache_dir, **options)

    split_files = staticmethod(split_files)
    read_rows = staticmethod(read_rows)
