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
"""Where the time of segmenting a clip goes, and what a straightforward port would take for the same masks.

A pass is what a user waits for: decode the clip, prepare it, run the model for all sentences, enlarge and cut the
masks. The naive path gives the same masks with the same weights, without what makes the model fast; see
`naive_forward` and `naive_parts`. Passes of both paths take turns, so that what else the machine does slows both.
"""

import copy
import ctypes
import gc
import itertools
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import nn
from transformers import PreTrainedModel

import hf_rvos
from hf_rvos.layers import deformable_attention, deformable_transformer, frame_geometry
from hf_rvos.layers.deformable_transformer import FeedForward
from hf_rvos.layers.dynamic_mask_head import DynamicMaskHead
from hf_rvos.modeling_outputs import ReferringVideoSegmentationOutput
from hf_rvos.models.sgmg import modeling_sgmg
from hf_rvos.models.sgmg.modeling_sgmg import SgMgSpectrumAugmentation
from hf_rvos.models.ssa import frame_decoder, semantic_alignment, sequential_alignment
from hf_rvos.models.ssa.processing_ssa import build_video_processor
from hf_rvos.models.video_swin import modeling_video_swin
from hf_rvos.processing import RvosProcessor
from hf_rvos.utils.video_io import VideoWriter, open_video


# The modules of each stage, by model type; of a list of modules its entries. None may run inside another.
STAGE_MODULES = {
    "referformer": {
        "backbone": ("model.backbone",),
        "text_encoder": ("model.text_encoder",),
        # Some modules are called on their own, for all sentences: the fusion's query projection and those with which
        # the finest stage of the pixel decoder looks at the video.
        "encoder": (
            "model.level_projections",
            "model.fusion.attention.q_proj",
            "model.fusion",
            "model.encoder_layers",
        ),
        "decoder": ("model.decoder",),
        "pixel_decoder": (
            *("model.pixel_decoder.stages.0.adapter", "model.pixel_decoder.stages.0.adapter_norm"),
            *("model.pixel_decoder.stages.0.block.self_attn", "model.pixel_decoder.stages.0.block.self_attn_norm"),
            "model.pixel_decoder.stages.0.block.text_attn.q_proj",
            "model.pixel_decoder",
        ),
        "mask_head": ("mask_projection", "mask_controller", "mask_head"),
    },
    "sgmg": {
        "backbone": ("model.backbone",),
        "text_encoder": ("model.text_encoder",),
        "encoder": (
            "model.level_projections",
            "model.pixel_spectra",
            "model.fusion.attention.q_proj",
            "model.fusion",
            "model.fused_spectra",
            "model.encoder_layers",
        ),
        "decoder": ("model.decoder",),
        "mask_head": ("model.guide_convs", "mask_controller", "mask_head", "mask_refiner"),
    },
    "soc": {
        "backbone": ("model.backbone",),
        "text_encoder": ("model.text_encoder",),
        "encoder": (
            "model.level_projections",
            "model.pixel_fusion.attention.q_proj",
            "model.pixel_fusion",
            "model.encoder_layers",
        ),
        "decoder": ("model.decoder", "model.object_cluster"),
        "pixel_decoder": ("model.pixel_decoder.fine_adapter", "model.pixel_decoder"),
        "mask_head": ("mask_controller", "mask_head"),
    },
    "ssa": {
        "backbone": ("model.backbone",),
        "text_encoder": ("model.text_encoder.text_model", "model.text_encoder.text_projection"),
        "encoder": ("model.adapters",),
        "decoder": (
            "model.frame_decoder",
            "model.trajectory_encoder.input_proj",
            "model.trajectory_encoder",
            "model.video_decoder",
        ),
        "pixel_decoder": ("model.pixel_decoder", "model.frame_mask_projection", "model.mask_projection"),
        "mask_head": ("class_head", "mask_head"),
    },
}
STAGE_MODULES["fast_sgmg"] = STAGE_MODULES["sgmg"] | {
    "encoder": (*STAGE_MODULES["sgmg"]["encoder"], "model.decoupling.attention.q_proj", "model.decoupling"),
}
# What these say of a sentence depends on the others, so there is no path that asks one after the other.
ASKED_TOGETHER = ("fast_sgmg",)
STAGES = (
    *("decoding", "processor", "backbone", "text_encoder", "encoder", "decoder", "pixel_decoder", "mask_head"),
    *("post_processing", "other"),
)

