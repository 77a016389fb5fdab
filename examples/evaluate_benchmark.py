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
"""Score checkpoints on a benchmark: J, F and J&F overall, by skill, and by whether the phrasing was seen in training.

    python examples/evaluate_benchmark.py --model referformer-tiny outputs/mine/final --output outputs/evaluation

Without `--model` it scores the checkpoint that comes with the package. `--limit 10` takes the first ten videos of the
split only. Several processes share the videos, with one GPU each if there are any, and give the same rows:

    torchrun --nproc_per_node 2 examples/evaluate_benchmark.py

The output folder gets `skills.png`, a chart of all checkpoints; the averages in `metrics.json` and `metrics.md`;
`rows.csv` with a line for each expression; and in `worst` pictures of the expressions with the lowest J&F. Of several
checkpoints, each has its files in a folder of its own.
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from PIL import Image
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress

from hf_rvos.auto import AutoModelForReferringVideoSegmentation
from hf_rvos.checkpoints import DEFAULT_CHECKPOINT, find_checkpoint, list_embedded_checkpoints
from hf_rvos.data.moving_shapes import SKILLS, SPLIT_SIZES, MovingShapesConfig, generate_video
from hf_rvos.evaluation import (
    GROUPINGS,
    moving_shapes_table,
    score_moving_shapes,
    segment_moving_shapes,
    summarize_moving_shapes,
)
from hf_rvos.processing.processing_rvos import RvosProcessor
from hf_rvos.utils.charts import save_bar_chart
from hf_rvos.utils.files import check_output_file, replace_when_done
from hf_rvos.utils.visualization import draw_comparison


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=["moving_shapes"], default="moving_shapes")
    parser.add_argument("--split", choices=list(SPLIT_SIZES), default="test")
    parser.add_argument("--config", choices=["single", "all"], default="single", help="which expressions")
    parser.add_argument(
        "--model",
        nargs="+",
        default=[DEFAULT_CHECKPOINT],
        help=f"folders of saved models, or embedded checkpoints: {', '.join(list_embedded_checkpoints())}",
    )
    parser.add_argument("--limit", type=int, help="number of videos, from the first")
    parser.add_argument("--threshold", type=float, default=0.5, help="probability above which a pixel is the object's")
    parser.add_argument(
        "--grouping",
        choices=GROUPINGS,
        default="video",
        help="which sentences are asked together; matters for Fast SgMg alone",
    )
    parser.add_argument("--output", type=Path, help="folder for tables and pictures")
    parser.add_argument("--worst", type=int, default=8, help="how many of the worst rows are drawn")
    arguments = parser.parse_args()
    if arguments.limit is not None and arguments.limit < 1:
        parser.error(f"--limit is {arguments.limit}, expected at least 1")
    if arguments.worst < 0:
        parser.error(f"--worst is {arguments.worst}, expected at least 0")
    if len(set(arguments.model)) < len(arguments.model):
        parser.error(f"--model: {' '.join(arguments.model)} names a checkpoint twice")
    for model in arguments.model:
        if model not in list_embedded_checkpoints() and not (Path(model) / "config.json").is_file():
            parser.error(
                f"--model: {model} holds no config.json, expected the folder of a saved model or one of the embedded "
                f"checkpoints: {', '.join(list_embedded_checkpoints())}"
            )
    if arguments.output:
        try:
            check_output_file(arguments.output / "skills.png", "--output")
        except ValueError as error:
            parser.error(str(error))
    return arguments


def short_names(models: list[str]) -> list[str]:
    """The last parts of each path, as many as tell the models apart, as the name of a file."""
    parts = [Path(model).absolute().parts[1:] for model in models]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["-".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def write_tables(folder: Path, metrics: dict[str, Any], table: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with replace_when_done(folder / "rows.csv") as path, open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with replace_when_done(folder / "metrics.md") as path:
        path.write_text(table + "\n")
    with replace_when_done(folder / "metrics.json") as path:
        path.write_text(json.dumps(metrics, indent=2) + "\n")


def draw_worst_rows(
    folder: Path,
    model: Any,
    processor: RvosProcessor,
    rows: list[dict[str, Any]],
    arguments: argparse.Namespace,
    config: MovingShapesConfig,
) -> None:
    """Segment the videos of the rows with the lowest J&F again, and draw what was predicted and what is true."""
    folder.mkdir(exist_ok=True)
    drawn = set()
    worst = sorted(rows, key=lambda row: row["j_mean"] + row["f_mean"])[: arguments.worst]
    for rank, row in enumerate(worst, start=1):
        video = generate_video(arguments.split, row["video_index"], config)
        number = [other["expression_id"] for other in video.rows].index(row["expression_id"])
        predicted = segment_moving_shapes(model, processor, video, arguments.threshold, arguments.grouping)[number][
            "masks"
        ]
        j_mean, f_mean = 100 * row["j_mean"], 100 * row["f_mean"]
        lines = [
            row["expression"],
            f"J&F {(j_mean + f_mean) / 2:.1f} (J {j_mean:.1f}, F {f_mean:.1f}), {row['skill']}, {row['video_id']}, "
            f"expression {row['expression_id']}; bright: predicted, white line: true",
        ]
        strip = draw_comparison(video.frames, predicted, video.masks(video.rows[number]), lines)
        name = folder / f"{rank:02d}_{row['video_id']}_{row['expression_id']}.png"
        with replace_when_done(name) as path:
            Image.fromarray(strip).save(path)
        drawn.add(name)
    for name in set(folder.glob("[0-9]*_moving_shapes-*.png")) - drawn:
        name.unlink()  # of an earlier run


def main() -> None:
    arguments = parse_arguments()
    state = PartialState()
    console = Console()
    config = MovingShapesConfig(subset=arguments.config)
    num_videos = min(SPLIT_SIZES[arguments.split], arguments.limit or SPLIT_SIZES[arguments.split])
    indices = range(state.process_index, num_videos, state.num_processes)

    names = short_names(arguments.model)
    summaries = {}
    for name, checkpoint in zip(names, arguments.model):
        folder = find_checkpoint(checkpoint)
        is_embedded = folder != checkpoint
        model = AutoModelForReferringVideoSegmentation.from_pretrained(folder).to(state.device)
        processor = RvosProcessor.from_pretrained(folder)
        with Progress(disable=not state.is_main_process) as progress:
            bar = progress.add_task(name, total=len(indices))
            rows = score_moving_shapes(
                model,
                processor,
                arguments.split,
                indices,
                arguments.threshold,
                config,
                on_video=lambda scored, progress=progress, bar=bar: progress.advance(bar),
                grouping=arguments.grouping,
            )
        rows = sorted(gather_object(rows), key=lambda row: row["video_index"])
        if not state.is_main_process:
            continue

        summary = summarize_moving_shapes(rows)
        run = {
            "dataset": arguments.dataset,
            "version": config.version,
            "config": arguments.config,
            "split": arguments.split,
            "num_videos": num_videos,
            "num_rows": summary["num_rows"],
            "checkpoint": f"{checkpoint} (embedded)" if is_embedded else Path(checkpoint).as_posix(),
            "threshold": arguments.threshold,
            "grouping": arguments.grouping,
        }
        summaries[run["checkpoint"]] = summary
        caption = ", ".join(f"{key} {value}" for key, value in run.items())
        table = f"{caption}\n\n{moving_shapes_table(summary)}"
        console.print(Markdown(table))
        if arguments.output:
            output = arguments.output if len(names) == 1 else arguments.output / name
            write_tables(output, run | summary, table, rows)
            draw_worst_rows(output / "worst", model, processor, rows, arguments, config)

    if arguments.output and state.is_main_process:
        skills = [skill for skill in SKILLS if skill in summary["skill"]]
        groups = [f"overall\n{summary['num_rows']} rows"]
        groups += [f"{skill}\n{summary['skill'][skill]['num_rows']} rows" for skill in skills]
        heights = {
            checkpoint: [summary["j_and_f"], *(summary["skill"][skill]["j_and_f"] for skill in skills)]
            for checkpoint, summary in summaries.items()
        }
        with replace_when_done(arguments.output / "skills.png") as path:
            save_bar_chart(
                path,
                groups,
                heights,
                title=f"Moving Shapes {config.version}, {arguments.split} split, config {arguments.config}",
                label="J&F",
            )
        console.print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
