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
"""Scores of each expression on its own: Ref-YouTube-VOS, MeViS, ReVOS, Long-RVOS and Ref-SAV.

J and F of a frame are averaged over all frames of the expression's list, also those without the target, and then over
the expressions. Rows of plain numbers are what processes send one another; masks are dropped once they are scored.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_rvos.metrics.folders import MISSING, missing_files, raise_missing, read_masks
from hf_rvos.metrics.functional import region_and_contour
from hf_rvos.utils.files import check_name


# A track: an array, or one dict in the form of COCO for each frame, None where there is nothing.
Masks = np.ndarray | torch.Tensor | Sequence[Mapping[str, Any] | None]

SCORES = ("j_and_f", "j_mean", "f_mean", "j_variance", "j_and_f_variance", "t_iou", "v_iou", "accuracy", "robustness")
PROTOCOLS = ("ref_youtube_vos", "mevis", "revos", "long_rvos", "ref_sav")
# Names of the values of `expression_type` where these are numbers.
TYPE_NAMES = {"revos": {"0": "referring", "1": "reasoning"}, "ref_sav": {"0": "long", "1": "short"}}


def as_masks(masks: Masks, num_frames: int | None = None, size: tuple[int, int] | None = None) -> np.ndarray:
    """Turn a track in any accepted form into an array.

    Args:
        masks: `(num_frames, height, width)`, anything non-zero is foreground; or one run-length encoded mask in the
            form of COCO for each frame, None where the target is absent.
        num_frames: Number that `masks` must have. If None, any.
        size: `(height, width)` to take if no frame says it.

    Returns:
        `(num_frames, height, width)` boolean.

    Raises:
        ValueError: if `masks` is no track, sizes of its frames differ, or it has not `num_frames`.
    """
    if isinstance(masks, (np.ndarray, torch.Tensor)):
        array = masks.detach().cpu().numpy() if isinstance(masks, torch.Tensor) else masks
        track = array if array.dtype == bool else array != 0
    else:
        track = _decode(masks, size)
    if track.ndim != 3 or (num_frames is not None and len(track) != num_frames):
        wanted = "num_frames" if num_frames is None else num_frames
        raise ValueError(f"masks has shape {track.shape}, expected ({wanted}, height, width)")
    return track


def score_expression(
    pred: Masks, gt: Masks, objects: Masks | None = None, per_frame: bool = False, size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """All scores of one expression.

    Args:
        pred: Predicted masks of the video's frames, see `as_masks`.
        gt: Union of the masks of all targets, as many frames of the same size; all empty if there is no target.
        objects: Foreground of all objects of the video, for the robustness of ReVOS. If None, that of the target.
        per_frame: Whether to give `j_frames` and `f_frames` too, lists of the values of the frames.
        size: `(height, width)` for run-length encoded masks that are all None.

    Returns:
        `j_and_f`, `j_mean` and `f_mean`; `j_variance` and `j_and_f_variance`, over the frames, for the temporal
        stability; `t_iou` and `v_iou` of Long-RVOS; `accuracy`, the share of pixels that are right, and `robustness`
        of ReVOS; `is_empty`, whether nothing is predicted in any frame; `has_target`; and `num_frames`.

    Raises:
        ValueError: if the shapes differ or are not those of tracks.
    """
    size = _size(gt) or _size(pred) or size
    gt = as_masks(gt, size=size)
    everything = None if objects is None else as_masks(objects, len(gt), size)
    frames = score_frames(as_masks(pred, size=size), gt, everything)
    lists = {f"{name}_frames": frames[name].tolist() for name in "jf"} if per_frame else {}
    return summarize_frames(frames) | lists


def score_frames(pred: np.ndarray, gt: np.ndarray, objects: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """What [`summarize_frames`] needs to know of each frame; those of the parts of a long video can be joined.

    Args:
        pred: Predicted masks, `(num_frames, height, width)` boolean.
        gt: Union of the masks of all targets, same shape.
        objects: Foreground of all objects, same shape. If None, that of the target.

    Returns:
        Arrays `(num_frames,)`: `j`, `f`, `accuracy`, `robustness`, `is_predicted` and `has_target`.

    Raises:
        ValueError: if the shapes differ.
    """
    if objects is not None and objects.shape != gt.shape:
        raise ValueError(f"objects has shape {objects.shape}, expected that of gt, {gt.shape}")
    j, f = region_and_contour(pred, gt)
    outside = np.count_nonzero(pred & ~gt, axis=(1, 2))
    foreground = np.count_nonzero(gt if objects is None else objects, axis=(1, 2))
    return {
        "j": j,
        "f": f,
        "accuracy": np.mean(pred == gt, axis=(1, 2)),
        # Without objects a single wrong pixel of a frame makes its robustness 0, as published.
        "robustness": np.maximum(1 - outside / (foreground + 1e-6), 0),
        "is_predicted": pred.any(axis=(1, 2)),
        "has_target": gt.any(axis=(1, 2)),
    }


def summarize_frames(frames: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Scores of an expression from what [`score_frames`] gives for all its frames; see [`score_expression`]."""
    j, f = frames["j"], frames["f"]
    both, either = frames["is_predicted"] & frames["has_target"], frames["is_predicted"] | frames["has_target"]
    return {
        "j_and_f": float((j.mean() + f.mean()) / 2),
        "j_mean": float(j.mean()),
        "f_mean": float(f.mean()),
        "j_variance": float(j.var()),
        "j_and_f_variance": float(((j + f) / 2).var()),
        "t_iou": float(both.sum() / either.sum()) if either.any() else 1.0,
        "v_iou": float(j[both].sum() / either.sum()) if either.any() else 1.0,
        "accuracy": float(frames["accuracy"].mean()),
        "robustness": float(frames["robustness"].mean()),
        "is_empty": not frames["is_predicted"].any(),
        "has_target": bool(frames["has_target"].any()),
        "num_frames": len(j),
    }


