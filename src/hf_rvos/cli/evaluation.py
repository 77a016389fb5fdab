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
"""The commands `hf-rvos evaluate`, `hf-rvos metrics` and `hf-rvos submission check`."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_rvos.checkpoints import DEFAULT_CHECKPOINT
from hf_rvos.cli.common import (
    MODEL_HELP,
    DatasetOptions,
    Dtype,
    MultiTarget,
    ScoreThreshold,
    dataset_options,
    load_segmenter,
    read_score_threshold,
)
from hf_rvos.utils.errors import bad_input_reported


DatasetName = Annotated[str, typer.Option("--dataset", help="Such as ref_davis17, mevis or moving_shapes.")]
DataDir = Annotated[Path | None, typer.Option(help="Root of the data set in its published layout.")]
Split = Annotated[str, typer.Option(help="Such as valid or test.")]
ProtocolName = Annotated[str, typer.Option("--protocol", help="official or per-expression.")]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Number of videos, from the first; of annotated frames or pictures.")
]
Output = Annotated[Path, typer.Option(help="Folder for the results; an interrupted run goes on there.")]
Matching = Annotated[
    str | None, typer.Option(help="official or id, for Ref-DAVIS17: whether the numbers of objects matter.")
]
ClipLength = Annotated[
    int | None,
    typer.Option(
        min=1, help="Frames that go through the model together; 36 if not given, whole videos for models such as SSA."
    ),
]
Worst = Annotated[int, typer.Option(min=0, help="How many of the worst results are drawn.")]

submission_app = typer.Typer(help="Archives for servers.", no_args_is_help=True)


def evaluate(
    dataset: DatasetName,
    split: Split,
    data_dir: DataDir = None,
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = DEFAULT_CHECKPOINT,
    protocol: ProtocolName = "official",
    limit: Limit = None,
    output: Output = Path("evaluation"),
    threshold: Annotated[float, typer.Option(help="Probability above which a pixel belongs to the object.")] = 0.5,
    score_threshold: ScoreThreshold = None,
    multi_target: MultiTarget = None,
    clip_length: ClipLength = None,
    grouping: Annotated[
        str, typer.Option(help="video, one-per-object or single: sentences Fast SgMg is asked together.")
    ] = "video",
    shortest_edge: Annotated[
        int | None, typer.Option(min=29, help="Shorter side of the frames for the model; its own if not given.")
    ] = None,
    longest_edge: Annotated[
        int | None, typer.Option(min=0, help="Limit of the longer side; 0 for none, as published for some data sets.")
    ] = None,
    window: Annotated[
        int | None, typer.Option(min=1, help="Frames around an annotated one; as published if not given.")
    ] = None,
    matching: Matching = None,
    save_masks: Annotated[bool, typer.Option("--save-masks", help="Write the predicted masks, too.")] = False,
    worst: Worst = 8,
    dtype: Annotated[Dtype, typer.Option(help="Number format of the model.")] = Dtype.auto,
    option: DatasetOptions = None,
) -> None:
    """Score a model on a benchmark; on several processes with accelerate launch --module hf_rvos evaluate ..."""
    with bad_input_reported():
        from hf_rvos.evaluation.prediction import ModelPredictor
        from hf_rvos.evaluation.run import Benchmark, describe_model, process_state
        from hf_rvos.evaluation.run import evaluate as run_evaluation
        from hf_rvos.pipelines.selection import check_threshold

        check_threshold(threshold)
        answers = {
            "multi_target": "auto" if multi_target is None else multi_target,
            "score_threshold": read_score_threshold(score_threshold),
        }
        segmenter = load_segmenter(model, str(process_state().device), dtype)
        predictor = ModelPredictor(segmenter.model, segmenter.processor, threshold, clip_length, grouping, **answers)
        resize = segmenter.processor.video_processor
        resize.size = _new_size(dict(resize.size), shortest_edge, longest_edge)
        options = dataset_options(option)
        benchmark = Benchmark(dataset, data_dir, split, protocol, limit, options, window, matching)
        with _progress() as on_video:
            described = describe_model(model, predictor)
            metrics = run_evaluation(benchmark, predictor, described, output, save_masks, worst, on_video)
    _print_report(output, metrics)


def calibrate(
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = DEFAULT_CHECKPOINT,
    dataset: DatasetName = "moving_shapes",
    split: Split = "val",
    data_dir: DataDir = None,
    limit: Limit = None,
    save: Annotated[bool, typer.Option("--save", help="Write the threshold into the folder of the model.")] = False,
    threshold: Annotated[float, typer.Option(help="Probability above which a pixel belongs to the object.")] = 0.5,
    clip_length: ClipLength = None,
    dtype: Annotated[Dtype, typer.Option(help="Number format of the model.")] = Dtype.auto,
    option: DatasetOptions = None,
) -> None:
    """Search the score up to which a sentence is not in the video: the highest mean of N-acc and T-acc."""
    with bad_input_reported():
        from hf_rvos.evaluation import calibration
        from hf_rvos.evaluation.prediction import ModelPredictor
        from hf_rvos.evaluation.run import Benchmark, process_state
        from hf_rvos.pipelines.selection import check_threshold

        check_threshold(threshold)
        options = dataset_options(option)
        if dataset == "moving_shapes":
            options = {"config_name": "all"} | options
        if save and not (Path(model) / "config.json").is_file():
            raise ValueError(f"--save: --model is {model!r}, expected the folder of a saved model")
        segmenter = load_segmenter(model, str(process_state().device), dtype)
        predictor = ModelPredictor(segmenter.model, segmenter.processor, threshold, clip_length, multi_target=False)
        benchmark = Benchmark(dataset, data_dir, split, limit=limit, options=options)
        with _progress() as on_video:
            trials = calibration.try_thresholds(calibration.score_sentences(benchmark, predictor, on_video))
        if not process_state().is_main_process:
            return
        best = calibration.best_trial(trials)
        typer.echo(calibration.trials_table(trials))
        if save:
            calibration.save_score_threshold(Path(model), best.score_threshold)
            typer.echo(f"score_threshold of {model} is now {best.score_threshold}", file=sys.stderr)


def metrics(
    predictions: Annotated[Path, typer.Argument(help="Folder with <video>/<expression id>/<frame>.png.")],
    dataset: DatasetName,
    split: Split,
    data_dir: DataDir = None,
    protocol: ProtocolName = "official",
    limit: Limit = None,
    output: Output = Path("evaluation"),
    matching: Matching = None,
    missing: Annotated[
        str, typer.Option(help="error, or empty to score masks that are not there as empty.")
    ] = "error",
    worst: Worst = 8,
    option: DatasetOptions = None,
) -> None:
    """Score masks that any system wrote; for Ref-DAVIS17 anno_0 to anno_3 with <video>/<frame>.png."""
    with bad_input_reported():
        from hf_rvos.evaluation.prediction import FolderPredictor
        from hf_rvos.evaluation.run import Benchmark, process_state
        from hf_rvos.evaluation.run import evaluate as run_evaluation

        process_state()
        predictor = FolderPredictor(predictions, missing)
        options = dataset_options(option)
        benchmark = Benchmark(dataset, data_dir, split, protocol, limit, options, matching=matching)
        described = {"predictions": str(predictions), "missing": missing}
        with _progress() as on_video:
            numbers = run_evaluation(benchmark, predictor, described, output, num_worst=worst, on_video=on_video)
    _print_report(output, numbers)


@submission_app.command("check")
def check_submission(
    archive: Annotated[Path, typer.Argument(help="The zip file.")],
    data_dir: Annotated[Path, typer.Option(help="Root of the data set in its published layout.")],
    dataset: Annotated[str, typer.Option("--dataset", help="ref_youtube_vos or mevis.")] = "ref_youtube_vos",
    split: Split = "valid",
) -> None:
    """Look for everything that a server would refuse; exit code 1 if there is something."""
    with bad_input_reported():
        from hf_rvos.data.loading import load_with_report
        from hf_rvos.data.media import load_clip
        from hf_rvos.evaluation import submission

        submission.top_folder(dataset)
        rows, missing = load_with_report(dataset, data_dir, split=split)
        submission.check_complete(missing)
        rows = list(rows.remove_columns("masks"))
        first_rows = {row["video_id"]: row for row in reversed(rows)}
        sizes = {video: load_clip(row, data_dir, [0]).shape[1:3] for video, row in first_rows.items()}
        report = submission.check_submission(archive, rows, sizes)
    typer.echo(str(report))
    if not report.is_valid:
        raise typer.Exit(1)


def _new_size(size: dict[str, int], shortest_edge: int | None, longest_edge: int | None) -> dict[str, int]:
    """`size` of a video processor with other limits."""
    if shortest_edge is not None:
        size["shortest_edge"] = shortest_edge
    if longest_edge is not None:
        size["longest_edge"] = longest_edge
    if size.get("longest_edge") == 0:
        del size["longest_edge"]
    return size


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error for the videos of the first process."""
    from accelerate import PartialState
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    is_shown = PartialState().is_main_process
    with Progress(*columns, console=Console(stderr=True), disable=not is_shown) as progress:
        task = progress.add_task("videos", total=None)
        yield lambda finished, total: progress.update(task, completed=finished, total=total)


def _print_report(output: Path, metrics: dict[str, Any]) -> None:
    if not metrics:  # not the main process
        return
    typer.echo((output / "metrics.md").read_text(encoding="utf-8"))
    if (output / "submission.zip").is_file():
        typer.echo(f"for the server: {output / 'submission.zip'}")
    typer.echo(f"written to {output}", file=sys.stderr)
