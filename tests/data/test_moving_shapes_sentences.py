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
"""Sentences of Moving Shapes: each is true of its referents alone, and the picture alone does not give it away.

What the programs say is checked here with other means than the ones they are executed with: every frame-to-frame step
of the tracks is named, and the named steps are compared.
"""

import re
from collections import Counter

import numpy as np
import pytest

from hf_rvos.data.moving_shapes import SKILLS, MovingShapesConfig, generate_video, vocabulary
from hf_rvos.data.moving_shapes.config import RandomStream
from hf_rvos.data.moving_shapes.language import MAX_WORDS, PHRASINGS, phrase
from hf_rvos.data.moving_shapes.motion import SUBPIXELS
from hf_rvos.data.moving_shapes.programs import Spec
from hf_rvos.data.transforms import mirror_expression


DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
NUM_VIDEOS = 48


@pytest.fixture(scope="module")
def videos():
    return [generate_video("test", index, MovingShapesConfig(subset="all")) for index in range(NUM_VIDEOS)]


@pytest.fixture(scope="module")
def rows(videos):
    return [(video, row) for video in videos for row in video.rows]


def parse(text: str):
    """`f(g(a, b=c), d)` as `["f", ["g", "a", "b=c"], "d"]`."""
    tokens = re.findall(r"[^(),\s]+|[(),]", text)

    def read(position):
        node, position = tokens[position], position + 1
        if position < len(tokens) and tokens[position] == "(":
            node = [node]
            while tokens[position] != ")":
                child, position = read(position + 1)
                node.append(child)
            position += 1
        return node, position

    return read(0)[0]


def having(video, attributes) -> set[int]:
    wanted = dict(part.split("=") for part in attributes if "=" in part)
    return {
        index
        for index, item in enumerate(video.scene.objects)
        if all(getattr(item, name) == value for name, value in wanted.items())
    }


def steps_of(item) -> list[str]:
    """The name of each step between two frames, repetitions merged."""
    names = []
    track, position = item.track, item.position
    for time in range(1, len(position)):
        dx, dy = position[time] - position[time - 1]
        if not track.shown[time]:
            name = "hidden"
        elif abs(dx) > 1 and abs(dy) <= 1:
            name = "right" if dx > 0 else "left"
        elif abs(dy) > 1 and abs(dx) <= 1:
            name = "down" if dy > 0 else "up"
        elif abs(dx) + abs(dy) > 2:
            name = "slanting"
        elif track.scale[time] != track.scale[time - 1]:
            name = "grow" if track.scale[time] > track.scale[time - 1] else "shrink"
        else:
            name = "spin" if track.angle[time] != track.angle[time - 1] else "still"
        if names[-1:] != [name]:
            names.append(name)
    return names


def turning(item) -> float:
    """Signed turns of the path, clockwise positive."""
    steps = np.diff(item.position, axis=0)
    steps = steps[np.abs(steps).sum(1) > 1]
    angles = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
    return (angles[-1] - angles[0]) / (2 * np.pi) if len(angles) > 1 else 0.0


def does(item, motion: str) -> bool:
    """Whether the named motion is all that an object does."""
    circling, steps = abs(turning(item)) > 0.8, set(steps_of(item)) - {"still", "hidden"}
    if motion in ("clockwise", "counterclockwise", "circling"):
        return (
            circling
            and "slanting" in steps
            and motion in ("circling", "clockwise" if turning(item) > 0 else "counterclockwise")
        )
    if motion == "zigzag":
        return "slanting" in steps and not circling
    if motion == "still":
        return not steps and bool(item.track.shown.all())
    if motion == "moving":
        return bool(steps & {*DIRECTIONS, "slanting"})
    if motion in ("sideways", "vertical"):
        return bool(steps) and steps <= ({"left", "right"} if motion == "sideways" else {"up", "down"})
    return steps == {motion}


def undergoes(video, index: int, event: str) -> bool:
    item = video.scene.objects[index]
    steps, seen = steps_of(item), (video.object_map == index + 1).any((1, 2))
    moves = [name not in ("still", "hidden") for name in steps]
    return {
        "stops": lambda: steps[-1] == "still" and any(moves),
        "starts": lambda: steps[0] == "still" and any(moves),
        "disappears": lambda: seen[0] and not item.track.shown[-1],
        "appears": lambda: not item.track.shown[0] and seen[-1],
        "returns": lambda: seen[0] and seen[-1] and not item.track.shown.all(),
        "turns": lambda: any({a, b} in ({"left", "right"}, {"up", "down"}) for a, b in zip(steps, steps[1:])),
        "leaves": lambda: item.edge == "leave" and seen[0] and not seen[-1],
        "enters": lambda: item.edge == "enter" and seen[-1] and not seen[0],
    }[event]()


