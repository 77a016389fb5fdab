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
"""What several commands share."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_rvos.checkpoints import DEFAULT_CHECKPOINT, find_checkpoint


if TYPE_CHECKING:
    from hf_rvos.pipelines import ReferringVideoSegmentationPipeline

DatasetOptions = Annotated[
    list[str] | None, typer.Option("--option", help="key=value of the data set, such as split_by=google.")
]
MultiTarget = Annotated[
    bool | None,
    typer.Option(
        "--multi-target/--single-target",
        help="Whether a sentence may refer to several objects; what the model says if not given.",
    ),
]
ScoreThreshold = Annotated[
    str | None,
    typer.Option(
        help="Score up to which a sentence is not in the video: a number, or auto for that of the model. "
        "Without it models for one target answer every sentence, those for several as with auto."
    ),
]
MODEL_HELP = f"Folder, hub id or short name of an embedded checkpoint; {DEFAULT_CHECKPOINT} if not given."


class Dtype(StrEnum):
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def refuse_both(first: str, first_value: Any, second: str, second_value: Any) -> None:
    if first_value and second_value:
        raise ValueError(f"{second}: has no meaning together with {first}, expected one of the two")


def check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device: {device!r} cannot be used here ({reason}); expected cpu, cuda, ...") from error


def load_segmenter(model: str | None, device: str | None, dtype: Dtype) -> "ReferringVideoSegmentationPipeline":
    from transformers import pipeline

    from hf_rvos import AutoModelForReferringVideoSegmentation  # also registers the pipeline

    if device is not None:
        check_device(device)
    location = find_checkpoint(model or DEFAULT_CHECKPOINT)
    try:
        # The model apart: when a pipeline cannot load it, the message is whole tracebacks.
        loaded = AutoModelForReferringVideoSegmentation.from_pretrained(location, dtype=dtype.value)
        return pipeline("referring-video-segmentation", model=loaded, processor=location, device=device)
    # Loading runs through many libraries, each with errors of its own; all of them mean that this is no such model.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"--model: cannot load {location!r} as a model for referring video segmentation, expected the folder or "
            f"hub id of one with its processor ({reason})"
        ) from error


def read_score_threshold(value: str | None) -> float | str | None:
    """The number in an option `--score-threshold`; `"auto"` and None as they are.

    Raises:
        ValueError: if it is something else.
    """
    from hf_rvos.pipelines.selection import check_score_threshold

    try:
        return check_score_threshold(value if value in (None, "auto") else float(value))
    except ValueError as error:
        raise ValueError(f"--score-threshold: got {value!r}, expected auto or a probability below 1") from error


def dataset_options(pairs: list[str] | None) -> dict[str, Any]:
    """Options of a data set from `key=value`; numbers, true and false are taken as such.

    Raises:
        ValueError: if there is no `=`, or a key is there twice.
    """
    options: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key or key in options:
            raise ValueError(f"--option: got {pair!r}, expected key=value, each key once")
        options[key] = {"true": True, "false": False}.get(value.lower(), int(value) if value.isdecimal() else value)
    return options
