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
"""Sampling of scenes: which objects there are, how they move and where, with planned look-alikes.

A sentence about motion is diagnostic only if another object fits its other words. Objects are therefore planned in
groups that share attributes and differ in one thing, the theme of the group: motion, order of motions, an event,
speed, size, position or who passes behind whom.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_rvos.data.moving_shapes.config import MovingShapesConfig, RandomStream
from hf_rvos.data.moving_shapes.motion import (
    CIRCLES,
    DIRECTIONS,
    HEADINGS,
    OPPOSITE,
    SUBPIXELS,
    Segment,
    Track,
    run_program,
)


SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "diamond")
COLORS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "cyan")
SIZES = ("small", "large")
FILLS = ("plain", "striped", "dotted")
ATTRIBUTES = ("size", "fill", "color", "shape")
# Radius in pixels of the default canvas.
RADIUS_RANGE = {"small": (10.0, 12.5), "large": (17.0, 21.5)}
UNSPINNABLE = ("circle", "ring")

OBJECT_COUNTS = {3: 0.15, 4: 0.3, 5: 0.3, 6: 0.25}
THEMES = {
    "motion": 0.19,
    "order": 0.23,
    "event": 0.24,
    "speed": 0.08,
    "size": 0.05,
    "place": 0.06,
    "crossing": 0.15,
}
# Groups about order often hold an object that turns around, so few are planned.
EVENTS = {
    "stops": 0.14,
    "starts": 0.14,
    "disappears": 0.1,
    "appears": 0.08,
    "returns": 0.11,
    "turns": 0.05,
    "leaves": 0.14,
    "enters": 0.12,
    "appears_last": 0.12,
    "disappears_first": 0.12,
}
# Pixels a frame on the default canvas with 16 frames.
SLOW, MEDIUM, FAST = (1.6, 2.1), (3.0, 4.2), (4.8, 6.0)


@dataclass
class ShapeObject:
    """One object of a scene.

    Args:
        shape: one of `SHAPES`.
        color: one of `COLORS`.
        size: `"small"` or `"large"`, its size in the first frame.
        fill: one of `FILLS`.
        radius: pixels, in the first frame.
        tilt: degrees by which it is turned from the start.
        program: its motion.
        edge: `"leave"` or `"enter"` if the program crosses the border of the canvas, else None.
        track: where it goes, relative to `start`.
        start: x and y of the centre in the first frame, in quarter pixels.
    """

    shape: str
    color: str
    size: str
    fill: str
    radius: float = 0.0
    tilt: int = 0
    program: tuple[Segment, ...] = ()
    edge: str | None = None
    track: Track | None = None
    start: tuple[int, int] = (0, 0)

    @property
    def position(self) -> np.ndarray:
        """`(num_frames, 2)` int64, x and y of the centre in quarter pixels."""
        return self.track.offset + np.array(self.start)


@dataclass
class Scene:
    """The objects of a video and their depth.

    Args:
        objects: in the order of their ids.
        depth: object ids from the back to the front.
    """

    objects: list[ShapeObject]
    depth: list[int]


@dataclass
class _Plan:
    """Motion of one object before it has a radius and a place."""

    program: tuple[Segment, ...]
    edge: str | None = None
    crosses: bool = False
    front: bool = False


class _Planner:
    """Draws motion programs with the speeds and durations of one configuration."""

    def __init__(self, config: MovingShapesConfig, stream: RandomStream):
        self.config, self.stream = config, stream
        self.pace = config.unit * 16 / config.num_frames

    def split(self, count: int) -> list[int]:
        """Durations of `count` segments that fill the video, none much shorter than the others."""
        total = self.config.num_frames
        if count == 1:
            return [total]
        if count == 2:
            first = round(total * self.stream.uniform(0.42, 0.58))
            return [first, total - first]
        first = round(total * self.stream.uniform(0.3, 0.37))
        second = round(total * self.stream.uniform(0.3, 0.36))
        return [first, second, total - first - second]

    def segment(self, primitive: str, duration: int, speed_range: tuple[float, float] = MEDIUM) -> Segment:
        stream = self.stream
        if primitive in CIRCLES:
            # One turn in any case; the radius of the path follows from the speed.
            return Segment(primitive, duration, stream.uniform(6.5, 8.5) * self.pace, stream.below(16))
        if primitive == "zigzag":
            return Segment(primitive, duration, stream.uniform(2.6, 3.6) * self.pace, stream.below(4))
        if primitive == "grow":
            return Segment(primitive, duration, stream.uniform(1.6, 1.75))
        if primitive == "shrink":
            return Segment(primitive, duration, stream.uniform(0.55, 0.62))
        if primitive == "spin":
            rate = stream.uniform(14, 21) * 16 / self.config.num_frames
            return Segment(primitive, duration, rate * stream.choice((-1, 1)))
        if primitive in DIRECTIONS:
            return Segment(primitive, duration, stream.uniform(*speed_range) * self.pace)
        return Segment(primitive, duration)

    def program(self, *primitives: str, speed_range: tuple[float, float] | None = None) -> tuple[Segment, ...]:
        """A program that runs the primitives one after the other, travelling at one speed."""
        if speed_range is None:
            speed_range = (MEDIUM[0], FAST[0]) if len(primitives) < 3 else (4.0, 5.2)
        speed = self.stream.uniform(*speed_range)
        durations = self.split(len(primitives))
        return tuple(self.segment(*item, (speed, speed)) for item in zip(primitives, durations))

    def single(self, count: int, shape: str) -> list[tuple[Segment, ...]]:
        """`count` programs of one segment with different primitives."""
        weights = {"left": 3, "right": 3, "up": 3, "down": 3, "clockwise": 2, "counterclockwise": 2, "zigzag": 2}
        weights |= {"still": 2, "grow": 2, "shrink": 2} | ({} if shape in UNSPINNABLE else {"spin": 2})
        programs = []
        for _ in range(count):
            primitive = self.stream.weighted(weights)
            del weights[primitive]
            programs.append(self.program(primitive))
        return programs

    def _motion(self, shape: str, count: int) -> list[_Plan]:
        if self.stream.chance(0.25):
            # Same path, opposite sense: no single picture tells them apart.
            pair = self.stream.choice((HEADINGS[:2], HEADINGS[2:], CIRCLES, ("grow", "shrink")))
            plans = [_Plan(self.program(primitive)) for primitive in self.stream.sample(pair, 2)]
            return plans + [_Plan(self.program("still"))] * (count - 2)
        return [_Plan(program) for program in self.single(count, shape)]

    def _order(self, shape: str, count: int) -> list[_Plan]:
        stream = self.stream
        length = 3 if stream.chance(0.25) else 2
        pool = [*HEADINGS, "grow", "shrink"] + ([] if shape in UNSPINNABLE else ["spin"])
        if length == 3 or stream.chance(0.6):
            pool = list(HEADINGS)
        names = stream.sample(pool, 2)
        if OPPOSITE.get(names[0]) == names[1] and stream.chance(0.5):
            names = [names[0], stream.choice([name for name in HEADINGS if name not in names])]
        if length == 3:
            names.append(stream.choice([name for name in HEADINGS if name not in (names[1],)]))
        # The look-alike starts or ends in the same way; a third object does the same in reverse.
        changed = stream.choice((0, length - 1))
        others = [name for name in pool if name not in names]
        if not others:
            others = [name for name in pool if name != names[changed] and name != names[1 if changed == 0 else -2]]
        twin = list(names)
        twin[changed] = stream.choice(others)
        return [_Plan(self.program(*each)) for each in (names, twin, names[::-1])[:count]]

    def _event(self, shape: str, count: int) -> list[_Plan]:
        stream = self.stream
        event = stream.weighted(EVENTS)
        heading = stream.choice(HEADINGS)
        mover = heading if stream.chance(0.7) else stream.choice((*CIRCLES, "still"))
        plain = _Plan(self.program(mover))
        total = self.config.num_frames
        if event == "stops":
            plans = [_Plan(self.program(heading, "still", speed_range=FAST))]
            plain = _Plan(self.program(stream.choice((heading, "still", OPPOSITE[heading]))))
        elif event == "starts":
            plans = [_Plan(self.program("still", heading, speed_range=FAST))]
            plain = _Plan(self.program(stream.choice((heading, "still", OPPOSITE[heading]))))
        elif event == "turns":
            plans = [_Plan(self.program(heading, OPPOSITE[heading]))]
            plain = _Plan(self.program(stream.choice((heading, OPPOSITE[heading]))))
        elif event in ("leaves", "enters"):
            plans = [_Plan(self.program(heading, speed_range=FAST), edge=event[:-1])]
            plain = _Plan(self.program(heading))
        elif event == "returns":
            seen = round(total * stream.uniform(0.25, 0.4))
            gone = round(total * stream.uniform(0.25, 0.32))
            speed = (MEDIUM[0], MEDIUM[0])
            plans = [
                _Plan(
                    (
                        self.segment(mover if mover in DIRECTIONS else "still", seen, speed),
                        self.segment("hide", gone),
                        self.segment("show" if mover not in DIRECTIONS else mover, total - seen - gone, speed),
                    )
                )
            ]
        else:
            early, late = round(total * stream.uniform(0.22, 0.3)), round(total * stream.uniform(0.48, 0.56))
            appears = event.startswith("appears")
            times = [late if appears else total - late]
            if event in ("appears_last", "disappears_first"):
                times = [late, early] if appears else [total - late, total - early]
            plans = []
            for time in times[:count]:
                moving = self.segment(mover, total - time if appears else time)
                hidden = self.segment("hide", time if appears else total - time)
                plans.append(_Plan((hidden, moving) if appears else (moving, hidden)))
        return (plans + [plain] * count)[:count]

    def _speed(self, shape: str, count: int) -> list[_Plan]:
        stream = self.stream
        heading = stream.choice(HEADINGS)
        ranges = stream.sample((SLOW, FAST), 2) if count == 2 else stream.sample((SLOW, (3.1, 3.4), (5.6, 6.0)), 3)
        headings = [heading if stream.chance(0.6) else stream.choice(HEADINGS) for _ in ranges]
        return [_Plan(self.program(*item[:1], speed_range=item[1])) for item in zip(headings, ranges)]

    def _still(self, shape: str, count: int) -> list[_Plan]:
        primitive = self.stream.choice(("still", "still", *HEADINGS))
        return [_Plan(self.program(primitive, speed_range=SLOW if primitive != "still" else None))] * count

    def _crossing(self, shape: str, count: int) -> list[_Plan]:
        heading, front = self.stream.choice(HEADINGS), self.stream.chance(0.4)
        plans = [_Plan(self.program(heading, speed_range=FAST), crosses=True, front=front)]
        others = [self.stream.choice((heading, OPPOSITE[heading])) for _ in range(count - 1)]
        return plans + [_Plan(self.program(other, speed_range=FAST)) for other in others]

    def group(self, theme: str, shape: str, count: int) -> list[_Plan]:
        draw = {"speed": self._speed, "size": self._still, "place": self._still}.get(theme)
        plans = (draw or getattr(self, f"_{theme}"))(shape, count)
        return plans

    def alone(self, shape: str) -> _Plan:
        """Motion of an object without a look-alike."""
        stream = self.stream
        if stream.chance(0.75):
            return _Plan(self.single(1, shape)[0])
        return stream.choice(self.group(stream.choice(("order", "event")), shape, 2))


def _draw_attributes(stream: RandomStream, known: list[ShapeObject]) -> dict[str, Any]:
    """Attributes of a new object, some of them borrowed so that single words rarely identify an object."""
    attributes = {
        "shape": stream.choice(SHAPES),
        "color": stream.choice(COLORS),
        "size": stream.choice(SIZES),
        "fill": stream.weighted({"plain": 0.5, "striped": 0.25, "dotted": 0.25}),
    }
    if known and stream.chance(0.6):
        name = stream.choice(("shape", "color"))
        attributes[name] = getattr(stream.choice(known), name)
    return attributes


def _fit(program: tuple[Segment, ...], config: MovingShapesConfig, margin: float, edge: str | None) -> tuple:
    """Slow a program down until its track fits on the canvas; returns program and track."""
    canvas = np.array([config.width, config.height])
    while True:
        track = run_program(program, config.unit)
        extent = np.ptp(track.offset, axis=0) / SUBPIXELS
        if edge or (extent <= canvas - 2 * margin).all():
            return program, track
        program = tuple(
            item if item.primitive in ("grow", "shrink", "spin") else item._replace(speed=item.speed * 0.85)
            for item in program
        )


def _place(
    item: ShapeObject, margin: float, others: list[ShapeObject], config: MovingShapesConfig, stream: RandomStream
) -> None:
    """Choose where an object starts: inside the canvas, and away from the others most of the time."""
    offset, canvas = item.track.offset, np.array([config.width, config.height]) * SUBPIXELS
    margin = round(margin * SUBPIXELS)
    low, high = margin - offset.min(axis=0), canvas - margin - offset.max(axis=0)
    if item.edge:
        x, y = DIRECTIONS[item.program[0].primitive]
        axis = 0 if x else 1
        travel = int(np.abs(offset[-1]).max())
        # Far enough outside to be out of sight for the last (or first) two or three frames.
        beyond = round(item.radius * 1.35 * SUBPIXELS) + travel * 5 // (2 * len(offset))
        forward = (x or y) > 0
        if item.edge == "leave":
            place = canvas[axis] + beyond - travel if forward else travel - beyond
        else:
            place = -beyond if forward else canvas[axis] + beyond
        low[axis] = high[axis] = place
    candidates = np.stack(
        [low[i] + stream.integers((24,), 65536) * np.maximum(high[i] - low[i], 0) // 65535 for i in (0, 1)], axis=-1
    )
    if not others:
        item.start = tuple(int(value) for value in candidates[0])
        return
    positions = np.stack([other.position for other in others], axis=1)  # (T, M, 2)
    reach = np.array(
        [(other.radius * other.track.scale.max() + item.radius * item.track.scale.max()) for other in others]
    )
    gaps = candidates[:, None, None] + offset[None, :, None] - positions  # (K, T, M, 2)
    touching = (gaps**2).sum(-1) < np.floor((reach * 1.1 * SUBPIXELS) ** 2).astype(np.int64)
    cost = touching[:, 0].sum(-1) * 4 + touching[:, -1].sum(-1) * 2
    if not stream.chance(0.2):
        cost = cost + touching.sum((1, 2))
    item.start = tuple(int(value) for value in candidates[int(cost.argmin())])


def sample_scene(config: MovingShapesConfig, stream: RandomStream) -> Scene:
    """Draw the objects of one video, with their motion, place and depth.

    Args:
        config: canvas and length.
        stream: random numbers of this video.

    Returns:
        `Scene` with 3 to 6 objects.
    """
    planner = _Planner(config, stream)
    count = stream.weighted(OBJECT_COUNTS)
    objects: list[ShapeObject] = []
    plans: list[_Plan] = []
    # One object always stays outside the groups, to be a reference for the others.
    while len(objects) < count - 2 and (not objects or stream.chance(0.75)):
        members = 3 if count - len(objects) > 3 and stream.chance(0.3) else 2
        theme = stream.weighted(THEMES)
        attributes = _draw_attributes(stream, objects)
        shared = {name: stream.chance(0.6) for name in ("color", "fill", "size")} | {"shape": True}
        if theme == "size":
            shared["size"] = False
        for number in range(members):
            own = (
                attributes
                if number == 0
                else _draw_attributes(stream, []) | {name: attributes[name] for name, same in shared.items() if same}
            )
            if theme == "size":
                own["size"] = SIZES[(SIZES.index(attributes["size"]) + (number > 0)) % 2]
            if theme == "crossing":
                own["size"] = "small"
            objects.append(ShapeObject(**own))
        plans += planner.group(theme, attributes["shape"], members)
    while len(objects) < count:
        attributes = _draw_attributes(stream, objects)
        objects.append(ShapeObject(**attributes))
        plans.append(planner.alone(attributes["shape"]))
    if any(plan.crosses for plan in plans):
        plans[-1] = _Plan(planner.program("still"))

    for item, plan in zip(objects, plans):
        primitives = [segment.primitive for segment in plan.program]
        low, high = RADIUS_RANGE[item.size]
        radius = stream.uniform(low, high)
        # Growing starts and shrinking ends within the range of sizes that are easy to see.
        radius = low if "grow" in primitives else high if "shrink" in primitives else radius
        item.radius, item.tilt, item.edge = radius * config.unit, stream.below(17) - 8, plan.edge
        item.program, item.track = plan.program, None

    depth = stream.sample(range(count), count)
    placed: list[ShapeObject] = []
    for index in reversed(range(count)):
        item, plan = objects[index], plans[index]
        margin = item.radius * 0.65
        item.program, item.track = _fit(item.program, config, margin, item.edge)
        margin *= max(1.0, item.track.scale.max() ** 0.5)
        _place(item, margin, placed, config, stream)
        if plan.crosses:
            # Meet the last object, which stands still, about half-way.
            middle = item.track.offset[config.num_frames // 2]
            jitter = stream.integers((2,), 17) - 8
            start = np.array(objects[-1].start) - middle + jitter
            canvas = np.array([config.width, config.height]) * SUBPIXELS
            low = round(margin * SUBPIXELS) - item.track.offset.min(axis=0)
            high = canvas - round(margin * SUBPIXELS) - item.track.offset.max(axis=0)
            item.start = tuple(int(value) for value in np.clip(start, low, np.maximum(low, high)))
            target, reference = depth.index(index), depth.index(count - 1)
            if (target > reference) != plan.front:
                depth[target], depth[reference] = depth[reference], depth[target]
        placed.append(item)

    order = stream.sample(range(count), count)
    return Scene([objects[index] for index in order], [order.index(index) for index in depth])
