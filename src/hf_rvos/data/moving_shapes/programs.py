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
"""Typed programs behind the sentences, executed on a drawn scene.

A program is a nested tuple such as `("unique", ("motion", ("filter", Spec(shape="circle")), "left"))`. Executing it
gives a `Selection`: the objects that certainly fit and those that possibly do. A circle that goes left and then up
possibly "moves left"; a sentence that leaves such doubt is never used, because it is kept only if both sets agree.
Sets of objects are bit masks over object ids.
"""

from typing import Any, NamedTuple

import numpy as np

from hf_rvos.data.moving_shapes.config import MovingShapesConfig
from hf_rvos.data.moving_shapes.motion import DIRECTIONS, IN_PLACE, OPPOSITE, RESTING, SUBPIXELS, TRAVELLING
from hf_rvos.data.moving_shapes.render import Rendering
from hf_rvos.data.moving_shapes.scene import ATTRIBUTES, Scene


NO, MAYBE, YES = 0, 1, 2
MOTIONS = (*TRAVELLING, *IN_PLACE, "still", "moving", "circling", "sideways", "vertical")
EVENTS = ("stops", "starts", "disappears", "appears", "returns", "turns", "leaves", "enters")
SIDES = ("left", "right", "above", "below")
TIMES = ("start", "end", "always")
RANKINGS = ("largest", "smallest", "fastest", "slowest", "leftmost", "rightmost", "highest", "lowest")
RANKED_EVENTS = ("appears_last", "disappears_first")
# The leader must beat the next by this factor in size or speed to be called the largest or fastest.
CLEAR_SIZE, CLEAR_SPEED = 1.3, 1.5


class Spec(NamedTuple):
    """Attributes that a noun phrase names; None where it says nothing."""

    size: str | None = None
    fill: str | None = None
    color: str | None = None
    shape: str | None = None

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.named.items())

    @property
    def named(self) -> dict[str, str]:
        return {name: value for name, value in zip(self._fields, self) if value}


class Selection(NamedTuple):
    """Objects that certainly and that possibly fit, as bit masks; the first is part of the second."""

    certain: int
    possible: int

    def __and__(self, other: "Selection") -> "Selection":
        return Selection(self.certain & other.certain, self.possible & other.possible)

    def without(self, other: "Selection") -> "Selection":
        return Selection(self.certain & ~other.possible, self.possible & ~other.certain)


def members(mask: int) -> list[int]:
    """Object ids in a bit mask, in rising order."""
    return [index for index in range(mask.bit_length()) if mask >> index & 1]


