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
"""Protocols: which expressions are predicted together, what is compared with what, and how numbers are averaged."""

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from hf_rvos.data.a2d_sentences import annotation_window
from hf_rvos.data.media import load_index_masks, load_masks
from hf_rvos.data.revos import load_foreground
from hf_rvos.metrics.davis import MATCHINGS, NUM_REF_DAVIS_PASSES, score_davis_video, summarize_ref_davis
from hf_rvos.metrics.detections import PRECISION_THRESHOLDS, score_detections, summarize_detections
from hf_rvos.metrics.expressions import TYPE_NAMES, score_frames, summarize_expressions, summarize_frames


Row = Mapping[str, Any]
PROTOCOLS = ("official", "per-expression")
FRAMES_SHOWN = 4  # of a video in a picture
# Frames around the annotated one, and where that is among them, as each model was published with.
WINDOWS = {"soc": (8, "middle"), "ssa": (1, "first")}
DEFAULT_WINDOW = (5, "first")


@dataclass(frozen=True)
class Shown:
    """What a picture of a result shows.

    Args:
        row: Whose frames they are.
        positions: Of the frames in the row.
        predicted: Masks of these frames, `(num_frames, height, width)` boolean.
        target: True masks, same shape.
        text: What was asked for.
        caption: The scores, and which result it is.
        name: Of a file.
    """

    row: Row
    positions: list[int]
    predicted: np.ndarray
    target: np.ndarray
    text: str
    caption: str
    name: str


class Protocol(ABC):
    """How a benchmark is scored.

    Args:
        has_truth: Whether there are masks to compare with; if not, predictions are only written.
    """

    name = ""
    text_column = "expression"
    columns: Mapping[str, str] = {}  # of the table: keys of the summary and their titles
    headline = ("j_and_f", "J&F")  # the number that charts show, and its title
    ranked_by = "j_and_f"  # the number of a result that is low where the prediction is bad
    merges_objects = False  # whether predictions are maps of the objects of a video

    def __init__(self, has_truth: bool = True):
        self.has_truth = has_truth

    @property
    def settings(self) -> dict[str, Any]:
        """What numbers depend on, for reports."""
        return {"protocol": self.name}

    def unit(self, row: Row) -> Any:
        """Rows with the same value are predicted together."""
        return row["video_id"]

    def units(self, rows: Any) -> list[list[int]]:
        """Numbers of the rows that are predicted together, in order; those with ground truth, if any have it."""
        columns = rows.select_columns(["video_id", "annotated_frames", "mask_kind"])
        groups = defaultdict(list)
        for number, row in enumerate(columns):
            if not self.has_truth or row["mask_kind"] != "none":
                groups[self.unit(row)].append(number)
        return list(groups.values())

    @abstractmethod
    def score(self, rows: Sequence[Row], root: Path | None, predictor: Any, writer: Any = None) -> list[dict]:
        """Predict the rows of a unit and compare.

        Args:
            rows: What is predicted together.
            root: Folder of the data set.
            predictor: A `ModelPredictor`, or something with the same methods.
            writer: A `MaskWriter` that gets every mask, if any.

        Returns:
            Results that JSON can hold, small enough for all of the data set to be kept.
        """

    @abstractmethod
    def show(self, result: Mapping[str, Any], rows: Sequence[Row], root: Path | None, predictor: Any) -> Shown:
        """Predict the rows of a unit again, for a picture of one result; only the masks that it shows are kept.

        Args:
            result: One of those that `score` gave for the rows.
            rows: As for `score`.
            root: As for `score`.
            predictor: As for `score`.
        """

    @abstractmethod
    def summarize(self, results: Sequence[dict]) -> dict[str, Any]:
        """Average the results of all units, in percent."""


