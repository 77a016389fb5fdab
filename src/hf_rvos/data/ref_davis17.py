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
"""Ref-DAVIS17 (Khoreva et al. 2018), as it was published or converted to the layout of Ref-YouTube-VOS."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_rvos.data.benchmark_builder import (
    BenchmarkBuilder,
    BenchmarkConfig,
    Report,
    file_stems,
    frame_size,
    present_frames,
    read_entry,
    read_json,
    read_videos,
    row,
)
from hf_rvos.data.ref_youtube_vos import expressions_file, find_masks, layout_rows
from hf_rvos.data.ref_youtube_vos import split_files as converted_files
from hf_rvos.utils.files import check_name


# One file for each pass over the data: two annotators, who saw the first frame and then the full video.
TEXT_FILES = ("Davis17_annot1", "Davis17_annot1_full_video", "Davis17_annot2", "Davis17_annot2_full_video")
# Names in the text files that differ from those of the folders.
MISSPELT = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}
DAVIS_SPLITS = {"train": "train", "valid": "val"}

FRAMES = Path("DAVIS/JPEGImages/480p")
# Drawn again in 2019 and not the same as `Annotations`: only these have the void label and are used for evaluation.
MASKS = Path("DAVIS/Annotations_unsupervised/480p")
SEMANTICS = Path("DAVIS/davis_semantics.json")


def find_layout(root: Path, layout: str = "auto") -> str:
    """`"raw"` or `"converted"`, whichever the root has; both are the same data."""
    if layout not in ("auto", "raw", "converted"):
        raise ValueError(f"layout: got {layout!r}, expected 'auto', 'raw' or 'converted'")
    if layout == "auto":
        return "raw" if (root / "DAVIS").is_dir() else "converted"
    return layout


def split_files(root: Path, split: str, layout: str = "auto") -> list[Path]:
    """Files and folders that rows of a split depend on."""
    if find_layout(root, layout) == "converted":
        return converted_files(root, split)
    texts = [_text_file(root, name) for name in TEXT_FILES]
    return [list_file(root, split), *texts, root / SEMANTICS, root / FRAMES, root / MASKS]


def read_davis_text(root: Path, videos: list[str], report: Report) -> dict[str, dict[int, list[str | None]]]:
    """Sentences of the four text files.

    Args:
        root: Folder with `davis_text_annotations`.
        videos: The videos whose sentences are wanted.
        report: Counts lines that cannot be read, and second ones about the same object.

    Returns:
        For each video the sentences of the four passes by object id in ascending order, None if there is none.
    """
    texts: dict[str, dict[int, list[str | None]]] = {video: {} for video in videos}
    for index, name in enumerate(TEXT_FILES):
        for number, line in enumerate(_read_text(_text_file(root, name)).split("\n"), start=1):
            parts = line.split()
            video = MISSPELT.get(parts[0], parts[0]) if parts else None
            if video not in texts:
                continue
            if len(parts) < 3 or not parts[1].isdecimal():
                report.add("unreadable lines", f"{name}.txt:{number}")
                continue
            sentences = texts[video].setdefault(int(parts[1]), [None] * len(TEXT_FILES))
            if sentences[index] is not None:
                report.add("repeated lines", f"{name}.txt:{number}")
                continue
            # The sentence is in quotes; a blank before the closing one is part of it.
            sentences[index] = " ".join(parts[2:])[1:-1]
    return {video: dict(sorted(objects.items())) for video, objects in texts.items()}


def read_davis_videos(root: Path, split: str, report: Report) -> dict[str, dict[str, Any]]:
    """Entries of the videos of a split as the converted JSON has them, from the published files.

    Expressions are numbered by rank of the object times four plus the pass.

    Args:
        root: Folder with `DAVIS` and `davis_text_annotations`.
        split: `"train"` or `"valid"`.
        report: Counts what is left out.
    """
    path = list_file(root, split)
    videos = [check_name(video, f"video in {str(path)!r}") for video in _read_text(path).split()]
    texts, entries = read_davis_text(root, videos, report), {}
    for video in videos:
        expressions = {}
        for rank, (number, sentences) in enumerate(texts[video].items()):
            for index, sentence in enumerate(sentences):
                if sentence is None:
                    report.add("missing expressions", f"{video} object {number} in {TEXT_FILES[index]}.txt")
                else:
                    key = str(rank * len(TEXT_FILES) + index)
                    expressions[key] = {"exp": sentence, "obj_id": str(number)}
        entries[video] = {"expressions": expressions, "frames": sorted(file_stems(root / FRAMES / video) or [])}
    return entries


def read_semantics(root: Path) -> dict[str, dict[str, str]]:
    """Category of each object id of each video; empty without the file."""
    path = root / SEMANTICS
    content = read_json(path, "categories") if path.exists() else {}
    if not isinstance(content, dict) or not all(isinstance(names, dict) for names in content.values()):
        raise ValueError(f"categories: {str(path)!r} must look like {{'<video>': {{'<object id>': '<name>'}}}}")
    return content


def read_rows(root: Path, split: str, report: Report, layout: str = "auto") -> Iterator[dict[str, Any]]:
    """Rows of a split; `expression_type` is the pass, `"0"` to `"3"`.

    Args:
        root: Folder with `DAVIS` and `davis_text_annotations`, or with `meta_expressions` and the splits.
        split: `"train"` or `"valid"`.
        report: Counts what is left out.
        layout: `"raw"`, `"converted"`, or `"auto"` to look what is there.

    Yields:
        One dict for each expression, in the order of the list of videos and of the expression numbers.
    """
    if find_layout(root, layout) == "raw":
        rows = _raw_rows(root, read_davis_videos(root, split, report), report)
    else:
        rows = layout_rows("ref_davis17", root, [split], read_videos(expressions_file(root, split)), report)
    for values in rows:
        # Four sentences for each object, numbered through.
        number = values["expression_id"]
        index = str(int(number) % len(TEXT_FILES)) if number.isdecimal() else None
        yield values | {"expression_type": index}


def _raw_rows(root: Path, entries: dict[str, dict[str, Any]], report: Report) -> Iterator[dict[str, Any]]:
    semantics = read_semantics(root)
    for video, entry in entries.items():
        expressions, frames = read_entry(video, entry, report)
        media_dir = FRAMES / video
        if not expressions or not present_frames(root / media_dir, frames, video, report):
            continue
        height, width = frame_size(root / media_dir, frames[0], report)
        shared = {"height": height, "width": width, **find_masks(root, MASKS, video, frames, report)}
        for expression_id, text, item in expressions:
            category = semantics.get(video, {}).get(item["obj_id"])
            columns = {"object_ids": [int(item["obj_id"])], "categories": None if category is None else [category]}
            yield row("ref_davis17", video, expression_id, text, frames, media_dir.as_posix(), **columns, **shared)


def _text_file(root: Path, name: str) -> Path:
    return root / "davis_text_annotations" / f"{name}.txt"


def list_file(root: Path, split: str) -> Path:
    """Where the names of the videos of a split are."""
    return root / "DAVIS/ImageSets/2017" / f"{DAVIS_SPLITS[split]}.txt"


def _read_text(path: Path) -> str:
    """Annotator 1 wrote UTF-8 and annotator 2 Latin-1, which is next to never valid UTF-8 by chance."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"expressions: {str(path)!r} cannot be read ({error.strerror or error})") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


