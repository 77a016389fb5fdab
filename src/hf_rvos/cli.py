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
"""The command `hf-rvos`. What is wrong with its input ends it with one line on standard error and exit code 2."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_rvos.checkpoints import DEFAULT_CHECKPOINT, find_checkpoint


if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hf_rvos.pipelines import ReferringVideoSegmentationPipeline
    from hf_rvos.processing import RvosProcessor
    from hf_rvos.utils.video_io import VideoReader

MODEL_HELP = f"Folder, hub id or short name of an embedded checkpoint; {DEFAULT_CHECKPOINT} if not given."

app = typer.Typer(
    help="Segment what sentences describe in videos.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Dtype(StrEnum):
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Precision(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class ModelType(StrEnum):
    referformer = "referformer"
    sgmg = "sgmg"
    soc = "soc"


@app.callback()
def _commands() -> None:
    """Segment what sentences describe in videos."""


@app.command()
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
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; the first accelerator if any.")] = None,
    dtype: Annotated[Dtype, typer.Option(help="Number format of the model.")] = Dtype.auto,
) -> None:
    """Segment what sentences describe in a video."""
    with _bad_input_as_one_line():
        from hf_rvos.pipelines.referring_video_segmentation import check_threshold
        from hf_rvos.utils.files import check_output_file, check_output_folder
        from hf_rvos.utils.video_io import open_video

        check_threshold(threshold)
        check_output_file(output, "--output")
        if masks is not None:
            check_output_folder(masks, "--masks")
        if json_file is not None:
            check_output_file(json_file, "--json")
        reader = open_video(video)
        segmenter = _load_segmenter(model, device, dtype)
        tracks = _segment(segmenter, reader, text, threshold, output, masks, json_file, model or DEFAULT_CHECKPOINT)
    _print_tracks(tracks)


@app.command()
def convert(
    model: Annotated[ModelType, typer.Option(help="Which official code wrote the checkpoint.")],
    checkpoint: Annotated[Path, typer.Option(help="Official .pth file.")],
    output: Annotated[Path, typer.Option(help="Folder for the converted model and its processor.")],
    tokenizer: Annotated[
        str | None, typer.Option(help="Hub id or folder of the tokenizer; the published one if not given.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="JSON file whose entries override the configuration.")] = None,
) -> None:
    """Convert an official checkpoint to a folder for from_pretrained."""
    with _bad_input_as_one_line():
        converter = import_module(f"hf_rvos.models.{model}.convert_{model}_to_hf")
        converter.convert_checkpoint(checkpoint, output, tokenizer, config)
    typer.echo(f"Converted {checkpoint} to {output}")


@app.command()
def benchmark(
    video: Annotated[
        str | None,
        typer.Argument(help="Path of a video, or a folder of .jpg or .png frames; a drawn one if not given."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help=f"{MODEL_HELP} Repeat the option to compare models."),
    ] = None,
    random: Annotated[
        list[str] | None,
        typer.Option(help="A model of published size with random weights, such as soc:video-swin-t; can be repeated."),
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="A sentence; repeat the option for more.")] = None,
    num_sentences: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="In place of --text: number of example sentences; 4 if not given. Repeat it to compare numbers.",
        ),
    ] = None,
    num_frames: Annotated[int, typer.Option(min=1, help="Frames of the clip.")] = 16,
    height: Annotated[int | None, typer.Option(help="Of the drawn video, in pixels; 360 if not given.")] = None,
    width: Annotated[int | None, typer.Option(help="Of the drawn video, in pixels; 640 if not given.")] = None,
    size: Annotated[
        int | None,
        typer.Option(min=29, help="Shorter side of the model's input; what its processor says if not given."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed passes; the median one is printed.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch; its own choice if not given.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    dtype: Annotated[
        list[Precision] | None,
        typer.Option(help="Number format; repeat the option for more; float32 and bfloat16 if not given."),
    ] = None,
    naive: Annotated[bool, typer.Option(help="Time a straightforward port as well, of a single model.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for all numbers.")] = None,
) -> None:
    """Time the stages of segmenting one clip, or compare models and numbers of sentences."""
    with _bad_input_as_one_line(), ExitStack() as stack:
        import torch

        from hf_rvos.benchmark import Clip, Contestant, compare, example_sentences, machine, measure
        from hf_rvos.utils.files import check_output_file, replace_when_done
        from hf_rvos.utils.video_io import open_video

        _refuse_both("--text", text, "--num-sentences", num_sentences)
        _refuse_both("VIDEO", video, "--height", height)
        _refuse_both("VIDEO", video, "--width", width)
        if json_file is not None:
            check_output_file(json_file, "--json")
        if threads is not None:
            torch.set_num_threads(threads)
        if video is None:
            video = _draw_video(stack, num_frames, height or 360, width or 640)
        reader = open_video(video)
        names = [*(model or ()), *(f"random {name}" for name in random or ())] or [DEFAULT_CHECKPOINT]
        if len(set(names)) < len(names):
            raise ValueError(f"--model: {', '.join(names)} names a model twice")
        loaded = [_load_segmenter(name, device, Dtype.float32) for name in model or ([] if random else [None])]
        contestants = [(segmenter.model, segmenter.processor) for segmenter in loaded]
        contestants += [_random_segmenter(name, device) for name in random or ()]
        contestants = [Contestant(name, *parts) for name, parts in zip(names, contestants, strict=True)]
        clips = [
            Clip(video, texts, num_frames, None if size is None else {"shortest_edge": size})
            for texts in ([text] if text else map(example_sentences, num_sentences or [4]))
        ]
        dtypes = [item.value for item in dtype or (Precision.float32, Precision.bfloat16)]
        report = {
            "machine": machine(contestants[0].model.device),
            "video_size": [reader.height, reader.width],
            "num_frames": num_frames,
            "repeats": repeats,
        }
        if len(contestants) == len(clips) == 1:
            measurements = measure(contestants[0].model, contestants[0].processor, clips[0], repeats, dtypes, naive)
            report |= {"model": names[0], "texts": clips[0].texts, "measurements": list(map(asdict, measurements))}
        else:
            report |= {"comparison": list(map(asdict, compare(contestants, clips, repeats, dtypes)))}
        if json_file is not None:
            with replace_when_done(json_file) as part:
                part.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _print_machine(report)
    (_print_comparison if "comparison" in report else _print_benchmark)(report)


def main() -> None:
    app()


@contextmanager
def _bad_input_as_one_line() -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from error


def _refuse_both(first: str, first_value: Any, second: str, second_value: Any) -> None:
    if first_value and second_value:
        raise ValueError(f"{second}: has no meaning together with {first}, expected one of the two")


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device: {device!r} cannot be used here ({reason}); expected cpu, cuda, ...") from error


def _load_segmenter(model: str | None, device: str | None, dtype: Dtype) -> "ReferringVideoSegmentationPipeline":
    from transformers import pipeline

    from hf_rvos import AutoModelForReferringVideoSegmentation  # also registers the pipeline

    if device is not None:
        _check_device(device)
    location = find_checkpoint(model or DEFAULT_CHECKPOINT)
    try:
        # The model apart: when a pipeline cannot load it, the message is whole tracebacks.
        loaded = AutoModelForReferringVideoSegmentation.from_pretrained(location, dtype=dtype.value)
        return pipeline("referring-video-segmentation", model=loaded, processor=location, device=device)
    # Loading runs through many libraries, each with errors of its own; all of them mean that this is no such model.
    except Exception as error:
        raise ValueError(
            f"--model: cannot load {location!r} as a model for referring video segmentation, expected the folder or "
            f"hub id of one with its processor ({type(error).__name__}: {error})"
        ) from error


def _draw_video(stack: ExitStack, num_frames: int, height: int, width: int) -> str:
    """Write a video that is removed when the stack closes."""
    from tempfile import TemporaryDirectory

    from hf_rvos.benchmark import write_example_video

    path = Path(stack.enter_context(TemporaryDirectory())) / "moving_shapes.mp4"
    write_example_video(path, num_frames, height, width)
    return str(path)


def _random_segmenter(name: str, device: str) -> tuple["PreTrainedModel", "RvosProcessor"]:
    from hf_rvos.benchmark import random_segmenter

    _check_device(device)
    try:
        model, processor = random_segmenter(name)
    except ValueError as error:
        raise ValueError(f"--random: {error}") from error
    return model.to(device), processor


def _segment(
    segmenter: "ReferringVideoSegmentationPipeline",
    reader: "VideoReader",
    texts: list[str],
    threshold: float,
    output: Path,
    masks: Path | None,
    json_file: Path | None,
    model_name: str,
) -> list[dict[str, Any]]:
    """Go through the video once; write overlay and masks clip by clip, keep only run-length codes."""
    from PIL import Image
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from hf_rvos.ops.rle import encode_rle
    from hf_rvos.utils.files import replace_when_done
    from hf_rvos.utils.video_io import VideoWriter
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
        task = progress.add_task("frames", total=reader.num_frames)
        clips, num_frames = [], 0
        for clip in segmenter.stream(reader, texts, threshold=threshold):
            for position, frame in enumerate(clip.pop("frames")):
                masks_of_frame = [track["masks"][position].numpy() for track in clip["tracks"]]
                writer.write(draw_masks(frame, masks_of_frame, texts))
                for folder, mask in zip(mask_folders, masks_of_frame):
                    Image.fromarray(mask.astype("uint8") * 255).save(folder / f"{num_frames:05d}.png")
                num_frames += 1
            for track in clip["tracks"]:
                track["masks"] = encode_rle(track["masks"].numpy())
            clips.append(clip)
            progress.update(task, completed=num_frames)
        tracks = segmenter.postprocess(clips)
        if json_file is not None:
            report = _report(tracks, reader, num_frames, model_name, threshold)
            json_file.write_text(json.dumps(report), encoding="utf-8")
    return tracks


def _report(
    tracks: list[dict[str, Any]], reader: "VideoReader", num_frames: int, model_name: str, threshold: float
) -> dict[str, Any]:
    import torch
    import transformers

    import hf_rvos

    return {
        "video": {
            "source": reader.source,
            "height": reader.height,
            "width": reader.width,
            "fps": reader.fps,
            "num_frames": num_frames,
        },
        "model": model_name,
        "threshold": threshold,
        "versions": {
            "hf_rvos": hf_rvos.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        },
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
        table.add_row(track["text"], f"{track['score']:.3f}", f"{present} of {len(track['masks'])}")
    Console().print(table)


def _print_benchmark(report: dict[str, Any]) -> None:
    """A Markdown table with one column for each number format and path."""
    from rich.box import MARKDOWN
    from rich.console import Console
    from rich.table import Table

    measurements = report["measurements"]
    table = Table("milliseconds", box=MARKDOWN)
    for of_column in measurements:
        suffix = " naive" if of_column["path"] == "naive" else ""
        table.add_column(of_column["dtype"] + suffix, justify="right", no_wrap=True)

    def add(name: str, values: list[float | None], digits: int = 1) -> None:
        table.add_row(name, *("-" if value is None else f"{value:.{digits}f}" for value in values))

    for stage in measurements[0]["stages"]:
        add(stage.replace("_", " "), [1000 * of_column["stages"][stage] for of_column in measurements])
    add("total", [1000 * of_column["total"] for of_column in measurements])
    add("slowest pass", [1000 * max(of_column["totals"]) for of_column in measurements])
    add("frames/s", [of_column["frames_per_second"] for of_column in measurements], 2)
    add("sentence-frames/s", [of_column["sentence_frames_per_second"] for of_column in measurements], 2)
    peaks = [of_column["peak_memory"] for of_column in measurements]
    add("peak memory, MiB", [None if peak is None else peak / 2**20 for peak in peaks], 0)

    sizes = [f"{height}x{width}" for height, width in (report["video_size"], measurements[0]["input_size"])]
    console = Console(soft_wrap=True)
    console.print(
        f"{report['model']}; {report['num_frames']} frames of {sizes[0]}, resized to {sizes[1]}; "
        f"sentences: {len(report['texts'])}; median of {report['repeats']}"
    )
    console.print(table)


def _print_machine(report: dict[str, Any]) -> None:
    from rich.console import Console

    machine = report["machine"]
    Console(soft_wrap=True).print(
        f"{machine['cpu']}, {machine['cores']} cores, threads: {machine['threads']}; device: {machine['device']}; "
        f"torch {machine['torch']}; {machine['date']}"
    )


def _print_comparison(report: dict[str, Any]) -> None:
    """A Markdown table with one row for each model, number format and number of sentences."""
    from rich.box import MARKDOWN
    from rich.console import Console
    from rich.table import Table

    entries = report["comparison"]
    table = Table("model", "parameters, M", "format", "sentences", box=MARKDOWN)
    for name in ("pass, ms", "slowest, ms", "per sentence, ms", "of the slowest model", "peak memory, MiB"):
        table.add_column(name, justify="right")
    for entry in entries:
        of_pass, peak = entry["measurement"], entry["measurement"]["peak_memory"]
        rivals = [
            other["measurement"]["total"]
            for other in entries
            if (other["measurement"]["dtype"], other["num_sentences"]) == (of_pass["dtype"], entry["num_sentences"])
        ]
        table.add_row(
            entry["name"],
            f"{entry['num_parameters'] / 1e6:.1f}",
            of_pass["dtype"],
            str(entry["num_sentences"]),
            f"{1000 * of_pass['total']:.0f}",
            f"{1000 * max(of_pass['totals']):.0f}",
            f"{1000 * of_pass['total'] / entry['num_sentences']:.0f}",
            f"{of_pass['total'] / max(rivals):.2f}",
            "-" if peak is None else f"{peak / 2**20:.0f}",
        )
    height, width = report["video_size"]
    seen = sorted({"x".join(map(str, entry["measurement"]["input_size"])) for entry in entries})
    console = Console(soft_wrap=True, width=250)  # rows are never broken, whatever the names of the models
    console.print(
        f"{report['num_frames']} frames of {height}x{width}, resized to {' or '.join(seen)}; median of "
        f"{report['repeats']}, all in turn"
    )
    console.print(table)
