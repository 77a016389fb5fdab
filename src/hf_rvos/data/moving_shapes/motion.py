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
"""Motion programs: one to three segments, and the track an object follows when it runs them."""

import math
from typing import NamedTuple

import numpy as np


DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
CIRCLES = ("clockwise", "counterclockwise")
IN_PLACE = ("grow", "shrink", "spin")
TRAVELLING = (*DIRECTIONS, *CIRCLES, "zigzag")
RESTING = ("still", "hide", "show")
HEADINGS = tuple(DIRECTIONS)
# Positions are whole numbers of this part of a pixel, so that rounding is the same on every machine.
SUBPIXELS = 4
ZIGZAG_PERIOD = 0.32
ZIGZAG_AMPLITUDE = 9.0


class Segment(NamedTuple):
    """One step of a motion program.

    Args:
        primitive: what the object does.
        duration: frames it lasts.
        speed: pixels a frame for travelling, final factor for grow and shrink, degrees a frame for spin.
        variant: heading of a zigzag (index of `HEADINGS`) or first position on a circle (sixteenths of a turn).
    """

    primitive: str
    duration: int
    speed: float = 0.0
    variant: int = 0


class Track(NamedTuple):
    """Where an object is in each frame, relative to its first position.

    Args:
        offset: `(num_frames, 2)` int64, x and y in quarter pixels.
        scale: `(num_frames,)` float64, size relative to the first frame.
        angle: `(num_frames,)` int64, degrees, clockwise on the screen.
        shown: `(num_frames,)` bool, False while hidden.
    """

    offset: np.ndarray
    scale: np.ndarray
    angle: np.ndarray
    shown: np.ndarray


def unit_circle(turns: float) -> tuple[float, float]:
    """Cosine and sine of a number of turns, rounded so that the last bit of the C library does not matter."""
    return round(math.cos(2 * math.pi * turns), 9), round(math.sin(2 * math.pi * turns), 9)


def _triangle_wave(phase: float) -> float:
    """Goes 0, 1, 0, -1, 0 over one period."""
    phase = (phase + 0.25) % 1.0
    return 1 - abs(phase - 0.5) * 4 if phase < 1 else -1.0


def _step(segment: Segment, step: int, num_steps: int, unit: float) -> tuple[float, float]:
    """Displacement in pixels since the segment began, after `step` of `num_steps` steps."""
    primitive, _, speed, variant = segment
    if primitive in DIRECTIONS:
        x, y = DIRECTIONS[primitive]
        return x * speed * step, y * speed * step
    if primitive in CIRCLES:
        # y points down, so a growing angle runs clockwise on the screen.
        sense = 1 if primitive == "clockwise" else -1
        radius = speed * num_steps / (2 * math.pi)
        x0, y0 = unit_circle(variant / 16)
        x1, y1 = unit_circle(variant / 16 + sense * step / num_steps)
        return radius * (x1 - x0), radius * (y1 - y0)
    if primitive == "zigzag":
        x, y = DIRECTIONS[HEADINGS[variant]]
        side = ZIGZAG_AMPLITUDE * unit * _triangle_wave(step / max(num_steps * ZIGZAG_PERIOD, 4))
        return x * speed * step - y * side, y * speed * step + x * side
    return 0.0, 0.0


def run_program(program: tuple[Segment, ...], unit: float) -> Track:
    """The track of a motion program. Frame 0 shows the state before the first step.

    Args:
        program: its segments.
        unit: pixels for one pixel of the default canvas, for the width of a zigzag.

    Returns:
        `Track` with as many frames as the durations add up to.
    """
    offset, scale, angle, shown = [], [], [], []
    x = y = 0.0
    size, turned = 1.0, 0.0
    for index, segment in enumerate(program):
        first = index == 0
        num_steps = max(segment.duration - first, 1)
        size_before, turned_before, x_before, y_before = size, turned, x, y
        for position in range(segment.duration):
            step = position + (not first)
            dx, dy = _step(segment, step, num_steps, unit)
            x, y = x_before + dx, y_before + dy
            if segment.primitive in ("grow", "shrink"):
                size = size_before * (1 + (segment.speed - 1) * step / num_steps)
            elif segment.primitive == "spin":
                turned = turned_before + segment.speed * step
            offset.append((math.floor(x * SUBPIXELS + 0.5), math.floor(y * SUBPIXELS + 0.5)))
            scale.append(size)
            angle.append(math.floor(turned + 0.5))
            shown.append(segment.primitive != "hide")
    return Track(np.array(offset, dtype=np.int64), np.array(scale), np.array(angle, dtype=np.int64), np.array(shown))


def describe_program(program: tuple[Segment, ...]) -> str:
    """The primitives and durations as text, for example `left 8, hide 8`."""
    return ", ".join(f"{segment.primitive} {segment.duration}" for segment in program)
