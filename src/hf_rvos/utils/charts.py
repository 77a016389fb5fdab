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
"""Draw measurements as charts, with matplotlib."""

import os
from collections.abc import Mapping, Sequence

# Not pyplot, which keeps state and may look for a screen.
from matplotlib.figure import Figure

from hf_rvos.utils.visualization import PALETTE


def save_bar_chart(
    path: str | os.PathLike, groups: Sequence[str], series: Mapping[str, Sequence[float]], title: str, label: str
) -> None:
    """Draw percentages as groups of bars side by side, each with its number.

    Args:
        path: Where the picture goes; the suffix says in which format.
        groups: Names below the groups of bars.
        series: For each name in the legend, the height of its bar in every group, in [0, 100].
        title: Above the chart.
        label: What the height means.
    """
    width = 0.8 / len(series)  # of a bar; the rest of 1 is the gap between groups
    # Inches: room for the numbers on the bars, or at least for the names of the groups.
    figure = Figure(figsize=(1.5 + len(groups) * max(1.0, 0.42 * len(series)), 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for number, (name, heights) in enumerate(series.items()):
        left = [group - 0.4 + number * width for group in range(len(groups))]
        color = [channel / 255 for channel in PALETTE[number % len(PALETTE)]]
        bars = axes.bar(left, heights, width, align="edge", color=color, edgecolor="black", linewidth=0.5, label=name)
        axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=1)
    axes.set(title=title, ylabel=label, ylim=(0, 105), yticks=range(0, 101, 20))
    axes.set_xticks(range(len(groups)), groups)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="lightgrey")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", fontsize=8)
    figure.savefig(path)


def save_line_chart(
    path: str | os.PathLike,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
    x_label: str,
    y_label: str,
) -> None:
    """Draw numbers over time as lines; heights are logarithmic if all are above 0.

    Args:
        path: Where the picture goes; the suffix says in which format.
        curves: For each name in the legend, where its points are, from left to right, and how high.
        title: Above the chart.
        x_label: What is counted from left to right.
        y_label: What the height means.
    """
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for number, (name, (positions, heights)) in enumerate(curves.items()):
        color = [channel / 255 for channel in PALETTE[number % len(PALETTE)]]
        marker = "o" if len(heights) == 1 else None  # one point makes no line
        axes.plot(positions, heights, color=color, linewidth=1.5, marker=marker, label=name)
    if all(height > 0 for _, heights in curves.values() for height in heights):
        axes.set_yscale("log")
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.grid(color="lightgrey", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path)