class PerExpression(Protocol):
    """Each expression on its own: J and F of every frame, averaged over the frames and then over the expressions.

    Frames without annotation do not count.

    Args:
        has_truth: Whether there are masks to compare with.
        totals: Which averages are made, see `summarize_expressions`. If None, those of MeViS where expressions without
            a target are among the rows, and plain ones elsewhere.
        text_column: `"expression"`, or `"expression_raw"` where released code takes sentences as they are stored.
        groups: Columns of the rows by whose values the results are averaged, too.
        load_objects: Gives the foreground of all objects of a row's video, or None; see `load_foreground` of ReVOS.
    """

    name = "per-expression"
    columns = {"num_expressions": "number", "j_mean": "J", "f_mean": "F", "j_and_f": "J&F"}
    # Where expressions without a target are among the rows, and where a benchmark has more numbers.
    columns |= {"n_acc": "N-acc", "t_acc": "T-acc", "final": "final"}
    extra_columns = {
        "long_rvos": {"t_iou": "tIoU", "v_iou": "vIoU"},
        "revos": {"accuracy": "accuracy", "robustness": "robustness"},
    }

    def __init__(
        self,
        has_truth: bool = True,
        totals: str | None = None,
        text_column: str = "expression",
        groups: Sequence[str] = (),
        load_objects: Callable[..., np.ndarray | None] = lambda *_: None,
    ):
        super().__init__(has_truth)
        self.columns = self.columns | self.extra_columns.get(totals, {})
        self.load_objects = load_objects
        self.totals = totals
        self.text_column = text_column
        self.groups = groups

    def score(self, rows: Sequence[Row], root: Path | None, predictor: Any, writer: Any = None) -> list[dict]:
        frames: list[dict[str, list]] = [defaultdict(list) for _ in rows]
        scores = []
        for clip in predictor.clips(rows, root):
            targets = _targets(rows, root, clip.positions) if self.has_truth else repeat(None)
            objects = self.load_objects(rows[0], root, clip.positions) if self.has_truth else None
            scores.append([])
            # One by one, so that a single track is enlarged at a time.
            for index, (row, target) in enumerate(zip(rows, targets)):
                track = clip.track(index)
                scores[-1].append(track["score"] and track["score"] * len(clip.positions))
                if writer is not None:
                    writer.write(row, clip.positions, track["masks"])
                if target is None:
                    continue
                annotated = clip.positions if row["annotated_frames"] is None else row["annotated_frames"]
                judged = np.isin(clip.positions, annotated)
                if judged.any():
                    masks = [None if part is None else part[judged] for part in (track["masks"], target, objects)]
                    values = score_frames(*masks)
                    if objects is None and self.totals == "revos":  # robustness is about all objects
                        values["robustness"] = np.full(judged.sum(), np.nan)
                    for name, part in values.items():
                        frames[index][name].append(part)
        results = []
        for index, row in enumerate(rows):
            columns = ("video_id", "expression_id", "expression", "expression_type", *self.groups)
            result = {column: row[column] for column in columns}
            if scores[0][index] is not None:
                result["score"] = sum(of_clip[index] for of_clip in scores) / row["num_frames"]
            if self.has_truth:
                result |= summarize_frames({name: np.concatenate(parts) for name, parts in frames[index].items()})
            results.append(result)
        return results

    def show(self, result: Mapping[str, Any], rows: Sequence[Row], root: Path | None, predictor: Any) -> Shown:
        index = [row["expression_id"] for row in rows].index(result["expression_id"])
        row = rows[index]
        positions = _shown_positions(row)
        return Shown(
            row,
            positions,
            _predict_again(rows, root, predictor, positions, lambda clip: clip.track(index)["masks"]),
            load_masks(row, root, positions),
            row["expression"],
            f"{_j_and_f(result)}, {row['video_id']}, expression {row['expression_id']}",
            f"{row['video_id']}_{row['expression_id']}",
        )

    def summarize(self, results: Sequence[dict]) -> dict[str, Any]:
        if not self.has_truth:
            return {}
        plain = "ref_youtube_vos" if all(row["has_target"] for row in results) else "mevis"
        totals = self.totals or plain
        known = TYPE_NAMES.get(totals)
        # ReVOS reserves a third type, which no published number counts.
        counted = [row for row in results if known is None or row["expression_type"] in known]
        summary = summarize_expressions(counted, totals)
        summary.pop("protocol")
        groups = summary.pop("types")
        for column in self.groups:
            values = sorted({row[column] for row in results}, key=str)
            for value in values:
                of_group = [row for row in results if row[column] == value]
                numbers = summarize_expressions([row | {"expression_type": None} for row in of_group])
                groups[f"{column.replace('_', ' ')}: {str(value).lower()}"] = numbers
        return in_percent(summary) | {"groups": {name: in_percent(numbers) for name, numbers in groups.items()}}