# Constants that are kept for the next clip, by the module that calls for them.
REMEMBERED = (
    (modeling_video_swin, "_remembered_window_layout"),
    (modeling_sgmg, "half_spectrum_filters"),
    (modeling_sgmg, "bicubic_weights"),
    *((module, "pixel_code") for module in (semantic_alignment, frame_decoder)),
    *((module, "sequence_code") for module in (semantic_alignment, sequential_alignment)),
    (frame_geometry, "unpadded_pixel_position_embedding"),
    (deformable_transformer, "_cell_centers"),
    (deformable_attention, "spatial_layout"),
)


@dataclass
class Clip:
    """What is segmented in every pass.

    Args:
        video: Path of a video or of a folder of frames; its first `num_frames` frames are decoded in every pass.
        texts: The sentences.
        num_frames: Frames that go through the model together.
        size: Size option of the processor; None for its own.
    """

    video: str
    texts: list[str]
    num_frames: int
    size: dict[str, int] | None = None


@dataclass
class Pass:
    """One run over the clip.

    Args:
        stages: Seconds of each of `STAGES`; what belongs to none of the others is `"other"`.
        total: Seconds in all, the sum of the stages.
        tracks: What the processor makes of the outputs, one for each sentence.
        input_size: `(height, width)` of the frames that the model sees.
    """

    stages: dict[str, float]
    total: float
    tracks: list[dict[str, Any]]
    input_size: tuple[int, int]


@dataclass
class Measurement:
    """What the repeats of one path in one number format took.

    Args:
        dtype: Number format of the model.
        path: `"shared"` or `"naive"`.
        stages: Seconds of each of `STAGES` in the repeat with the median time, so that their sum is `total`.
        total: Seconds of that repeat.
        totals: Seconds of all repeats.
        frames_per_second: Frames of the clip over `total`.
        sentence_frames_per_second: The same times the number of sentences.
        peak_memory: Bytes. On CUDA the most that was allocated, weights included. On CPU the growth of the resident
            memory of the process during a pass, or None where the system does not tell.
        input_size: `(height, width)` of the frames that the model sees.
    """

    dtype: str
    path: str
    stages: dict[str, float]
    total: float
    totals: list[float]
    frames_per_second: float
    sentence_frames_per_second: float
    peak_memory: int | None
    input_size: tuple[int, int]


class StageClock:
    """Adds up the seconds of the stages of a pass; at both ends of a stage it waits for the device."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds = dict.fromkeys(STAGES, 0.0)

    def now(self) -> float:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = self.now()
        yield
        self.seconds[name] += self.now() - start

    @contextmanager
    def watch(self, model: PreTrainedModel) -> Iterator[None]:
        """Time the modules of the model's stages while the block runs."""
        with ExitStack() as hooks:
            for stage, names in STAGE_MODULES[model.config.model_type].items():
                for module in map(model.get_submodule, names):
                    for part in module if isinstance(module, nn.ModuleList) else [module]:
                        self._watch_module(part, stage, hooks)
            yield

    def _watch_module(self, module: nn.Module, stage: str, hooks: ExitStack):
        start = 0.0

        def before(module, args):
            nonlocal start
            start = self.now()

        def after(module, args, output):
            self.seconds[stage] += self.now() - start

        hooks.callback(module.register_forward_pre_hook(before).remove)
        hooks.callback(module.register_forward_hook(after).remove)


def shared_forward(model: PreTrainedModel, inputs: dict[str, Any]) -> Iterator[ReferringVideoSegmentationOutput]:
    """All sentences at once, as the pipeline does it: the video is seen once and the best query alone is drawn."""
    yield model(**inputs, queries="best")


def naive_forward(model: PreTrainedModel, inputs: dict[str, Any]) -> Iterator[ReferringVideoSegmentationOutput]:
    """Sentence after sentence: each sees the video anew, and all queries are drawn after every decoder layer."""
    size = len(inputs["input_ids"]) if model.config.model_type in ASKED_TOGETHER else 1
    for input_ids, attention_mask in zip(inputs["input_ids"].split(size), inputs["attention_mask"].split(size)):
        with naive_parts():
            output = model(
                pixel_values_videos=inputs["pixel_values_videos"],
                pixel_mask=inputs["pixel_mask"],
                input_ids=input_ids,
                attention_mask=attention_mask,
                video_index=torch.zeros(len(input_ids), dtype=torch.long, device=input_ids.device),
                queries="all",
                output_auxiliary=True,
            )
        yield output


