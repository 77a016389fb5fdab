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
"""MeViS (Ding et al. 2023) in both versions: expressions about motion with one, several or no targets."""

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
    read_json,
    read_videos,
    row,
)
from hf_rvos.data.segmentations import encode_segmentation
from hf_rvos.ops.rle import merge_rle


# Masks of the other split are kept for the challenge.
SPLITS_WITH_MASKS = ("train", "valid_u")


def split_files(root: Path, split: str) -> list[Path]:
    """Files and folders that rows of a split depend on."""
    return [root / split / name for name in ("meta_expressions.json", "mask_dict.json", "JPEGImages")]


def read_rows(root: Path, split: str, report: Report) -> Iterator[dict[str, Any]]:
    """Rows of a split; `masks` are unions over the targets of an expression.

    Args:
        root: Folder with the splits.
        split: `"train"`, `"valid_u"` or `"valid"`.
        report: Counts what is left out.

    Yields:
        One dict for each expression, in the order of the file.
    """
    path = root / split / "mask_dict.json"
    masks = read_mask_dict(path) if path.exists() else None
    if masks is None and split in SPLITS_WITH_MASKS:
        report.add("missing masks", f"{split}/mask_dict.json")
    entries = read_videos(root / split / "meta_expressions.json")
    yield from mask_dict_rows("mevis", root, Path(split, "JPEGImages"), entries, masks, report)


def read_mask_dict(path: Path) -> dict[str, list[dict[str, Any] | None]]:
    """The codes of all masks by annotation id; hundreds of megabytes for a training split.

    Raises:
        ValueError: if the file cannot be read or has another form.
    """
    masks = read_json(path, "masks")
    if not isinstance(masks, dict) or not all(isinstance(codes, list) for codes in masks.values()):
        raise ValueError(f"masks: {str(path)!r} must map annotation ids to lists of masks, and does not")
    return masks


def mask_dict_rows(
    dataset: str,
    root: Path,
    media: Path,
    entries: dict[str, dict[str, Any]],
    masks: dict[str, list[dict[str, Any] | None]] | None,
    report: Report,
) -> Iterator[dict[str, Any]]:
    """Rows of videos whose masks are listed by annotation id, as in MeViS and ReVOS.

    Args:
        dataset: Name that the rows get.
        root: Root of the data set.
        media: Folder with the frames of all videos, relative to the root.
        entries: Videos of the JSON file.
        masks: Codes by annotation id, None if there is no ground truth.
        report: Counts what is left out.
    """
    for video, entry in entries.items():
        expressions, frames = read_entry(video, entry, report)
        present = present_frames(root / media / video, frames, video, report) if expressions else []
        if not present:
            continue
        names = [frames[position] for position in present]
        size, tracks, unions = None, {}, {}
        for expression_id, text, item in expressions:
            label, kind = f"{video}/{expression_id}", item.get("type_id")
            columns = {"object_ids": read_ids(item.get("obj_id"), f"obj_id of {label}")}
            targets = read_ids(item.get("anno_id"), f"anno_id of {label}")
            if masks is not None and targets is None:
                report.add("expressions without anno_id", label)
            elif masks is not None:
                if lost := [target for target in targets if str(target) not in masks]:
                    report.add("missing masks", f"{label} with anno_id {lost[0]}")
                    continue  # half of a target would be a wrong one
                if not targets:
                    report.note("expressions without target", label)
                key = tuple(targets)
                for target in targets:
                    if target not in tracks:
                        track = _check_track(masks[str(target)], len(frames), label, report)
                        tracks[target] = [track[position] for position in present]
                parts = [tracks[target] for target in targets]
                if key not in unions:
                    unions[key] = _union(parts, len(present), label)
                codes = unions[key]
                columns |= {"mask_kind": "rle", "masks": codes, "target_masks": parts if len(parts) > 1 else None}
                size = size or next((tuple(code["size"]) for code in codes if code is not None), None)
            if size is None:
                size = (entry.get("height"), entry.get("width"))
                size = frame_size(root / media / video, names[0], report) if None in size else size
            columns |= {"height": size[0], "width": size[1], "expression_type": None if kind is None else str(kind)}
            yield row(dataset, video, expression_id, text, names, (media / video).as_posix(), **columns)


def check_code(code: Any) -> dict[str, Any]:
    """A stored run-length code as a compressed one that can be given to pycocotools.

    Raises:
        ValueError: if it is damaged.
    """
    size = code.get("size") if isinstance(code, dict) else None
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise ValueError(f"a mask is {str(code)[:80]}, expected a run-length code with size [height, width]")
    return encode_segmentation(code, *size)


def _check_track(
    codes: list[dict[str, Any] | None], num_frames: int, label: str, report: Report
) -> list[dict[str, Any] | None]:
    """One code of a target for each frame, None where it is not visible."""
    if len(codes) != num_frames:
        report.add("mask lists of another length than the video", f"{label}: {len(codes)} for {num_frames} frames")
    track = []
    for position, code in enumerate([*codes, *[None] * num_frames][:num_frames]):
        try:
            track.append(None if code is None else check_code(code))
        except ValueError as error:
            raise ValueError(f"masks: those of {label} in frame {position} cannot be read ({error})") from error
    return track


def _union(tracks: list[list[dict[str, Any] | None]], num_frames: int, label: str) -> list[dict[str, Any] | None]:
    """One code for each frame, None where no target is visible."""
    union = []
    for position in range(num_frames):
        codes = [track[position] for track in tracks if track[position] is not None]
        try:
            union.append(merge_rle(codes) if codes else None)
        except ValueError as error:
            raise ValueError(f"masks: those of {label} in frame {position} cannot be read ({error})") from error
    return union


class MeViS(BenchmarkBuilder):
    """MeViS, version 1 or 2; in version 2 some expressions have no target, and `object_ids` is empty.

    Example:
        >>> builder = MeViS("data/mevis")
        >>> builder.download_and_prepare()
        >>> rows = builder.as_dataset(split="valid_u")
    """

    DEFAULT_WRITER_BATCH_SIZE = 100  # rows with masks are large
    SPLITS = ("train", "valid_u", "valid")
    HOMEPAGE = "https://henghuiding.com/MeViS"
    LAYOUT = """<data_dir>/
  {train,valid_u,valid}/meta_expressions.json
  {train,valid_u,valid}/JPEGImages/<video>/<frame>.jpg
  {train,valid_u}/mask_dict.json"""

    split_files = staticmethod(split_files)
    read_rows = staticmethod(read_rows)