class RefDavis(Protocol):
    """Ref-DAVIS17 as published: the sentences of each of four passes give one map of objects, scored as DAVIS does.

    A video without several sentences for each object, one of each pass, cannot be scored like this.

    Args:
        has_truth: Whether there are masks to compare with; there must be.
        matching: `"official"`, or `"id"` to compare the first object with the first, see `score_davis_video`.
    """

    name = "ref-davis"
    merges_objects = True
    # Released code gives sentences to the tokenizer as they are stored.
    text_column = "expression_raw"
    columns = {"j_and_f": "J&F"} | {
        f"{name}_{key}": f"{name.upper()} {key}" for name in "jf" for key in ("mean", "recall", "decay")
    }

    def __init__(self, has_truth: bool = True, matching: str = "official"):
        if matching not in MATCHINGS:
            raise ValueError(f"matching is {matching!r}, expected one of {', '.join(MATCHINGS)}")
        super().__init__(has_truth)
        self.matching = matching

    @property
    def settings(self) -> dict[str, Any]:
        return {"protocol": self.name, "matching": self.matching}

    def units(self, rows: Any) -> list[list[int]]:
        units = super().units(rows)
        columns = rows.select_columns(["video_id", "expression_type", "object_ids"])
        for unit in units:
            self._groups([columns[number] for number in unit])  # refuses a video before any is predicted
        return units

    @staticmethod
    def _groups(rows: Sequence[Row]) -> dict[str, list[int]]:
        """Numbers of the rows of each pass, in the order of the objects, which is the same in all passes."""
        objects = list(dict.fromkeys(tuple(row["object_ids"]) for row in rows))
        number_of = {(row["expression_type"], tuple(row["object_ids"])): number for number, row in enumerate(rows)}
        passes = sorted({row["expression_type"] for row in rows}, key=str)
        if len(number_of) != len(rows) or len(rows) != NUM_REF_DAVIS_PASSES * len(objects) or None in passes:
            raise ValueError(
                f"video {rows[0]['video_id']!r} has {len(rows)} expressions about {len(objects)} objects, expected "
                f"{NUM_REF_DAVIS_PASSES} for each, one of each pass; the protocol 'per-expression' does without"
            )
        return {one: [number_of[one, target] for target in objects] for one in passes}

    def score(self, rows: Sequence[Row], root: Path | None, predictor: Any, writer: Any = None) -> list[dict]:
        groups = self._groups(rows)
        predicted = {one: [] for one in groups}
        for clip in predictor.clips(rows, root):
            for one, labels in zip(groups, clip.label_maps(list(groups.values()))):
                predicted[one].append(labels)
                if writer is not None:
                    writer.write_labels(f"anno_{one}", rows[0], clip.positions, labels)
        target = load_index_masks(rows[0], root)
        results = []
        for one, labels in predicted.items():
            asked = {object_id: rows[number] for number in groups[one] for object_id in rows[number]["object_ids"]}
            for scores in score_davis_video(np.concatenate(labels), target, matching=self.matching):
                row = asked.get(scores["object_id"], {})  # objects without a sentence count, too
                sentence = {column: row.get(column) for column in ("expression_id", "expression")}
                results.append({"video_id": rows[0]["video_id"], "annotation_pass": int(one), **sentence, **scores})
        return results

    def show(self, result: Mapping[str, Any], rows: Sequence[Row], root: Path | None, predictor: Any) -> Shown:
        row, positions = rows[0], _shown_positions(rows[0])
        groups = {int(one): numbers for one, numbers in self._groups(rows).items()}
        group = groups[result["annotation_pass"]]
        labels = _predict_again(rows, root, predictor, positions, lambda clip: next(iter(clip.label_maps([group]))))
        what = f"pass {result['annotation_pass']}, object {result['object_id']}"
        return Shown(
            row,
            positions,
            np.zeros_like(labels, bool) if result["pred_id"] is None else labels == result["pred_id"],
            load_index_masks(row, root, positions) == result["object_id"],
            "(an object without a sentence)" if result["expression"] is None else result["expression"],
            f"{_j_and_f(result)}, {row['video_id']}, {what}",
            f"{row['video_id']}_{what.replace(', ', '_').replace(' ', '_')}",
        )

    def summarize(self, results: Sequence[dict]) -> dict[str, Any]:
        """Means over the objects of each pass, and of the passes."""
        summary = summarize_ref_davis(results)
        passes = {f"pass {number}": in_percent(numbers) for number, numbers in enumerate(summary.pop("passes"))}
        return in_percent(summary) | {"groups": passes}