@contextmanager
def naive_parts() -> Iterator[None]:
    """While the block runs, every part works the plain way.

    No fused attention, no remembered constants, all rows of a feed-forward block at once, mask features copied for
    each query, and whole spectra.
    """
    with ExitStack() as replaced:
        for module, name in REMEMBERED:
            replaced.enter_context(patch.object(module, name, getattr(module, name).__wrapped__))
        replaced.enter_context(patch.object(F, "scaled_dot_product_attention", eager_attention))
        replaced.enter_context(patch.object(FeedForward, "forward", FeedForward.forward_at_once))
        replaced.enter_context(patch.object(DynamicMaskHead, "forward", copying_mask_head))
        replaced.enter_context(patch.object(SgMgSpectrumAugmentation, "forward", whole_spectrum))
        yield


def eager_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """The function of torch in three steps, for inference: without dropout."""
    weights = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(weights.shape[-2:], dtype=torch.bool, device=weights.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        weights = weights.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        weights = weights + attn_mask
    return weights.softmax(-1) @ value


def copying_mask_head(
    head: DynamicMaskHead,
    features: torch.Tensor,
    parameters: torch.Tensor,
    centers: torch.Tensor,
    frame_sizes: torch.Tensor,
) -> torch.Tensor:
    """`DynamicMaskHead.forward` as grouped convolutions over a copy of features and coordinates for each query."""
    num_frames, num_queries, _ = parameters.shape
    height, width = features.shape[-2:]
    columns = torch.arange(width, device=features.device) * head.stride + head.stride // 2
    rows = torch.arange(height, device=features.device) * head.stride + head.stride // 2
    cells = torch.stack((columns.expand(height, width), rows[:, None].expand(height, width)))
    centers = centers * frame_sizes.flip(1)[:, None]
    offsets = (centers[..., None, None] - cells).to(features.dtype)  # (N, Q, 2, h, w)
    maps = torch.cat((features[:, None].expand(-1, num_queries, -1, -1, -1), offsets), dim=2).flatten(0, 2)[None]

    pieces = parameters.flatten(0, 1).split(head.split_sizes, dim=-1)
    num_layers = len(head.weight_shapes)
    for layer, (num_outputs, num_inputs) in enumerate(head.weight_shapes):
        weight = pieces[layer].reshape(-1, num_inputs, 1, 1)
        bias = pieces[num_layers + layer].flatten()
        maps = F.conv2d(maps.relu() if layer else maps, weight, bias, groups=len(bias) // num_outputs)
    return maps.view(num_frames, -1, height, width)


def whole_spectrum(
    augmentation: SgMgSpectrumAugmentation, pixels: torch.Tensor, filters: torch.Tensor
) -> torch.Tensor:
    """`SgMgSpectrumAugmentation.forward` with a convolution for the scale and frequencies of both signs."""
    bump, mirrored = filters[..., 0]
    # The columns that half a spectrum lacks are those of the opposite frequencies.
    others = mirrored[:, 1 : pixels.shape[2] - bump.shape[1] + 1].flip(0, 1).roll(1, 0)
    bump = torch.cat((bump, others), dim=1)
    maps = pixels.permute(0, 3, 1, 2)
    smallest = F.pad(maps, (0, max(0, 3 - maps.shape[-1]), 0, max(0, 3 - maps.shape[-2])))
    pooled = augmentation.scale_conv(smallest).mean((-2, -1))
    scale = augmentation.scale_output(augmentation.scale_hidden(pooled).relu()).sigmoid()
    dtype = torch.promote_types(pixels.dtype, torch.float32)
    spectrum = torch.fft.fft2(maps.to(dtype)) * (1 - scale.to(dtype)[:, :, None, None] * bump)
    hidden = augmentation.spectrum_conv1(torch.cat((spectrum.real, spectrum.imag), dim=1).to(pixels.dtype)).relu()
    real, imaginary = augmentation.spectrum_conv2(hidden).to(dtype).chunk(2, dim=1)
    changed = torch.fft.ifft2(torch.complex(real, imaginary)).real.to(pixels.dtype)
    return pixels + changed.permute(0, 2, 3, 1)


FORWARDS = {"shared": shared_forward, "naive": naive_forward}


def prepare(model: PreTrainedModel, processor: RvosProcessor, clip: Clip, frames: np.ndarray) -> dict[str, Any]:
    """Inputs of the model on its device; without padding there is no `pixel_mask`, as in the pipeline."""
    options = {} if clip.size is None else {"size": clip.size}
    inputs = processor(videos=frames, text=clip.texts, return_tensors="pt", **options).to(model.device)
    pixel_values_videos = inputs["pixel_values_videos"].to(model.dtype)
    pixel_mask = None if inputs["pixel_mask"].all() else inputs["pixel_mask"]
    return {**inputs, "pixel_values_videos": pixel_values_videos, "pixel_mask": pixel_mask}


@torch.no_grad()
def run_pass(path: str, model: PreTrainedModel, processor: RvosProcessor, clip: Clip) -> Pass:
    """Segment the clip once, on the path `"shared"` or `"naive"`."""
    clock = StageClock(model.device)
    start = clock.now()
    with clock.stage("decoding"):
        frames = [frame for frame, _ in itertools.islice(open_video(clip.video), clip.num_frames)]
    if len(frames) < clip.num_frames:
        raise ValueError(f"num_frames is {clip.num_frames}, but the video has only {len(frames)} frames")
    with clock.stage("processor"):
        inputs = prepare(model, processor, clip, np.stack(frames))
    tracks = []
    with clock.watch(model):
        for output in FORWARDS[path](model, inputs):
            with clock.stage("post_processing"):
                tracks += _post_process(processor, inputs, output, frames[0].shape[:2])
    total = clock.now() - start
    clock.seconds["other"] = total - sum(clock.seconds.values())
    return Pass(clock.seconds, total, tracks, tuple(inputs["pixel_values_videos"].shape[-2:]))


def _post_process(
    processor: RvosProcessor,
    inputs: dict[str, Any],
    output: ReferringVideoSegmentationOutput,
    video_size: tuple[int, int],
) -> list[dict[str, Any]]:
    input_sizes, num_expressions = None, len(output.logits)
    if inputs["pixel_mask"] is not None:
        _, *input_size = processor.video_processor.unpadded_sizes(inputs["pixel_mask"])[0]
        input_sizes = [tuple(input_size)] * num_expressions
    tracks = processor.post_process_referring_video_segmentation(
        output, target_sizes=[video_size] * num_expressions, input_sizes=input_sizes
    )
    return [{**track, "masks": track["masks"].cpu()} for track in tracks]


@dataclass
class Contestant:
    """A model in a comparison.

    Args:
        name: What it is called in the result.
        model: A model for referring video segmentation on the device to measure; it is not changed.
        processor: Its processor.
    """

    name: str
    model: PreTrainedModel
    processor: RvosProcessor


@dataclass
class Comparison:
    """What one model took for one clip, in turn with the others.

    Args:
        name: That of the contestant.
        num_parameters: Of the model.
        num_sentences: Asked in one pass.
        measurement: Of the shared path.
    """

    name: str
    num_parameters: int
    num_sentences: int
    measurement: Measurement


def measure(
    model: PreTrainedModel,
    processor: RvosProcessor,
    clip: Clip,
    repeats: int = 5,
    dtypes: Sequence[str] = ("float32", "bfloat16"),
    naive: bool = True,
) -> list[Measurement]:
    """Time the passes of a clip, those of both paths in turn.

    Args:
        model: A model for referring video segmentation on the device to measure; it is not changed.
        processor: Its processor.
        clip: What to segment.
        repeats: Timed passes for each path and number format, after others for warming up and for the peak memory.
        dtypes: Names of number formats.
        naive: Whether to run the naive path too.

    Returns:
        One measurement for each number format and path.

    Raises:
        ValueError: if nobody has said what the stages of this model are, or the clip cannot be read.
    """
    _check_stages(model)
    paths = ["shared", "naive"] if naive else ["shared"]
    measurements = []
    for dtype in dtypes:
        converted = _converted(model, dtype)
        runs = {path: partial(run_pass, path, converted, processor, clip) for path in paths}
        timed = _take_turns(runs, repeats, converted.device)
        measurements += [_summary(dtype, path, *timed[path], clip) for path in paths]
    return measurements


def compare(
    contestants: Sequence[Contestant],
    clips: Sequence[Clip],
    repeats: int = 5,
    dtypes: Sequence[str] = ("float32", "bfloat16"),
) -> list[Comparison]:
    """Time several models, each with every clip; all take turns, so that what else the machine does slows all.

    Args:
        contestants: The models, on one device.
        clips: What to segment, such as one video with different numbers of sentences.
        repeats: Timed passes for each, after others for warming up and for the peak memory.
        dtypes: Names of number formats.

    Returns:
        One entry for each number format, model and clip.

    Raises:
        ValueError: if nobody has said what the stages of a model are, or a clip cannot be read.
    """
    for contestant in contestants:
        _check_stages(contestant.model)
    results = []
    for dtype in dtypes:
        runs = {}
        for name, contestant in enumerate(contestants):
            converted = _converted(contestant.model, dtype)
            for number, clip in enumerate(clips):
                runs[name, number] = partial(run_pass, "shared", converted, contestant.processor, clip)
        timed = _take_turns(runs, repeats, contestants[0].model.device)
        results += [
            Comparison(
                contestant.name,
                contestant.model.num_parameters(),
                len(clip.texts),
                _summary(dtype, "shared", *timed[name, number], clip),
            )
            for name, contestant in enumerate(contestants)
            for number, clip in enumerate(clips)
        ]
    return results


def _check_stages(model: PreTrainedModel):
    if model.config.model_type not in STAGE_MODULES:
        raise ValueError(
            f"model is a {model.config.model_type!r}, expected one whose stages are known: {', '.join(STAGE_MODULES)}"
        )


def _converted(model: PreTrainedModel, dtype: str) -> PreTrainedModel:
    return copy.deepcopy(model).to(getattr(torch, dtype)).eval()


def _take_turns(
    runs: dict[Any, Callable[[], Pass]], repeats: int, device: torch.device
) -> dict[Any, tuple[list[Pass], int | None]]:
    """Passes and peak memory of each run."""
    next(iter(runs.values()))()  # warms up what all share
    peaks = {key: peak_memory(run, device) for key, run in runs.items()}
    passes = {key: [] for key in runs}
    for _ in range(repeats):
        for key, run in runs.items():
            passes[key].append(run())
    return {key: (passes[key], peaks[key]) for key in runs}


def _summary(dtype: str, path: str, passes: list[Pass], peak: int | None, clip: Clip) -> Measurement:
    totals = [run.total for run in passes]
    median = passes[totals.index(statistics.median_low(totals))]
    return Measurement(
        dtype=dtype,
        path=path,
        stages=median.stages,
        total=median.total,
        totals=totals,
        frames_per_second=clip.num_frames / median.total,
        sentence_frames_per_second=clip.num_frames * len(clip.texts) / median.total,
        peak_memory=peak,
        input_size=median.input_size,
    )


def peak_memory(work: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes that `work` needs at most; see [`Measurement`]."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device)
    # What the allocator keeps of earlier passes would hide what this one takes.
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident now
    except OSError:
        work()
        return None
    before = resident_memory("VmRSS")
    work()
    return max(0, resident_memory("VmHWM") - before)


def resident_memory(field: str) -> int:
    """Bytes of this process in memory: now (`"VmRSS"`), or at most since it started (`"VmHWM"`). Linux tells them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def run_apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work` returns when it is run in a new process, into which nothing of this one has been loaded."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, *arguments).result()


def random_segmenter(name: str) -> tuple[PreTrainedModel, RvosProcessor]:
    """A model of published size with new weights, and a processor with the words of Moving Shapes.

    Args:
        name: A backbone that [`backbone_config`] knows, with the model before it: `"soc:video-swin-t"`. A backbone
            alone means ReferFormer, a model alone has its default backbone: `"ssa"`, which has no other.
    """
    from transformers import AutoConfig

    from hf_rvos.data.moving_shapes import vocabulary
    from hf_rvos.processing import RvosVideoProcessor, build_word_tokenizer

    model_type, _, backbone = (name, "", "") if name in STAGE_MODULES else name.rpartition(":")
    model_type = model_type or "referformer"
    if model_type not in STAGE_MODULES:
        raise ValueError(f"model {model_type!r} is unknown, expected one of {', '.join(STAGE_MODULES)}")
    settings = {"backbone_config": hf_rvos.backbone_config(backbone)} if backbone else {}
    config = AutoConfig.for_model(model_type, **settings)
    model = hf_rvos.AutoModelForReferringVideoSegmentation.from_config(config)
    video_processor = build_video_processor() if model_type == "ssa" else RvosVideoProcessor()
    return model, RvosProcessor(video_processor, build_word_tokenizer(vocabulary()))


def write_example_video(path: str | os.PathLike, num_frames: int, height: int, width: int) -> None:
    """Write a video of Moving Shapes with at least `num_frames` frames."""
    from hf_rvos.data.moving_shapes import MovingShapesConfig, generate_video

    # Moving Shapes draws no fewer than 8 frames.
    config = MovingShapesConfig(height=height, width=width, num_frames=max(num_frames, 8))
    with VideoWriter(path, config.fps, (height, width)) as writer:
        for frame in generate_video("test", 0, config).frames:
            writer.write(frame)


def example_sentences(count: int) -> list[str]:
    """Sentences of Moving Shapes, again from the first one when they run out."""
    from hf_rvos.data.moving_shapes import generate_video

    sentences = itertools.cycle(row["expression"] for row in generate_video("test", 0).rows)
    return list(itertools.islice(sentences, count))


def machine(device: torch.device) -> dict[str, Any]:
    """What a time has to be told with: processor, cores, threads, device, versions and date."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "hf_rvos": hf_rvos.__version__,
        "date": date.today().isoformat(),
    }