def peak_speed(item) -> float:
    return float(np.linalg.norm(np.diff(item.position, axis=0), axis=1).max() / SUBPIXELS)


def of_skill(rows, skill):
    chosen = [(video, row, parse(row["program"])) for video, row in rows if row["skill"] == skill]
    assert len(chosen) >= 10, f"too few rows of {skill} to say anything"
    return chosen


def test_appearance_names_one_object_by_its_attributes(rows):
    for video, row, (_, named) in of_skill(rows, "appearance"):
        assert having(video, named) == set(row["object_ids"])


def test_motion_is_told_apart_from_a_look_alike_that_moves_otherwise(rows):
    for video, row, (_, (operation, named, motion)) in of_skill(rows, "motion"):
        alike = having(video, named)
        assert operation == "motion" and len(alike) >= 2
        assert {index for index in alike if does(video.scene.objects[index], motion)} == set(row["object_ids"])


def test_order_is_told_apart_from_a_look_alike_that_starts_or_ends_the_same_way(rows):
    for video, row, (_, (operation, named, *motions)) in of_skill(rows, "order"):
        assert operation == "order"
        sequences = {
            index: [name for name in steps_of(video.scene.objects[index]) if name not in ("still", "hidden")]
            for index in having(video, named)
        }
        (target,) = row["object_ids"]
        assert sequences[target] == motions
        others = [sequence for index, sequence in sequences.items() if index != target]
        assert motions not in others
        assert any(other and (other[0] == motions[0] or other[-1] == motions[-1]) for other in others)


def test_event_happens_to_one_of_the_look_alikes(rows):
    for video, row, (_, (operation, named, event)) in of_skill(rows, "event"):
        alike, (target,) = having(video, named), row["object_ids"]
        assert len(alike) >= 2
        if operation == "event":
            assert {index for index in alike if undergoes(video, index, event)} == {target}
            continue
        shown = {index: video.scene.objects[index].track.shown for index in alike}
        if event == "appears_last":
            moments = {index: int(values.argmax()) for index, values in shown.items() if not values[0]}
            assert sorted(moments, key=moments.get)[-1] == target
        else:
            moments = {index: int((~values).argmax()) for index, values in shown.items() if not values[-1]}
            assert sorted(moments, key=moments.get)[0] == target
        assert len(set(moments.values())) == len(moments) >= 2


def test_relation_holds_for_one_of_the_look_alikes(rows):
    for video, row, (_, (operation, named, way, (_, reference), *time)) in of_skill(rows, "relation"):
        alike, (target,) = having(video, named), row["object_ids"]
        (anchor,) = having(video, reference)
        assert alike - {anchor, target}
        if operation == "pass":
            depth = video.scene.depth
            assert (depth.index(target) < depth.index(anchor)) == (way == "behind")
            continue
        frames = {"start": [0], "end": [-1], "always": range(16)}[time[0]]
        axis, sign = {"left": (0, -1), "right": (0, 1), "above": (1, -1), "below": (1, 1)}[way]
        sides = {
            index: [
                sign
                * int(
                    video.scene.objects[index].position[frame, axis]
                    - video.scene.objects[anchor].position[frame, axis]
                )
                for frame in frames
                if all((video.object_map[frame] == number + 1).any() for number in (index, anchor))
            ]
            for index in alike - {anchor}
        }
        assert min(sides[target]) > 0
        assert all(max(values) < 0 for index, values in sides.items() if index != target and values)


def test_comparison_has_two_candidates_and_a_clear_leader(rows):
    for video, row, (_, (_, named, ranking)) in of_skill(rows, "comparison"):
        alike, (target,) = having(video, named), row["object_ids"]
        objects = video.scene.objects
        size = {index: (objects[index].radius * objects[index].track.scale).max() for index in alike}
        place = {index: objects[index].position[0] for index in alike}
        value = {
            "largest": size,
            "smallest": {index: -size[index] for index in alike},
            "fastest": {index: peak_speed(objects[index]) for index in alike},
            "slowest": {index: -peak_speed(objects[index]) for index in alike},
            "leftmost": {index: -place[index][0] for index in alike},
            "rightmost": {index: place[index][0] for index in alike},
            "highest": {index: -place[index][1] for index in alike},
            "lowest": {index: place[index][1] for index in alike},
        }[ranking]
        order = sorted(alike, key=value.get)
        assert len(alike) >= 2 and order[-1] == target and value[order[-1]] > value[order[-2]]


