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
"""Words: from a program and its attributes to a lower-case English phrase, some phrasings kept for the test split."""

from hf_rvos.data.moving_shapes.config import RandomStream
from hf_rvos.data.moving_shapes.motion import DIRECTIONS
from hf_rvos.data.moving_shapes.programs import Spec


MAX_WORDS = 20
NOUNS = {
    "circle": ("circle", "circle", "disc"),
    "square": ("square", "square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "cross": ("cross", "cross", "plus sign"),
    "ring": ("ring", "ring", "hoop"),
    "heart": ("heart",),
    "diamond": ("diamond", "diamond", "rhombus"),
    None: ("shape", "shape", "object", "thing", "figure"),
}
PLURALS = {"box": "boxes", "cross": "crosses", "rhombus": "rhombuses"}
ADJECTIVES = {
    "large": ("large", "big"),
    "small": ("small", "little"),
    "plain": ("plain", "solid"),
    "striped": ("striped",),
    "dotted": ("dotted", "spotted"),
    "purple": ("purple", "purple", "violet"),
    "cyan": ("cyan", "cyan", "turquoise"),
}
POSTPOSED = {"striped": "with stripes", "dotted": "with dots"}

# base: (participle, third person); the base itself is infinitive and plural.
VERBS = {
    "move": ("moving", "moves"),
    "go": ("going", "goes"),
    "head": ("heading", "heads"),
    "travel": ("travelling", "travels"),
    "rise": ("rising", "rises"),
    "sink": ("sinking", "sinks"),
    "circle": ("circling", "circles"),
    "zigzag": ("zigzagging", "zigzags"),
    "grow": ("growing", "grows"),
    "get": ("getting", "gets"),
    "become": ("becoming", "becomes"),
    "shrink": ("shrinking", "shrinks"),
    "spin": ("spinning", "spins"),
    "rotate": ("rotating", "rotates"),
    "stand": ("standing", "stands"),
    "stay": ("staying", "stays"),
}
MOTION_PHRASES = {
    "left": (("move", "left"), ("move", "to the left"), ("go", "left"), ("head", "left"), ("travel", "to the left")),
    "right": (
        ("move", "right"),
        ("move", "to the right"),
        ("go", "right"),
        ("head", "right"),
        ("travel", "to the right"),
    ),
    "up": (("move", "up"), ("move", "upwards"), ("go", "up"), ("head", "up"), ("rise", "")),
    "down": (("move", "down"), ("move", "downwards"), ("go", "down"), ("head", "down"), ("sink", "")),
    "clockwise": (("circle", "clockwise"), ("move", "clockwise in a circle"), ("go", "around clockwise")),
    "counterclockwise": (
        ("circle", "counterclockwise"),
        ("move", "counterclockwise in a circle"),
        ("go", "around counterclockwise"),
    ),
    "circling": (("move", "in a circle"), ("go", "in a circle"), ("travel", "around in a circle")),
    "zigzag": (("zigzag", ""), ("move", "in a zigzag"), ("go", "in a zigzag")),
    "grow": (("grow", ""), ("get", "bigger"), ("get", "larger"), ("become", "bigger")),
    "shrink": (("shrink", ""), ("get", "smaller"), ("become", "smaller")),
    "spin": (("spin", ""), ("rotate", ""), ("spin", "in place")),
    "still": (("stand", "still"), ("stay", "still"), ("stay", "in place")),
    "moving": (("move", ""),),
    "sideways": (("move", "sideways"), ("move", "horizontally"), ("go", "sideways")),
    "vertical": (("move", "vertically"), ("move", "up or down"), ("go", "up or down")),
}
ADVERBS = {
    "left": ("left", "to the left"),
    "right": ("right", "to the right"),
    "up": ("up", "upwards"),
    "down": ("down", "downwards"),
}
SIDE_PHRASES = {
    "left": ("to the left of", "left of", "on the left side of"),
    "right": ("to the right of", "right of", "on the right side of"),
    "above": ("above", "higher than", "above"),
    "below": ("below", "lower than", "under"),
}
SUPERLATIVES = {
    "largest": ("largest", "biggest"),
    "smallest": ("smallest",),
    "fastest": ("fastest", "quickest"),
    "slowest": ("slowest",),
}
COMPARATIVES = {
    "largest": ("larger", "bigger"),
    "smallest": ("smaller",),
    "fastest": ("faster", "quicker"),
    "slowest": ("slower",),
}
FARTHEST = {
    "leftmost": ("leftmost", "to the left"),
    "rightmost": ("rightmost", "to the right"),
    "highest": ("highest", "up"),
    "lowest": ("lowest", "down"),
}

# Phrasings of each program shape: (seen in training, kept for the test split). `_Writer` fills the slots in braces.
PHRASINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "appearance": (
        ("the {np}", "the {np}", "a {np}", "{np}", "the {np} in the video", "the {noun} that is {adjs}"),
        ("the {noun} which is {adjs}", "the one {np} in the video", "the object that is a {shaped}"),
    ),
    "motion": (
        ("the {np} {ing}", "a {np} {ing}", "the {np} that is {ing}", "the {np} that {fin}", "the {np} which {fin}"),
        ("the {np} which is {ing}", "among the {nps} the one {ing}", "the {np} seen {ing}"),
    ),
    "still": (
        ("the {np} {ing}", "the {np} that {fin}", "the {np} that is not moving", "the {np} that does not move"),
        ("the {np} which is {ing}", "the {np} not moving", "the {np} which does not move"),
    ),
    "order": (
        (
            "the {np} that {fin1} and then {fin2}",
            "the {np} that first {fin1} and then {fin2}",
            "the {np} {ing1} and then {ing2}",
            "the {np} {ing1} before {ing2}",
            "the {np} that {fin2} after {ing1}",
            "the {np} that goes {adv1} and then {adv2}",
            "the {np} that moves first {adv1} and then {adv2}",
        ),
        (
            "the {np} which first {fin1} then {fin2}",
            "the {np} {ing2} after {ing1}",
            "the {np} that {fin1} before {ing2}",
            "the {np} going {adv1} and then {adv2}",
        ),
    ),
    "order3": (
        (
            "the {np} that {fin1} then {fin2} and then {fin3}",
            "the {np} {ing1} then {ing2} and then {ing3}",
            "the {np} that goes {adv1} then {adv2} and then {adv3}",
        ),
        ("the {np} that first {fin1} then {fin2} and then {fin3}", "the {np} going {adv1} then {adv2} then {adv3}"),
    ),
    "stops": (
        (
            "the {np} that stops",
            "the {np} that stops moving",
            "the {np} that comes to rest",
            "the {np} that moves and then stops",
        ),
        ("the {np} which stops", "the {np} coming to rest", "the {np} that stands still after moving"),
    ),
    "starts": (
        (
            "the {np} that starts to move",
            "the {np} that starts moving",
            "the {np} that stands still at first and then moves",
            "the {np} which begins to move",
        ),
        ("the {np} that begins moving", "the {np} that stands still before moving"),
    ),
    "disappears": (
        (
            "the {np} that disappears",
            "the {np} that vanishes",
            "the {np} which is gone at the end",
            "the {np} disappearing",
        ),
        ("the {np} which disappears", "the {np} vanishing", "the {np} that is not there at the end"),
    ),
    "appears": (
        (
            "the {np} that appears",
            "the {np} that appears later",
            "the {np} that is not there at first",
            "the {np} which shows up later",
        ),
        (
            "the {np} which appears",
            "the {np} that shows up after the start",
            "the {np} that is not there at the start",
        ),
    ),
    "returns": (
        (
            "the {np} that disappears and comes back",
            "the {np} that vanishes and appears again",
            "the {np} which is gone for a while",
            "the {np} disappearing and coming back",
        ),
        (
            "the {np} that vanishes and comes back",
            "the {np} that is not there for a while",
            "the {np} that appears again",
        ),
    ),
    "turns": (
        (
            "the {np} that turns around",
            "the {np} that turns back",
            "the {np} which reverses its direction",
            "the {np} that goes back the way it came",
            "the {np} turning around",
        ),
        ("the {np} which turns around", "the {np} turning back", "the {np} that moves back the way it came"),
    ),
    "leaves": (
        (
            "the {np} that leaves the picture",
            "the {np} that moves out of the picture",
            "the {np} leaving the frame",
            "the {np} that goes out of view",
        ),
        ("the {np} moving out of view", "the {np} which leaves the frame"),
    ),
    "enters": (
        (
            "the {np} that enters the picture",
            "the {np} that comes into the picture",
            "the {np} entering the frame",
            "the {np} that moves into view",
        ),
        ("the {np} coming into view", "the {np} which enters the frame"),
    ),
    "appears_last": (
        ("the {np} that appears last", "the last {np} to appear", "the {np} that shows up last"),
        ("the {np} which appears last", "the last {np} that shows up"),
    ),
    "disappears_first": (
        ("the {np} that disappears first", "the first {np} to disappear", "the {np} that vanishes first"),
        ("the {np} which disappears first", "the first {np} that vanishes"),
    ),
    "beside_start": (
        (
            "the {np} {side} the {ref} in the first frame",
            "the {np} {side} the {ref} at the start",
            "the {np} that starts {side} the {ref}",
            "the {np} that is {side} the {ref} at first",
        ),
        ("the {np} which is {side} the {ref} at the start", "the {np} seen {side} the {ref} in the first frame"),
    ),
    "beside_end": (
        (
            "the {np} {side} the {ref} in the last frame",
            "the {np} {side} the {ref} at the end",
            "the {np} that ends {side} the {ref}",
            "the {np} that is {side} the {ref} at the end",
        ),
        ("the {np} which is {side} the {ref} at the end", "the {np} seen {side} the {ref} in the last frame"),
    ),
    "beside_always": (
        (
            "the {np} {side} the {ref}",
            "the {np} {side} a {ref}",
            "the {np} that is {side} the {ref}",
            "the {np} that stays {side} the {ref}",
            "the {np} seen {side} the {ref}",
            "the {np} always {side} the {ref}",
        ),
        ("the {np} which is {side} the {ref}", "the {np} that is always {side} the {ref}"),
    ),
    "behind": (
        (
            "the {np} that passes behind the {ref}",
            "the {np} passing behind the {ref}",
            "the {np} that goes behind the {ref}",
            "the {np} hidden by the {ref} for a while",
        ),
        (
            "the {np} which passes behind the {ref}",
            "the {np} moving behind the {ref}",
            "the {np} going behind the {ref}",
        ),
    ),
    "front": (
        (
            "the {np} that passes in front of the {ref}",
            "the {np} passing in front of the {ref}",
            "the {np} that goes in front of the {ref}",
            "the {np} that hides the {ref} for a while",
        ),
        ("the {np} which passes in front of the {ref}", "the {np} moving in front of the {ref}"),
    ),
    "compare_size": (
        ("the {sup} {np}", "the {sup} of all {nps}", "the {np} that is the {sup}", "the {sup} one among the {nps}"),
        ("the {np} which is the {sup}", "among the {nps} the {sup} one"),
    ),
    "compare_speed": (
        ("the {sup} {np}", "the {np} that moves {sup}", "the {sup} of all {nps}", "the {np} moving the {sup}"),
        ("the {np} which moves {sup}", "among the {nps} the {sup} one", "the {np} that is the {sup}"),
    ),
    "compare_two": (
        ("the {cmp} of the two {nps}", "the {cmp} {np}", "the {cmp} one of the two {nps}"),
        ("of the two {nps} the {cmp} one", "the {cmp} one of both {nps}"),
    ),
    "compare_place": (
        (
            "the {far} {np} in the first frame",
            "the {far} {np} at the start",
            "the {np} farthest {far_side} in the first frame",
        ),
        ("the {np} farthest {far_side} at the start", "the {np} that is farthest {far_side} at first"),
    ),
    "not_attribute": (
        ("the {np} that is not {adj}", "the {np} which is not {adj}", "the only {np} that is not {adj}"),
        ("the {np} not {adj}", "the one {np} that is not {adj}"),
    ),
    "not_motion": (
        ("the {np} that does not {inf}", "the {np} that never {fin}", "the {np} not {ing}", "the only {np} not {ing}"),
        ("the {np} which does not {inf}", "the {np} which is not {ing}", "the one {np} that never {fin}"),
    ),
    "not_event": (
        ("the {np} that does not {event}", "the {np} that never {events}", "the only {np} that does not {event}"),
        ("the {np} which does not {event}", "the one {np} that never {events}"),
    ),
    "all": (
        ("all {nps}", "all the {nps}", "the {nps}", "every {np}"),
        ("all of the {nps}", "every {np} in the video"),
    ),
    "both": (
        ("both {nps}", "the two {nps}", "two {nps}"),
        ("both of the {nps}", "the two {nps} in the video"),
    ),
    "all_motion": (
        ("all {nps} {ing}", "all {nps} that {inf}", "the {nps} {ing}", "every {np} that {fin}"),
        ("all of the {nps} that {inf}", "every {np} {ing}", "the {nps} which {inf}"),
    ),
    "all_not_attribute": (
        ("all {nps} that are not {adj}", "the {nps} that are not {adj}", "every {np} that is not {adj}"),
        ("all of the {nps} that are not {adj}", "every {np} which is not {adj}"),
    ),
}
EVENT_VERBS = {
    "stops": ("stop", "stops"),
    "disappears": ("disappear", "disappears"),
    "turns": ("turn around", "turns around"),
    "leaves": ("leave the picture", "leaves the picture"),
}


