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
"""Drawing of scenes: anti-aliased colour frames and the exact visible area of every object.

Every value is an integer from the polygon corners on, so a scene has the same bytes on every machine.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from hf_rvos.data.moving_shapes.config import MovingShapesConfig, RandomStream
from hf_rvos.data.moving_shapes.motion import SUBPIXELS, unit_circle
from hf_rvos.data.moving_shapes.scene import Scene, ShapeObject


PALETTE = {
    "red": (218, 36, 40),
    "green": (38, 172, 62),
    "blue": (38, 72, 226),
    "yellow": (244, 224, 44),
    "purple": (152, 46, 190),
    "orange": (246, 138, 24),
    "white": (246, 246, 246),
    "cyan": (52, 214, 226),
}
# Corners are given to OpenCV in sixteenths of a sample.
SHIFT = 4
SAMPLES = SUBPIXELS * SUBPIXELS
MAX_OBJECTS = 6


class Rendering(NamedTuple):
    """A drawn scene.

    Args:
        frames: `(num_frames, height, width, 3)` uint8, RGB.
        object_map: `(num_frames, height, width)` uint8, 0 for background and `i + 1` where object `i` is visible.
        area: `(num_frames, num_objects)` int64, visible pixels of each object.
        full_area: `(num_frames, num_objects)` int64, pixels of each object as if alone on an endless canvas; 0 while
            hidden.
        covered: `(num_frames, num_objects, num_objects)` int64, pixels of the second object that the first one covers.
    """

    frames: np.ndarray
    object_map: np.ndarray
    area: np.ndarray
    full_area: np.ndarray
    covered: np.ndarray


def _as_arrays(drawings: dict[str, list]) -> dict[str, list[np.ndarray]]:
    """Each contour as `(2, num_corners)`: its x and its y."""
    return {name: [np.array(contour, float).T for contour in contours] for name, contours in drawings.items()}


def _regular(count: int, radius: float, first: float = -0.25) -> list[tuple[float, float]]:
    return [tuple(radius * value for value in unit_circle(first + index / count)) for index in range(count)]


def _star() -> list[tuple[float, float]]:
    outer, inner = _regular(5, 1.34), _regular(5, 0.62, -0.15)
    return [corner for pair in zip(outer, inner) for corner in pair]


def _cross() -> list[tuple[float, float]]:
    arm, end = 0.4, 1.12
    quarter = [(arm, -end), (arm, -arm), (end, -arm)]
    corners = []
    for _ in range(4):
        corners += quarter
        quarter = [(-y, x) for x, y in quarter]
    return corners


def _heart() -> list[tuple[float, float]]:
    corners = []
    for index in range(40):
        _, sine = unit_circle(index / 40)
        cosines = [unit_circle(index * k / 40)[0] for k in (1, 2, 3, 4)]
        height = 13 * cosines[0] - 5 * cosines[1] - 2 * cosines[2] - cosines[3]
        corners.append((16 * sine**3 / 14.5, -(height + 2.5) / 14.5))
    return corners


# Contours of each shape around (0, 0) for radius 1, y pointing down; sized to have similar areas.
CONTOURS = _as_arrays(
    {
        "circle": [_regular(48, 1.0)],
        "square": [[(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)]],
        "triangle": [_regular(3, 1.35)],
        "star": [_star()],
        "cross": [_cross()],
        "ring": [_regular(48, 1.1), _regular(48, 0.58)],
        "heart": [_heart()],
        "diamond": [[(0, -1.4), (0.84, 0), (0, 1.4), (-0.84, 0)]],
    }
)
REACH = 1.42


def _stripes() -> list[list[tuple[float, float]]]:
    width, period = 0.14, 0.62
    bands = []
    for index in range(-2, 3):
        middle = index * period
        bands.append([(-2, middle - width), (2, middle - width), (2, middle + width), (-2, middle + width)])
    # Diagonal, so that stripes never run along the sides of a square or cross.
    cosine, sine = unit_circle(0.11)
    return [[(x * cosine - y * sine, x * sine + y * cosine) for x, y in band] for band in bands]


def _dots() -> list[list[tuple[float, float]]]:
    period = 0.6
    centres = [(i * period, j * period) for i in range(-2, 3) for j in range(-2, 3)]
    return [[(x + a, y + b) for a, b in _regular(8, 0.17)] for x, y in centres]


PATTERNS = _as_arrays({"striped": _stripes(), "dotted": _dots()})


def _draw(contours: list[np.ndarray], radius: float, angle: int, centre: tuple[float, float], size: int) -> np.ndarray:
    """`(size, size)` uint8 samples, 1 inside the contours (even-odd rule)."""
    import cv2

    cosine, sine = unit_circle(angle % 360 / 360)
    # All corners are turned at once; a dotted shape has 200 of them in 25 contours.
    x, y = np.concatenate(contours, axis=1)
    corners = np.empty((len(x), 2))
    corners[:, 0] = (x * cosine - y * sine) * radius + centre[0]
    corners[:, 1] = (x * sine + y * cosine) * radius + centre[1]
    corners = np.floor(corners * 2**SHIFT + 0.5).astype(np.int32)
    ends = list(accumulate(contour.shape[1] for contour in contours))
    polygons = [corners[begin:end] for begin, end in zip([0, *ends], ends)]
    canvas = np.zeros((size, size), np.uint8)
    cv2.fillPoly(canvas, polygons, 1, lineType=cv2.LINE_8, shift=SHIFT)
    return canvas


def _count_samples(samples: np.ndarray) -> np.ndarray:
    """Sum of each 4 x 4 block of a uint8 array of zeros and ones, as `(height / 4, width / 4)` uint16."""
    # Four neighbours are added at once as the bytes of one 32-bit word; the product gathers them in the top byte.
    words = samples.view(np.uint32)
    words = words[0::4] + words[1::4] + words[2::4] + words[3::4]
    return (words * np.uint32(0x01010101) >> np.uint32(24)).astype(np.uint16)


class _Sprite(NamedTuple):
    half: int
    light: np.ndarray  # (2 * half + 1, 2 * half + 1, 3) uint16, colour of the object times its covered samples
    uncovered: np.ndarray  # (2 * half + 1, 2 * half + 1, 1) uint16, samples of the pixel it leaves free
    inside: np.ndarray  # (2 * half + 1, 2 * half + 1) bool, at least half covered
    area: int


@lru_cache(maxsize=512)
def _sprite(look: tuple[str, str, str], radius_sixteenths: int, angle: int, phase_x: int, phase_y: int) -> _Sprite:
    """One object in a square crop around its centre pixel; `look` is its shape, fill and colour."""
    shape, fill, color_name = look
    radius = radius_sixteenths / 16
    half = math.ceil(radius * REACH) + 1
    size = (2 * half + 1) * SUBPIXELS
    centre = (half * SUBPIXELS + phase_x - 0.5, half * SUBPIXELS + phase_y - 0.5)
    samples = _draw(CONTOURS[shape], radius * SUBPIXELS, angle, centre, size)
    coverage = _count_samples(samples)
    color = np.array(PALETTE[color_name], np.uint16)
    light = coverage[..., None] * color
    if fill != "plain":
        pattern = _count_samples(samples & _draw(PATTERNS[fill], radius * SUBPIXELS, angle, centre, size))
        light -= pattern[..., None] * (color * 3 // 4)
    inside = coverage * 2 >= SAMPLES
    return _Sprite(half, light, (SAMPLES - coverage)[..., None], inside, int(inside.sum()))


def _background(config: MovingShapesConfig, stream: RandomStream) -> np.ndarray:
    """`(height, width, 3)` uint8: smooth colour noise or a gradient, dark enough for all colours, and fine noise."""
    rows, columns = stream.choice(((1, 1), (2, 3), (3, 4)))
    level = 62 + stream.below(52)
    tint = stream.integers((3,), 25) - 12
    knots = (level + tint + stream.integers((rows + 1, columns + 1, 3), 37) - 18) * 256

    def blend(values: np.ndarray, length: int) -> np.ndarray:
        cells = len(values) - 1
        place = np.arange(length) * cells * 256 // length
        weight = place % 256
        weight = (weight * weight * (768 - 2 * weight) >> 16)[:, None, None]  # smooth step, 0 to 256
        return (values[place // 256] * (256 - weight) + values[place // 256 + 1] * weight) // 256

    smooth = blend(blend(knots, config.height).swapaxes(0, 1), config.width).swapaxes(0, 1) // 256
    return (smooth + stream.integers((config.height, config.width, 3), 9) - 4).astype(np.uint8)


def _paint(frame: np.ndarray, owners: np.ndarray, item: ShapeObject, number: int, time: int) -> tuple[int, np.ndarray]:
    """Draw one object over a frame and its owner map in place.

    Returns:
        Its full area in pixels, and how many pixels of each owner it takes, `(10,)` with background and empty entries.
    """
    height, width = owners.shape
    x, y = (int(value) for value in item.track.offset[time] + item.start)
    radius = math.floor(item.radius * item.track.scale[time] * 16 + 0.5)
    angle = (item.tilt + int(item.track.angle[time])) % 360
    sprite = _sprite((item.shape, item.fill, item.color), radius, angle, x % SUBPIXELS, y % SUBPIXELS)
    left, top = x // SUBPIXELS - sprite.half, y // SUBPIXELS - sprite.half
    size = 2 * sprite.half + 1
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + size, width), min(top + size, height)
    if x0 >= x1 or y0 >= y1:
        return sprite.area, np.zeros(MAX_OBJECTS + 1, np.int64)
    crop = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    region, owner, inside = frame[y0:y1, x0:x1], owners[y0:y1, x0:x1], sprite.inside[crop]
    region[:] = (region * sprite.uncovered[crop] + sprite.light[crop] + SAMPLES // 2) // SAMPLES
    taken = np.bincount(owner[inside], minlength=MAX_OBJECTS + 1)
    owner[inside] = number + 1
    return sprite.area, taken


def render_scene(
    scene: Scene, config: MovingShapesConfig, stream: RandomStream, times: Sequence[int] | None = None
) -> Rendering:
    """Draw the frames of a scene, each from the back to the front.

    Args:
        scene: what to draw.
        config: canvas and length.
        stream: random numbers of the background.
        times: numbers of the frames to draw; None draws all.

    Returns:
        `Rendering`.
    """
    times = range(config.num_frames) if times is None else times
    num_frames, count = len(times), len(scene.objects)
    frames = np.repeat(_background(config, stream)[None], num_frames, axis=0)
    object_map = np.zeros(frames.shape[:3], np.uint8)
    full_area = np.zeros((num_frames, count), np.int64)
    taken = np.zeros((num_frames, count, MAX_OBJECTS + 1), np.int64)
    for place, time in enumerate(times):
        for number in scene.depth:
            item = scene.objects[number]
            if item.track.shown[time]:
                full_area[place, number], taken[place, number] = _paint(
                    frames[place], object_map[place], item, number, time
                )
    covered = taken[..., 1 : count + 1]
    # What an object took when it was drawn, less what the ones in front of it took from it.
    return Rendering(frames, object_map, taken.sum(-1) - covered.sum(1), full_area, covered)