def test_negation_leaves_one_object(rows):
    for video, row, (_, (operation, named, excluded)) in of_skill(rows, "negation"):
        alike = having(video, named)
        if operation == "exclude":
            removed = having(video, [excluded])
        elif operation == "exclude_motion":
            removed = {index for index in alike if does(video.scene.objects[index], excluded)}
        else:
            removed = {index for index in alike if undergoes(video, index, excluded)}
        assert alike - removed == set(row["object_ids"]) and alike & removed


def test_several_means_all_of_two_or_more(rows):
    for video, row, (operation, inner) in of_skill(rows, "several"):
        found = having(video, inner[1] if inner[0] != "filter" else inner)
        if inner[0] == "exclude":
            found -= having(video, [inner[2]])
        elif inner[0] == "motion":
            found = {index for index in found if does(video.scene.objects[index], inner[2])}
        assert found == set(row["object_ids"])
        assert len(found) == 2 if operation == "both" else len(found) >= 2


def test_none_fits_no_object_but_uses_words_of_the_scene(rows):
    for video, row, (_, inner) in of_skill(rows, "none"):
        assert row["object_ids"] == [] and not video.masks(row).any()
        named = inner if inner[0] == "filter" else inner[1]
        found = having(video, named)
        assert all(having(video, [part]) for part in named if "=" in part)
        if inner[0] == "motion":
            assert found and not any(does(video.scene.objects[index], inner[2]) for index in found)
        elif inner[0] == "event":
            assert found and not any(undergoes(video, index, inner[2]) for index in found)
        else:
            assert not found


def test_referents_can_be_seen(rows):
    for video, row in rows:
        for index in row["object_ids"]:
            areas = (video.object_map == index + 1).sum((1, 2))
            assert (areas >= 12).mean() >= 0.4


def test_videos_have_three_to_eight_different_sentences(videos):
    for video in videos:
        texts = [row["expression"] for row in video.rows]
        assert 3 <= len(texts) <= 8 and len(set(texts)) == len(texts)
        assert [row["expression_id"] for row in video.rows] == [str(number) for number in range(len(texts))]


def test_sentences_are_plain_lower_case_words_of_the_vocabulary(rows):
    words_known = set(vocabulary())
    for _, row in rows:
        words = row["expression"].split(" ")
        assert len(words) <= MAX_WORDS
        assert set(words) <= words_known
        assert re.fullmatch(r"[a-z ]+", row["expression"])
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", row["expression"])


def test_every_skill_has_its_share_of_rows(rows):
    counts = Counter(row["skill"] for _, row in rows)
    single = sum(counts[skill] for skill in SKILLS[:7])
    assert set(counts) == set(SKILLS)
    assert 0.25 < counts["appearance"] / single < 0.45
    assert 0.12 < counts["motion"] / single < 0.28
    assert all(counts[skill] / single > 0.04 for skill in SKILLS[:7])


def test_single_has_one_referent_in_every_row():
    for index in range(10):
        assert all(len(row["object_ids"]) == 1 for row in generate_video("val", index).rows)


def test_test_split_mixes_seen_and_held_out_phrasings(rows):
    assert 0.5 < np.mean([row["phrasing_seen"] for _, row in rows]) < 0.7


@pytest.mark.parametrize("split", ["train", "val"])
def test_other_splits_do_not_know_the_held_out_phrasings(split, monkeypatch):
    config = MovingShapesConfig(subset="all")
    expected = [generate_video(split, index, config).rows for index in range(10)]
    for key, (seen, _) in list(PHRASINGS.items()):
        monkeypatch.setitem(PHRASINGS, key, (seen, ()))
    assert [generate_video(split, index, config).rows for index in range(10)] == expected
    assert all(row["phrasing_seen"] for rows in expected for row in rows)


def test_held_out_phrasings_are_new_arrangements_of_known_words():
    known = {word for seen, _ in PHRASINGS.values() for text in seen for word in text.split()}
    for seen, held_out in PHRASINGS.values():
        assert len(set(seen)) >= 3 and held_out and not set(seen) & set(held_out)
        new = {word for text in held_out for word in text.split() if word[0] != "{"} - known
        assert not {word for word in new if word not in vocabulary()}
        assert len(new) <= 1


def test_a_phrasing_without_what_it_needs_gives_way_to_another(monkeypatch):
    monkeypatch.setitem(PHRASINGS, "appearance", (("the {noun} that is {adjs}", "the {np}"), ()))
    texts = {phrase("appearance", {"np": Spec(shape="star")}, RandomStream(seed)) for seed in range(8)}
    assert texts == {"the star"}


def test_a_mirrored_sentence_still_uses_known_words():
    words = set(vocabulary())
    assert {mirror_expression(word) for word in words} <= words
    assert mirror_expression("clockwise") != "clockwise"
