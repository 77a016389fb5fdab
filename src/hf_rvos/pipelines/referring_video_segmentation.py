# Copyright 2026 The hf_rvos authors. All rights reserved.
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
"""The pipeline `"referring-video-segmentation"`: a video and sentences in, one mask track for each sentence out.

A video goes through the model clip by clip. Frames are decoded when their clip comes and forgotten after it, and
masks are cut (and compressed, with `output_format="rle"`) before the next one, so that the length of a video costs no
memory beyond what is returned. Models that choose for a whole video see it in pieces, with the same effect.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import ChunkPipeline

from hf_rvos.modeling_outputs import ReferringVideoSegmentationOutput
from hf_rvos.pipelines.selection import (
    check_score_threshold,
    check_threshold,
    choose_multi_target,
    choose_score_threshold,
)
from hf_rvos.pipelines.whole_video import sees_whole_videos, segment_whole_video
from hf_rvos.utils.logging import get_logger, warn_once
from hf_rvos.utils.streams import read_ahead
from hf_rvos.utils.video_io import VideoReader, open_video


logger = get_logger(__name__)

TASK = "referring-video-segmentation"
OUTPUT_FORMATS = ("mask", "rle")
# Clip of the published evaluation on Ref-DAVIS17; the query is chosen for each clip anew.
DEFAULT_CLIP_LENGTH = 36


def register_pipeline() -> None:
    """Make `transformers.pipeline("referring-video-segmentation")` work; the embedded checkpoint is its default."""
    from hf_rvos.auto import AutoModelForReferringVideoSegmentation
    from hf_rvos.checkpoints import DEFAULT_CHECKPOINT, embedded_checkpoint

    if TASK in PIPELINE_REGISTRY.supported_tasks:
        return
    PIPELINE_REGISTRY.register_pipeline(
        TASK,
        pipeline_class=ReferringVideoSegmentationPipeline,
        pt_model=AutoModelForReferringVideoSegmentation,
        default={"model": (str(embedded_checkpoint(DEFAULT_CHECKPOINT)), "main")},
        type="multimodal",
    )


@dataclass
class _VideoState:
    """What one clip of a video hands on to the next.

    Args:
        text_features: The sentences after the text encoder, computed with the first clip.
        tail: Predictions for the frames that the next clip sees again.
    """

    text_features: Any = None
    tail: dict[str, torch.Tensor] | None = None


class ReferringVideoSegmentationPipeline(ChunkPipeline):
    """Segment what sentences describe in a video.

    The text is encoded once for a video and the frames of a clip once for all sentences. As in the published
    evaluation, the best query of each sentence is chosen for each clip alone and the clips are put one after the
    other. With `clip_overlap`, neighbouring clips share frames, whose mask logits, scores and boxes are averaged.
    A model that chooses for a whole video, such as SSA, sees all of it unless there is a `clip_length`.

    Example:
        >>> import hf_rvos
        >>> from transformers import pipeline
        >>> segmenter = pipeline("referring-video-segmentation")
        >>> tracks = segmenter("clip.mp4", text=["the red circle moving left", "the star"])
        >>> tracks[0]["masks"].shape
        torch.Size([40, 128, 128])
    """

    _load_processor = True
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __call__(self, video: Any, text: str | list[str] | None = None, **kwargs: Any) -> Any:
        """Segment one video, or several one after the other.

        Args:
            video (`str`, `Path`, `list`, `np.ndarray`, `torch.Tensor`, iterator or `dict`):
                A path or URL of a video file, a folder of frames, a list of PIL images or arrays, an array or tensor
                of frames, or an iterator of frames; see [`~hf_rvos.utils.video_io.open_video`]. For several videos a
                list of paths that share `text`, or, without `text`, a list, generator or dataset of
                `{"video": ..., "text": ...}`.
            text (`str` or `list[str]`, *optional*):
                One sentence or several.
            threshold (`float`, *optional*, defaults to 0.5):
                Probability above which a pixel belongs to the object, in (0, 1).
            multi_target (`bool` or `str`, *optional*, defaults to `"auto"`):
                Whether a sentence may refer to several objects, whose masks are then one; `"auto"` for what the
                configuration of the model says. Only models such as SSA can be asked for several.
            score_threshold (`float` or `str`, *optional*):
                A sentence whose score is not above this probability is not in the video: its masks are empty, its
                boxes zero, and its score is kept. `"auto"` for `score_threshold` of the model's configuration, see
                `hf-rvos calibrate`. None for an answer in any case; with several targets, which are told by their
                scores, None means `"auto"`. The score of the whole video decides, however many clips it has; with
                several targets a sentence is in the video if it is in one of its clips.
            clip_length (`int`, *optional*):
                Frames that go through the model together. None means 36, or the whole video for a model that chooses
                for it.
            clip_overlap (`int`, *optional*, defaults to 0):
                Frames that two neighbouring clips share, at most half of `clip_length`.
            output_format (`str`, *optional*, defaults to `"mask"`):
                `"mask"` for boolean tensors, `"rle"` for a list with one COCO run-length dict for each frame.

        Returns:
            `list[dict]`: one for each sentence (a list of such lists for several videos), with

            - `"text"` (`str`): the sentence.
            - `"in_video"` (`bool`): whether the video shows what it describes; True without `score_threshold`, but for
              models for several targets, which use their own.
            - `"score"` (`float`): the probability of that, the mean over the frames.
            - `"frame_scores"` (`(num_frames,)`): the same for each frame.
            - `"masks"` (boolean, `(num_frames, height, width)`): at the size of the video; or the dicts.
            - `"boxes"` (`(num_frames, 4)`): xyxy in pixels of the video, as the model predicts them, cut at the
              borders. A frame without the object has a box too; its score tells. A model without boxes gets those of
              its masks, zeros for empty ones.
            - `"timestamps"` (`(num_frames,)`): seconds.

        Raises:
            FileNotFoundError: if there is nothing at the path `video`.
            ValueError: if there is no readable video in `video`, `text` has no sentence or a blank or too long one, or
                an option is out of range.
        """
        if text is None:
            return super().__call__(video, **kwargs)
        if isinstance(video, list) and video and all(isinstance(path, (str, os.PathLike)) for path in video):
            return super().__call__([{"video": path, "text": text} for path in video], **kwargs)
        return super().__call__({"video": video, "text": text}, **kwargs)

    def stream(self, video: Any, text: str | list[str], **kwargs: Any) -> Iterator[dict[str, Any]]:
        """Segment one video and give the results clip by clip, while the rest is not yet decoded.

        Args:
            video, text, kwargs: As in a call for one video, with `clip_length` 36 for every model. What is not in a
                clip may be in another: each clip decides on its own.

        Returns:
            Iterator of `dict`: `"frames"` (uint8, `(num_frames, height, width, 3)`), `"timestamps"` `(num_frames,)`,
            and `"tracks"`, one dict for each sentence with the keys of a call for these frames alone. The frames of
            all clips follow each other without a gap or an overlap.
        """
        preprocess_params, forward_params, _ = self._sanitize_parameters(**kwargs)
        return self._segment_clips(
            {"video": video, "text": text},
            {**self._preprocess_params, **preprocess_params},
            self._choose({**self._forward_params, **forward_params}),
        )

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save the model and the processor, which is all that `pipeline(task, model=save_directory)` needs."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)

    def _sanitize_parameters(
        self,
        threshold: float | None = None,
        multi_target: bool | str | None = None,
        score_threshold: float | str | None = None,
        clip_length: int | None = None,
        clip_overlap: int | None = None,
        output_format: str | None = None,
        **unknown: Any,
    ) -> tuple[dict, dict, dict]:
        if unknown:
            raise TypeError(
                f"unknown option {', '.join(unknown)}; expected threshold, multi_target, score_threshold, "
                "clip_length, clip_overlap or output_format"
            )
        preprocess_params, forward_params = {}, {}
        if threshold is not None:
            forward_params["threshold"] = check_threshold(threshold)
        if multi_target is not None:
            choose_multi_target(self.model.config, multi_target)  # refuses what the model cannot do
            forward_params["multi_target"] = multi_target
        if score_threshold is not None:
            forward_params["score_threshold"] = check_score_threshold(score_threshold)
        if output_format is not None:
            if output_format not in OUTPUT_FORMATS:
                raise ValueError(f'output_format is {output_format!r}, expected "mask" or "rle"')
            forward_params["output_format"] = output_format
        if clip_length is not None:
            if clip_length < 1:
                raise ValueError(f"clip_length is {clip_length}, expected at least 1 frame")
            preprocess_params["clip_length"] = clip_length
        if clip_overlap is not None:
            preprocess_params["clip_overlap"] = clip_overlap
        return preprocess_params, forward_params, {}

    def _choose(self, forward_params: dict) -> dict:
        """Options of `_forward`: what `"auto"` and None mean for this model."""
        multi_target = choose_multi_target(self.model.config, forward_params.get("multi_target", "auto"))
        score_threshold = forward_params.get("score_threshold")
        return forward_params | {
            "multi_target": multi_target,
            "score_threshold": choose_score_threshold(self.model.config, score_threshold, multi_target),
        }

    def preprocess(
        self, inputs: dict[str, Any], clip_length: int = DEFAULT_CLIP_LENGTH, clip_overlap: int = 0
    ) -> Iterator[dict[str, Any]]:
        # With at most half of a clip shared, no frame is in more than two clips and the average is a fair one.
        if not 0 <= clip_overlap <= clip_length // 2:
            raise ValueError(
                f"clip_overlap is {clip_overlap}, expected 0 to half of clip_length ({clip_length}) frames"
            )
        texts, tokens = self._tokenize(inputs)
        state = _VideoState()
        for frames, timestamps, is_last in _clips(open_video(inputs["video"]), clip_length, clip_overlap):
            yield {
                **self._prepare_frames(frames),
                "input_ids": tokens["input_ids"],
                "attention_mask": tokens["attention_mask"],
                "texts": texts,
                "frames": frames,
                "timestamps": timestamps,
                "num_shared": 0 if is_last else clip_overlap,
                "state": state,
            }

    def _tokenize(self, inputs: dict[str, Any]) -> tuple[list[str], BatchFeature]:
        if not isinstance(inputs, dict) or "video" not in inputs or inputs.get("text") is None:
            raise ValueError(
                'text is missing: call with a video and text="...", or with {"video": ..., "text": ...} for each video'
            )
        texts = [inputs["text"]] if isinstance(inputs["text"], str) else list(inputs["text"])
        return texts, self.processor(text=texts, return_tensors="pt")

    def _prepare_frames(self, frames: np.ndarray) -> dict[str, Any]:
        pixels = self.processor.video_processor(videos=frames, return_tensors="pt")
        pixel_mask = pixels["pixel_mask"]
        return {
            "pixel_values_videos": pixels["pixel_values_videos"].to(self.dtype),
            # Without padding the mask says nothing, and the model is faster without it.
            "pixel_mask": None if pixel_mask.all() else pixel_mask,
            "input_size": tuple(int(pixel_mask[0, 0].any(axis).sum()) for axis in (1, 0)),
        }

    def _forward(
        self,
        model_inputs: dict[str, Any],
        threshold: float = 0.5,
        output_format: str = "mask",
        multi_target: bool = False,
        score_threshold: float | None = None,
    ) -> dict[str, Any]:
        texts, frames, state = model_inputs["texts"], model_inputs["frames"], model_inputs["state"]
        if state.text_features is None:
            state.text_features = self.model.get_text_features(
                model_inputs["input_ids"], model_inputs["attention_mask"]
            )
        outputs = self.model(
            pixel_values_videos=model_inputs["pixel_values_videos"],
            pixel_mask=model_inputs["pixel_mask"],
            video_index=torch.zeros(len(texts), dtype=torch.long, device=self.device),
            text_features=state.text_features,
            **({"queries": "referred", "score_threshold": score_threshold} if multi_target else {"queries": "best"}),
        )
        num_frames = len(frames) - model_inputs["num_shared"]
        if multi_target:  # clips do not overlap
            names = ("logits", "pred_boxes", "pred_masks", "query_index")
            predictions = {name: outputs[name] for name in names if outputs.get(name) is not None}
        else:
            predictions = _best_query(outputs)
            if state.tail is not None:
                for name, shared in state.tail.items():
                    head = predictions[name][:, :, : shared.shape[2]]
                    head.add_(shared).div_(2)
            state.tail = {name: tensor[:, :, num_frames:] for name, tensor in predictions.items()}
            predictions = {name: tensor[:, :, :num_frames] for name, tensor in predictions.items()}
        options = {
            "threshold": threshold,
            "multi_target": multi_target,
            "score_threshold": None if multi_target else score_threshold,  # several are chosen by the model
        }
        tracks = []
        for index, text in enumerate(texts):  # one by one, so that a single sentence is enlarged at a time
            of_sentence = {name: tensor[index : index + 1] for name, tensor in predictions.items()}
            of_sentence = ReferringVideoSegmentationOutput(**of_sentence, mask_stride=outputs.mask_stride)
            size = frames.shape[1:3]
            tracks.append(
                self._make_track(text, of_sentence, size, model_inputs["input_size"], output_format, **options)
            )
        return {
            "frames": frames[:num_frames],
            "timestamps": torch.tensor(model_inputs["timestamps"][:num_frames], dtype=torch.float64),
            "tracks": tracks,
        }

    def _make_track(
        self,
        text: str,
        outputs: ReferringVideoSegmentationOutput,
        size: tuple[int, int],
        input_size: tuple[int, int],
        output_format: str,
        **options: Any,
    ) -> dict[str, Any]:
        """What a clip says of a sentence, from the outputs for it alone."""
        (track,) = self.processor.post_process_referring_video_segmentation(
            outputs, target_sizes=[size], input_sizes=[input_size], **options
        )
        height, width = size
        masks, boxes = track["masks"].cpu(), track["boxes"].cpu()
        return {
            "text": text,
            "in_video": bool(track["query_indices"]),
            "score": track["score"],
            "frame_scores": track["frame_scores"].cpu(),
            "masks": _encode(masks) if output_format == "rle" else masks,
            "boxes": boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height])),
        }

    def postprocess(self, clips: list[dict[str, Any]], score_threshold: float | None = None) -> list[dict[str, Any]]:
        lengths = [len(clip["timestamps"]) for clip in clips]
        timestamps = torch.cat([clip["timestamps"] for clip in clips])
        tracks = []
        for parts in zip(*(clip["tracks"] for clip in clips)):
            track = {
                "text": parts[0]["text"],
                "in_video": any(part["in_video"] for part in parts),
                "score": sum(part["score"] * length for part, length in zip(parts, lengths)) / sum(lengths),
                "frame_scores": torch.cat([part["frame_scores"] for part in parts]),
                "masks": _join_masks([part.pop("masks") for part in parts]),
                "boxes": torch.cat([part["boxes"] for part in parts]),
                "timestamps": timestamps,
            }
            if score_threshold is not None and not track["score"] > score_threshold:
                track |= {"in_video": False, "masks": _empty(track["masks"])}
                track["boxes"].zero_()
            tracks.append(track)
        return tracks

    def run_single(
        self, inputs: dict[str, Any], preprocess_params: dict, forward_params: dict, postprocess_params: dict
    ) -> list[dict[str, Any]]:
        options, score_threshold = self._choose(forward_params), None
        if sees_whole_videos(self.model) and "clip_length" not in preprocess_params:
            if preprocess_params.get("clip_overlap"):
                raise ValueError("clip_overlap: there are no clips without clip_length, this model sees whole videos")
            return self.postprocess(self._segment_whole_video(inputs, **options))
        if not options["multi_target"]:  # what is not in a clip may be in the next: the end decides
            score_threshold = options.pop("score_threshold")
        clips = []
        for clip in self._segment_clips(inputs, preprocess_params, options):
            del clip["frames"]
            clips.append(clip)
        return self.postprocess(clips, score_threshold)

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict,
        forward_params: dict,
        postprocess_params: dict,
    ) -> Iterator[list[dict[str, Any]]]:
        # The base class would mix clips of different videos in a batch, and copy them to worker processes.
        if batch_size != 1 or num_workers != 0:
            warn_once(logger, "batch_size and num_workers change nothing: clips go through the model one at a time")
        for item in inputs:
            yield self.run_single(item, preprocess_params, forward_params, postprocess_params)

    def _segment_clips(
        self, inputs: dict[str, Any], preprocess_params: dict, forward_params: dict
    ) -> Iterator[dict[str, Any]]:
        if forward_params["multi_target"] and preprocess_params.get("clip_overlap"):
            raise ValueError("clip_overlap: answers of several queries cannot be averaged, expected 0")
        for model_inputs in self.preprocess(inputs, **preprocess_params):
            yield self.forward(model_inputs, **forward_params)

    def _segment_whole_video(
        self,
        inputs: dict[str, Any],
        threshold: float = 0.5,
        output_format: str = "mask",
        multi_target: bool = False,
        score_threshold: float | None = None,
    ) -> list[dict[str, Any]]:
        """The pieces in which a model sees a whole video, in the form of clips."""
        texts, tokens = self._tokenize(inputs)
        reader = open_video(inputs["video"])
        size, input_sizes, clips = (reader.height, reader.width), [], []

        def pieces() -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
            clips_of_frames = _clips(reader, self.model.config.frames_at_once, 0)
            for timestamps, pixels in read_ahead((at, self._prepare_frames(it)) for it, at, _ in clips_of_frames):
                clips.append({"timestamps": torch.tensor(timestamps, dtype=torch.float64), "tracks": []})
                input_sizes.append(pixels["input_size"])
                yield pixels["pixel_values_videos"], pixels["pixel_mask"]

        options = {"threshold": threshold, "multi_target": multi_target}
        if not multi_target:
            options["score_threshold"] = score_threshold
        with self.device_placement():
            tokens = tokens.to(self.device)
            with torch.inference_mode():
                text_features = self.model.get_text_features(tokens["input_ids"], tokens["attention_mask"])
            parts = segment_whole_video(self.model, pieces(), text_features, multi_target, score_threshold)
            for number, outputs in enumerate(parts):  # all pieces for the first sentence come first
                text, clip = texts[number // len(clips)], clips[number % len(clips)]
                clip["tracks"].append(self._make_track(text, outputs, size, input_sizes[0], output_format, **options))
        return clips


def _clips(reader: VideoReader, clip_length: int, clip_overlap: int) -> Iterator[tuple[np.ndarray, list[float], bool]]:
    """Frames `(num_frames, height, width, 3)` and times of one clip after the other, and if it is the last."""
    clip = []
    frames = iter(reader)
    upcoming = next(frames, None)  # one frame ahead, to know where the video ends
    while upcoming is not None:
        while upcoming is not None and len(clip) < clip_length:
            clip.append(upcoming)
            upcoming = next(frames, None)
        yield np.stack([frame for frame, _ in clip]), [timestamp for _, timestamp in clip], upcoming is None
        clip = clip[clip_length - clip_overlap :]


def _best_query(outputs: ReferringVideoSegmentationOutput) -> dict[str, torch.Tensor]:
    """Predictions of the chosen query alone, `(num_expressions, 1, num_frames, ...)` float32."""
    rows = torch.arange(len(outputs.query_index), device=outputs.query_index.device)
    predictions = {"logits": outputs.logits[rows, outputs.query_index].unsqueeze(1).float()}
    if outputs.pred_boxes is not None:
        predictions["pred_boxes"] = outputs.pred_boxes[rows, outputs.query_index].unsqueeze(1).float()
    return predictions | {"pred_masks": outputs.pred_masks.float()}


def _encode(masks: torch.Tensor) -> list[dict[str, Any]]:
    from hf_rvos.ops.rle import encode_rle

    return encode_rle(masks.numpy())


def _empty(masks: torch.Tensor | list[dict]) -> torch.Tensor | list[dict]:
    """Empty masks in place of others."""
    if isinstance(masks, torch.Tensor):
        return masks.zero_()
    (empty,) = _encode(torch.zeros(1, *masks[0]["size"], dtype=torch.bool))
    return [dict(empty) for _ in masks]


def _join_masks(parts: list[torch.Tensor] | list[list[dict]]) -> torch.Tensor | list[dict]:
    """Put the clips of a track together; empties `parts` on the way, so that no clip is there twice."""
    if isinstance(parts[0], list):
        return [rle for part in parts for rle in part]
    if len(parts) == 1:
        return parts[0]
    joined = torch.empty(sum(map(len, parts)), *parts[0].shape[1:], dtype=torch.bool)
    start = len(joined)
    while parts:
        part = parts.pop()
        start -= len(part)
        joined[start : start + len(part)] = part
        del part
    return joined
