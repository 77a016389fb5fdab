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
"""Scores of one frame or image an expression: A2D-Sentences, JHMDB-Sentences, RefCOCO and GRES.

The mean average precision looks at all predictions of an image, as COCO does; precision at K, overall and mean IoU
look at the one with the highest score. Rows of plain numbers hold all that either needs, so masks are dropped once
compared.
"""

import contextlib
import io
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_rvos.metrics.folders import MISSING


# An array `(height, width)`, or the run-length code or the polygons of COCO.
Mask = np.ndarray | torch.Tensor | Mapping[str, Any] | Sequence[Sequence[float]]

PRECISION_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
GRES_THRESHOLDS = (0.7, 0.8, 0.9)
AVERAGE_PRECISIONS = ("map", "ap_0.5", "ap_0.75", "ap_small", "ap_medium", "ap_large")
# In float32, as in the official code, where an IoU of exactly 0.6 counts as above 0.6 and one of 0.7 may or may not.
EPSILON = np.float32(1e-6)


def score_detections(
    masks: np.ndarray | torch.Tensor | Sequence[Mask],
    scores: Sequence[float],
    gt: Mask,
    size: tuple[int, int] | None = None,
    gt_area: float | None = None,
    is_crowd: bool = False,
    boxes: Sequence[Sequence[float]] | None = None,
    gt_box: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Compare the predictions for an expression with its target.

    Args:
        masks: One mask for each prediction, `(num_predictions, height, width)` or a list; anything non-zero is
            foreground. None at all counts as an empty one for all but the average precision.
        scores: One for each prediction. Of equal ones the last is the best, as in the official code.
        gt: Mask of the target; all empty if there is none.
        size: `(height, width)`, needed for polygons and uncompressed codes without one.
        gt_area: Pixels by which COCO calls the target small, medium or large. If None, those of its mask.
        is_crowd: Whether COCO marks the target as a crowd, which its average precision ignores.
        boxes: One xyxy box in pixels for each prediction, to compare boxes too.
        gt_box: xyxy box of the target in pixels.

    Returns:
        `scores`, `ious` and `areas` of all predictions, `gt_area` and `is_crowd` for the average precision; of the
        best prediction its `score`, the pixels of `intersection` and `union` and the `iou` of both plus 1e-6, in
        float32; with boxes also `box_intersection`, `box_union` and `box_iou`; `is_empty`, whether nothing is
        predicted; `has_target`; and `num_predictions`.

    Raises:
        ValueError: if sizes of masks differ, or there is not one finite score (and box) for each.
    """
    from pycocotools import mask as coco_mask

    scores = [float(score) for score in scores]
    if len(scores) != len(masks) or (boxes is not None and len(boxes) != len(masks)) or not np.isfinite(scores).all():
        raise ValueError(
            f"there are {len(masks)} masks, {len(scores)} scores{'' if boxes is None else f', {len(boxes)} boxes'}; "
            "expected one finite score (and box) for each mask."
        )
    size = size or next((_size(mask) for mask in (gt, *masks) if _size(mask) is not None), None)
    target, predictions = as_rle(gt, size), [as_rle(mask, size) for mask in masks]
    sizes = {tuple(rle["size"]) for rle in (target, *predictions)}
    if len(sizes) != 1:
        raise ValueError(f"masks and gt have the sizes {sorted(sizes)}, expected one; predict at the size of gt")
    areas = [int(coco_mask.area(rle)) for rle in predictions]
    target_area = int(coco_mask.area(target))
    row = {
        "scores": scores,
        "ious": coco_mask.iou(predictions, [target], [int(is_crowd)])[:, 0].tolist() if predictions else [],
        "areas": areas,
        "gt_area": target_area if gt_area is None else float(gt_area),
        "is_crowd": bool(is_crowd),
        "score": None,
        "intersection": 0,
        "union": target_area,
        "is_empty": True,
        "has_target": target_area > 0,
        "num_predictions": len(predictions),
    }
    best = len(scores) - 1 - int(np.argmax(scores[::-1])) if scores else None
    if best is not None:
        row["score"] = scores[best]
        row["intersection"] = int(coco_mask.area(coco_mask.merge([predictions[best], target], intersect=True)))
        row["union"] = areas[best] + target_area - row["intersection"]
        row["is_empty"] = areas[best] == 0
    row["iou"] = _float32_iou(row["intersection"], row["union"])
    if gt_box is not None and boxes is not None:
        box = None if best is None else boxes[best]
        row["box_intersection"], row["box_union"] = _box_overlap(box, gt_box)
        row["box_iou"] = _float32_iou(row["box_intersection"], row["box_union"])
    return row


def score_coco(
    predictions: str | Path | Sequence[Mapping[str, Any]],
    ground_truth: str | Path | Mapping[str, Any],
    missing: str = "error",
) -> list[dict[str, Any]]:
    """Score predictions in the form of COCO results, as the official code writes them.

    Args:
        predictions: List or JSON file of dicts with `image_id`, `segmentation`, `score` and, to compare boxes,
            `bbox`, xyxy in pixels.
        ground_truth: Dict or JSON file with `images` and one annotation for each in `annotations`; `bbox` is xywh.
        missing: "error" counts the images without a prediction in one error, "empty" scores them as empty.

    Returns:
        What `score_detections` gives for each image, with its `image_id`.

    Raises:
        ValueError: if an image has no prediction or not one annotation, or a prediction is of an unknown image.
    """
    if missing not in MISSING:
        raise ValueError(f"missing is {missing!r}, expected one of {', '.join(MISSING)}")
    predictions, ground_truth = (
        json.loads(Path(source).read_text(encoding="utf-8")) if isinstance(source, (str, Path)) else source
        for source in (predictions, ground_truth)
    )
    images = {image["id"]: image for image in ground_truth["images"]}
    annotations = Counter(annotation["image_id"] for annotation in ground_truth["annotations"])
    if set(annotations) != set(images) or set(annotations.values()) != {1}:
        raise ValueError(
            f"ground_truth has {len(images)} images and {annotations.total()} annotations, expected one for each image"
        )
    detections = defaultdict(list)
    for prediction in predictions:
        detections[prediction["image_id"]].append(prediction)
    unknown, without = set(detections) - set(images), [image for image in images if image not in detections]
    if unknown:
        examples = sorted(map(str, unknown))[:5]
        raise ValueError(f"predictions has {len(unknown)} images that ground_truth has not: {', '.join(examples)}")
    if without and missing == "error":
        raise ValueError(
            f"{len(without)} of {len(images)} images have no prediction: {', '.join(map(str, without[:5]))}; "
            'missing="empty" scores them as empty.'
        )
    rows, with_boxes = [], any("bbox" in prediction for prediction in predictions)
    for annotation in ground_truth["annotations"]:
        image, found = images[annotation["image_id"]], detections[annotation["image_id"]]
        boxes = [prediction["bbox"] for prediction in found if "bbox" in prediction]
        left, top, width, height = annotation["bbox"] if with_boxes else (0, 0, 0, 0)
        row = score_detections(
            [prediction["segmentation"] for prediction in found],
            [prediction["score"] for prediction in found],
            annotation["segmentation"],
            size=(image["height"], image["width"]),
            gt_area=annotation.get("area"),
            is_crowd=bool(annotation.get("iscrowd", 0)),
            boxes=boxes if with_boxes else None,
            gt_box=(left, top, left + width, top + height),
        )
        rows.append({"image_id": image["id"]} | row)
    return rows


def summarize_detections(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Totals of A2D-Sentences, JHMDB-Sentences and RefCOCO.

    Args:
        rows: What `score_detections` gives for each expression, from whichever process, best with their `image_id`.

    Returns:
        `map` (over the thresholds 0.5 to 0.95), `ap_0.5`, `ap_0.75`, `ap_small`, `ap_medium`, `ap_large`, -1 where
        no target has that size; `precision_at_0.5` to `precision_at_0.9`, `overall_iou` (also called oIoU and cIoU),
        `mean_iou`; the latter eight also for boxes, with `box_` in front, if all rows compare them; `num_samples`
        and `num_without_prediction`.

    Raises:
        ValueError: if there are no rows, or an image is there twice.
    """
    rows = _checked_rows(rows)
    summary = average_precision(rows) | _iou_totals(rows, "")
    if all("box_iou" in row for row in rows):
        summary |= _iou_totals(rows, "box_")
    missing = sum(row["num_predictions"] == 0 for row in rows)
    return summary | {"num_samples": len(rows), "num_without_prediction": missing}


def summarize_gres(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Totals of referring expressions that may have no target, as GRES has them for images.

    A prediction without a pixel says that there is no target.

    Args:
        rows: What `score_detections` gives for each expression.

    Returns:
        `g_iou`, the mean IoU in which an expression without a target counts 1 or 0; `c_iou`, of the sums;
        `precision_at_0.7` to `precision_at_0.9` of the expressions with a target (at least, not above); `n_acc` and
        `t_acc`, the share without and with a target that are taken as such; and `num_samples`. A mean of no
        expressions is NaN.

    Raises:
        ValueError: if there are no rows, or an image is there twice.
    """
    rows = _checked_rows(rows)
    targeted = [row for row in rows if row["has_target"]]
    ious = [row["intersection"] / row["union"] for row in targeted]
    correct = [row["is_empty"] for row in rows if not row["has_target"]]
    union = sum(row["union"] for row in rows)
    return {
        "g_iou": _mean([*ious, *correct]),
        "c_iou": sum(row["intersection"] for row in rows) / union if union else math.nan,
        **{f"precision_at_{limit}": _mean(iou >= limit for iou in ious) for limit in GRES_THRESHOLDS},
        "n_acc": _mean(correct),
        "t_acc": _mean(not row["is_empty"] for row in targeted),
        "num_samples": len(rows),
    }


def average_precision(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean average precision of COCO, by the code of COCO, from the overlaps that the rows hold."""
    from pycocotools.cocoeval import COCOeval

    rows = sorted(rows, key=lambda row: row["image_id"]) if all("image_id" in row for row in rows) else rows

    class Evaluation(COCOeval):
        def _prepare(self):
            self.evalImgs, self.eval = defaultdict(list), {}
            for index, row in enumerate(rows):
                crowd = int(row["is_crowd"])
                self._gts[index, 1] = [{"id": index + 1, "area": row["gt_area"], "iscrowd": crowd, "ignore": crowd}]
                self._dts[index, 1] = [
                    {"id": number, "score": score, "area": area}
                    for number, (score, area) in enumerate(zip(row["scores"], row["areas"]), start=1)
                ]

        def computeIoU(self, image, category):
            order = np.argsort([-score for score in rows[image]["scores"]], kind="mergesort")
            return np.array(rows[image]["ious"])[order[: self.params.maxDets[-1]], None] if len(order) else []

    evaluation = Evaluation(iouType="segm")
    evaluation.params.useCats, evaluation.params.catIds = 0, [1]
    evaluation.params.imgIds = list(range(len(rows)))
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(AVERAGE_PRECISIONS, evaluation.stats)}


def as_rle(mask: Mask, size: tuple[int, int] | None = None) -> dict[str, Any]:
    """Turn a mask in any accepted form into the compressed run-length code of COCO; polygons are united.

    Args:
        mask: Array, anything non-zero is foreground; run-length code, compressed or not; or a list of polygons.
        size: `(height, width)` of polygons.

    Raises:
        ValueError: if an array is no mask, or polygons come without a size.
    """
    from pycocotools import mask as coco_mask

    if isinstance(mask, Mapping):
        if isinstance(mask["counts"], list):
            return coco_mask.frPyObjects(dict(mask), *mask["size"])
        return {"size": list(mask["size"]), "counts": mask["counts"]}
    if isinstance(mask, (np.ndarray, torch.Tensor)):
        array = mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else mask
        if array.ndim != 2:
            raise ValueError(f"a mask has shape {array.shape}, expected (height, width)")
        return coco_mask.encode(np.asfortranarray(array != 0, dtype=np.uint8))
    if size is None:
        raise ValueError("a mask is given as polygons, which need size, (height, width) of the image")
    return coco_mask.merge(coco_mask.frPyObjects(list(mask), *size))


def _size(mask: Mask) -> tuple[int, int] | None:
    if isinstance(mask, Mapping):
        return tuple(mask["size"])
    return tuple(mask.shape) if isinstance(mask, (np.ndarray, torch.Tensor)) else None


def _float32_iou(intersection: float, union: float) -> float:
    return float((np.float32(intersection) + EPSILON) / (np.float32(union) + EPSILON))


def _box_overlap(box: Sequence[float] | None, gt_box: Sequence[float]) -> tuple[float, float]:
    """Areas of intersection and union of two xyxy boxes in float32; None is a box without area."""
    first, second = np.float32([[0, 0, 0, 0] if box is None else box, gt_box])
    sides = np.maximum(np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2]), 0)
    intersection = sides.prod()
    union = (first[2:] - first[:2]).prod() + (second[2:] - second[:2]).prod() - intersection
    return float(intersection), float(union)


def _iou_totals(rows: Sequence[Mapping[str, Any]], kind: str) -> dict[str, float]:
    ious = [row[f"{kind}iou"] for row in rows]
    intersection, union = (sum(row[f"{kind}{name}"] for row in rows) for name in ("intersection", "union"))
    return {
        **{f"{kind}precision_at_{limit}": _mean(iou > limit for iou in ious) for limit in PRECISION_THRESHOLDS},
        f"{kind}overall_iou": intersection / union if union else math.nan,
        f"{kind}mean_iou": _mean(ious),
    }


def _checked_rows(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    if not rows:
        raise ValueError("rows is empty, expected the scores of at least one expression")
    repeated = [
        key for key, count in Counter(row["image_id"] for row in rows if "image_id" in row).items() if count > 1
    ]
    if repeated:
        raise ValueError(
            f"{len(repeated)} images are there more than once, the first is {repeated[0]!r}; each counts once. "
            "Processes that share the work must not pad it."
        )
    return rows


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return float(np.mean(values)) if values else math.nan
