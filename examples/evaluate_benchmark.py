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
"""Score a checkpoint on a benchmark: J, F and J&F overall, by skill, and by whether the phrasing was seen in training.

    python examples/evaluate_benchmark.py --model outputs/referformer-tiny/final --output outputs/evaluation

Without `--model` it scores the checkpoint that comes with the package. The test split of Moving Shapes (500 videos)
takes about seven minutes on one CPU core, `--limit 10` a quarter of a minute. The output folder gets
`metrics.json` and, for each expression, a line of `rows.csv`.
"""

import argparse
import csv
import json
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress

from hf_rvos.auto import AutoModelForReferringVideoSegmentation
from hf_rvos.checkpoints import embedded_checkpoint
from hf_rvos.data.moving_shapes import SPLIT_SIZES, MovingShapesConfig
from hf_rvos.evaluation import moving_shapes_table, score_moving_shapes, summarize_moving_shapes
from hf_rvos.processing.processing_rvos import RvosProcessor
from hf_rvos.utils.files import replace_when_done


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=["moving_shapes"], default="moving_shapes")
    parser.add_argument("--split", choices=list(SPLIT_SIZES), default="test")
    parser.add_argument("--config", choices=["single", "all"], default="single", help="which expressions")
    parser.add_argument("--model", type=Path, help="folder of a saved model")
    parser.add_argument("--limit", type=int, help="number of videos, from the first")
    parser.add_argument("--threshold", type=float, default=0.5, help="probability from which a pixel is the object's")
    parser.add_argument("--device", default="cpu", help="such as cpu or cuda")
    parser.add_argument("--output", type=Path, help="folder for metrics.json and rows.csv")
    arguments = parser.parse_args()
    if arguments.limit is not None and arguments.limit < 1:
        parser.error(f"--limit is {arguments.limit}, expected at least 1")
    if arguments.model is not None and not (arguments.model / "config.json").is_file():
        parser.error(f"--model: {arguments.model} holds no config.json, expected the folder of a saved model")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    checkpoint = arguments.model or embedded_checkpoint("referformer-tiny")
    model = AutoModelForReferringVideoSegmentation.from_pretrained(checkpoint).to(arguments.device)
    processor = RvosProcessor.from_pretrained(checkpoint)

    config = MovingShapesConfig(subset=arguments.config)
    num_videos = min(SPLIT_SIZES[arguments.split], arguments.limit or SPLIT_SIZES[arguments.split])
    with Progress() as progress:
        bar = progress.add_task(f"{arguments.dataset} {arguments.split}", total=num_videos)
        rows = score_moving_shapes(
            model,
            processor,
            arguments.split,
            range(num_videos),
            arguments.threshold,
            config,
            on_video=lambda scored: progress.advance(bar),
        )
    summary = summarize_moving_shapes(rows)
    run = {
        "dataset": arguments.dataset,
        "version": config.version,
        "config": arguments.config,
        "split": arguments.split,
        "num_videos": num_videos,
        "checkpoint": arguments.model.as_posix() if arguments.model else "referformer-tiny (embedded)",
        "threshold": arguments.threshold,
    }
    console = Console()
    console.print(", ".join(f"{key} {value}" for key, value in run.items()))
    console.print(Markdown(moving_shapes_table(summary)))

    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        with replace_when_done(arguments.output / "rows.csv") as path, open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        with replace_when_done(arguments.output / "metrics.json") as path:
            path.write_text(json.dumps(run | summary, indent=2) + "\n")
        console.print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
