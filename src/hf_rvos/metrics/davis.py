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
"""The two protocols of the DAVIS-2017 evaluation on index maps, and Ref-DAVIS17, which runs one of them four times.

The numbers are those of the official package. Objects are named by their ids in the ground truth, where the official
tables of the unsupervised protocol have the rank of the matched prediction.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_rvos.metrics.folders import (
    MISSING,
    frame_names,
    missing_files,
    raise_missing,
    read_masks,
    subfolders,
)
from hf_rvos.metrics.functional import (
    PIXELS_AT_ONCE,
    contour_tolerance,
    scores_of_pairs,
    sequence_statistics,
)
from hf_rvos.utils.files import check_name


PROTOCOLS = {"unsupervised": "Annotations_unsupervised", "semi-supervised": "Annotations"}
MATCHINGS = ("official", "id")
VOID = 255
# More predicted objects make the official code stop.
MAX_PREDICTIONS = 20
NUM_REF_DAVIS_PASSES = 4

IndexMaps = Mapping[str, np.ndarray]


def score_davis_video(
    pred: np.ndarray,
    gt: np.ndarray,
    protocol: str = "unsupervised",
    matching: str = "official",
    per_frame: bool = False,
) -> list[dict[str, Any]]:
    """J and F of the objects of a video.

    The objects are the ids up to the highest one in the first frame of the ground truth; those that enter later do not
    count. Ids that are not predicted count as empty masks.

    Args:
        pred: Index map, `(num_frames, height, width)` integers; 0 is background.
        gt: Index map of the ground truth, same shape; 255 is void.
        protocol: "unsupervised", the one of Ref-DAVIS17: all frames, void pixels left out, predictions assigned to
            objects such that the sum of J and F is highest. Or "semi-supervised": without the first and last frame,
            void is background, and prediction i is object i.
        matching: "official", or "id" to compare prediction i with object i in the unsupervised protocol too.
        per_frame: Whether to give `j_frames` and `f_frames` too, lists of the values of the frames.

    Returns:
        One dict for each object: `object_id`, `pred_id` (None if nothing was left to assign), `num_frames`, `j_mean`,
        `j_recall`, `j_decay`, `f_mean`, `f_recall`, `f_decay` and `j_and_f`.

    Raises:
        ValueError: if the shapes differ, there are too few frames, or there are more predicted objects than the
            official code accepts: 20, or in the semi-supervised protocol those in the ground truth.
    """
    _check_choice("protocol", protocol, PROTOCOLS)
    _check_choice("matching", matching, MATCHINGS)
    pred, gt = np.asarray(pred), np.asarray(gt)
    unsupervised = protocol == "unsupervised"
    if pred.shape != gt.shape or pred.ndim != 3 or len(pred) < (1 if unsupervised else 3):
        raise ValueError(
            f"pred and gt have the shapes {pred.shape} and {gt.shape}, expected index maps of one shape (num_frames, "
            f"height, width) with at least {1 if unsupervised else 3} frame(s) for the {protocol} protocol."
        )
    void = gt == VOID
    gt = np.where(void, 0, gt)
    num_objects = int(gt[0].max())
    if not unsupervised:
        pred, gt, void = pred[1:-1], gt[1:-1], np.zeros_like(void[1:-1])
    num_predicted = int(pred.max())
    limit = MAX_PREDICTIONS if unsupervised else num_objects
    if num_predicted > limit:
        raise ValueError(
            f"pred has ids up to {num_predicted}, the {protocol} protocol allows {limit} here"
            f"{'' if unsupervised else ', the objects in the first frame of the ground truth'}. Number the predicted "
            "objects from 1 on."
        )
    if num_objects == 0:
        return []

    matched = unsupervised and matching == "official"
    num_tracks = max(num_predicted, num_objects) if matched else num_objects
    j, f = _score_pairs(pred, gt, void, num_tracks, num_objects)
    assigned = range(num_objects)
    if matched:
        from scipy.optimize import linear_sum_assignment

        tracks, objects = linear_sum_assignment(-(j.mean(-1) + f.mean(-1)) / 2)
        assigned = tracks[np.argsort(objects)]
    rows = []
    for index, track in enumerate(assigned):
        values = {"j": j[track, index], "f": f[track, index]}
        row = {
            "object_id": index + 1,
            "pred_id": int(track) + 1 if track < num_predicted else None,
            "num_frames": len(pred),
        }
        for name, frames in values.items():
            row |= {f"{name}_{key}": value for key, value in sequence_statistics(frames).items()}
        row["j_and_f"] = (row["j_mean"] + row["f_mean"]) / 2
        if per_frame:
            row |= {f"{name}_frames": frames.tolist() for name, frames in values.items()}
        rows.append(row)
    return rows


def summarize_davis(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over objects, not over videos, of what `score_davis_video` gives.

    Args:
        rows: One dict for each object of all videos.

    Returns:
        `j_and_f`, `j_mean`, `j_recall`, `j_decay`, `f_mean`, `f_recall`, `f_decay` and `num_objects`.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows is empty, expected the scores of at least one object")
    keys = [f"{name}_{key}" for name in "jf" for key in ("mean", "recall", "decay")]
    means = {key: float(np.mean([row[key] for row in rows])) for key in keys}
    return {"j_and_f": (means["j_mean"] + means["f_mean"]) / 2} | means | {"num_objects": len(rows)}


def evaluate_davis(
    predictions: str | Path | IndexMaps,
    references: str | Path | IndexMaps,
    protocol: str = "unsupervised",
    matching: str = "official",
    videos: Sequence[str] | None = None,
    missing: str = "error",
) -> dict[str, Any]:
    """Compare the index maps of some videos with the ground truth.

    Args:
        predictions: Folder with `<video>/<frame>.png`, one channel of object ids, or index maps by video.
        references: Root of DAVIS, or a folder like that of the predictions, or index maps by video.
        protocol: See `score_davis_video`.
        matching: See `score_davis_video`.
        videos: Which to evaluate. If None, `ImageSets/2017/val.txt` for the root of DAVIS, and else all references.
        missing: "error" counts the missing predictions in one error; "empty" takes them as empty and reports them.

    Returns:
        What `summarize_davis` gives, with `protocol`, `matching`, `num_videos`, `num_missing_frames` and `objects`,
        the rows of `score_davis_video` with their `video_id`.

    Raises:
        ValueError: if predictions are missing, or files or arrays are not what is expected.
    """
    _check_choice("protocol", protocol, PROTOCOLS)
    _check_choice("missing", missing, MISSING)
    gt = _References(references, protocol, videos)
    pred = _path_or_maps(predictions)
    lacking, num_wanted = _missing_predictions(pred, gt, protocol)
    if missing == "error":
        raise_missing(lacking, num_wanted)
    rows = []
    for video in gt.videos:
        truth = gt.read(video)
        maps = _read_predictions(pred, video, gt.frames.get(video), truth, missing)
        rows += [{"video_id": video} | row for row in score_davis_video(maps, truth, protocol, matching)]
    return (
        {"protocol": protocol, "matching": matching}
        | summarize_davis(rows)
        | {"num_videos": len(gt.videos), "num_missing_frames": len(lacking), "objects": rows}
    )


def evaluate_ref_davis(
    predictions: str | Path | Sequence[str | Path | IndexMaps],
    references: str | Path | IndexMaps,
    protocol: str = "unsupervised",
    matching: str = "official",
    videos: Sequence[str] | None = None,
    missing: str = "error",
) -> dict[str, Any]:
    """Evaluate Ref-DAVIS17: the mean of four passes, in each of which another annotator's expressions are used.

    Papers that score each expression on its own, without merging and matching objects, have other numbers.

    Args:
        predictions: Folder with `anno_0` to `anno_3`, or the results of the four passes as for `evaluate_davis`.
        references: See `evaluate_davis`.
        protocol: The published numbers are "unsupervised".
        matching: See `score_davis_video`.
        videos: See `evaluate_davis`.
        missing: See `evaluate_davis`; missing predictions of all passes are in one error.

    Returns:
        What `summarize_ref_davis` gives, with `protocol`, `matching`, `num_videos`, `num_missing_frames` and
        `objects`.

    Raises:
        ValueError: if there are not four passes, predictions are missing, or files or arrays are not as expected.
    """
    if isinstance(predictions, (str, Path)):
        predictions = [Path(predictions) / f"anno_{index}" for index in range(NUM_REF_DAVIS_PASSES)]
    if isinstance(predictions, Mapping) or len(predictions) != NUM_REF_DAVIS_PASSES:
        raise ValueError(
            f"predictions has {len(predictions)} entries, expected the results of the {NUM_REF_DAVIS_PASSES} passes "
            "of Ref-DAVIS17; evaluate_davis takes those of one."
        )
    _check_choice("protocol", protocol, PROTOCOLS)
    _check_choice("missing", missing, MISSING)
    predictions = [_path_or_maps(results) for results in predictions]
    if missing == "error":
        gt = _References(references, protocol, videos)
        found = [_missing_predictions(results, gt, protocol) for results in predictions]
        raise_missing([path for lacking, _ in found for path in lacking], sum(wanted for _, wanted in found))
    results = [evaluate_davis(one, references, protocol, matching, videos, missing) for one in predictions]
    rows = [{"annotation_pass": index} | row for index, result in enumerate(results) for row in result["objects"]]
    return (
        {"protocol": protocol, "matching": matching}
        | summarize_ref_davis(rows)
        | {"num_videos": results[0]["num_videos"]}
        | {"num_missing_frames": sum(result["num_missing_frames"] for result in results), "objects": rows}
    )


def summarize_ref_davis(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the four annotation passes of Ref-DAVIS17.

    Args:
        rows: What `score_davis_video` gives for all videos of all passes, each with its `annotation_pass`, 0 to 3.

    Returns:
        What `summarize_davis` gives, averaged over the passes, but `num_objects` of all; and `passes`, a list of it
        for each.

    Raises:
        ValueError: if there are not four passes with the same number of objects.
    """
    counts = Counter(int(row["annotation_pass"]) for row in rows)
    if set(counts) != set(range(NUM_REF_DAVIS_PASSES)) or len(set(counts.values())) != 1:
        raise ValueError(
            f"rows has {dict(sorted(counts.items()))} objects by annotation pass, expected as many in each of the "
            f"passes 0 to {NUM_REF_DAVIS_PASSES - 1}"
        )
    passes = [
        summarize_davis([row for row in rows if int(row["annotation_pass"]) == index]) for index in sorted(counts)
    ]
    means = {key: float(np.mean([summary[key] for summary in passes])) for key in passes[0]}
    return means | {"num_objects": len(rows), "passes": passes}