def score_expressions(
    predictions: str | Path | Mapping[tuple[str, str], Masks],
    references: Sequence[Mapping[str, Any]],
    missing: str = "error",
    per_frame: bool = False,
) -> list[dict[str, Any]]:
    """Score the predictions of some expressions, each read, scored and dropped.

    Args:
        predictions: Folder with `<video_id>/<expression_id>/<frame>.png`, as submissions have it, anything non-zero is
            foreground; or masks by `(video_id, expression_id)`, see `as_masks`.
        references: One dict for each expression: `video_id`, `expression_id`, `masks` (see `score_expression`, or a
            function without arguments that gives them), for a folder `frames` (names in order), and if known
            `expression_type` and `objects` (as `masks`).
        missing: "error" counts the missing predictions in one error, before any work; "empty" scores them as empty and
            says in each row how many frames were.
        per_frame: See `score_expression`.

    Returns:
        What `score_expression` gives for each reference, with `video_id`, `expression_id`, `expression_type` and
        `num_missing_frames`.

    Raises:
        ValueError: if predictions are missing, or files or arrays are not what is expected.
    """
    if missing not in MISSING:
        raise ValueError(f"missing is {missing!r}, expected one of {', '.join(MISSING)}")
    _refuse_repeated(references)
    folder = None if isinstance(predictions, Mapping) else Path(predictions)
    lacking = [_missing_prediction(predictions, folder, reference) for reference in references]
    if missing == "error":
        num_wanted = len(references) if folder is None else sum(len(reference["frames"]) for reference in references)
        raise_missing([name for names in lacking for name in names], num_wanted)
    rows = []
    for reference, names in zip(references, lacking):
        key = str(reference["video_id"]), str(reference["expression_id"])
        gt, objects = (
            masks() if callable(masks) else masks for masks in (reference["masks"], reference.get("objects"))
        )
        if folder is None:
            pred = [None] * len(gt) if names else predictions[key]
        else:
            pred = read_masks(folder / key[0] / key[1], reference["frames"], _size(gt), missing="empty")
        row = {"video_id": key[0], "expression_id": key[1], "expression_type": reference.get("expression_type")}
        row |= score_expression(pred, gt, objects, per_frame)
        row["num_missing_frames"] = len(gt) if folder is None and names else len(names)
        rows.append(row)
    return rows


