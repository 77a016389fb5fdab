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
"""Whether an evaluation takes more memory for more videos, each number of them in a process of its own.

python -m hf_rvos.evaluation.memory 20
"""

import json
import sys
from tempfile import TemporaryDirectory
from typing import Any

import torch

from hf_rvos.benchmark import machine, resident_memory, run_apart
from hf_rvos.checkpoints import DEFAULT_CHECKPOINT
from hf_rvos.cli.common import Dtype, load_segmenter
from hf_rvos.data.moving_shapes import MovingShapesConfig
from hf_rvos.evaluation.prediction import ModelPredictor
from hf_rvos.evaluation.run import Benchmark, evaluate


FACTOR = 4


def evaluate_videos(num_videos: int, model: str = DEFAULT_CHECKPOINT) -> dict[str, Any]:
    """Evaluate a model on the first test videos of Moving Shapes, with pictures of the worst.

    Args:
        num_videos: How many.
        model: Short name, folder or hub id.

    Returns:
        `num_videos`; `num_expressions`; `peak_mib`, what this process had in memory at most since it started; and
        `pixels_mib`, what all frames of these videos and all masks, predicted and true, would take together.
    """
    segmenter = load_segmenter(model, "cpu", Dtype.auto)
    predictor = ModelPredictor(segmenter.model, segmenter.processor)
    benchmark = Benchmark("moving_shapes", None, "test", limit=num_videos)
    with TemporaryDirectory() as folder:
        metrics = evaluate(benchmark, predictor, {}, folder, num_worst=8)
    drawing = MovingShapesConfig()
    channels = 3 * metrics["num_videos"] + 2 * metrics["num_rows"]
    return {
        "num_videos": metrics["num_videos"],
        "num_expressions": metrics["num_rows"],
        "peak_mib": resident_memory("VmHWM") / 2**20,
        "pixels_mib": channels * drawing.num_frames * drawing.height * drawing.width / 2**20,
    }


def compare_memory(num_videos: int = 4, model: str = DEFAULT_CHECKPOINT) -> dict[str, Any]:
    """Measure some videos and four times as many.

    Args:
        num_videos: The smaller number.
        model: Short name, folder or hub id.

    Returns:
        `few` and `many`, what [`evaluate_videos`] says of them; and of `peak_mib` and `pixels_mib` how much more there
        is of many, `peak_growth_mib` and `pixels_growth_mib`.
    """
    few, many = (run_apart(evaluate_videos, number, model) for number in (num_videos, FACTOR * num_videos))
    growth = {f"{name}_growth_mib": many[f"{name}_mib"] - few[f"{name}_mib"] for name in ("peak", "pixels")}
    return {"few": few, "many": many, **growth}


if __name__ == "__main__":
    measured = compare_memory(*map(int, sys.argv[1:]))
    print(json.dumps({"machine": machine(torch.device("cpu")), **measured}, indent=2))
