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
"""Video processor of the referring models: frames in, padded clips out; model outputs in, masks out."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import BatchFeature
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, PILImageResampling, SizeDict
from transformers.processing_utils import Unpack, VideosKwargs
from transformers.utils import logging
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoMetadata, make_batched_videos

from hf_rvos.ops.boxes import boxes_from_masks, cxcywh_to_xyxy, denormalize_boxes
from hf_rvos.ops.masks import merge_objects, resize_mask_logits, resize_masks


if TYPE_CHECKING:
    from hf_rvos.modeling_outputs import ReferringVideoSegmentationOutput

logger = logging.get_logger(__name__)

_MASK_STRIDE = 4
# Masks are enlarged this many frames at a time, so that a long clip in full HD needs no tens of gigabytes of logits.
_FRAMES_AT_ONCE = 16


class RvosVideoProcessorKwargs(VideosKwargs, total=False):
    """
    pad_to_multiple_of (`int`, *optional*):
        Height and width of a batch are rounded up to a multiple of this number of pixels.
    """

    pad_to_multiple_of: int | None


def resized_size(
    height: int, width: int, shortest_edge: int, longest_edge: int | None = None, round_half_up: bool = False
) -> tuple[int, int]:
    """Size of a frame after the resize that the released models were trained and evaluated with.

    Args:
        height: Height of the frame in pixels.
        width: Width of the frame in pixels.
        shortest_edge: Wanted length of the shorter side in pixels.
        longest_edge: Most pixels of the longer side; the shorter side gives way. None for no limit, as in the
            published evaluation on Ref-YouTube-VOS and Ref-DAVIS17.
        round_half_up: Whether both sides are scaled alike and rounded, as published for SSA. If not, the longer side
            follows from the shorter one and is rounded down.

    Returns:
        `(height, width)`.
    """
    short, long = sorted((height, width))
    is_too_long = longest_edge is not None and long / short * shortest_edge > longest_edge
    if round_half_up:
        scale = longest_edge / long if is_too_long else shortest_edge / short
        shortest_edge, other_edge = (max(1, math.floor(edge * scale + 0.5)) for edge in (short, long))
    else:
        if is_too_long:
            shortest_edge = max(1, round(longest_edge * short / long))
        other_edge = int(shortest_edge * long / short)
    return (shortest_edge, other_edge) if height <= width else (other_edge, shortest_edge)


class RvosVideoProcessor(BaseVideoProcessor):
    """Prepares videos for the referring models and turns what the models return into masks.

    Frames are resized, scaled to [0, 1], normalised with the ImageNet mean and deviation, and padded with zeros at the
    right and bottom (and with empty frames at the end) to the largest clip of the batch. A video is a path, a URL, a
    folder of frames, a list of PIL images or arrays, or an array or tensor of frames with values from 0 to 255.

    Args:
        size (`dict[str, int]`, *optional*, defaults to `{"shortest_edge": 360, "longest_edge": 640}`):
            Size of the frames. Without `"longest_edge"` the longer side has no limit, as in the published evaluation
            on Ref-YouTube-VOS and Ref-DAVIS17; `{"height": ..., "width": ...}` ignores the aspect ratio.
        pad_to_multiple_of (`int`, *optional*, defaults to 1):
            Height and width of a batch are rounded up to a multiple of this number of pixels: 1 for the published
            video evaluation, 32 for training and for A2D-Sentences, JHMDB-Sentences and RefCOCO.
        round_half_up (`bool`, *optional*, defaults to `False`):
            How sizes are rounded, see [`resized_size`]: True for SSA.
        enlarge_masks_twice (`bool`, *optional*, defaults to `False`):
            Whether mask logits are first resized to the padded frames that the model saw, cut to what is not padding,
            and then resized to the size of the video, as published for SSA. If not, they are resized once, from their
            grid to the size of the video. [`post_process_instance_segmentation`] has a way of its own.
        kwargs:
            All other options of a transformers video processor, such as `do_resize`, `image_mean` or `num_frames`.
    """

    valid_kwargs = RvosVideoProcessorKwargs
    model_input_names = ["pixel_values_videos", "pixel_mask"]

    size = {"shortest_edge": 360, "longest_edge": 640}
    resample = PILImageResampling.BILINEAR
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    default_to_square = False
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    do_pad = True
    do_sample_frames = False
    pad_to_multiple_of = 1
    round_half_up = False
    enlarge_masks_twice = False

    def preprocess(self, videos: Any, **kwargs: Unpack[RvosVideoProcessorKwargs]) -> BatchFeature:
        """Turn one video or a list of videos into the tensors of a model.

        Args:
            videos (`str`, `Path`, `list`, `np.ndarray` or `torch.Tensor`):
                A path, a URL, a folder of frames, a list of frames, an array `(num_frames, height, width, 3)` or
                `(num_frames, 3, height, width)`, or a list of these.
            kwargs:
                Options of the processor that change for this call only, and `return_tensors`.

        Returns:
            `BatchFeature`: `pixel_values_videos` `(batch_size, num_frames, 3, height, width)` float32 and `pixel_mask`
            `(batch_size, num_frames, height, width)` boolean, True at real pixels.

        Raises:
            ValueError: if a video is empty or unreadable, holds a value that is not finite, or mixes frame sizes.
        """
        return super().preprocess(_list_videos(videos), **kwargs)

    def fetch_videos(
        self, video_url_or_urls: str | list, sample_indices_fn: Callable | None = None
    ) -> tuple[Any, Any]:
        """Decode a path, URL or folder of frames with the decoder of this library.

        Args:
            video_url_or_urls: One source or a list of them.
            sample_indices_fn: Takes a `VideoMetadata`, returns the indices of the frames to keep. None keeps all.

        Returns:
            `(frames, metadata)`, frames a uint8 array `(num_frames, height, width, 3)`; two lists for a list.
        """
        if isinstance(video_url_or_urls, list):
            decoded = [self.fetch_videos(source, sample_indices_fn) for source in video_url_or_urls]
            return [frames for frames, _ in decoded], [metadata for _, metadata in decoded]

        from hf_rvos.utils.video_io import open_video

        reader = open_video(video_url_or_urls)
        frames, num_frames = None, reader.num_frames
        if sample_indices_fn is None or num_frames is None:
            frames = dict(enumerate(frame for frame, _ in reader))
            num_frames = len(frames)
        metadata = VideoMetadata(
            total_num_frames=num_frames,
            fps=reader.fps,
            height=reader.height,
            width=reader.width,
            duration=num_frames / reader.fps,
        )
        indices = range(num_frames) if sample_indices_fn is None else sample_indices_fn(metadata=metadata).tolist()
        if frames is None:
            wanted = set(indices)
            frames = {index: frame for index, (frame, _) in enumerate(reader) if index in wanted}
        # A container may announce more frames than it holds.
        metadata.frames_indices = [index for index in indices if index in frames]
        return np.stack([frames[index] for index in metadata.frames_indices]), metadata

    def resize(
        self,
        image: torch.Tensor,
        size: SizeDict,
        resample: PILImageResampling | int | None = None,
        antialias: bool = True,
        **kwargs,
    ) -> torch.Tensor:
        """Resize frames as the released models expect: the size of [`resized_size`], the filter of PIL.

        Args:
            image: `(..., 3, height, width)`.
            size: `shortest_edge` and perhaps `longest_edge`, or `height` and `width`.
            resample: Filter; None for bilinear.
            antialias: Whether the filter widens when frames shrink; PIL always does.
            kwargs: Passed on to transformers.

        Returns:
            Same leading dimensions and dtype as `image`.
        """
        if size.shortest_edge:
            edges = size.shortest_edge, size.longest_edge
            height, width = resized_size(*image.shape[-2:], *edges, self.round_half_up)
            size = SizeDict(height=height, width=width)
        if image.dtype != torch.uint8 or image.device.type != "cpu" or not (size.height and size.width):
            return super().resize(image, size, resample=resample, antialias=antialias, **kwargs)
        # torchvision rounds its 8-bit filter differently: for 480x854 to 360x640 one value in 800 is off by one.
        resample = PILImageResampling.BILINEAR if resample is None else resample
        resized = [
            np.asarray(Image.fromarray(frame).resize((size.width, size.height), resample))
            for frame in image.flatten(0, -4).permute(0, 2, 3, 1).numpy()
        ]
        return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).unflatten(0, image.shape[:-3])

    def _preprocess(
        self,
        videos: list[torch.Tensor],
        do_pad: bool,
        pad_to_multiple_of: int,
        do_rescale: bool,
        return_tensors: str | None = None,
        **kwargs,
    ) -> BatchFeature:
        for index, video in enumerate(videos):
            if video.is_floating_point():
                if not torch.isfinite(video).all():
                    raise ValueError(f"videos: video {index} holds NaN or infinite pixels; pass finite pixel values.")
                if do_rescale and video.max() <= 1:
                    logger.warning_once(
                        "A video of floats has no value above 1. Values from 0 to 255 are expected; "
                        "pass do_rescale=False for frames that are scaled to [0, 1] already."
                    )
        clips = super()._preprocess(videos, do_rescale=do_rescale, **kwargs)["pixel_values_videos"]

        num_frames, height, width = (max(clip.shape[axis] for clip in clips) for axis in (0, 2, 3))
        if do_pad:
            multiple = pad_to_multiple_of or 1
            height, width = math.ceil(height / multiple) * multiple, math.ceil(width / multiple) * multiple
        elif len({clip.shape for clip in clips}) > 1:
            raise ValueError(
                f"videos have different shapes after resizing: {[tuple(clip.shape) for clip in clips]}. "
                "Pass do_pad=True to pad them to one shape, or process them one by one."
            )
        pixel_values_videos, pixel_mask = [], []
        for clip in clips:
            padding = (0, width - clip.shape[3], 0, height - clip.shape[2])
            extra_frames = num_frames - len(clip)
            pixel_values_videos.append(F.pad(clip, (*padding, 0, 0, 0, extra_frames)) if do_pad else clip)
            real = torch.ones((len(clip), *clip.shape[2:]), dtype=torch.bool, device=clip.device)
            pixel_mask.append(F.pad(real, (*padding, 0, extra_frames)))
        return BatchFeature(
            {"pixel_values_videos": torch.stack(pixel_values_videos), "pixel_mask": torch.stack(pixel_mask)},
            tensor_type=return_tensors,
        )

    @staticmethod
    def unpadded_sizes(pixel_mask: torch.Tensor) -> list[tuple[int, int, int]]:
        """Number of frames, height and width that each clip of a batch had before padding.

        Args:
            pixel_mask (`torch.Tensor`):
                `(batch_size, num_frames, height, width)`, True at real pixels.

        Returns:
            `list[tuple[int, int, int]]`: `(num_frames, height, width)` of each clip.
        """
        axes = ((2, 3), (1, 3), (1, 2))
        counts = [pixel_mask.bool().any(axis[1]).any(axis[0]).sum(-1).tolist() for axis in axes]
        return list(zip(*counts))

    @torch.no_grad()
    def post_process_referring_video_segmentation(
        self,
        outputs: "ReferringVideoSegmentationOutput",
        threshold: float = 0.5,
        target_sizes: list[tuple[int, int]] | None = None,
        input_sizes: list[tuple[int, int]] | None = None,
        num_frames: list[int] | None = None,
        multi_target: bool = False,
        score_threshold: float | None = None,
        score_instances: bool = False,
    ) -> list[dict[str, Any]]:
        """Turn mask logits into one binary mask track for each expression, as published for Ref-YouTube-VOS or MeViS.

        A query scores what it says of the frames of the clip on average. For a single target the query with the
        highest score is taken; its logits are resized bilinearly to the target size and cut at `threshold`. With
        `multi_target` this is done for each query whose score is above `score_threshold`, and the track is the union.

        Args:
            outputs ([`ReferringVideoSegmentationOutput`]):
                Raw outputs of the model, with the masks of all queries, of the best or of those referred to.
            threshold (`float`, *optional*, defaults to 0.5):
                Probability above which a pixel belongs to the object.
            target_sizes (`list[tuple[int, int]]`, *optional*):
                `(height, width)` of each expression's video before resizing, in pixels. If None, masks keep the grid
                of the model.
            input_sizes (`list[tuple[int, int]]`, *optional*):
                `(height, width)` of each expression's clip after resizing and before padding, in pixels. Needed when
                the batch was padded, or the model pads sides that are no multiples of 4 as SgMg does. If None, the
                whole grid is taken.
            num_frames (`list[int]`, *optional*):
                Number of real frames of each expression's clip. If None, all are real.
            multi_target (`bool`, *optional*, defaults to `False`):
                Whether an expression may refer to several objects.
            score_threshold (`float`, *optional*):
                An expression without a query whose score is above it gets empty masks and keeps its score. None for an
                answer in any case and, with `multi_target`, for 0.5, or for all queries of `outputs.query_index` if
                that lists those referred to.
            score_instances (`bool`, *optional*, defaults to `False`):
                Whether to give `"instance_scores"`, too.

        Returns:
            `list[dict]`: one for each expression, with `"masks"` (boolean, `(num_frames, height, width)`), `"score"`
            (`float`, of the best query), `"frame_scores"` (`(num_frames,)`, its probabilities), `"boxes"`
            (`(num_frames, 4)`, xyxy in pixels of the masks, zeros for empty masks of such an expression), as the model
            predicts them or, if it predicts none, around the mask of each frame, zeros where it is empty;
            `"query_index"` (`int`, the best query) and `"query_indices"` (`list[int]`, those whose masks are shown).
            `"instance_scores"` (`(num_shown,)`) are the scores of these queries times the mean probability of the
            pixels inside their masks, at the size that the model saw.

        Raises:
            ValueError: if `threshold` is not in (0, 1), a list does not have one entry for each expression, or
                `outputs` lacks masks that are needed.

        Example:
            >>> tracks = processor.post_process_referring_video_segmentation(outputs, target_sizes=[(480, 854)])
            >>> tracks[0]["masks"].shape
            torch.Size([36, 480, 854])
        """
        cut = _threshold_logit(threshold)
        target_sizes = _one_for_each("target_sizes", target_sizes, outputs)
        input_sizes = _one_for_each("input_sizes", input_sizes, outputs)
        num_frames = _one_for_each("num_frames", num_frames, outputs)
        tracks = []
        for index, (target_size, input_size) in enumerate(zip(target_sizes, input_sizes)):
            clip_scores, frame_scores = _score_queries(outputs, index, num_frames[index])
            scores = clip_scores.tolist()
            best, shown = _choose_queries(outputs, index, scores, multi_target, score_threshold)
            stride = outputs.mask_stride or _MASK_STRIDE
            masks = None
            instance_scores = []
            for query, row in shown.items():
                mask_logits = outputs.pred_masks[index, row, : num_frames[index]]
                drawn = [part > cut for part in self._enlarge(mask_logits, target_size, input_size, stride)]
                drawn = torch.cat(drawn)
                masks = drawn if masks is None else masks.logical_or_(drawn)
                if score_instances:
                    confidence = _mean_inside(mask_logits, input_size, stride)
                    instance_scores.append(scores[query] * confidence)
            if masks is None:
                size = target_size or _cropped_grid(outputs.pred_masks, input_size, stride)
                masks = torch.zeros(len(frame_scores[best]), *size, dtype=torch.bool, device=clip_scores.device)
            if outputs.pred_boxes is None:
                boxes = boxes_from_masks(masks)
            else:
                boxes = cxcywh_to_xyxy(outputs.pred_boxes[index, best, : num_frames[index]].float())
                boxes = denormalize_boxes(boxes, masks.shape[-2:]) * bool(shown)
            track = {
                "masks": masks,
                "score": scores[best],
                "frame_scores": frame_scores[best],
                "query_index": best,
                "query_indices": list(shown),
                "boxes": boxes,
            }
            if score_instances:
                track["instance_scores"] = torch.stack(instance_scores) if shown else clip_scores.new_zeros(0)
            tracks.append(track)
        return tracks

    @torch.no_grad()
    def post_process_davis(
        self,
        outputs: "ReferringVideoSegmentationOutput",
        target_size: tuple[int, int],
        input_size: tuple[int, int] | None = None,
        object_groups: list[list[int]] | None = None,
    ) -> list[torch.Tensor]:
        """Merge the tracks of a video's objects into label maps, as published for Ref-DAVIS17.

        A pixel takes the object with the highest probability, if that is at least 0.5, and the background otherwise.
        The query of each expression is chosen for this clip alone.

        Args:
            outputs ([`ReferringVideoSegmentationOutput`]):
                Raw outputs of the model for expressions of one video.
            target_size (`tuple[int, int]`):
                `(height, width)` of the video before resizing, in pixels.
            input_size (`tuple[int, int]`, *optional*):
                `(height, width)` of the clip after resizing and before padding, in pixels. If None, it is not padded.
            object_groups (`list[list[int]]`, *optional*):
                For each label map the expressions of its objects, in the order of their labels. If None, all
                expressions in one map.

        Returns:
            `list[torch.Tensor]`: one label map for each group, uint8 `(num_frames, height, width)`; 0 is background,
            i + 1 the object of the group's expression i.
        """
        groups = object_groups if object_groups is not None else [list(range(len(outputs.logits)))]
        stride = outputs.mask_stride or _MASK_STRIDE
        label_maps = []
        for group in groups:
            enlarged = []
            for index in group:
                scores, _ = _score_queries(outputs, index)
                _, shown = _choose_queries(outputs, index, scores.tolist())
                (row,) = shown.values()
                enlarged.append(self._enlarge(outputs.pred_masks[index, row], target_size, input_size, stride))
            parts = [merge_objects(torch.stack(logits).sigmoid_()) for logits in zip(*enlarged)]
            label_maps.append(torch.cat(parts))
        return label_maps

    @torch.no_grad()
    def post_process_instance_segmentation(
        self,
        outputs: "ReferringVideoSegmentationOutput",
        target_sizes: list[tuple[int, int]],
        input_sizes: list[tuple[int, int]] | None = None,
        threshold: float = 0.5,
        resize_logits: bool = False,
    ) -> list[dict[str, torch.Tensor]]:
        """Turn the queries of a single frame into detections, as published for A2D, JHMDB and RefCOCO.

        All queries are kept. Logits are resized bilinearly to the padded frame, cut at `threshold`, cropped to the
        frame and resized to the target size by nearest neighbour; or, with `resize_logits`, resized to the padded
        frame, cropped, resized to the target size and cut.

        Args:
            outputs ([`ReferringVideoSegmentationOutput`]):
                Raw outputs of the model for one frame, with the masks of all queries.
            target_sizes (`list[tuple[int, int]]`):
                `(height, width)` of each expression's frame before resizing, in pixels.
            input_sizes (`list[tuple[int, int]]`, *optional*):
                `(height, width)` of each expression's frame after resizing and before padding, in pixels. If None,
                the frames are not padded.
            threshold (`float`, *optional*, defaults to 0.5):
                Probability above which a pixel belongs to the object.
            resize_logits (`bool`, *optional*, defaults to `False`):
                Whether logits are resized to the target size, as published for SgMg and SSA, or masks, as for
                ReferFormer.

        Returns:
            `list[dict]`: one for each expression, best detection first, with `"scores"` `(num_queries,)`,
            `"class_labels"` `(num_queries,)`, `"query_indices"` `(num_queries,)`, `"boxes"` `(num_queries, 4)` xyxy in
            pixels of the target size, around the masks if the model predicts none, and `"masks"` (boolean,
            `(num_queries, height, width)`).

        Raises:
            ValueError: if `outputs` has more than one frame or not the masks of all queries, `threshold` is not in
                (0, 1), or a list does not have one entry for each expression.
        """
        cut = _threshold_logit(threshold)
        target_sizes = _one_for_each("target_sizes", target_sizes, outputs)
        input_sizes = _one_for_each("input_sizes", input_sizes, outputs)
        num_queries, num_frames, num_classes = outputs.logits.shape[1:]
        if num_frames != 1 or outputs.pred_masks.shape[1] != num_queries:
            raise ValueError(
                f"outputs has {num_frames} frames and masks of {outputs.pred_masks.shape[1]} out of {num_queries} "
                'queries; detections need one frame (pass annotated_frames) and all queries (queries="all").'
            )
        detections = []
        for index, target_size in enumerate(target_sizes):
            scores, order = outputs.logits[index, :, 0].float().sigmoid().flatten().topk(num_queries)
            queries = order // num_classes
            logits = outputs.pred_masks[index, queries, 0].float()
            logits = _at_input_size(logits, input_sizes[index], outputs.mask_stride or _MASK_STRIDE)
            if resize_logits:
                masks = resize_mask_logits(logits, target_size) > cut
            else:
                masks = resize_masks(logits > cut, target_size)
            if outputs.pred_boxes is None:
                boxes = boxes_from_masks(masks)
            else:
                boxes = cxcywh_to_xyxy(outputs.pred_boxes[index, queries, 0].float())
                boxes = denormalize_boxes(boxes, target_size)
            detections.append(
                {
                    "scores": scores,
                    "class_labels": order % num_classes,
                    "query_indices": queries,
                    "boxes": boxes,
                    "masks": masks,
                }
            )
        return detections

    def _enlarge(
        self,
        mask_logits: torch.Tensor,
        size: tuple[int, int] | None,
        input_size: tuple[int, int] | None,
        stride: int,
    ) -> Iterator[torch.Tensor]:
        """Yield `mask_logits` `(num_frames, h, w)` without padding at another size, some frames at a time."""
        for part in mask_logits.split(_FRAMES_AT_ONCE):
            part = part.float()
            if self.enlarge_masks_twice and size is not None:
                part = _at_input_size(part, input_size, stride)
            else:
                height, width = _cropped_grid(part, input_size, stride)
                part = part[:, :height, :width]
            yield part if size is None else resize_mask_logits(part, size)


def _list_videos(videos: Any) -> list:
    """Sort out whether one video or several came, and make each of them a path or an array of frames."""
    if isinstance(videos, (str, Path)):
        return [str(videos)]
    if isinstance(videos, (list, tuple)):
        if not len(videos):
            raise ValueError("videos is empty; pass at least one video with at least one frame.")
        if all(isinstance(item, Image.Image) or getattr(item, "ndim", None) == 3 for item in videos):
            return [_stack_frames(videos)]
        listed = [video for item in videos for video in _list_videos(item)]
        if len({isinstance(video, str) for video in listed}) > 1:
            raise ValueError("videos mixes paths and arrays; pass one kind in a batch.")
        return listed
    listed = make_batched_videos(videos)
    for video in listed:
        if not video.size if isinstance(video, np.ndarray) else not video.numel():
            raise ValueError(f"videos has the shape {tuple(video.shape)}, a video without frames; pass at least one.")
    return listed


def _stack_frames(frames: list) -> np.ndarray | torch.Tensor:
    if isinstance(frames[0], Image.Image):
        frames = [np.array(frame.convert("RGB")) for frame in frames]
    shapes = {tuple(frame.shape) for frame in frames}
    if len(shapes) > 1:
        raise ValueError(f"videos: the frames of a video have different sizes {sorted(shapes)}; resize them to one.")
    return torch.stack(list(frames)) if isinstance(frames[0], torch.Tensor) else np.stack(frames)


def _threshold_logit(threshold: float) -> float:
    """The logit whose probability is `threshold`, so that masks can be cut without a sigmoid."""
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold}, expected a probability between 0 and 1, both excluded.")
    return math.log(threshold / (1 - threshold))


def _one_for_each(name: str, values: list | None, outputs: "ReferringVideoSegmentationOutput") -> list:
    num_expressions = len(outputs.logits)
    if values is None:
        return [None] * num_expressions
    if len(values) != num_expressions:
        raise ValueError(
            f"{name} has {len(values)} entries for {num_expressions} expressions; pass one for each expression."
        )
    return list(values)


def _score_queries(
    outputs: "ReferringVideoSegmentationOutput", index: int, num_frames: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score `(num_queries,)` of each query for expression `index`, for its best class, and that of each frame."""
    scores = outputs.logits[index, :, :num_frames].float().sigmoid()  # (Q, T, K)
    clip_scores, class_labels = scores.mean(1).max(-1)
    return clip_scores, scores.take_along_dim(class_labels[:, None, None], -1).squeeze(-1)