class SceneFacts:
    """What can be seen in a drawn scene, as far as programs ask for it.

    Args:
        scene: the objects.
        rendering: the drawn scene, for what is really visible.
        config: canvas and length.
    """

    def __init__(self, scene: Scene, rendering: Rendering, config: MovingShapesConfig):
        self.scene, self.config, self.unit = scene, config, config.unit
        self.objects = scene.objects
        count = len(scene.objects)
        self.everything = (1 << count) - 1
        self.area, self.full_area, self.covered = rendering.area, rendering.full_area, rendering.covered
        self.position = np.stack([item.position for item in scene.objects], axis=1)  # (T, N, 2)
        self.shown = np.stack([item.track.shown for item in scene.objects], axis=1)
        self.radius = np.stack([item.radius * item.track.scale for item in scene.objects], axis=1)
        enough = np.maximum(self.full_area * 0.3, 12 * self.unit**2)
        self.seen = (self.full_area > 0) & (self.area >= enough)  # (T, N)
        self.well_seen = [bool(column.mean() >= 0.4) for column in self.seen.T]
        self.kinds = [self._kinds(item.program) for item in self.objects]
        self.clear = [self._is_clear(index) for index in range(count)]
        self._having: dict[str, int] = {}
        for index, item in enumerate(self.objects):
            for name in ATTRIBUTES:
                value = getattr(item, name)
                self._having[value] = self._having.get(value, 0) | 1 << index
        self._resized = sum(1 << index for index, kinds in enumerate(self.kinds) if {"grow", "shrink"} & set(kinds))
        self._cache: dict[tuple, Selection] = {}

    @staticmethod
    def _kinds(program: tuple) -> list[str]:
        """Primitives that are not rest, with repetitions merged."""
        kinds: list[str] = []
        for segment in program:
            if segment.primitive not in RESTING and kinds[-1:] != [segment.primitive]:
                kinds.append(segment.primitive)
        return kinds

    def _is_clear(self, index: int) -> bool:
        """Whether every part of the motion can be followed: each segment is mostly seen and travels far enough."""
        item, begin = self.objects[index], 0
        if not self.well_seen[index]:
            return False
        for segment in item.program:
            end = begin + segment.duration
            if segment.primitive != "hide":
                if self.seen[begin:end, index].mean() < (0.4 if item.edge else 0.6):
                    return False
                path = self.position[max(begin - 1, 0) : end, index]
                travelled = np.abs(np.diff(path, axis=0)).sum() / SUBPIXELS
                if segment.primitive in TRAVELLING and travelled < 12 * self.unit:
                    return False
            begin = end
        return True

    def select(self, key: tuple, judge) -> Selection:
        """Apply `judge(index)` -> NO, MAYBE or YES to every object; remembered under `key`."""
        if key not in self._cache:
            verdicts = [judge(index) for index in range(len(self.objects))]
            certain = sum(1 << index for index, verdict in enumerate(verdicts) if verdict == YES)
            possible = sum(1 << index for index, verdict in enumerate(verdicts) if verdict != NO)
            self._cache[key] = Selection(certain, possible)
        return self._cache[key]

    def matching(self, spec: Spec) -> Selection:
        """Objects with the named attributes. The size of one that grows or shrinks is in doubt."""
        chosen = self.everything
        for value in spec[1:]:
            if value:
                chosen &= self._having.get(value, 0)
        if not spec.size:
            return Selection(chosen, chosen)
        sized = self._having.get(spec.size, 0)
        return Selection(chosen & sized & ~self._resized, chosen & (sized | self._resized))

    def moving(self, motion: str) -> Selection:
        """Objects whose only motion is the named one; those for which it is one of several are in doubt."""

        def judge(index: int) -> int:
            kinds, item = set(self.kinds[index]), self.objects[index]
            hides = any(segment.primitive == "hide" for segment in item.program)
            if not self.clear[index]:
                return MAYBE
            if motion == "still":
                return (MAYBE if hides or kinds <= set(IN_PLACE) else NO) if kinds or hides else YES
            if motion == "moving":
                return YES if kinds & set(TRAVELLING) else (MAYBE if kinds or hides else NO)
            if motion == "circling":
                return YES if len(kinds) == 1 and kinds <= {"clockwise", "counterclockwise"} else NO
            if motion in ("sideways", "vertical"):
                wanted = {"left", "right"} if motion == "sideways" else {"up", "down"}
                return YES if kinds and kinds <= wanted else (MAYBE if kinds & {*wanted, "zigzag"} else NO)
            if motion in kinds:
                return YES if len(kinds) == 1 else MAYBE
            return MAYBE if motion in DIRECTIONS and "zigzag" in kinds else NO

        return self.select(("motion", motion), judge)

    def ordered(self, *motions: str) -> Selection:
        """Objects that do exactly the named motions one after the other."""

        def judge(index: int) -> int:
            kinds = self.kinds[index]
            if not self.clear[index] or len(kinds) > len(motions):
                return MAYBE
            return YES if kinds == list(motions) else NO

        return self.select(("order", *motions), judge)

    def happening(self, event: str) -> Selection:
        """Objects that something happens to, such as stopping or disappearing."""

        def judge(index: int) -> int:
            item = self.objects[index]
            if not self.clear[index]:
                return MAYBE
            names = [segment.primitive for segment in item.program]
            first, last = names[0], names[-1]
            rests = [name in RESTING for name in names]
            if event == "stops":
                stops = last == "still" and len(names) > 1 and names[-2] in TRAVELLING
                return YES if stops else (MAYBE if rests[-1] and not all(rests) else NO)
            if event == "starts":
                starts = first == "still" and len(names) > 1 and names[1] in TRAVELLING
                return YES if starts else (MAYBE if rests[0] and not all(rests) else NO)
            if event == "turns":
                pairs = [OPPOSITE.get(a) == b for a, b in zip(names, names[1:])]
                return YES if pairs == [True] else (MAYBE if any(pairs) or {"zigzag", "spin"} & set(names) else NO)
            if event in ("leaves", "enters"):
                end, inner = (-1, 0) if event == "leaves" else (0, -1)
                if item.edge == event[:-1]:
                    return YES if self.area[end, index] == 0 and self.seen[inner, index] else MAYBE
                return NO if item.edge is None and self.shown[end, index] else MAYBE
            hidden = [not self.shown[0, index], not self.shown[-1, index]]
            wanted = {"disappears": [False, True], "appears": [True, False], "returns": [False, False]}[event]
            if hidden == wanted and "hide" in names:
                return YES
            # Whoever is out of sight for another reason might be said to come or go.
            frames = slice(None) if event == "returns" else [0, -1]
            lost = "hide" in names or item.edge or not self.seen[frames, index].all()
            return MAYBE if lost else NO

        return self.select(("event", event), judge)

    def beside(self, reference: int, side: str, time: str) -> Selection:
        """Objects on one side of another one in the first frame, the last frame or all the time."""
        axis, sign = (0 if side in ("left", "right") else 1), (-1 if side in ("left", "above") else 1)
        frames = {"start": slice(0, 1), "end": slice(-1, None), "always": slice(None)}[time]
        position, radius, seen = self.position[frames], self.radius[frames], self.seen[frames]
        both = seen & seen[:, [reference]]  # (T, N)
        steps = (position - position[:, [reference]]) / (SUBPIXELS * self.unit)
        along, across = steps[..., axis] * sign, np.abs(steps[..., 1 - axis])
        reach = (radius + radius[:, [reference]]) / self.unit * 0.6
        known = both.mean(0) >= 0.5
        fits = known & ((along >= np.maximum(reach, across * 0.8)) | ~both).all(0)
        opposite = known & ((along <= -5) | ~both).all(0)

        def judge(index: int) -> int:
            return NO if index == reference or opposite[index] else YES if fits[index] else MAYBE

        return self.select(("beside", reference, side, time), judge)

    def passing(self, reference: int, way: str) -> Selection:
        """Objects that go behind or in front of another one and are apart from it in the first or last frame."""

        def judge(index: int) -> int:
            if index == reference:
                return NO
            back, front = (index, reference) if way == "behind" else (reference, index)
            hidden = self.covered[:, front, back]
            if not hidden.any():
                # A third object may hide where they meet.
                distance = np.abs(self.position[:, index] - self.position[:, reference]).max(-1) / SUBPIXELS
                near = (distance < self.radius[:, index] + self.radius[:, reference]).any()
                return MAYBE if near and self.scene.depth.index(front) > self.scene.depth.index(back) else NO
            share = (hidden / np.maximum(self.full_area[:, back], 1)).max()
            travels = self.clear[index] and bool(set(self.kinds[index]) & set(TRAVELLING))
            apart = hidden[0] == 0 and hidden[-1] == 0 and self.seen[0, index] and self.seen[-1, index]
            return YES if share >= 0.2 and travels and apart else MAYBE

        return self.select(("passing", reference, way), judge)

    def ranked(self, candidates: Selection, ranking: str) -> Selection:
        """The leader among two or more candidates if it leads by a clear distance; otherwise all are in doubt."""
        doubt = Selection(0, candidates.possible)
        indices = members(candidates.certain)
        if len(indices) < 2 or candidates.certain != candidates.possible:
            return doubt
        if ranking in ("largest", "smallest"):
            if not all(self.well_seen[index] for index in indices):
                return doubt
            sign = 1 if ranking == "largest" else -1
            order = sorted(indices, key=lambda index: -sign * self.radius[0, index])
            ratio = (self.radius[:, order[0]] / self.radius[:, order[1]]) ** sign
            others = [(self.radius[:, order[0]] / self.radius[:, index]) ** sign for index in order[2:]]
            clear = all((value >= CLEAR_SIZE).all() for value in (ratio, *others))
        elif ranking in ("fastest", "slowest"):
            if not all(self.clear[index] and not set(self.kinds[index]) & set(IN_PLACE) for index in indices):
                return doubt
            steps = np.diff(self.position[:, indices], axis=0) / SUBPIXELS
            peak = np.sqrt((steps**2).sum(-1)).max(0)
            sign = 1 if ranking == "fastest" else -1
            order = [indices[position] for position in np.argsort(-sign * peak, kind="stable")]
            speeds = sorted(peak.tolist(), reverse=sign > 0)
            slower, faster = sorted(speeds[:2])
            # Only what moves can be the fastest or the slowest.
            clear = faster >= CLEAR_SPEED * slower and (faster if ranking == "fastest" else slower) > 0
        else:
            if not self.seen[0, indices].all():
                return doubt
            axis = 0 if ranking in ("leftmost", "rightmost") else 1
            sign = 1 if ranking in ("leftmost", "highest") else -1
            order = sorted(indices, key=lambda index: sign * self.position[0, index, axis])
            gap = sign * (self.position[0, order[1], axis] - self.position[0, order[0], axis])
            clear = gap >= 12 * self.unit * SUBPIXELS
        return Selection(1 << order[0], 1 << order[0]) if clear else doubt

    def ranked_event(self, candidates: Selection, event: str) -> Selection:
        """The one that appears last or disappears first, among two or more that appear or disappear."""
        doubt = Selection(0, candidates.possible)
        name = "appears" if event == "appears_last" else "disappears"
        having = candidates & self.happening(name)
        indices = members(having.certain)
        if len(indices) < 2 or having.certain != having.possible or candidates.certain != candidates.possible:
            return doubt
        moments = {index: int(np.argmax(self.shown[:, index] == (name == "appears"))) for index in indices}
        order = sorted(indices, key=moments.get, reverse=name == "appears")
        clear = abs(moments[order[0]] - moments[order[1]]) >= 3 * self.config.num_frames // 16
        return Selection(1 << order[0], 1 << order[0]) if clear else doubt


