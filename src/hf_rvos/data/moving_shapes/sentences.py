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
"""Choice of the sentences of a video: programs whose referents are beyond doubt, and a draw among them by skill."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from hf_rvos.data.moving_shapes.config import MovingShapesConfig, RandomStream
from hf_rvos.data.moving_shapes.language import EVENT_VERBS, phrase
from hf_rvos.data.moving_shapes.programs import (
    EVENTS,
    MOTIONS,
    RANKED_EVENTS,
    RANKINGS,
    SIDES,
    SceneFacts,
    Selection,
    Spec,
    members,
    program_text,
    specs_of,
)


SKILLS = ("appearance", "motion", "order", "event", "relation", "comparison", "negation", "several", "none")
# How often a skill is drawn while it has sentences left. Few scenes offer order and event, so these stand above their
# share of rows, which is about 35, 20, 8, 9, 12, 8 and 8 percent in this order.
SKILL_WEIGHTS = {
    "appearance": 0.35,
    "motion": 0.19,
    "order": 0.36,
    "event": 0.36,
    "relation": 0.105,
    "comparison": 0.065,
    "negation": 0.06,
}
# Passing behind or in front is rare, while nearly every scene has objects beside each other in many ways.
KIND_WEIGHTS = {"behind": 5, "front": 5}
ROW_COUNTS = {3: 0.1, 4: 0.2, 5: 0.3, 6: 0.4}
HELD_OUT_SHARE = 0.4


class Candidate(NamedTuple):
    """A sentence that may be used: skill, phrasing key, program, what fills the phrasing, and its referents."""

    skill: str
    key: str
    program: tuple
    slots: dict[str, Any]
    targets: tuple[int, ...]


class _Search:
    """Enumerates candidate sentences of a scene."""

    def __init__(self, facts: SceneFacts):
        self.facts = facts
        self.matching = {spec: facts.matching(spec) for spec in specs_of(facts)}
        # Noun phrases over two or more objects: the ones that need more than attributes to pick one.
        self.groups = [spec for spec, found in self.matching.items() if found.certain.bit_count() >= 2]
        self.names = {}  # object id -> specs that name it alone
        for spec, found in self.matching.items():
            if found.certain == found.possible and found.certain.bit_count() == 1:
                self.names.setdefault(found.certain.bit_length() - 1, []).append(spec)

    def _resolve(self, selection: Selection) -> int | None:
        """The single object of a selection if it is certain and visible enough, else None."""
        if selection.certain != selection.possible or selection.certain.bit_count() != 1:
            return None
        index = selection.certain.bit_length() - 1
        return index if self.facts.well_seen[index] else None

    def _seen_rival(self, spec: Spec, *mentioned: int) -> bool:
        """Whether an object that fits the noun phrase, other than those mentioned, is visible enough to mislead."""
        rivals = self.matching[spec].certain
        for index in mentioned:
            rivals &= ~(1 << index)
        return any(self.facts.well_seen[index] for index in members(rivals))

    def _filtered(
        self, skill: str, key: str, operation: str, chosen: Selection, *rest, reference: int | None = None, **slots
    ) -> Iterator[Candidate]:
        """Candidates `unique(operation(filter(...), *rest))` over every group of look-alikes."""
        mentioned = () if reference is None else (reference,)
        for spec in self.groups:
            target = self._resolve(self.matching[spec] & chosen)
            if target is not None and any(spec) and self._seen_rival(spec, target, *mentioned):
                yield Candidate(
                    skill, key, ("unique", (operation, ("filter", spec), *rest)), {"np": spec, **slots}, (target,)
                )

    def appearance(self) -> Iterator[Candidate]:
        for target, specs in self.names.items():
            if self.facts.well_seen[target]:
                for spec in specs:
                    yield Candidate("appearance", "appearance", ("unique", ("filter", spec)), {"np": spec}, (target,))

    def motion(self) -> Iterator[Candidate]:
        for motion in MOTIONS:
            key = "still" if motion == "still" else "motion"
            yield from self._filtered("motion", key, "motion", self.facts.moving(motion), motion, motion=motion)

    def order(self) -> Iterator[Candidate]:
        for kinds in {tuple(kinds): None for kinds in self.facts.kinds if len(kinds) > 1}:
            key = "order" if len(kinds) == 2 else "order3"
            slots = {f"motion{number}": kind for number, kind in enumerate(kinds, start=1)}
            for item in self._filtered("order", key, "order", self.facts.ordered(*kinds), *kinds, **slots):
                alike = members(self.matching[item.slots["np"]].certain)
                rivals = [self.facts.kinds[index] for index in alike if self.facts.well_seen[index]]
                # Another one starts or ends in the same way, but not both.
                if any(other and (other[0] == kinds[0]) != (other[-1] == kinds[-1]) for other in rivals):
                    yield item

    def event(self) -> Iterator[Candidate]:
        for event in EVENTS:
            yield from self._filtered("event", event, "event", self.facts.happening(event), event)
        for event in RANKED_EVENTS:
            for spec in self.groups:
                target = self._resolve(self.facts.ranked_event(self.matching[spec], event))
                if target is not None:
                    program = ("unique", ("first_or_last", ("filter", spec), event))
                    yield Candidate("event", event, program, {"np": spec}, (target,))

    def relation(self) -> Iterator[Candidate]:
        for reference, names in self.names.items():
            shortest = min(len(name.named) for name in names)
            for name in names:
                if len(name.named) > shortest or not self.facts.well_seen[reference]:
                    continue
                anchor = ("unique", ("filter", name))
                for side in SIDES:
                    for time in ("always", "start", "end"):
                        chosen = self.facts.beside(reference, side, time)
                        slots = {"ref": name, "side": side, "reference": reference}
                        rest = (side, anchor, time)
                        yield from self._filtered("relation", f"beside_{time}", "relate", chosen, *rest, **slots)
                for way in ("behind", "front"):
                    chosen = self.facts.passing(reference, way)
                    yield from self._filtered(
                        "relation", way, "pass", chosen, way, anchor, ref=name, reference=reference
                    )

    def comparison(self) -> Iterator[Candidate]:
        for ranking in RANKINGS:
            for spec in self.groups:
                sized = ranking in ("largest", "smallest")
                target = self._resolve(self.facts.ranked(self.matching[spec], ranking))
                if target is None or (sized and spec.size):
                    continue
                kind = "size" if sized else "speed" if ranking in ("fastest", "slowest") else "place"
                key = f"compare_{kind}"
                if kind != "place" and self.matching[spec].certain.bit_count() == 2:
                    key = "compare_two"
                program = ("unique", ("compare", ("filter", spec), ranking))
                yield Candidate("comparison", key, program, {"np": spec, "ranking": ranking}, (target,))

    def _without(self, removed: Selection) -> Iterator[tuple[Spec, Selection]]:
        for spec in self.groups:
            yield spec, self.matching[spec].without(removed)

    def _excluded_attributes(self) -> Iterator[tuple[Spec, Spec, Selection]]:
        for single in self.matching:
            if len(single.named) == 1:
                for spec, left in self._without(self.matching[single]):
                    if not set(single.named) & set(spec.named):
                        yield spec, single, left

    def negation(self) -> Iterator[Candidate]:
        for spec, single, left in self._excluded_attributes():
            target = self._resolve(left)
            if target is not None:
                program = ("unique", ("exclude", ("filter", spec), single))
                yield Candidate("negation", "not_attribute", program, {"np": spec, "adj": single}, (target,))
        for key, operation, names, chosen in (
            ("not_motion", "exclude_motion", [name for name in MOTIONS if name != "still"], self.facts.moving),
            ("not_event", "exclude_event", EVENT_VERBS, self.facts.happening),
        ):
            for name in names:
                for spec, left in self._without(chosen(name)):
                    target = self._resolve(left)
                    if target is not None:
                        program = ("unique", (operation, ("filter", spec), name))
                        slots = {"np": spec, "motion": name, "event": name}
                        yield Candidate("negation", key, program, slots, (target,))

    def several(self) -> Iterator[Candidate]:
        def candidate(key: str, inner: tuple, chosen: Selection, **slots) -> Iterator[Candidate]:
            targets = members(chosen.certain)
            if chosen.certain == chosen.possible and len(targets) >= 2:
                if all(self.facts.well_seen[index] for index in targets):
                    if key == "all" and len(targets) == 2:
                        yield Candidate("several", "both", ("both", inner), slots, tuple(targets))
                    else:
                        yield Candidate("several", key, ("all", inner), slots, tuple(targets))

        for spec in self.groups:
            if spec.named:
                yield from candidate("all", ("filter", spec), self.matching[spec], np=spec)
            for motion in MOTIONS:
                chosen = self.matching[spec] & self.facts.moving(motion)
                if chosen.certain != self.matching[spec].certain:
                    yield from candidate(
                        "all_motion", ("motion", ("filter", spec), motion), chosen, np=spec, motion=motion
                    )
        for spec, single, left in self._excluded_attributes():
            yield from candidate("all_not_attribute", ("exclude", ("filter", spec), single), left, np=spec, adj=single)

    def none(self) -> Iterator[Candidate]:
        objects = self.facts.objects
        for first in objects:
            for second in objects:
                for spec in (Spec(color=first.color, shape=second.shape), Spec(fill=first.fill, shape=second.shape)):
                    if not self.facts.matching(spec).possible:
                        yield Candidate("none", "appearance", ("unique", ("filter", spec)), {"np": spec}, ())
        for spec in self.matching:
            if not spec.shape or len(spec.named) > 2:
                continue
            for motion in MOTIONS:
                if not (self.matching[spec] & self.facts.moving(motion)).possible:
                    program = ("unique", ("motion", ("filter", spec), motion))
                    key = "still" if motion == "still" else "motion"
                    if motion != "spin" or spec.shape not in ("circle", "ring"):
                        yield Candidate("none", key, program, {"np": spec, "motion": motion}, ())
            for event in EVENTS:
                if not (self.matching[spec] & self.facts.happening(event)).possible:
                    program = ("unique", ("event", ("filter", spec), event))
                    yield Candidate("none", event, program, {"np": spec}, ())


def _kind(candidate: Candidate) -> tuple:
    """Candidates of one kind ask the same question with other noun phrases."""
    program = candidate.program[1]
    asked = [part for part in program[2:] if isinstance(part, str)] if program[0] != "filter" else []
    return (candidate.key, *asked, *(candidate.targets if candidate.skill in ("appearance", "none") else ()))


def _awkwardness(candidate: Candidate) -> int:
    """Attributes of the noun phrase, one more if it has no noun of its own."""
    spec = candidate.slots["np"]
    return sum(value is not None for value in spec) + (spec.shape is None)


def write_rows(
    facts: SceneFacts, config: MovingShapesConfig, split: str, stream: RandomStream
) -> list[dict[str, Any]]:
    """Draw the sentences of a video.

    Args:
        facts: the drawn scene.
        config: decides whether sentences with several and with no referents are added.
        split: `"test"` also uses phrasings never seen in the other splits.
        stream: random numbers of the choice.

    Returns:
        3 to 8 rows with `expression_id`, `expression`, `expression_raw`, `skill`, `phrasing_seen`, `program` and
        `object_ids`.
    """
    search = _Search(facts)
    skills = dict(SKILL_WEIGHTS)
    wanted: list[str | None] = [None] * stream.weighted(ROW_COUNTS)
    extra = RandomStream(stream.below(2**62))
    if config.subset == "all":
        wanted += extra.sample(("several", "none"), 1 + extra.below(2))
    pools: dict[str, dict[tuple, list[Candidate]]] = {}
    rows: list[dict[str, Any]] = []
    used: set[str] = set()
    for fixed in wanted:
        while True:
            source = extra if fixed else stream
            skill = fixed or (source.weighted(skills) if skills else None)
            if skill is None:
                break
            if skill not in pools:
                pools[skill] = {}
                for candidate in getattr(search, skill)():
                    pools[skill].setdefault(_kind(candidate), []).append(candidate)
            pool = pools[skill]
            if not pool:
                skills.pop(skill, None)
                if fixed:
                    break
                continue
            kind = source.weighted({kind: KIND_WEIGHTS.get(kind[0], 1) for kind in pool})
            candidates = pool.pop(kind)
            # Short noun phrases are preferred; longer ones stay in use, or size and fill would rarely be named.
            candidate = min(source.sample(candidates, min(2, len(candidates))), key=_awkwardness)
            held_out = split == "test" and source.chance(HELD_OUT_SHARE)
            text = phrase(candidate.key, candidate.slots, source, held_out)
            if text is None and held_out:
                held_out = False
                text = phrase(candidate.key, candidate.slots, source)
            if text is None or text in used:
                continue
            used.add(text)
            rows.append(
                {
                    "expression_id": str(len(rows)),
                    "expression": text,
                    "expression_raw": text,
                    "skill": skill,
                    "phrasing_seen": not held_out,
                    "program": program_text(candidate.program),
                    "object_ids": list(candidate.targets),
                }
            )
            break
    return rows