class Detections(Protocol):
    """All queries of one frame for each expression; what the protocols of single frames share.

    Args:
        has_truth: Whether there are masks to compare with.
        model_type: Of the model, which was published with a way to enlarge masks.
    """

    columns = {
        "num_samples": "number",
        **{f"precision_at_{threshold}": f"P@{threshold}" for threshold in PRECISION_THRESHOLDS},
        "overall_iou": "overall IoU",
        "mean_iou": "mean IoU",
        "map": "mAP",
    }
    headline = ("overall_iou", "overall IoU")
    ranked_by = "iou"

    def __init__(self, has_truth: bool = True, model_type: str | None = None):
        super().__init__(has_truth)
        self.resize_logits = model_type in ("sgmg", "fast_sgmg", "ssa")

    @abstractmethod
    def seen_frames(self, rows: Sequence[Row]) -> tuple[Sequence[int], int]:
        """Positions of the frames that a model sees for a unit, and which of them is compared."""

    def score(self, rows: Sequence[Row], root: Path | None, predictor: Any, writer: Any = None) -> list[dict]:
        clip, results = predictor.annotated_frame(rows, root, *self.seen_frames(rows)), []
        for index, (row, image_id) in enumerate(zip(rows, _image_ids(rows))):
            detections = clip.detections(index, self.resize_logits)
            if writer is not None:
                writer.write(row, clip.positions, _judged_mask(detections))
            scores = score_detections(
                detections["masks"],
                detections["scores"],
                load_masks(row, root, list(clip.positions))[0],
                boxes=detections.get("boxes"),
                gt_box=None if row["boxes"] is None else row["boxes"][clip.positions[0]],
            )
            columns = {column: row[column] for column in ("video_id", "expression_id", "expression")}
            results.append(columns | {"image_id": image_id} | scores)
        return results

    def show(self, result: Mapping[str, Any], rows: Sequence[Row], root: Path | None, predictor: Any) -> Shown:
        index = _image_ids(rows).index(result["image_id"])
        clip, row = predictor.annotated_frame(rows, root, *self.seen_frames(rows)), rows[index]
        positions = list(clip.positions)
        return Shown(
            row,
            positions,
            _judged_mask(clip.detections(index, self.resize_logits)),
            load_masks(row, root, positions),
            row["expression"],
            f"IoU {100 * result['iou']:.1f}, {row['video_id']}, expression {row['expression_id']}",
            f"{row['video_id']}_{row['expression_id']}",
        )

    def summarize(self, results: Sequence[dict]) -> dict[str, Any]:
        return in_percent(summarize_detections(results))


class AnnotatedFrames(Detections):
    """A2D-Sentences and JHMDB-Sentences: a frame is seen together with those around it.

    Args:
        has_truth: Whether there are masks to compare with.
        model_type: Of the model, which was published with a number of frames and a way to enlarge masks.
        window: Number of frames, if not that.
    """

    name = "annotated-frames"

    def __init__(self, has_truth: bool = True, model_type: str | None = None, window: int | None = None):
        super().__init__(has_truth, model_type)
        self.window, self.placement = WINDOWS.get(model_type, DEFAULT_WINDOW)
        if window is not None:
            self.window = window
        if self.window < 1:
            raise ValueError(f"window is {window}, expected at least 1 frame")

    @property
    def settings(self) -> dict[str, Any]:
        return {"protocol": self.name, "window": self.window}

    def unit(self, row: Row) -> Any:
        return row["video_id"], *row["annotated_frames"]

    def seen_frames(self, rows: Sequence[Row]) -> tuple[Sequence[int], int]:
        return annotation_window(rows[0]["annotated_frames"][0], rows[0]["num_frames"], self.window, self.placement)


class Pictures(Detections):
    """RefCOCO, RefCOCO+ and RefCOCOg: videos of one frame.

    Boxes are compared as well, where data set and predictor have them.
    """

    name = "pictures"
    columns = Detections.columns | {
        "box_precision_at_0.5": "box P@0.5",
        "box_overall_iou": "box overall IoU",
        "box_mean_iou": "box mean IoU",
    }

    def seen_frames(self, rows: Sequence[Row]) -> tuple[Sequence[int], int]:
        return [0], 0


def _image_ids(rows: Sequence[Row]) -> list[str]:
    """A key for each row of a unit; a list of samples may have one twice."""
    seen: Counter = Counter()
    keys = []
    for row in rows:
        keys.append(f"{row['video_id']}/{row['expression_id']}/{seen[row['expression_id']]}")
        seen[row["expression_id"]] += 1
    return keys


