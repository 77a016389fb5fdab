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
"""Score a model, or masks that are there already, on a benchmark: resumable, on any number of processes."""

import copy
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from hf_rvos.data.benchmark_builder import Report
from hf_rvos.data.image_files import write_index_png, write_mask_png
from hf_rvos.data.loading import load_with_report
from hf_rvos.data.moving_shapes import SPLIT_SIZES, VERSION
from hf_rvos.evaluation.prediction import ModelPredictor
from hf_rvos.evaluation.protocols import Protocol, find_protocol
from hf_rvos.evaluation.reporting import draw_worst, markdown_table, save_chart
from hf_rvos.evaluation.result_folder import ResultFolder, versions, write_rows
from hf_rvos.evaluation.submission import TOP_FOLDERS, check_complete, mask_path, write_submission
from hf_rvos.utils.files import check_name, replace_when_done


def process_state() -> PartialState:
    """The processes of the run; one may wait for the others as long as their videos take."""
    # Without being told, Accelerate takes each process on a CPU to be the only one.
    is_on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=is_on_cpu, timeout=timedelta(days=7))


class MaskWriter:
    """Writes masks as servers take them, and index maps as the DAVIS evaluation does.

    Args:
        folder: Where the folders of the videos go.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, row: Mapping[str, Any], positions: Sequence[int], masks: np.ndarray) -> None:
        """Write the masks `(num_frames, height, width)` of a row: `<video>/<expression id>/<frame>.png`, 0 and 255."""
        for position, mask in zip(positions, masks, strict=True):
            self._save(mask_path(row, row["frames"][position]), mask, write_mask_png)

    def write_labels(self, group: str, row: Mapping[str, Any], positions: Sequence[int], labels: np.ndarray) -> None:
        """Write maps `(num_frames, height, width)` of the objects of a video: `<group>/<video>/<frame>.png`."""
        for position, label_map in zip(positions, labels, strict=True):
            name = check_name(f"{group}/{row['video_id']}/{row['frames'][position]}.png", "row")
            self._save(name, label_map, write_index_png)

    def _save(self, name: str, pixels: np.ndarray, write: Callable[[Path, np.ndarray], None]) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_when_done(path) as temporary:
            write(temporary, pixels)


@dataclass(frozen=True)
class Benchmark:
    """Rows to evaluate on.

    Args:
        name: Of the data set, see [`~hf_rvos.data.load_dataset`].
        data_dir: Its folder, None for generated data.
        split: Its split.
        protocol: `"official"` or `"per-expression"`.
        limit: Number of videos, from the first; all if None.
        options: Of the data set.
        window: See [`~hf_rvos.evaluation.protocols.find_protocol`].
        matching: See there.
    """

    name: str
    data_dir: Path | None
    split: str
    protocol: str = "official"
    limit: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    window: int | None = None
    matching: str | None = None

    def describe(self) -> dict[str, Any]:
        """What numbers depend on, for reports; the place of the data is not part of it."""
        drawn = {"config_name": "single", "version": VERSION} if self.name == "moving_shapes" else {}
        return {"dataset": self.name, "split": self.split, **drawn, **self.options}

    def load(self, model_type: str | None = None) -> "LoadedBenchmark":
        """Read the rows.

        Args:
            model_type: Of the model; single frames are evaluated as published for it.

        Raises:
            ValueError: if the data set cannot be read, has no such split, or the protocol is not one for it.
        """
        options = dict(self.options)
        if self.name == "moving_shapes" and self.limit is not None:
            options["num_videos"] = min(self.limit, SPLIT_SIZES.get(self.split, self.limit))  # others are not drawn
        rows, report = load_with_report(self.name, self.data_dir, split=self.split, **options)
        has_truth = set(rows["mask_kind"]) != {"none"}
        protocol = find_protocol(self.name, self.protocol, has_truth, model_type, self.window, self.matching)
        units = protocol.units(rows)[: self.limit]
        if not units:
            raise ValueError(f"{self.name}, {self.split}: there is no row to evaluate on")
        return LoadedBenchmark(rows, protocol, units, self.data_dir, report)


@dataclass(frozen=True)
class LoadedBenchmark:
    """Rows of a benchmark, in units that are predicted together."""

    rows: Any
    protocol: Protocol
    units: list[list[int]]
    root: Path | None
    report: Report

    def unit(self, number: int) -> list[dict[str, Any]]:
        """The rows of a unit."""
        return [self.rows[index] for index in self.units[number]]

    def digest(self) -> str:
        """Tells rows apart, wherever they lie; PNG masks are not part of it."""
        digest = hashlib.sha256()
        columns = ["video_id", "expression_id", "expression_raw", "frames", "object_ids", "annotated_frames"]
        rows = self.rows.select_columns([*columns, "masks", "boxes"])
        for unit in self.units:
            for number in unit:
                digest.update(json.dumps(rows[number]).encode())
        return digest.hexdigest()[:12]

    def chosen(self) -> Iterator[dict[str, Any]]:
        """All rows without their masks."""
        rows = self.rows.remove_columns("masks")
        return (rows[number] for unit in self.units for number in unit)

    def score(self, number: int, predictor: Any, writer: MaskWriter | None = None) -> list[dict[str, Any]]:
        """Results of a unit, each with its number as `video`."""
        results = self.protocol.score(self.unit(number), self.root, predictor, writer)
        return [{"video": number, **result} for result in results]


def describe_model(checkpoint: str, predictor: ModelPredictor) -> dict[str, Any]:
    """What numbers of a model depend on: its weights, too, since a folder can get others."""
    digest = hashlib.sha256()
    processor = predictor.processor
    config = copy.copy(predictor.model.config)
    config.__dict__.pop("frozen_parts", None)  # where weights are kept changes no number
    for part in (config.to_json_string(), processor.video_processor.to_json_string()):
        digest.update(part.encode())
    digest.update(json.dumps(processor.tokenizer.get_vocab(), sort_keys=True).encode())
    for name, tensor in sorted(predictor.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return {
        "checkpoint": checkpoint,
        "weights": digest.hexdigest()[:12],
        "dtype": str(predictor.model.dtype).removeprefix("torch."),
        "threshold": predictor.threshold,
        "clip_length": predictor.clip_length,
        "size": dict(predictor.processor.video_processor.size),
        "grouping": predictor.grouping,
    }


def evaluate(
    benchmark: Benchmark,
    predictor: Any,
    described: Mapping[str, Any],
    output: str | os.PathLike,
    save_masks: bool = False,
    num_worst: int = 0,
    on_video: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Evaluate on all processes of the run; each takes a part of the videos.

    Started again with the same arguments it goes on where it was killed, and gives the same files. Memory holds a
    clip, those before and after it, and the numbers, whatever the size of the data set.

    Args:
        benchmark: What to evaluate on.
        predictor: Such as [`~hf_rvos.evaluation.prediction.ModelPredictor`].
        described: What it predicts with (checkpoint, threshold and so on), for the reports.
        output: Folder for `metrics.json`, `metrics.md`, `expressions.csv`, `chart.png`, pictures of the worst results
            in `worst`, the masks in `masks`, and `submission.zip` for a server.
        save_masks: Whether masks are written as well. Without ground truth they always are.
        num_worst: How many of the worst results are drawn.
        on_video: Called after each video with the number of those finished by this process, and of all it has to do.

    Returns:
        What is in `metrics.json`, on the main process, and an empty dict on others.

    Raises:
        ValueError: if the folder holds another evaluation, or the data set cannot be read.
    """
    state = process_state()
    with state.main_process_first():
        loaded = benchmark.load(predictor.model_type)
    protocol = loaded.protocol
    needs_masks = save_masks or not protocol.has_truth
    num_videos = len({row["video_id"] for row in loaded.chosen()})
    settings = benchmark.describe() | protocol.settings | {"num_videos": num_videos, "rows": loaded.digest()}
    settings |= {**described, **predictor.prepare(loaded.chosen(), protocol)}
    settings |= {"saved_masks": needs_masks, "versions": versions()}
    makes_archive = needs_masks and benchmark.name in TOP_FOLDERS and benchmark.limit is None
    if makes_archive and not protocol.has_truth:
        check_complete(loaded.report)
    results = ResultFolder(output, settings)
    writer = MaskWriter(results.folder / "masks") if needs_masks else None
    mine = range(state.process_index, len(loaded.units), state.num_processes)
    missing = [number for number in mine if not results.has(number)]
    for count, number in enumerate(missing, start=1):
        results.write(number, loaded.score(number, predictor, writer))
        if on_video is not None:
            on_video(count, len(missing))
    state.wait_for_everyone()
    if not state.is_main_process:
        return {}

    scored = [result for number in range(len(loaded.units)) for result in results.read(number)]
    metrics = settings | {"num_rows": len(scored), "missing": loaded.report.faults} | protocol.summarize(scored)
    write_rows(results.folder / "expressions.csv", scored)
    if makes_archive:
        write_submission(writer.folder, loaded.chosen(), results.folder / "submission.zip")
    if protocol.has_truth:
        key, label = protocol.headline
        title = ", ".join(str(settings[name]) for name in ("dataset", "split", "protocol"))
        save_chart(
            results.folder / "chart.png", {settings.get("checkpoint", "predictions"): metrics}, key, title, label
        )
        if num_worst:
            draw_worst(results.folder / "worst", scored, protocol, loaded.unit, loaded.root, predictor, num_worst)
    with replace_when_done(results.folder / "metrics.md") as path:
        path.write_text(report_text(metrics, settings, protocol) + "\n", encoding="utf-8")
    with replace_when_done(results.folder / "metrics.json") as path:  # last: it says that all is there
        path.write_text(json.dumps(_without_nan(metrics), indent=2) + "\n", encoding="utf-8")
    return _without_nan(metrics)


def _without_nan(value: Any) -> Any:
    """JSON has no NaN, the mean of nothing."""
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    return None if value != value else value


def report_text(metrics: Mapping[str, Any], settings: Mapping[str, Any], protocol: Protocol) -> str:
    """What was evaluated, and the table, in Markdown."""
    caption = ", ".join(f"{key} {value}" for key, value in settings.items() if key != "versions")
    versions = ", ".join(f"{name} {version}" for name, version in settings["versions"].items() if version)
    return f"{caption}; {versions}\n\n{markdown_table(metrics, protocol.columns)}"
