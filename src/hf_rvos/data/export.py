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
"""Data sets as files in the layout of Ref-YouTube-VOS, which most training and evaluation code can read."""

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_rvos.data.benchmark_builder import Report, file_stems, present_frames
from hf_rvos.data.image_files import write_index_png, write_jpeg, write_json
from hf_rvos.data.media import frame_path, iter_frames, load_index_masks, load_masks
from hf_rvos.data.ref_davis17 import (
    DAVIS_SPLITS,
    FRAMES,
    MASKS,
    RefDAVIS17,
    list_file,
    read_davis_videos,
    read_semantics,
)
from hf_rvos.utils.files import check_name, check_output_folder, replace_when_done


logger = logging.getLogger(__name__)

VOID = 255
LAYOUT_SPLITS = ("train", "valid", "test")


def convert_davis(davis_root: str | os.PathLike, output: str | os.PathLike) -> Path:
    """Bring Ref-DAVIS17 from its published files into the layout of Ref-YouTube-VOS.

    The result is that of the official converter, but the source stays as it is: frames and masks are hard links, or
    copies where links cannot be made. Do not edit linked files in place.

    Args:
        davis_root (`str` or `os.PathLike`):
            Folder with `DAVIS` and `davis_text_annotations`.
        output (`str` or `os.PathLike`):
            A new or an empty folder. It gets `meta_expressions` and, for `train` and `valid`, `JPEGImages`,
            `Annotations` and `meta.json`.

    Returns:
        `Path`: the folder.

    Raises:
        ValueError: if the source is not Ref-DAVIS17 as it was published or has no video, or the folder is not empty.
    """
    root = Path(davis_root).expanduser()
    splits = [split for split in DAVIS_SPLITS if list_file(root, split).exists()]
    if not splits:
        raise ValueError(f"davis_root: {str(root)!r} does not look like\n{RefDAVIS17.LAYOUT.partition('or, as')[0]}")
    semantics, report = read_semantics(root), Report()
    with replace_when_done(check_output_folder(output, "output")) as part:
        for split in splits:
            videos = {}
            for video, entry in read_davis_videos(root, split, report).items():
                if not present_frames(root / FRAMES / video, entry["frames"], video, report):
                    continue
                videos[video] = entry
                for source, kind, suffix in ((FRAMES, "JPEGImages", ".jpg"), (MASKS, "Annotations", ".png")):
                    target = part / split / kind / video
                    target.mkdir(parents=True)
                    names = sorted(file_stems(root / source / video, (suffix,)) or [])
                    for name in names:
                        _place(root / source / video / f"{name}{suffix}", target / f"{name}{suffix}")
                    if lost := sorted(set(entry["frames"]) - set(names)):
                        if kind == "JPEGImages":
                            path = frame_path(root / source / video, lost[0])
                            raise ValueError(f"davis_root: {str(path)!r} should be a {suffix} file, as published")
                        report.add("missing masks", video, len(lost))
            if not videos:  # the lists of both splits come with either
                continue
            text_folder = part / "meta_expressions" / split
            text_folder.mkdir(parents=True)
            write_json(text_folder / "meta_expressions.json", {"videos": videos})
            objects = {
                video: {"objects": {number: {"category": name} for number, name in semantics.get(video, {}).items()}}
                for video in videos
            }
            write_json(part / split / "meta.json", {"videos": objects})
        if not part.exists():
            raise ValueError(f"davis_root: {str(root / FRAMES)!r} has no frames of any video of {', '.join(splits)}")
    if report.faults:
        logger.warning("Ref-DAVIS17 at %s is incomplete: %s", root, report)
    return Path(output)