@dataclass
class RefDAVIS17Config(BenchmarkConfig):
    """Configuration of [`RefDAVIS17`].

    Args:
        layout (`str`, *optional*, defaults to `"auto"`):
            `"raw"` for the published files, `"converted"` for the layout of Ref-YouTube-VOS; `"auto"` takes what is
            there.
    """

    layout: str = "auto"


class RefDAVIS17(BenchmarkBuilder):
    """Ref-DAVIS17: four sentences for each object of DAVIS 2017, one in each of four passes.

    Example:
        >>> builder = RefDAVIS17("data/ref-davis")
        >>> builder.download_and_prepare()
        >>> first_pass = builder.as_dataset(split="valid").filter(lambda row: row["expression_type"] == "0")
    """

    BUILDER_CONFIG_CLASS = RefDAVIS17Config
    SPLITS = ("train", "valid")
    HOMEPAGE = "https://davischallenge.org (videos and masks) and the page of Khoreva et al. at MPI-INF (sentences)"
    LAYOUT = """<data_dir>/
  DAVIS/JPEGImages/480p/<video>/00000.jpg   DAVIS/Annotations_unsupervised/480p/<video>/00000.png
  DAVIS/ImageSets/2017/{train,val}.txt      DAVIS/davis_semantics.json
  davis_text_annotations/Davis17_annot{1,2}.txt   davis_text_annotations/Davis17_annot{1,2}_full_video.txt
or, as the official converter makes of it,
  meta_expressions/{train,valid}/meta_expressions.json
  {train,valid}/JPEGImages/<video>/00000.jpg   {train,valid}/Annotations/<video>/00000.png   {train,valid}/meta.json"""

    split_files = staticmethod(split_files)
    read_rows = staticmethod(read_rows)
