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
"""Score one checkpoint or several on a benchmark, and draw them in one chart.

    python examples/evaluate_benchmark.py --model referformer-tiny outputs/mine/final --output outputs/evaluation

Without other options it takes the test split of Moving Shapes, 500 videos, in about 8 minutes on two cores. Other data
sets are read from their folder: `--dataset ref_davis17 --split valid --data_dir data/ref-davis`. `--limit 10` takes
the first ten videos only. Several processes share the videos, with one GPU each if there are any, and give the same
rows; a run that was interrupted goes on when it is started again:

    torchrun --nproc_per_node 2 examples/evaluate_benchmark.py

The output folder, or a folder in it for each of several checkpoints, gets averages in `metrics.json` and `metrics.md`,
`expressions.csv` with a line for each expression, `chart.png`, and in `worst` pictures of the worst results. Another
`chart.png` shows all checkpoints. For a single one the command `hf-rvos evaluate` does the same.
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress

from hf_rvos.auto import AutoModelForReferringVideoSegmentation
from hf_rvos.checkpoints import DEFAULT_CHECKPOINT, find_checkpoint, list_embedded_checkpoints
from hf_rvos.cli.common import dataset_options, read_score_threshold
from hf_rvos.data.loading import DATASETS
from hf_rvos.evaluation.prediction import GROUPINGS, ModelPredictor
from hf_rvos.evaluation.protocols import PROTOCOLS, find_protocol
from hf_rvos.evaluation.reporting import save_chart
from hf_rvos.evaluation.run import Benchmark, describe_model, evaluate, process_state
from hf_rvos.processing.processing_rvos import RvosProcessor
from hf_rvos.utils.errors import bad_input_reported
from hf_rvos.utils.files import check_output_file


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=list(DATASETS), default="moving_shapes")
    parser.add_argument("--data_dir", type=Path, help="root of the data set; moving_shapes needs none")
    parser.add_argument("--split", default="test")
    parser.add_argument("--option", action="append", help="key=value of the data set, such as config_name=all")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="official")
    parser.add_argument(
        "--model",
        nargs="+",
        default=[DEFAULT_CHECKPOINT],
        help=f"folders of saved models, or embedded checkpoints: {', '.join(list_embedded_checkpoints())}",
    )
    parser.add_argument("--limit", type=int, help="number of videos, from the first")
    parser.add_argument("--threshold", type=float, default=0.5, help="probability above which a pixel is the object's")
    parser.add_argument(
        "--score_threshold", help="score up to which a sentence is not in the video: a number, or auto of the model"
    )
    parser.add_argument(
        "--multi_target",
        action=argparse.BooleanOptionalAction,
        default="auto",
        help="whether a sentence may refer to several objects; what the model says if not given",
    )
    parser.add_argument(
        "--grouping",
        choices=GROUPINGS,
        default="video",
        help="which sentences are asked together; matters for Fast SgMg alone",
    )
    parser.add_argument("--output", type=Path, default=Path("outputs/evaluation"), help="folder for the results")
    parser.add_argument("--worst", type=int, default=8, help="how many of the worst results are drawn")
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
    try:
        arguments.option = dataset_options(arguments.option)
        arguments.score_threshold = read_score_threshold(arguments.score_threshold)
        find_protocol(arguments.dataset, arguments.protocol)
        check_output_file(arguments.output / "chart.png", "--output")
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


def main() -> None:
    arguments = parse_arguments()
    state = process_state()
    console = Console()
    benchmark = Benchmark(
        arguments.dataset, arguments.data_dir, arguments.split, arguments.protocol, arguments.limit, arguments.option
    )
    names = short_names(arguments.model)
    summaries = {}
    for name, checkpoint in zip(names, arguments.model):
        folder = find_checkpoint(checkpoint)
        model = AutoModelForReferringVideoSegmentation.from_pretrained(folder).to(state.device).eval()
        predictor = ModelPredictor(
            model,
            RvosProcessor.from_pretrained(folder),
            arguments.threshold,
            grouping=arguments.grouping,
            multi_target=arguments.multi_target,
            score_threshold=arguments.score_threshold,
        )
        output = arguments.output if len(names) == 1 else arguments.output / name
        with Progress(disable=not state.is_main_process) as progress:
            bar = progress.add_task(name, total=None)
            metrics = evaluate(
                benchmark,
                predictor,
                describe_model(checkpoint, predictor),
                output,
                num_worst=arguments.worst,
                on_video=lambda finished, total, progress=progress, bar=bar: progress.update(
                    bar, completed=finished, total=total
                ),
            )
        if state.is_main_process:
            console.print(Markdown((output / "metrics.md").read_text(encoding="utf-8")))
            summaries[checkpoint] = metrics

    if state.is_main_process:
        if len(summaries) > 1:
            key, label = find_protocol(arguments.dataset, arguments.protocol).headline
            title = f"{arguments.dataset}, {arguments.split}"
            save_chart(arguments.output / "chart.png", summaries, key, title, label)
        console.print(f"written to {arguments.output}")


if __name__ == "__main__":
    with bad_input_reported():
        main()