def _choose_queries(
    outputs: "ReferringVideoSegmentationOutput",
    index: int,
    scores: list[float],
    multi_target: bool = False,
    score_threshold: float | None = None,
) -> tuple[int, dict[int, int]]:
    """The best query of expression `index`, and where `pred_masks` has the masks of those to be shown."""
    chosen = outputs.query_index
    best = scores.index(max(scores)) if chosen is None or chosen.ndim == 2 else int(chosen[index])
    if chosen is None:
        drawn = {query: query for query in range(len(scores))}
    elif chosen.ndim == 1:
        drawn = {best: best if outputs.pred_masks.shape[1] > 1 else 0}
    else:
        drawn = {query: row for row, query in enumerate(chosen[index].tolist()) if query >= 0}
    if multi_target and chosen is not None and chosen.ndim == 1:
        raise ValueError(
            "outputs has the masks of the best query alone; several targets need those of all queries or of those "
            'referred to: call the model with queries="all" or queries="referred".'
        )
    if not multi_target and chosen is not None and chosen.ndim == 2:
        raise ValueError(
            "outputs has the masks of the queries referred to, which are for multi_target=True; a single target needs "
            'queries="all" or queries="best".'
        )
    if multi_target and score_threshold is None and chosen is None:
        score_threshold = 0.5
    shown = drawn if multi_target else {best: drawn[best]}
    if score_threshold is not None:
        shown = {query: row for query, row in shown.items() if scores[query] > score_threshold}
    return best, shown


