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
memory beyond what is returned.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import ChunkPipeline

from hf_rvos.modeling_outputs import ReferringVideoSegmentationOutput
from hf_rvos.utils.logging import get_logger, warn_once
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
            clip_length (`int`, *optional*, defaults to 36):
                Frames that go through the model together.
            clip_overlap (`int`, *optional*, defaults to 0):
                Frames that two neighbouring clips share, at most half of `clip_length`.
            output_format (`str`, *optional*, defaults to `"mask"`):
                `"mask"` for boolean tensors, `"rle"` for a list with one COCO run-length dict for each frame.

        Returns:
            `list[dict]`: one for each sentence (a list of such lists for several videos), with

            - `"text"` (`str`): the sentence.
            - `"score"` (`float`): probability that the video shows what it describes, the mean over the frames.
            - `"frame_scores"` (`(num_frames,)`): the same for each frame.
            - `"masks"` (boolean, `(num_frames, height, width)`): at the size of the video; or the dicts.
            - `"boxes"` (`(num_frames, 4)`): xyxy in pixels of the video, as the model predicts them, cut at the
              borders. A frame without the object has a box too; its score tells.
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
            video, text, kwargs: As in a call for one video.

        Returns:
            Iterator of `dict`: `"frames"` (uint8, `(num_frames, height, width, 3)`), `"timestamps"` `(num_frames,)`,
            and `"tracks"`, one dict for each sentence with the keys of a call for these frames alone. The frames of
            all clips follow each other without a gap or an overlap.
        """
        preprocess_params, forward_params, _ = self._sanitize_parameters(**kwargs)
        return self._segment_clips(
            {"video": video, "text": text},
            {**self._preprocess_params, **preprocess_params},
            {**self._forward_params, **forward_params},
        )

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save the model and the processor, which is all that `pipeline(task, model=save_directory)` needs."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)

    def _sanitize_parameters(
        self,
        threshold: float | None = None,
        clip_length: int | None = None,
        clip_overlap: int | None = None,
        output_format: str | None = None,
        **unknown: Any,
    ) -> tuple[dict, dict, dict]:
        if unknown:
            raise TypeError(
                f"unknown option {', '.join(unknown)}; expected threshold, clip_length, clip_overlap or output_format"
            )
        preprocess_params, forward_params = {}, {}
        if threshold is not None:
            forward_params["threshold"] = check_threshold(threshold)
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

    def preprocess(
        self, inputs: dict[str, Any], clip_length: int = DEFAULT_CLIP_LENGTH, clip_overlap: int = 0
    ) -> Iterator[dict[str, Any]]:
        # With at most half of a clip shared, no frame is in more than two clips and the average is a fair one.
        if not 0 <= clip_overlap <= clip_length // 2:
            raise ValueError(
                f"clip_overlap is {clip_overlap}, expected 0 to half of clip_length ({clip_length}) frames"
            )
        if not isinstance(inputs, dict) or "video" not in inputs or inputs.get("text") is None:
            raise ValueError(
                'text is missing: call with a video and text="...", or with {"video": ..., "text": ...} for each video'
            )
        texts = [inputs["text"]] if isinstance(inputs["text"], str) else list(inputs["text"])
        tokens = self.processor(text=texts, return_tensors="pt")
        state = _VideoState()
        for frames, timestamps, is_last in _clips(open_video(inputs["video"]), clip_length, clip_overlap):
            pixels = self.processor.video_processor(videos=frames, return_tensors="pt")
            pixel_mask, input_size = pixels["pixel_mask"], None
            if pixel_mask.all():  # without padding the mask says nothing, and the model is faster without it
                pixel_mask = None
            else:
                input_size = tuple(int(pixel_mask[0, 0].any(axis).sum()) for axis in (1, 0))
            yield {
                "pixel_values_videos": pixels["pixel_values_videos"].to(self.dtype),
                "pixel_mask": pixel_mask,
                "input_size": input_size,
                "input_ids": tokens["input_ids"],
                "attention_mask": tokens["attention_mask"],
                "texts": texts,
                "frames": frames,
                "timestamps": timestamps,
                "num_shared": 0 if is_last else clip_overlap,
                "state": state,
            }

    def _forward(
        self, model_inputs: dict[str, Any], threshold: float = 0.5, output_format: str = "mask"
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
            queries="best",
        )
        predictions = _best_query(outputs)
        if state.tail is not None:
            for name, shared in state.tail.items():
                head = predictions[name][:, :, : shared.shape[2]]
                head.add_(shared).div_(2)
        num_frames = len(frames) - model_inputs["num_shared"]
        state.tail = {name: tensor[:, :, num_frames:] for name, tensor in predictions.items()}
        predictions = {name: tensor[:, :, :num_frames] for name, tensor in predictions.items()}

        height, width = frames.shape[1:3]
        tracks = []
        for index, text in enumerate(texts):  # one by one, so that a single sentence is enlarged at a time
            of_sentence = {name: tensor[index : index + 1] for name, tensor in predictions.items()}
            track = self.processor.post_process_referring_video_segmentation(
                ReferringVideoSegmentationOutput(**of_sentence, mask_stride=outputs.mask_stride),
                threshold=threshold,
                target_sizes=[(height, width)],
                input_sizes=model_inputs["input_size"] and [model_inputs["input_size"]],
            )[0]
            masks = track["masks"].cpu()
            boxes = track["boxes"].clamp(min=0).minimum(track["boxes"].new_tensor([width, height, width, height]))
            tracks.append(
                {
                    "text": text,
                    "score": track["score"],
                    "frame_scores": track["frame_scores"],
                    "masks": _encode(masks) if output_format == "rle" else masks,
                    "boxes": boxes,
                }
            )
        return {
            "frames": frames[:num_frames],
            "timestamps": torch.tensor(model_inputs["timestamps"][:num_frames], dtype=torch.float64),
            "tracks": tracks,
        }

    def postprocess(self, clips: list[dict[str, Any]]) -> list[dict[str, Any]]:
        lengths = [len(clip["timestamps"]) for clip in clips]
        timestamps = torch.cat([clip["timestamps"] for clip in clips])
        return [
            {
                "text": parts[0]["text"],
                "score": sum(part["score"] * length for part, length in zip(parts, lengths)) / sum(lengths),
                "frame_scores": torch.cat([part["frame_scores"] for part in parts]),
                "masks": _join_masks([part.pop("masks") for part in parts]),
                "boxes": torch.cat([part["boxes"] for part in parts]),
                "timestamps": timestamps,
            }
            for parts in zip(*(clip["tracks"] for clip in clips))
        ]

    def run_single(
        self, inputs: dict[str, Any], preprocess_params: dict, forward_params: dict, postprocess_params: dict
    ) -> list[dict[str, Any]]:
        clips = []
        for clip in self._segment_clips(inputs, preprocess_params, forward_params):
            del clip["frames"]
            clips.append(clip)
        return self.postprocess(clips, **postprocess_params)

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
        for model_inputs in self.preprocess(inputs, **preprocess_params):
            yield self.forward(model_inputs, **forward_params)


def check_threshold(threshold: float) -> float:
    """Return `threshold`, or raise ValueError if it is not inside (0, 1)."""
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold}, expected a probability between 0 and 1, both excluded")
    return threshold


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
    return {
        "logits": outputs.logits[rows, outputs.query_index].unsqueeze(1).float(),
        "pred_boxes": outputs.pred_boxes[rows, outputs.query_index].unsqueeze(1).float(),
        "pred_masks": outputs.pred_masks.float(),
    }


def _encode(masks: torch.Tensor) -> list[dict[str, Any]]:
    from hf_rvos.ops.rle import encode_rle

    return encode_rle(masks.numpy())


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
