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

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from PIL import Image

from hf_rvos.data.loading import load_dataset
from hf_rvos.evaluation.protocols import find_protocol
from hf_rvos.evaluation.result_folder import ResultFolder, versions, write_rows
from hf_rvos.evaluation.submission import TOP_FOLDERS, mask_path, write_submission
from hf_rvos.utils.files import replace_when_done


class MaskWriter:
    """Writes masks as `<video>/<expression id>/<frame>.png`, 0 and 255, the form that servers take.

    Args:
        folder: Where the folders of the videos go.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, row: Mapping[str, Any], positions: Sequence[int], masks: np.ndarray) -> None:
        """Write the masks `(num_frames, height, width)` of some frames of a row."""
        for position, mask in zip(positions, masks, strict=True):
            path = self.folder / mask_path(row, row["frames"][position])
            path.parent.mkdir(parents=True, exist_ok=True)
            with replace_when_done(path) as temporary:
                Image.fromarray(mask.astype(np.uint8) * 255).save(temporary)


def evaluate(
    make_predictor: Callable[[str], Any],
    predictions: Mapping[str, Any],
    dataset: str,
    data_dir: str | os.PathLike | None,
    split: str,
    output: str | os.PathLike,
    protocol: str = "official",
    limit: int | None = None,
    save_masks: bool = False,
    options: Mapping[str, Any] | None = None,
    on_video: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Evaluate on all processes of the run; each takes a part of the videos.

    Started again with the same arguments it goes on where it was killed, and gives the same files. Memory holds one
    clip, whatever the size of the data set.

    Args:
        make_predictor: Given the column of the sentences, something with the methods of
            [`~hf_rvos.evaluation.prediction.ModelPredictor`]. Called only if a video is left to do.
        predictions: What it predicts with (checkpoint, threshold and so on), for the reports.
        dataset: Name of the data set, see [`~hf_rvos.data.load_dataset`].
        data_dir: Its folder.
        split: Its split.
        output: Folder for `metrics.json`, `metrics.md`, `expressions.csv`, and the masks or the archive for a server.
        protocol: `"official"` or `"per-expression"`.
        limit: Number of videos, from the first; all if None.
        save_masks: Whether masks are written as well. Without ground truth they always are.
        options: Of the data set.
        on_video: Called after each video with the number of those finished by this process, and of all it has to do.

    Returns:
        What is in `metrics.json`, on the main process, and an empty dict on others.

    Raises:
        ValueError: if the folder holds another evaluation, or the data set cannot be read or has no ground truth and
            no server either.
    """
    state = PartialState()
    with state.main_process_first():
        rows = load_dataset(dataset, data_dir, split=split, **(options or {}))
    judge = find_protocol(dataset, protocol, has_truth=has_truth(rows))
    units = list(judge.units(rows))[:limit]
    settings = {
        "dataset": dataset,
        "split": split,
        **(options or {}),
        "protocol": judge.name,
        "num_videos": len(units),
        **predictions,
        "versions": versions(),
    }
    results = ResultFolder(output, settings)
    writer = MaskWriter(results.folder / "masks") if save_masks or not judge.has_truth else None
    root = None if data_dir is None else Path(data_dir)
    mine = range(state.process_index, len(units), state.num_processes)
    missing = [number for number in mine if not results.has(number)]
    predictor = make_predictor(judge.text_column) if missing else None
    for count, number in enumerate(missing, start=1):
        unit = [rows[index] for index in units[number]]
        results.write(number, judge.score(unit, root, predictor, writer))
        if on_video is not None:
            on_video(count, len(missing))
    state.wait_for_everyone()
    if not state.is_main_process:
        return {}

    scored = [{"video": number, **result} for number in range(len(units)) for result in results.read(number)]
    metrics = settings | {"num_rows": len(scored)} | judge.summarize(scored)
    with replace_when_done(results.folder / "metrics.json") as path:
        path.write_text(json.dumps(metrics, indent=2) + "\n")
    write_rows(results.folder / "expressions.csv", scored)
    if writer is not None and dataset in TOP_FOLDERS:
        chosen = [rows[index] for unit in units for index in unit]
        write_submission(writer.folder, chosen, results.folder / "submission.zip")
    return metrics


def has_truth(rows: Any) -> bool:
    """Whether there are masks to compare with."""
    return len(rows) > 0 and rows[0]["mask_kind"] != "none"
