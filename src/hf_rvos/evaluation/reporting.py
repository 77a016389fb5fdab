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
"""What people look at: tables, a chart, and pictures of the worst results."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from hf_rvos.data.media import load_clip
from hf_rvos.evaluation.protocols import Protocol
from hf_rvos.utils.charts import save_bar_chart
from hf_rvos.utils.files import replace_when_done
from hf_rvos.utils.visualization import draw_comparison


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
    folder: Path,
    results: Sequence[Mapping[str, Any]],
    protocol: Protocol,
    units: Callable[[int], Sequence[Mapping[str, Any]]],
    root: Path | None,
    predictor: Any,
    number: int,
) -> None:
    """Predict the units of the worst results again, and draw what was predicted and what is true.

    Args:
        folder: Where the pictures go; those of earlier calls are removed.
        results: Of the protocol, with the number of the unit that each is from as `video`.
        protocol: How they were scored.
        units: The rows of a unit, by its number.
        root: Folder of the data set.
        predictor: What they were predicted with.
        number: How many are drawn.
    """
    folder.mkdir(exist_ok=True)
    drawn = set()
    worst = sorted(results, key=lambda result: result[protocol.ranked_by])[:number]
    for rank, result in enumerate(worst, start=1):
        shown = protocol.show(result, units(result["video"]), root, predictor)
        frames = load_clip(shown.row, root, shown.positions)
        lines = [shown.text, f"{shown.caption}; bright: predicted, white line: true"]
        strip = draw_comparison(frames, shown.predicted, shown.target, lines, len(frames))
        path = folder / f"{rank:02d}_{shown.name.replace('/', '-')}.png"
        with replace_when_done(path) as temporary:
            Image.fromarray(strip).save(temporary)
        drawn.add(path)
    for path in set(folder.glob("[0-9][0-9]_*.png")) - drawn:
        path.unlink()