def summarize_expressions(rows: Sequence[Mapping[str, Any]], protocol: str = "ref_youtube_vos") -> dict[str, Any]:
    """Totals of a benchmark from the rows of its expressions.

    Args:
        rows: What `score_expression` gives for each expression, from whichever process.
        protocol: What the totals are. "ref_youtube_vos" and "long_rvos": means over all expressions. "mevis": also
            what version 2 asks for. "revos" and "ref_sav": mean of the means of two types; for "revos" scores are
            rounded to two decimals of percent before they are averaged.

    Returns:
        The means of all scores, `protocol`, `num_expressions`, `num_frames`, if known `num_missing_frames`, and
        `types`, the means and number of each `expression_type`. For "mevis" also `j_and_f_target`, over the
        expressions that have a target; `n_acc`, the share of the others for which nothing is predicted; `t_acc`, the
        share of those with a target for which something is; and `final`, the mean of `j_and_f`, `n_acc` and `t_acc`;
        its types have `n_acc` and `t_acc`, too. A mean of no expressions is NaN.

    Raises:
        ValueError: if there are no rows, an expression is there twice, or its type is none of the protocol's.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is {protocol!r}, expected one of {', '.join(PROTOCOLS)}")
    if not rows:
        raise ValueError("rows is empty, expected the scores of at least one expression")
    _refuse_repeated(rows)
    if protocol == "revos":
        rows = [{**row, **{key: round(100 * row[key], 2) / 100 for key in SCORES}} for row in rows]
    names = TYPE_NAMES.get(protocol)
    types = {row.get("expression_type") for row in rows}
    if names is not None:
        unknown = {str(value) for value in types} - set(names)
        if unknown:
            raise ValueError(f"rows has the expression types {sorted(unknown)}, {protocol} has {sorted(names)}")
        groups = {name: [row for row in rows if str(row["expression_type"]) == value] for value, name in names.items()}
        by_type = {name: _means(group) for name, group in groups.items()}
        means = {key: _mean(summary[key] for summary in by_type.values()) for key in SCORES}
    else:
        groups = {str(value): [row for row in rows if row.get("expression_type") == value] for value in types - {None}}
        by_type = {name: _means(groups[name]) for name in sorted(groups)}
        means = _means(rows)
    summary = {"protocol": protocol, **means}
    if protocol == "mevis":
        summary |= _no_target_scores(rows, means["j_and_f"])
        for name, numbers in by_type.items():
            of_type = _no_target_scores(groups[name], numbers["j_and_f"])
            numbers |= {key: of_type[key] for key in ("n_acc", "t_acc")}
    summary |= {"num_expressions": len(rows), "num_frames": sum(row["num_frames"] for row in rows)}
    if all("num_missing_frames" in row for row in rows):
        summary["num_missing_frames"] = sum(row["num_missing_frames"] for row in rows)
    return summary | {"types": by_type}


def summarize_temporal_stability(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How much the scores vary over the frames of a video: population variances, averaged over the expressions.

    Args:
        rows: What `score_expression` gives for each expression.

    Returns:
        `j_variance`, `j_and_f_variance` and `num_expressions`; lower is steadier.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows is empty, expected the scores of at least one expression")
    means = {key: _mean(row[key] for row in rows) for key in ("j_variance", "j_and_f_variance")}
    return means | {"num_expressions": len(rows)}


def _no_target_scores(rows: Sequence[Mapping[str, Any]], j_and_f: float) -> dict[str, float]:
    targeted = [row for row in rows if row["has_target"]]
    scores = {
        "j_and_f_target": _mean(row["j_and_f"] for row in targeted),
        "n_acc": _mean(row["is_empty"] for row in rows if not row["has_target"]),
        "t_acc": _mean(not row["is_empty"] for row in targeted),
    }
    return scores | {"final": (j_and_f + scores["n_acc"] + scores["t_acc"]) / 3}


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: _mean(row[key] for row in rows) for key in SCORES} | {"num_expressions": len(rows)}


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return float(np.mean(values)) if values else math.nan


def _refuse_repeated(rows: Sequence[Mapping[str, Any]]) -> None:
    counts = Counter((row["video_id"], row["expression_id"]) for row in rows if "video_id" in row)
    repeated = [key for key, count in counts.items() if count > 1]
    if repeated:
        raise ValueError(
            f"{len(repeated)} expressions are there more than once, the first is {repeated[0]} (video_id, "
            "expression_id); each counts once. Processes that share the work must not pad it."
        )


def _missing_prediction(predictions: Any, folder: Path | None, reference: Mapping[str, Any]) -> list:
    key = str(reference["video_id"]), str(reference["expression_id"])
    if folder is None:
        return [] if key in predictions else ["/".join(key)]
    return missing_files(
        folder / check_name(key[0], "video_id") / check_name(key[1], "expression_id"), reference["frames"]
    )


def _size(masks: Masks | None) -> tuple[int, int] | None:
    """`(height, width)` of a track, None if no frame says it."""
    if isinstance(masks, (np.ndarray, torch.Tensor)):
        return tuple(masks.shape[-2:])
    return next((tuple(rle["size"]) for rle in masks or () if rle is not None), None)


def _decode(rles: Sequence[Mapping[str, Any] | None], size: tuple[int, int] | None) -> np.ndarray:
    from pycocotools import mask as coco_mask

    size = _size(rles) or size or (1, 1)
    masks = np.zeros((len(rles), *size), dtype=bool)
    for mask, rle in zip(masks, rles):
        if rle is None:
            continue
        if tuple(rle["size"]) != tuple(size):
            raise ValueError(f"masks has frames of the sizes {list(size)} and {list(rle['size'])}, expected one size")
        mask[:] = coco_mask.decode({"size": list(rle["size"]), "counts": rle["counts"]})
    return masks