def export_dataset(
    dataset: Sequence[dict[str, Any]], root: str | os.PathLike | None, output: str | os.PathLike, split: str
) -> Path:
    """Write rows of any data set in the layout of Ref-YouTube-VOS.

    An expression of the layout has one object id, and a pixel has one object. So every set of targets becomes one
    object. Sets that share pixels, and expressions with ground truth in different frames, cannot be in one folder of
    masks: such a video is written several times, as `<video>`, `<video>-2` and so on, with different expressions. No
    expression is lost or changed, but a model that answers the expressions of a video together sees fewer at a time.

    Ids are kept where all sets have one object with an id in 1 ... 254, and are counted from 1 otherwise. An
    expression without target has an id that no pixel has. Objects that no expression refers to are left out, void
    pixels (255) are kept. Rows without ground truth give expressions without `obj_id`. Frames that are JPEG files
    become hard links, or copies where links cannot be made; others are compressed. Frames are numbered anew where
    their names are not in the order of time.

    Args:
        dataset (`Dataset` or `list[dict]`):
            Rows of a split.
        root (`str` or `os.PathLike`):
            Root of the data set that the rows are from; None for generated videos.
        output (`str` or `os.PathLike`):
            Root of the layout. It gets `<split>/` and `meta_expressions/<split>/`, which must be new or empty.
        split (`str`):
            Name of the split in the layout: `"train"`, `"valid"` or `"test"`. `"val"` becomes `"valid"`.

    Returns:
        `Path`: the root of the layout.

    Raises:
        ValueError: if there are no rows, a file of the source is missing, or there are files already.
    """
    output, split = Path(output), "valid" if split == "val" else split
    if split not in LAYOUT_SPLITS:
        raise ValueError(
            f"split is {split!r}, but the layout has {', '.join(LAYOUT_SPLITS)}; say which of them it becomes"
        )
    data_folder = check_output_folder(output / split, "output")
    text_folder = check_output_folder(output / "meta_expressions" / split, "output")
    indices_of: dict[str, list[int]] = {}
    # A column of a `Dataset` is read without the rest of the rows.
    names = dataset["video_id"] if hasattr(dataset, "column_names") else [row["video_id"] for row in dataset]
    for index, video in enumerate(names):
        indices_of.setdefault(check_name(video, "video_id"), []).append(index)
    if not indices_of:
        raise ValueError("dataset: there are no rows to write")
    expressions, objects, taken = {}, {}, set(indices_of)
    with replace_when_done(text_folder) as text_part, replace_when_done(data_folder) as data_part:
        data_part.mkdir()
        for video, indices in indices_of.items():
            images: dict[tuple[str, ...], Path] = {}
            for number, (targets, members) in enumerate(_layers([dataset[index] for index in indices], root), start=1):
                name = video if number == 1 else _free_name(video, taken)
                frames, source = _frame_names(targets[0]["frames"]), tuple(targets[0]["frames"])
                folder = data_part / "JPEGImages" / name
                _write_frames(targets[0], root, frames, folder, images.setdefault(source, folder))
                ids = _ids(targets)
                expressions[name] = {"expressions": _entries(members, ids), "frames": frames}
                if targets[0]["mask_kind"] != "none":
                    folder = data_part / "Annotations" / name
                    objects[name] = {"objects": _write_masks(targets, ids, root, frames, folder)}
        if objects:
            write_json(data_part / "meta.json", {"videos": objects})
        text_part.mkdir()
        write_json(text_part / "meta_expressions.json", {"videos": expressions})
    if len(expressions) > len(indices_of):
        logger.warning(
            "%d of %d videos were written more than once: targets overlap, or have ground truth in different frames",
            sum(f"{video}-2" in expressions for video in indices_of),
            len(indices_of),
        )
    return output


def _layers(
    rows: list[dict[str, Any]], root: str | os.PathLike | None
) -> Iterator[tuple[list[dict[str, Any]], list[tuple[dict[str, Any], int]]]]:
    """Divide the expressions of a video into parts that one folder of masks can hold.

    Yields:
        A row for each set of targets of the part, and all rows of the part, each with the index of its set.
    """
    parts: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        annotated = row["annotated_frames"]
        key = (*row["frames"], None if annotated is None else tuple(annotated), row["mask_kind"])
        parts.setdefault(key, []).append(row)
    for part in parts.values():
        targets: dict[Any, dict[str, Any]] = {}
        for row in part:
            targets.setdefault(_target(row), row)
        clashes, layers = _clashes(list(targets.values()), root), []
        for index in range(len(targets)):
            fitting = (
                layer for layer in layers if len(layer) < VOID - 1 and not clashes & {(i, index) for i in layer}
            )
            layer = next(fitting, None)
            if layer is None:
                layers.append(layer := [])
            layer.append(index)
        order = {target: index for index, target in enumerate(targets)}
        for layer in layers:
            members = [(row, layer.index(order[_target(row)])) for row in part if order[_target(row)] in layer]
            yield [list(targets.values())[index] for index in layer], members


def _target(row: dict[str, Any]) -> Any:
    """What is equal for rows with the same ground truth."""
    if row["mask_kind"] == "none":
        return None
    return row["expression_id"] if row["object_ids"] is None else tuple(sorted(row["object_ids"]))


