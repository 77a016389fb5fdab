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
"""The commands `hf-rvos segment` and `hf-rvos convert`."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_rvos.checkpoints import DEFAULT_CHECKPOINT
from hf_rvos.cli.common import (
    MODEL_HELP,
    Dtype,
    MultiTarget,
    ScoreThreshold,
    load_segmenter,
    read_score_threshold,
)
from hf_rvos.utils.errors import bad_input_reported


if TYPE_CHECKING:
    import numpy as np

    from hf_rvos.pipelines import ReferringVideoSegmentationPipeline
    from hf_rvos.utils.video_io import VideoReader


class ModelType(StrEnum):
    backbone = "backbone"
    referformer = "referformer"
    sgmg = "sgmg"
    soc = "soc"
    ssa = "ssa"


def segment(
    video: Annotated[str, typer.Argument(help="Path or URL of a video, or a folder of .jpg or .png frames.")],
    text: Annotated[list[str], typer.Argument(help="One sentence or several, each in quotes.")],
    model: Annotated[str | None, typer.Option(help=MODEL_HELP)] = None,
    output: Annotated[Path, typer.Option(help="Video with the masks drawn over it.")] = Path("overlay.mp4"),
    masks: Annotated[
        Path | None, typer.Option(help="New folder for black and white PNGs, one subfolder for each sentence.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="File for scores, boxes and run-length encoded masks.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Probability above which a pixel belongs to the object.")] = 0.5,
    score_threshold: ScoreThreshold = None,
    multi_target: MultiTarget = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; the first accelerator if any.")] = None,
    dtype: Annotated[Dtype, typer.Option(help="Number format of the model.")] = Dtype.auto,
) -> None:
    """Segment what sentences describe in a video."""
    with bad_input_reported():
        from hf_rvos.pipelines.selection import check_threshold
        from hf_rvos.utils.files import check_output_file, check_output_folder
        from hf_rvos.utils.video_io import open_video

        options = {"threshold": check_threshold(threshold), "score_threshold": read_score_threshold(score_threshold)}
        if multi_target is not None:
            options["multi_target"] = multi_target
        check_output_file(output, "--output")
        if masks is not None:
            check_output_folder(masks, "--masks")
        if json_file is not None:
            check_output_file(json_file, "--json")
        reader = open_video(video)
        segmenter = load_segmenter(model, device, dtype)
        tracks = _segment(segmenter, reader, text, options, output, masks, json_file, model or DEFAULT_CHECKPOINT)
    _print_tracks(tracks)


def convert(
    model: Annotated[ModelType, typer.Option(help="What the checkpoint is of.")],
    checkpoint: Annotated[Path, typer.Option(help="Official .pth file.")],
    output: Annotated[Path, typer.Option(help="Folder for the converted model and its processor.")],
    tokenizer: Annotated[
        str | None, typer.Option(help="Hub id or folder of the tokenizer; the published one if not given.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="JSON file whose entries override the configuration.")] = None,
) -> None:
    """Convert an official checkpoint to a folder for from_pretrained."""
    with bad_input_reported():
        package = "hf_rvos" if model is ModelType.backbone else f"hf_rvos.models.{model}"
        converter = import_module(f"{package}.convert_{model}_to_hf")
        converter.convert_checkpoint(checkpoint, output, tokenizer, config)
    typer.echo(f"Converted {checkpoint} to {output}")


def _segment(
    segmenter: "ReferringVideoSegmentationPipeline",
    reader: "VideoReader",
    texts: list[str],
    options: dict[str, Any],
    output: Path,
    masks: Path | None,
    json_file: Path | None,
    model_name: str,
) -> list[dict[str, Any]]:
    """Segment the video and keep run-length codes; go through it again to write overlay and masks."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from hf_rvos.data.image_files import write_mask_png
    from hf_rvos.ops.rle import decode_rle
    from hf_rvos.utils.files import replace_when_done
    from hf_rvos.utils.video_io import VideoReader, VideoWriter
    from hf_rvos.utils.visualization import draw_masks

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ExitStack() as stack:
        mask_folders = []
        if masks is not None:
            masks = stack.enter_context(replace_when_done(masks))
            mask_folders = [masks / str(index) for index in range(len(texts))]
            for folder in mask_folders:
                folder.mkdir(parents=True)
        if json_file is not None:
            json_file = stack.enter_context(replace_when_done(json_file))
        writer = stack.enter_context(VideoWriter(output, reader.fps, (reader.height, reader.width)))
        progress = stack.enter_context(Progress(*columns, console=Console(stderr=True)))

        def watched(task_name: str) -> Iterator[tuple["np.ndarray", float]]:
            task = progress.add_task(task_name, total=reader.num_frames)
            for item in reader:
                yield item
                progress.advance(task)

        watched_reader = VideoReader(
            lambda: watched("segmenting"), reader.height, reader.width, reader.fps, reader.num_frames
        )
        tracks = segmenter(watched_reader, text=texts, output_format="rle", **options)
        num_frames = len(tracks[0]["masks"])
        for position, (frame, _) in enumerate(watched("drawing")):
            masks_of_frame = [decode_rle(track["masks"][position : position + 1])[0] for track in tracks]
            writer.write(draw_masks(frame, masks_of_frame, texts))
            for folder, mask in zip(mask_folders, masks_of_frame):
                write_mask_png(folder / f"{position:05d}.png", mask)
        if json_file is not None:
            report = _report(tracks, reader, num_frames, model_name, options)
            json_file.write_text(json.dumps(report), encoding="utf-8")
    return tracks


def _report(
    tracks: list[dict[str, Any]], reader: "VideoReader", num_frames: int, model_name: str, options: dict[str, Any]
) -> dict[str, Any]:
    import torch

    from hf_rvos.evaluation.result_folder import versions

    return {
        "video": {
            "source": reader.source,
            "height": reader.height,
            "width": reader.width,
            "fps": reader.fps,
            "num_frames": num_frames,
        },
        "model": model_name,
        **options,
        "versions": versions(),
        "tracks": [
            {name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in track.items()}
            for track in tracks
        ],
    }


def _print_tracks(tracks: list[dict[str, Any]]) -> None:
    from pycocotools.mask import area
    from rich.console import Console
    from rich.table import Table

    table = Table("sentence", "score", "frames with it")
    for track in tracks:
        present = sum(int(area(rle)) > 0 for rle in track["masks"])
        found = f"{present} of {len(track['masks'])}" if track["in_video"] else "not in the video"
        table.add_row(track["text"], f"{track['score']:.3f}", found)
    Console().print(table)