def _plural(noun: str) -> str:
    return PLURALS.get(noun, noun + "s")


class _Writer:
    """Fills the slots of one phrasing; a slot that cannot be filled raises `KeyError`."""

    def __init__(self, slots: dict, stream: RandomStream):
        self.slots, self.stream = slots, stream

    def _adjective(self, value: str) -> str:
        return self.stream.choice(ADJECTIVES.get(value, (value,)))

    def noun_phrase(self, spec: Spec, plural: bool = False) -> str:
        noun = self.stream.choice(NOUNS[spec.shape])
        before = [self._adjective(spec.size)] if spec.size else []
        after = ""
        if spec.fill in POSTPOSED and self.stream.chance(0.3):
            after = POSTPOSED[spec.fill]
        pair = [self._adjective(value) for value in (spec.fill if not after else None, spec.color) if value]
        before += pair[::-1] if self.stream.chance(0.3) else pair
        return " ".join([*before, _plural(noun) if plural else noun, *([after] if after else [])])

    def verb(self, motion: str, form: int | None) -> str:
        base, rest = self.stream.choice(MOTION_PHRASES[motion])
        return f"{VERBS[base][form] if form is not None else base} {rest}".strip()

    def fill(self, slot: str) -> str:
        name, number = slot.rstrip("123"), slot[-1:] if slot[-1:].isdigit() else ""
        slots, stream = self.slots, self.stream
        if name in ("np", "nps"):
            return self.noun_phrase(slots["np"], plural=name == "nps")
        if name == "shaped":
            if not slots["np"].shape:
                raise KeyError(slot)
            return self.noun_phrase(slots["np"])
        if name == "ref":
            return self.noun_phrase(slots["ref"])
        if name == "noun":
            return stream.choice(NOUNS[slots["np"].shape])
        if name == "adjs":
            values = [self._adjective(value) for key, value in slots["np"].named.items() if key != "shape"]
            if not values:
                raise KeyError(slot)
            return " and ".join(stream.sample(values, len(values)))
        if name in ("ing", "fin", "inf"):
            return self.verb(slots["motion" + number], {"ing": 0, "fin": 1, "inf": None}[name])
        if name == "adv":
            return stream.choice(ADVERBS[slots["motion" + number]])
        if name == "side":
            return stream.choice(SIDE_PHRASES[slots["side"]])
        if name in ("sup", "cmp"):
            return stream.choice((SUPERLATIVES if name == "sup" else COMPARATIVES)[slots["ranking"]])
        if name in ("far", "far_side"):
            return FARTHEST[slots["ranking"]][name == "far_side"]
        if name == "adj":
            kind, value = next(iter(slots["adj"].named.items()))
            if kind == "shape":
                return "a " + stream.choice(NOUNS[value])
            return self._adjective(value)
        return EVENT_VERBS[slots["event"]][name == "events"]