def _clashes(targets: list[dict[str, Any]], root: str | os.PathLike | None) -> set[tuple[int, int]]:
    """Pairs of targets, lower index first, that share a pixel of a frame."""
    if targets[0]["mask_kind"] == "none" or all(
        row["mask_kind"] == "index_png" and len(row["object_ids"]) < 2 for row in targets
    ):
        return set()
    clashes = set()
    for position in _annotated(targets[0]):
        masks = [load_masks(row, root, [position])[0] for row in targets]
        if np.sum(masks, axis=0).max() < 2:
            continue
        for second in range(len(masks)):
            clashes |= {(first, second) for first in range(second) if (masks[first] & masks[second]).any()}
    return clashes


def _annotated(row: dict[str, Any]) -> Sequence[int]:
    return range(len(row["frames"])) if row["annotated_frames"] is None else row["annotated_frames"]


def _free_name(video: str, taken: set[str]) -> str:
    name = next(name for number in range(2, len(taken) + 3) if (name := f"{video}-{number}") not in taken)
    taken.add(name)
    return name


def _frame_names(frames: list[str]) -> list[str]:
    """Names that are files and that sorting puts in order, as readers of the layout do."""
    if frames == sorted(set(frames)) and not any("/" in name for name in frames):
        return frames
    return [f"{position:05d}" for position in range(len(frames))]


def _ids(targets: list[dict[str, Any]]) -> list[int]:
    single = [row["object_ids"][0] for row in targets if row["object_ids"] and len(row["object_ids"]) == 1]
    if len(single) == len(targets) and all(0 < number < VOID for number in single):
        return single
    return list(range(1, len(targets) + 1))


def _entries(members: list[tuple[dict[str, Any], int]], ids: list[int]) -> dict[str, dict[str, str]]:
    """The `expressions` of a video."""
    entries: dict[str, dict[str, str]] = {}
    for row, index in members:
        key = check_name(row["expression_id"], f"expression of video {row['video_id']!r}")
        if key in entries:
            raise ValueError(f"dataset: there are two rows {row['video_id']}/{key}, expected one")
        entries[key] = {"exp": row["expression_raw"]}
        if row["mask_kind"] != "none":
            entries[key]["obj_id"] = str(ids[index])
    return entries


def _write_frames(
    row: dict[str, Any], root: str | os.PathLike | None, names: list[str], folder: Path, written: Path
) -> None:
    """Write the frames of a row to a folder; `written` is another one that has them already, or the same."""
    folder.mkdir(parents=True)
    if written != folder:
        for name in names:
            _place(written / f"{name}.jpg", folder / f"{name}.jpg")
        return
    paths = None
    if row["media_kind"] in ("frames", "image"):
        paths = [frame_path(Path(root or "").expanduser() / row["media_dir"], name) for name in row["frames"]]
    if paths is not None and all(path.suffix.lower() in (".jpg", ".jpeg") for path in paths):
        for path, name in zip(paths, names):
            _place(path, folder / f"{name}.jpg")
    else:
        for name, frame in zip(names, iter_frames(row, root)):
            write_jpeg(folder / f"{name}.jpg", frame)


def _write_masks(
    targets: list[dict[str, Any]], ids: list[int], root: str | os.PathLike | None, names: list[str], folder: Path
) -> dict[str, dict[str, Any]]:
    """Write the masks of targets that do not overlap, and give the `objects` of the video for `meta.json`."""
    folder.mkdir(parents=True)
    objects: dict[str, dict[str, Any]] = {}
    for row, number in zip(targets, ids):
        objects[str(number)] = {"category": ", ".join(dict.fromkeys(row["categories"]))} if row["categories"] else {}
        objects[str(number)]["frames"] = []
    for position in _annotated(targets[0]):
        labels = None
        if targets[0]["mask_kind"] == "index_png":
            labels = load_index_masks(targets[0], root, [position])[0]
            labels[labels != VOID] = 0
        for row, number in zip(targets, ids):
            mask = load_masks(row, root, [position])[0]
            labels = np.zeros(mask.shape, np.uint8) if labels is None else labels
            labels[mask] = number
            if mask.any():
                objects[str(number)]["frames"].append(names[position])
        write_index_png(folder / f"{names[position]}.png", labels)
    return objects


def _place(source: Path, target: Path) -> None:
    """Link a file, or copy it to another file system."""
    source = source.resolve()  # a link to a link would break when the first one goes
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