def execute(program: tuple, facts: SceneFacts) -> Selection:
    """Run a program on a scene.

    Args:
        program: nested tuple; its first entry names the operation.
        facts: the scene.

    Returns:
        `Selection` of the objects it picks. The outermost operation (`unique`, `all`, `both`) only states what is
        expected of the result; see [`referents`].

    Raises:
        ValueError: if the operation is unknown.
    """
    operation, *arguments = program
    if operation == "filter":
        return facts.matching(arguments[0])
    if operation in ("unique", "all", "both"):
        return execute(arguments[0], facts)
    inner = execute(arguments[0], facts)
    rest = arguments[1:]
    if operation == "motion":
        return inner & facts.moving(*rest)
    if operation == "order":
        return inner & facts.ordered(*rest)
    if operation == "event":
        return inner & facts.happening(*rest)
    if operation == "first_or_last":
        return facts.ranked_event(inner, *rest)
    if operation == "compare":
        return facts.ranked(inner, *rest)
    if operation in ("relate", "pass"):
        way, (_, reference), *time = rest
        chosen = execute(reference, facts)
        if chosen.certain != chosen.possible or chosen.certain.bit_count() != 1:
            return Selection(0, inner.possible)
        index = chosen.certain.bit_length() - 1
        return inner & (facts.beside(index, way, *time) if operation == "relate" else facts.passing(index, way))
    if operation == "exclude":
        return inner.without(facts.matching(rest[0]))
    if operation == "exclude_motion":
        return inner.without(facts.moving(*rest))
    if operation == "exclude_event":
        return inner.without(facts.happening(*rest))
    raise ValueError(f"unknown operation {operation!r} in a Moving Shapes program.")