def phrase(key: str, slots: dict, stream: RandomStream, held_out: bool = False) -> str | None:
    """Say a program in one of its phrasings.

    Args:
        key: program shape, one of `PHRASINGS`.
        slots: what fills the phrasing: specs, motions, sides.
        stream: random numbers of the choice.
        held_out: take one of the phrasings kept for the test split.

    Returns:
        A phrase of at most 20 words, or None if no phrasing of this kind suits the slots.
    """
    templates = PHRASINGS[key][held_out]
    for template in stream.sample(templates, len(templates)):
        writer, words = _Writer(slots, stream), []
        try:
            for word in template.split():
                words += (writer.fill(word[1:-1]) if word[0] == "{" else word).split()
        except KeyError:
            continue
        if len(words) <= MAX_WORDS:
            following = [*words[1:], ""]
            return " ".join(
                "an" if pair[0] == "a" and pair[1][:1] in "aeiou" else pair[0] for pair in zip(words, following)
            )
    return None


def vocabulary() -> list[str]:
    """Every word that any phrasing can produce, sorted."""
    texts: list[str] = ["a an", *PLURALS.values(), *POSTPOSED.values()]
    for seen, held_out in PHRASINGS.values():
        texts += [" ".join(word for word in text.split() if word[0] != "{") for text in (*seen, *held_out)]
    for nouns in NOUNS.values():
        texts += [form for noun in nouns for form in (noun, _plural(noun))]
    from hf_rvos.data.moving_shapes.scene import COLORS, FILLS, SIZES

    texts += [word for value in (*COLORS, *FILLS, *SIZES) for word in ADJECTIVES.get(value, (value,))]
    for phrases in MOTION_PHRASES.values():
        texts += [f"{base} {' '.join(VERBS[base])} {rest}" for base, rest in phrases]
    for table in (ADVERBS, SIDE_PHRASES, SUPERLATIVES, COMPARATIVES, FARTHEST, EVENT_VERBS):
        texts += [text for values in table.values() for text in values]
    return sorted({word for text in texts for word in text.split()})


def is_directional(*motions: str) -> bool:
    """Whether all motions can be said with an adverb alone, as in "goes up and then right"."""
    return all(motion in DIRECTIONS for motion in motions)