class _References:
    """Ground truth by video, read when asked for; `frames` are the names of the files, if there are files."""

    def __init__(self, references: str | Path | IndexMaps, protocol: str, videos: Sequence[str] | None):
        self.maps = references if isinstance(references, Mapping) else None
        self.folder = None if self.maps is not None else Path(references)
        self.frames: dict[str, list[str]] = {}
        if self.maps is not None:
            known = list(self.maps)
        else:
            annotations = self.folder / PROTOCOLS[protocol] / "480p"
            val = self.folder / "ImageSets" / "2017" / "val.txt"
            if annotations.is_dir():
                self.folder = annotations
                if videos is None and val.is_file():
                    videos = val.read_text(encoding="utf-8").split()
            if not self.folder.is_dir():
                raise ValueError(f"references: there is no folder {str(self.folder)!r}, expected one with the videos")
            known = subfolders(self.folder)
        self.videos = list(known if videos is None else (check_name(video, "videos") for video in videos))
        unknown = set(self.videos) - set(known)
        if unknown or not self.videos:
            where = "the references" if self.maps is not None else repr(str(self.folder))
            raise ValueError(
                f"{where} has {len(known)} videos, but not these {len(unknown)}: {', '.join(sorted(unknown)[:5])}"
                if unknown
                else f"{where} has no video, expected one folder or index map for each"
            )
        if self.folder is not None:
            self.frames = {video: frame_names(self.folder / video) for video in self.videos}
            without = [video for video, names in self.frames.items() if not names]
            if without:
                raise ValueError(
                    f"{str(self.folder / without[0])!r} has no PNG files, expected the masks of the video"
                )

    def read(self, video: str) -> np.ndarray:
        if self.maps is not None:
            return np.asarray(self.maps[video])
        return read_masks(self.folder / video, self.frames[video])