def referents(program: tuple, facts: SceneFacts) -> list[int] | None:
    """Object ids a program refers to, or None if that is in doubt or not what its outermost operation expects.

    `unique` expects one object, or none in a sentence about nothing; `both` expects two, `all` two or more.
    """
    selection = execute(program, facts)
    if selection.certain != selection.possible:
        return None
    count = selection.certain.bit_count()
    expected = {"unique": count <= 1, "both": count == 2, "all": count >= 2}[program[0]]
    return members(selection.certain) if expected else None


def program_text(program: Any) -> str:
    """A program as text, for example `unique(motion(filter(scene, shape=circle), left))`."""
    if isinstance(program, Spec) or not isinstance(program, tuple):
        return str(program)
    parts = [program_text(part) for part in program[1:] if part != Spec()]
    return f"{program[0]}({', '.join((['scene'] if program[0] == 'filter' else []) + parts)})"


def specs_of(facts: SceneFacts) -> list[Spec]:
    """Every combination of at most three attributes that some object has, without repetition."""
    found: dict[Spec, None] = {}
    for item in facts.objects:
        for chosen in range(16):
            if chosen.bit_count() <= 3:
                found[
                    Spec(*(getattr(item, name) if chosen >> bit & 1 else None for bit, name in enumerate(ATTRIBUTES)))
                ] = None
    return list(found)
