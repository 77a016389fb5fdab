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
"""What people look at: tables, a chart, and pictures of the worst rows."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hf_rvos.data.media import load_masks
from hf_rvos.utils.charts import save_bar_chart
from hf_rvos.utils.files import replace_when_done
from hf_rvos.utils.visualization import draw_comparison


FRAMES_SHOWN = 4


def markdown_table(summary: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """A line for all rows and one for each group.

    Args:
        summary: Numbers by name; under `groups` the same for each group.
        columns: Which numbers are shown, and their titles.
    """
    groups = {"overall": summary} | summary.get("groups", {})
    columns = {key: title for key, title in columns.items() if any(key in numbers for numbers in groups.values())}
    cells = [["rows of", *columns.values()]]
    for name, numbers in groups.items():
        cells.append([name, *(_number(numbers.get(key)) for key in columns)])
    widths = [max(len(line[column]) for line in cells) for column in range(len(columns) + 1)]
    lines = [
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |" for line in cells
    ]
    return "\n".join([lines[0], "|---" + "|---:" * len(columns) + "|", *lines[1:]])


def _number(value: Any) -> str:
    if value is None or value != value:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def save_chart(path: Path, summaries: Mapping[str, Mapping[str, Any]], key: str, title: str, label: str) -> None:
    """Draw a number of several evaluations of the same rows as bars, overall and for each group.

    Args:
        path: Of the picture.
        summaries: For each name in the legend, its numbers.
        key: Which number.
        title: Above the chart.
        label: What the number is.
    """
    first = next(iter(summaries.values()))
    names = list(first.get("groups", {}))
    heights = {
        name: [summary[key], *(summary["groups"][group][key] for group in names)]
        for name, summary in summaries.items()
    }
    heights = {name: [math.nan if value is None else value for value in values] for name, values in heights.items()}
    with replace_when_done(path) as temporary:
        save_bar_chart(temporary, ["overall", *names], heights, title=title, label=label)


def draw_worst(
    folder: Path, results: Sequence[Mapping[str, Any]], units: Any, root: Path | None, predictor: Any, number: int
) -> None:
    """Predict the videos of the rows with the lowest J&F again, and draw what was predicted and what is true.

    Args:
        folder: Where the pictures go; those of earlier calls are removed.
        results: Of the per-expression protocol, with the `video` that each is from.
        units: The rows of a video, by its number.
        root: Folder of the data set.
        predictor: What they were predicted with.
        number: How many are drawn.
    """
    folder.mkdir(exist_ok=True)
    drawn = set()
    worst = sorted(results, key=lambda result: result["j_and_f"])[:number]
    for rank, result in enumerate(worst, start=1):
        rows = units(result["video"])
        index = [row["expression_id"] for row in rows].index(result["expression_id"])
        shown = set(np.linspace(0, rows[0]["num_frames"] - 1, FRAMES_SHOWN).round().astype(int).tolist())
        frames, masks, kept = [], [], []
        for clip in predictor.clips(rows, root):
            chosen = [offset for offset, position in enumerate(clip.positions) if position in shown]
            if chosen:
                frames.append(clip.frames[chosen])
                masks.append(clip.track(index)["masks"][chosen])
                kept += [clip.positions[offset] for offset in chosen]
        j_and_f, j_mean, f_mean = (100 * result[key] for key in ("j_and_f", "j_mean", "f_mean"))
        lines = [
            result["expression"],
            f"J&F {j_and_f:.1f} (J {j_mean:.1f}, F {f_mean:.1f}), {result['video_id']}, expression "
            f"{result['expression_id']}; bright: predicted, white line: true",
        ]
        target = load_masks(rows[index], root, kept)
        strip = draw_comparison(np.concatenate(frames), np.concatenate(masks), target, lines, FRAMES_SHOWN)
        name = f"{result['video_id']}_{result['expression_id']}".replace("/", "-")
        path = folder / f"{rank:02d}_{name}.png"
        with replace_when_done(path) as temporary:
            Image.fromarray(strip).save(temporary)
        drawn.add(path)
    for path in set(folder.glob("[0-9][0-9]_*.png")) - drawn:
        path.unlink()