def _cropped_grid(
    mask_logits: torch.Tensor, input_size: tuple[int, int] | None, stride: int
) -> tuple[int, int] | torch.Size:
    """Height and width of the part of a grid that is not padding."""
    if input_size is None:
        return mask_logits.shape[-2:]
    return tuple(math.ceil(edge / stride) for edge in input_size)


def _at_input_size(mask_logits: torch.Tensor, input_size: tuple[int, int] | None, stride: int) -> torch.Tensor:
    """Mask logits `(..., h, w)` at the size of the padded frame, without its padding."""
    padded_size = tuple(edge * stride for edge in mask_logits.shape[-2:])
    height, width = input_size or padded_size
    return resize_mask_logits(mask_logits, padded_size)[..., :height, :width]


def _mean_inside(mask_logits: torch.Tensor, input_size: tuple[int, int] | None, stride: int) -> torch.Tensor:
    """Mean probability of the pixels of a mask, 0 for an empty one, at the size of the frames without padding."""
    total = area = 0.0
    for part in mask_logits.split(_FRAMES_AT_ONCE):
        probabilities = _at_input_size(part.float(), input_size, stride).sigmoid()
        inside = probabilities > 0.5
        total, area = total + (probabilities * inside).sum(), area + inside.sum()
    return total / (area + 1e-6)


__all__ = ["RvosVideoProcessor"]
