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
"""The command `hf-rvos benchmark`."""

import json
from contextlib import ExitStack
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_rvos.checkpoints import DEFAULT_CHECKPOINT
from hf_rvos.cli.common import MODEL_HELP, Dtype, check_device, load_segmenter, refuse_both
from hf_rvos.utils.errors import bad_input_reported


if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hf_rvos.processing import RvosProcessor


class Precision(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


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
        typer.Option(help="A model of published size with random weights: soc:video-swin-t, ssa, ...; repeatable."),
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
    with bad_input_reported(), ExitStack() as stack:
        import torch

        from hf_rvos.benchmark import Clip, Contestant, compare, example_sentences, machine, measure
        from hf_rvos.utils.files import check_output_file, replace_when_done
        from hf_rvos.utils.video_io import open_video

        refuse_both("--text", text, "--num-sentences", num_sentences)
        refuse_both("VIDEO", video, "--height", height)
        refuse_both("VIDEO", video, "--width", width)
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
        loaded = [load_segmenter(name, device, Dtype.float32) for name in model or ([] if random else [None])]
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


def _draw_video(stack: ExitStack, num_frames: int, height: int, width: int) -> str:
    """Write a video that is removed when the stack closes."""
    from tempfile import TemporaryDirectory

    from hf_rvos.benchmark import write_example_video

    path = Path(stack.enter_context(TemporaryDirectory())) / "moving_shapes.mp4"
    write_example_video(path, num_frames, height, width)
    return str(path)


def _random_segmenter(name: str, device: str) -> tuple["PreTrainedModel", "RvosProcessor"]:
    from hf_rvos.benchmark import random_segmenter

    check_device(device)
    try:
        model, processor = random_segmenter(name)
    except ValueError as error:
        raise ValueError(f"--random: {error}") from error
    return model.to(device), processor


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
