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
"""Predictions of a model for all expressions of a video, clip by clip, in the form that each protocol wants."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_rvos.data.media import iter_clips, load_clip
from hf_rvos.metrics.folders import MISSING, missing_files, raise_missing, read_masks
from hf_rvos.modeling_outputs import ReferringVideoSegmentationOutput
from hf_rvos.pipelines.referring_video_segmentation import DEFAULT_CLIP_LENGTH
from hf_rvos.pipelines.selection import choose_multi_target, choose_score_threshold
from hf_rvos.pipelines.whole_video import sees_whole_videos, segment_whole_video
from hf_rvos.utils.files import check_name
from hf_rvos.utils.streams import Spool, read_ahead


GROUPINGS = ("video", "one-per-object", "single")


def group_expressions(object_ids: Sequence[Any], grouping: str) -> list[int]:
    """Which expressions of a video a model is asked together; Fast SgMg lets the answers depend on it.

    Args:
        object_ids: What each expression refers to, in the order of the data set.
        grouping: `"video"` for all together, as published for Ref-YouTube-VOS. `"one-per-object"` for the n-th
            expression of every object together, as published for Ref-DAVIS17, where these are the expressions of
            annotator n. `"single"` for each alone.

    Returns:
        Number of the group of each expression, from 0.
    """
    if grouping not in GROUPINGS:
        raise ValueError(f"grouping is {grouping!r}, expected one of {', '.join(GROUPINGS)}")
    if grouping == "video":
        return [0] * len(object_ids)
    if grouping == "single":
        return list(range(len(object_ids)))
    seen: Counter = Counter()
    groups = []
    for target in object_ids:
        groups.append(seen[target])
        seen[target] += 1
    return groups


@dataclass(frozen=True)
class ClipPrediction:
    """What a model says of the frames of one clip.

    Args:
        positions: Frames of the clip, as positions in the `frames` of the rows.
        frame_size: Their height and width.
        outputs: Of the model, for all expressions.
        input_size: `(height, width)` of the frames after resizing and before padding.
        processor: What enlarges the masks.
        threshold: Probability above which a pixel belongs to the object.
        multi_target: Whether an expression may have been answered by several queries.
        absent: Expressions that are not in the video; their masks are empty.
    """

    positions: range
    frame_size: tuple[int, int]
    outputs: ReferringVideoSegmentationOutput
    input_size: tuple[int, int]
    processor: Any
    threshold: float
    multi_target: bool = False
    absent: frozenset[int] = frozenset()

    def track(self, index: int) -> dict[str, Any]:
        """Masks `(num_frames, height, width)` of an expression at the size of the video, its score and the like."""
        track = self.processor.post_process_referring_video_segmentation(
            self._of_expression(index),
            threshold=self.threshold,
            target_sizes=[self.frame_size],
            input_sizes=[self.input_size],
            multi_target=self.multi_target,
        )[0]
        masks = track["masks"].cpu().numpy()
        return track | {"masks": np.zeros_like(masks) if index in self.absent else masks}

    def label_maps(self, groups: list[list[int]]) -> Iterator[np.ndarray]:
        """For each group of expressions the map of its objects, 1 for the first, uint8 at the size of the video."""
        for group in groups:
            (labels,) = self.processor.post_process_davis(
                self.outputs, target_size=self.frame_size, input_size=self.input_size, object_groups=[group]
            )
            yield labels.cpu().numpy()

    def detections(self, index: int, resize_logits: bool) -> dict[str, Any]:
        """All queries of an expression of one annotated frame, best first; boxes are xyxy in pixels."""
        detections = self.processor.post_process_instance_segmentation(
            self._of_expression(index),
            target_sizes=[self.frame_size],
            input_sizes=[self.input_size],
            threshold=self.threshold,
            resize_logits=resize_logits,
        )[0]
        return {name: values.cpu().numpy() for name, values in detections.items()}

    def _of_expression(self, index: int) -> ReferringVideoSegmentationOutput:
        one = slice(index, index + 1)
        outputs = self.outputs
        return ReferringVideoSegmentationOutput(
            logits=outputs.logits[one],
            pred_boxes=None if outputs.pred_boxes is None else outputs.pred_boxes[one],
            pred_masks=outputs.pred_masks[one],
            query_index=None if outputs.query_index is None else outputs.query_index[one],
            mask_stride=outputs.mask_stride,
        )


class ModelPredictor:
    """Asks a model for all expressions of a video together: its features are computed once for all of them.

    Args:
        model: A model for referring video segmentation, in evaluation mode.
        processor: Its processor.
        threshold: Probability above which a pixel belongs to the object.
        clip_length: Frames that go through the model together; the query of an expression is chosen for each clip. If
            None, 36, or the whole video for a model that chooses for it.
        grouping: Which expressions a model such as Fast SgMg is asked together, see `group_expressions`.
        multi_target: Whether an expression may refer to several objects; `"auto"` for what the configuration says.
            Protocols that merge objects into one map ask for one.
        score_threshold: Masks of an expression are empty if its score, averaged over the video, is not above this
            probability; `"auto"` for that of the configuration. None for an answer in any case; with several targets,
            which are told by their scores, it means `"auto"`, and each clip decides. Single frames and maps of
            objects do not depend on it.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        threshold: float = 0.5,
        clip_length: int | None = None,
        grouping: str = "video",
        multi_target: bool | str = "auto",
        score_threshold: float | str | None = None,
    ):
        if clip_length is not None and clip_length < 1:
            raise ValueError(f"clip_length is {clip_length}, expected at least 1 frame")
        group_expressions([], grouping)  # refuses an unknown one before any work
        self.model = model
        self.model_type = model.config.model_type
        self.processor = processor
        self.threshold = threshold
        self.clip_length = clip_length
        if clip_length is None and not sees_whole_videos(model):
            self.clip_length = DEFAULT_CLIP_LENGTH
        self.grouping = grouping
        multi_target = choose_multi_target(model.config, multi_target)
        self._selection = multi_target, choose_score_threshold(model.config, score_threshold, multi_target)
        self.multi_target, self.score_threshold = self._selection
        self.text_column = "expression"  # or what `prepare` finds in the protocol

    def prepare(self, rows: Iterable[Mapping[str, Any]], protocol: Any) -> dict[str, Any]:
        """Get ready for the rows of a benchmark, whose protocol says which sentences the model is given.

        Args:
            rows: All that will be asked for.
            protocol: How they will be scored.

        Returns:
            What the numbers depend on besides, for reports.
        """
        self.text_column = protocol.text_column
        # Maps of objects have one object for each expression, and each expression is answered.
        self.multi_target, self.score_threshold = (False, None) if protocol.merges_objects else self._selection
        return {"multi_target": self.multi_target, "score_threshold": self.score_threshold}

    def clips(self, rows: Sequence[Mapping[str, Any]], root: Path | None = None) -> Iterator[ClipPrediction]:
        """Predict one clip after the other, while the frames of the next one are read.

        Args:
            rows: All expressions of one video.
            root: Folder of the data set.
        """
        length = len(rows[0]["frames"])
        clip_length = self.clip_length or self.model.config.frames_at_once
        clips = [range(start, min(start + clip_length, length)) for start in range(0, length, clip_length)]
        frames = iter_clips(rows[0], root, clips)
        if self.clip_length is None:
            predictions = self._whole_video(rows, clips, frames)
        else:
            extra = self._text_inputs(rows)
            queries = {"queries": "best"}
            if self.multi_target:
                queries = {"queries": "referred", "score_threshold": self.score_threshold}
            predictions = (self._predict(*clip, extra | queries) for clip in zip(clips, read_ahead(frames)))
        if self.score_threshold is None or self.multi_target:
            yield from predictions
        else:
            yield from _without_absent(predictions, self.score_threshold, self.model.device)

    def annotated_frame(
        self, rows: Sequence[Mapping[str, Any]], root: Path | None, window: Sequence[int], position: int
    ) -> ClipPrediction:
        """Predict a single frame, seen together with those around it, with the masks of all queries.

        Args:
            rows: All expressions of the frame.
            root: Folder of the data set.
            window: Positions of the frames that the model sees; some can be there twice.
            position: Which of them is the frame.
        """
        frames = load_clip(rows[0], root, list(window))
        annotated = torch.tensor([position], device=self.model.device)
        extra = self._text_inputs(rows) | {"annotated_frames": annotated, "queries": "all"}
        return self._predict(range(window[position], window[position] + 1), frames, extra)

    @torch.inference_mode()
    def _text_inputs(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        device = self.model.device
        tokens = self.processor(text=[row[self.text_column] for row in rows], return_tensors="pt").to(device)
        inputs = {
            "text_features": self.model.get_text_features(tokens["input_ids"], tokens["attention_mask"]),
            "video_index": torch.zeros(len(rows), dtype=torch.long, device=device),
        }
        if self.grouping != "video":  # which is what models do by themselves
            targets = [tuple(row["object_ids"] or ()) for row in rows]
            inputs["group_index"] = torch.tensor(group_expressions(targets, self.grouping), device=device)
        return inputs

    def _pixels(self, frames: np.ndarray) -> tuple[torch.Tensor, torch.Tensor | None, tuple[int, int]]:
        """Inputs of the model, and the size of the frames without padding."""
        pixels = self.processor.video_processor(videos=frames, return_tensors="pt")
        pixel_mask = pixels["pixel_mask"]
        input_size = self.processor.video_processor.unpadded_sizes(pixel_mask)[0][1:]
        if pixel_mask.all():  # nothing is padded, and the model has less to compute without a mask
            pixel_mask = None
        return pixels["pixel_values_videos"].to(self.model.dtype), pixel_mask, input_size

    @torch.inference_mode()
    def _predict(self, positions: range, frames: np.ndarray, extra: dict[str, Any]) -> ClipPrediction:
        pixel_values_videos, pixel_mask, input_size = self._pixels(frames)
        outputs = self.model(
            pixel_values_videos=pixel_values_videos.to(self.model.device),
            pixel_mask=None if pixel_mask is None else pixel_mask.to(self.model.device),
            **extra,
        )
        return self._clip(positions, frames.shape[1:3], outputs, input_size)

    def _clip(
        self,
        positions: range,
        frame_size: tuple[int, int],
        outputs: ReferringVideoSegmentationOutput,
        input_size: tuple[int, int],
    ) -> ClipPrediction:
        # Detections take all queries, whatever they are asked for.
        multi_target = self.multi_target and outputs.query_index is not None
        return ClipPrediction(positions, frame_size, outputs, input_size, self.processor, self.threshold, multi_target)

    def _whole_video(
        self, rows: Sequence[Mapping[str, Any]], pieces: Sequence[range], frames: Iterator[np.ndarray]
    ) -> Iterator[ClipPrediction]:
        """Predict for all frames of a video; masks at the size of the model wait until all expressions are there."""
        sizes = []

        def pixels() -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
            for frame_size, part in read_ahead((piece.shape[1:3], self._pixels(piece)) for piece in frames):
                sizes.append((frame_size, part[2]))
                yield part[:2]

        text_features = self._text_inputs(rows)["text_features"]
        options = (self.multi_target, self.score_threshold)
        names = ("logits", "pred_masks", "query_index")
        with Spool() as drawn:
            for outputs in segment_whole_video(self.model, pixels(), text_features, *options):
                drawn.append(**{name: outputs[name] for name in names})
            for number, (positions, (frame_size, input_size)) in enumerate(zip(pieces, sizes)):
                answers = [drawn[index * len(pieces) + number] for index in range(len(rows))]
                joined = {name: _stack([answer[name] for answer in answers]).to(self.model.device) for name in names}
                outputs = ReferringVideoSegmentationOutput(**joined)
                yield self._clip(positions, frame_size, outputs, input_size)


def _stack(parts: list[torch.Tensor]) -> torch.Tensor:
    """Join tensors along the first axis; where the second has another length it is filled with -1."""
    length = max(part.shape[1] for part in parts) if parts[0].ndim > 1 else None
    if length is None or all(part.shape[1] == length for part in parts):
        return torch.cat(parts)
    joined = parts[0].new_full((len(parts), length, *parts[0].shape[2:]), -1)
    for row, part in zip(joined, parts):
        row[: part.shape[1]] = part[0]
    return joined


def _without_absent(
    clips: Iterator[ClipPrediction], score_threshold: float, device: torch.device
) -> Iterator[ClipPrediction]:
    """The same clips with what is not in the video told, which is known after the last of them."""
    waiting, totals, num_frames = [], 0, 0
    with Spool() as spool:
        for clip in clips:
            outputs = clip.outputs
            scores = outputs.logits.float().sigmoid().mean(2).amax(-1)  # (E, Q)
            totals = totals + scores.gather(1, outputs.query_index[:, None])[:, 0].double() * len(clip.positions)
            num_frames += len(clip.positions)
            spool.append(**{name: outputs.get(name) for name in ("logits", "pred_boxes", "pred_masks", "query_index")})
            stride = outputs.mask_stride
            waiting.append(replace(clip, outputs=ReferringVideoSegmentationOutput(mask_stride=stride)))
        absent = frozenset((totals / num_frames <= score_threshold).nonzero()[:, 0].tolist())
        for number, clip in enumerate(waiting):
            tensors = {name: None if part is None else part.to(device) for name, part in spool[number].items()}
            outputs = ReferringVideoSegmentationOutput(**tensors, mask_stride=clip.outputs.mask_stride)
            yield replace(clip, outputs=outputs, absent=absent)


@dataclass(frozen=True)
class FolderClip:
    """What a folder of PNGs says of the frames of one clip; see `ClipPrediction`."""

    predictor: "FolderPredictor"
    rows: Sequence[Mapping[str, Any]]
    positions: range
    frame_size: tuple[int, int]

    def track(self, index: int) -> dict[str, Any]:
        return {"masks": self._read(self.predictor.expression_folder(self.rows[index])) != 0, "score": None}

    def label_maps(self, groups: list[list[int]]) -> Iterator[np.ndarray]:
        for group in groups:
            yield self._read(self.predictor.pass_folder(self.rows[group[0]]))

    def detections(self, index: int, resize_logits: bool) -> dict[str, Any]:
        masks = self.track(index)["masks"]
        return {"masks": masks, "scores": np.ones(1)}

    def _read(self, folder: Path) -> np.ndarray:
        frames = [self.rows[0]["frames"][position] for position in self.positions]
        return read_masks(folder, frames, self.frame_size, missing="empty")


class FolderPredictor:
    """Masks that any system wrote: `<video>/<expression id>/<frame>.png`, anything but 0 is the object.

    For the official protocol of Ref-DAVIS17 they are `anno_<pass>/<video>/<frame>.png` with ids of objects.

    Args:
        folder: Where the folders of the videos are, or a folder `Annotations` with them.
        missing: `"error"` or `"empty"`, for masks that are not there.
        clip_length: Frames that are read together.
    """

    def __init__(self, folder: Path, missing: str = "error", clip_length: int = DEFAULT_CLIP_LENGTH):
        self.folder = folder / "Annotations" if (folder / "Annotations").is_dir() else folder
        if not self.folder.is_dir():
            raise ValueError(f"predictions: there is no folder {str(folder)!r}, expected one with the masks")
        if missing not in MISSING:
            raise ValueError(f"missing is {missing!r}, expected one of {', '.join(MISSING)}")
        self.missing = missing
        self.model_type = None  # which only models have
        self.clip_length = clip_length

    def expression_folder(self, row: Mapping[str, Any]) -> Path:
        return (
            self.folder / check_name(row["video_id"], "video_id") / check_name(row["expression_id"], "expression_id")
        )

    def pass_folder(self, row: Mapping[str, Any]) -> Path:
        return self.folder / check_name(f"anno_{row['expression_type']}/{row['video_id']}", "predictions")

    def prepare(self, rows: Iterable[Mapping[str, Any]], protocol: Any) -> dict[str, Any]:
        """Look for all masks before any is read; see `ModelPredictor`.

        Raises:
            ValueError: if masks are missing and that is an error, or there is nothing to compare them with.
        """
        if not protocol.has_truth:
            raise ValueError("split: it comes without masks to compare with, expected one that has them")
        wanted = {}
        for row in rows:
            folder = self.pass_folder(row) if protocol.merges_objects else self.expression_folder(row)
            positions = range(row["num_frames"]) if row["annotated_frames"] is None else row["annotated_frames"]
            wanted[folder] = [row["frames"][position] for position in positions]
        missing = [path for folder, frames in wanted.items() for path in missing_files(folder, frames)]
        if self.missing == "error":
            raise_missing(missing, sum(map(len, wanted.values())))
        absent, digest = set(missing), hashlib.sha256()
        for folder, frames in wanted.items():
            for path in (folder / f"{frame}.png" for frame in frames):
                status = None if path in absent else path.stat()
                digest.update(f"{path.name} {status and (status.st_size, status.st_mtime_ns)}".encode())
        return {"num_missing_masks": len(missing), "masks": digest.hexdigest()[:12]}

    def clips(self, rows: Sequence[Mapping[str, Any]], root: Path | None = None) -> Iterator[FolderClip]:
        """One clip after the other; see `ModelPredictor`."""
        size, length = self._frame_size(rows[0], root), rows[0]["num_frames"]
        for start in range(0, length, self.clip_length):
            yield FolderClip(self, rows, range(start, min(start + self.clip_length, length)), size)

    def annotated_frame(
        self, rows: Sequence[Mapping[str, Any]], root: Path | None, window: Sequence[int], position: int
    ) -> FolderClip:
        """A single frame; see `ModelPredictor`."""
        return FolderClip(self, rows, range(window[position], window[position] + 1), self._frame_size(rows[0], root))

    def _frame_size(self, row: Mapping[str, Any], root: Path | None) -> tuple[int, int]:
        if row["height"] and row["width"]:
            return row["height"], row["width"]
        return load_clip(row, root, [0]).shape[1:3]