def _judged_mask(detections: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mask `(1, height, width)` of the detection with the highest score; of equal scores the last one is judged."""
    scores = detections["scores"]
    judged = max(range(len(scores)), key=lambda number: (scores[number], number))
    return detections["masks"][judged : judged + 1]


def _shown_positions(row: Row) -> list[int]:
    """A few of the frames that count, from the first to the last."""
    counted = range(row["num_frames"]) if row["annotated_frames"] is None else row["annotated_frames"]
    return [counted[index] for index in np.unique(np.linspace(0, len(counted) - 1, FRAMES_SHOWN).round().astype(int))]


def _predict_again(
    rows: Sequence[Row],
    root: Path | None,
    predictor: Any,
    positions: Sequence[int],
    of_clip: Callable[[Any], np.ndarray],
) -> np.ndarray:
    """What `of_clip` gives for all frames of the clips of a video, of some frames only."""
    kept = []
    for clip in predictor.clips(rows, root):
        chosen = np.isin(clip.positions, positions)
        if chosen.any():
            kept.append(of_clip(clip)[chosen])
    return np.concatenate(kept)


def _j_and_f(result: Mapping[str, Any]) -> str:
    j_and_f, j_mean, f_mean = (100 * result[key] for key in ("j_and_f", "j_mean", "f_mean"))
    return f"J&F {j_and_f:.1f} (J {j_mean:.1f}, F {f_mean:.1f})"


def _targets(rows: Sequence[Row], root: Path | None, positions: Sequence[int]) -> Iterator[np.ndarray]:
    """True masks of all expressions of a video, one after the other; files that hold all its objects are read once."""
    positions = list(positions)
    files = {(row["mask_kind"], row["mask_dir"], row["annotated_frames"] is None) for row in rows}
    if len(rows) == 1 or files != {("index_png", rows[0]["mask_dir"], True)}:
        yield from (load_masks(row, root, positions) for row in rows)
        return
    labels = load_index_masks(rows[0], root, positions)
    yield from (np.isin(labels, row["object_ids"]) for row in rows)


def in_percent(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The shares of a summary times 100; counts, variances and the -1 of COCO for no value stay as they are."""

    def is_share(key: str, value: Any) -> bool:
        return isinstance(value, float) and value != -1 and not key.endswith("variance")

    return {key: 100 * value if is_share(key, value) else value for key, value in numbers.items()}


_TOTALS = {"mevis": "mevis", "revos": "revos", "long_rvos": "long_rvos"}


def find_protocol(
    dataset: str,
    protocol: str = "official",
    has_truth: bool = True,
    model_type: str | None = None,
    window: int | None = None,
    matching: str | None = None,
) -> Protocol:
    """The protocol of a benchmark.

    Args:
        dataset: Name of the data set.
        protocol: `"official"`, the one that papers report, or `"per-expression"`.
        has_truth: Whether there are masks to compare with.
        model_type: Of the model; windows and sizes of single frames were published for each.
        window: Frames seen around an annotated one, if not as published; for A2D-Sentences and JHMDB-Sentences.
        matching: Of predicted and true objects, for the official protocol of Ref-DAVIS17; see `RefDavis`.

    Raises:
        ValueError: if the protocol is unknown or not one for this data set, or an option has no meaning for it.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is {protocol!r}, expected one of {', '.join(PROTOCOLS)}")
    has_window, is_picture = dataset in ("a2d_sentences", "jhmdb_sentences"), dataset.startswith("refcoco")
    merges = dataset == "ref_davis17" and protocol == "official" and has_truth
    for name, value, has_meaning in (("window", window, has_window), ("matching", matching, merges)):
        if value is not None and not has_meaning:
            raise ValueError(f"{name}: has no meaning for {dataset} with the protocol {protocol!r}")
    if protocol != "official" and (has_window or is_picture):
        raise ValueError(f"protocol: {dataset} has one frame for each expression, expected 'official'")
    if has_window:
        return AnnotatedFrames(has_truth, model_type, window)
    if is_picture:
        return Pictures(has_truth, model_type)
    if merges:
        return RefDavis(matching=matching or "official")
    raw = "expression_raw" if dataset in ("ref_youtube_vos", "ref_davis17") else "expression"
    groups = ("phrasing_seen",) if dataset == "moving_shapes" else ()
    extra = {"load_objects": load_foreground} if dataset == "revos" else {}
    return PerExpression(has_truth, _TOTALS.get(dataset), raw, groups, **extra)