def _path_or_maps(predictions: str | Path | IndexMaps) -> Path | IndexMaps:
    return predictions if isinstance(predictions, Mapping) else Path(predictions)


def _missing_predictions(pred: Path | IndexMaps, gt: _References, protocol: str) -> tuple[list, int]:
    """Names of the masks that are not there, and how many there should be."""
    if isinstance(pred, Mapping):
        return [video for video in gt.videos if video not in pred], len(gt.videos)
    if gt.maps is not None:
        raise ValueError(
            f"predictions is the folder {str(pred)!r} and references are arrays, which have no names of frames; pass "
            "both as folders or both as arrays."
        )
    # The semi-supervised protocol does not look at the first and last frame.
    wanted = {video: frames if protocol == "unsupervised" else frames[1:-1] for video, frames in gt.frames.items()}
    lacking = [path for video, frames in wanted.items() for path in missing_files(pred / video, frames)]
    return lacking, sum(map(len, wanted.values()))


def _read_predictions(
    pred: Path | IndexMaps, video: str, frames: list[str] | None, truth: np.ndarray, missing: str
) -> np.ndarray:
    if isinstance(pred, Mapping):
        return np.asarray(pred[video]) if video in pred else np.zeros_like(truth)
    # What is missing and needed was found before.
    return read_masks(pred / video, frames, truth.shape[1:], missing="empty")


def _score_pairs(
    pred: np.ndarray, gt: np.ndarray, void: np.ndarray, num_tracks: int, num_objects: int
) -> tuple[np.ndarray, np.ndarray]:
    """J and F of each pair of a predicted id and an object, `(num_tracks, num_objects, num_frames)`."""
    num_frames, height, width = pred.shape
    radius = contour_tolerance(height, width)
    j, f = np.zeros((2, num_tracks, num_objects, num_frames))
    step = max(1, PIXELS_AT_ONCE // (height * width))
    for start in range(0, num_frames, step):
        part = slice(start, start + step)
        tracks = np.stack([(pred[part] == track + 1) & ~void[part] for track in range(num_tracks)])
        objects = np.stack([gt[part] == index + 1 for index in range(num_objects)])
        j[..., part], f[..., part] = scores_of_pairs(tracks, objects, radius)
    return j, f


def _check_choice(name: str, value: str, choices: Sequence[str] | Mapping[str, Any]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(choices)}")
