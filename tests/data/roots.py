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
"""Writes tiny roots of the newer benchmarks, with their peculiarities, and says what a reader must find in them."""

import json
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hf_rvos.data.media import load_clip, load_masks
from hf_rvos.ops.rle import encode_rle


HEIGHT, WIDTH = 24, 32
VOID = 255


@dataclass
class Expected:
    """A row: `masks` are `(num_frames, height, width)` bool, None without ground truth."""

    video_id: str
    expression_id: str
    text: str
    frames: list[str]
    object_ids: list[int] | None = None
    masks: np.ndarray | None = None
    kind: str | None = None


def check_rows(rows, expected, root):
    """Compare the rows of a split with what they must be, order included, and read all their pixels."""
    assert len(rows) == len(expected)
    for row, wanted in zip(rows, expected):
        assert (row["video_id"], row["expression_id"]) == (wanted.video_id, wanted.expression_id)
        assert row["expression_raw"] == wanted.text
        assert row["expression"] == " ".join(wanted.text.lower().split())
        assert row["expression_type"] == wanted.kind
        assert row["frames"] == wanted.frames
        assert row["object_ids"] == wanted.object_ids
        assert (row["height"], row["width"], row["num_frames"]) == (HEIGHT, WIDTH, len(wanted.frames))
        assert load_clip(row, root).shape == (len(wanted.frames), HEIGHT, WIDTH, 3)
        if wanted.masks is None:
            assert row["mask_kind"] == "none"
        else:
            assert np.array_equal(load_masks(row, root), wanted.masks)


class Scene:
    """Rectangles that move over noise; later objects are in front.

    Args:
        rng: Draws places and speeds.
        num_frames: Length.
        num_objects: Objects, number 0 being the rearmost one.
        absent: Frames in which an object is not there.
    """

    def __init__(self, rng, num_frames, num_objects, absent=None):
        self.frames = rng.integers(0, 120, (num_frames, HEIGHT, WIDTH, 3), dtype=np.uint8)
        self.layers = np.zeros((num_objects, num_frames, HEIGHT, WIDTH), bool)
        self.labels = np.zeros((num_frames, HEIGHT, WIDTH), np.uint8)
        for number in range(num_objects):
            top, left = rng.integers(0, HEIGHT - 12), rng.integers(0, WIDTH - 16)
            for time in range(num_frames):
                if time in (absent or {}).get(number, ()):
                    continue
                area = np.s_[top + time % 3 : top + 8 + time % 3, left + time % 4 : left + 12 + time % 4]
                self.layers[number, time][area] = True
                self.labels[time][area] = number + 1
                self.frames[time][area] = 200 + number

    def visible(self, number):
        """Mask of an object, counted from 1, without what is in front of it."""
        return self.labels == number

    def write_frames(self, folder, names):
        for frame, name in zip(self.frames, names):
            write_image(folder / f"{name}.jpg", frame)

    def write_labels(self, folder, names, labels=None):
        for image, name in zip(self.labels if labels is None else labels, names, strict=True):
            write_image(folder / f"{name}.png", image, palette=True)


def write_image(path, pixels, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    image.save(path)


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def frame_names(num_frames, start=0, step=1):
    return [f"{start + step * time:05d}" for time in range(num_frames)]


def ref_youtube_vos(root, seed=0):
    """Late start, gap, unsorted list, extra frame on disk, repeated sentence, silent object, `valid` with `test`."""
    rng, expected, videos, meta = np.random.default_rng(seed), {"train": [], "valid": [], "test": []}, {}, {}
    plan = {
        # Not in alphabetical order; in the second one object 2 comes late and object 1 has no sentence.
        "ff00aa11bb": (Scene(rng, 4, 1), frame_names(4, 135, 5), {"0": (1, "A  Dog "), "1": (1, "A  Dog ")}),
        "0011223344": (
            Scene(rng, 5, 2, {1: {0, 1}}),
            ["00000", "00005", "00010", "00015", "00030"],
            {"0": (2, "cat")},
        ),
    }
    for video, (scene, names, sentences) in plan.items():
        scene.write_frames(root / "train/JPEGImages" / video, names)
        scene.write_labels(root / "train/Annotations" / video, names)
        items = {key: {"exp": text, "obj_id": str(number)} for key, (number, text) in sentences.items()}
        videos[video] = {"expressions": items, "frames": names[::-1]}
        objects = range(1, len(scene.layers) + 1)
        meta[video] = {
            "objects": {str(number): {"category": f"class {number}", "frames": names} for number in objects}
        }
        for key, (number, text) in sentences.items():
            expected["train"].append(Expected(video, key, text, names, [number], scene.visible(number)))
    scene.write_frames(root / "train/JPEGImages/0011223344", frame_names(5, 100))
    write_json(root / "train/meta.json", {"videos": meta})
    write_json(root / "meta_expressions/train/meta_expressions.json", {"videos": videos})
    # Ten expressions: sorted as text "10" would come before "2".
    both = {}
    for video, split, count in (("bb", "valid", 1), ("cc", "test", 1), ("aa", "valid", 11)):
        scene, names = Scene(rng, 2, 1), frame_names(2)
        scene.write_frames(root / split / "JPEGImages" / video, names)
        both[video] = {"expressions": {str(key): {"exp": f"thing {key}"} for key in range(count)}, "frames": names}
    for split, names in (("valid", ["aa", "bb"]), ("test", ["cc"])):
        for video in names:
            for key, item in both[video]["expressions"].items():
                expected[split].append(Expected(video, key, item["exp"], both[video]["frames"]))
    write_json(root / "meta_expressions/valid/meta_expressions.json", {"videos": both})
    write_json(root / "meta_expressions/test/meta_expressions.json", {"videos": {"cc": both["cc"]}})
    return expected


def ref_davis17(root, seed=0):
    """Published files in `raw` and converted ones in `converted`: four passes, two encodings, misspelt names, void."""
    rng, expected = np.random.default_rng(seed), {"train": [], "valid": []}
    files = ["Davis17_annot1", "Davis17_annot1_full_video", "Davis17_annot2", "Davis17_annot2_full_video"]
    lines, lists, semantics = {name: [] for name in files}, {"train": [], "valid": []}, {}
    converted = {"train": ({}, {}), "valid": ({}, {})}
    # Name, name in the text files, split, objects with sentences; one more object has none.
    for video, spelt, split, count in (
        ("dogs-scale", "dog-scale", "train", 1),
        ("tiny-boat", "tiny-boat", "valid", 2),
        ("motorbike", "motor-bike", "valid", 1),
    ):
        scene, names = Scene(rng, 3, count + 1, {0: {1}}), frame_names(3)
        labels = scene.labels.copy()
        labels[:, :2] = VOID
        for folder, masks in (
            ("raw/DAVIS/{}/480p", "Annotations_unsupervised"),
            (f"converted/{split}/{{}}", "Annotations"),
        ):
            scene.write_frames(root / folder.format("JPEGImages") / video, names)
            scene.write_labels(root / folder.format(masks) / video, names, labels)
        scene.write_labels(root / "raw/DAVIS/Annotations/480p" / video, names, np.full_like(labels, 1))
        lists[split].append(video)
        semantics[video] = {str(number): f"class {number}" for number in range(1, count + 2)}
        items = {}
        for number in range(1, count + 1):
            for index, name in enumerate(files):
                text = f'the "caf\u00e9" {number} pass {index}' + " " * (index == 1)
                # In one file the objects of a video are in descending order.
                lines[name].insert(0 if index == 2 else len(lines[name]), f'{spelt} {number} "{text}"')
                key = str(4 * (number - 1) + index)
                items[key] = {"exp": text, "obj_id": str(number)}
                expected[split].append(Expected(video, key, text, names, [number], labels == number, str(index)))
        converted[split][0][video] = {"expressions": items, "frames": names}
        objects = {number: {"category": category} for number, category in semantics[video].items()}
        converted[split][1][video] = {"objects": objects}
    for name, content in lines.items():
        path = root / "raw/davis_text_annotations" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(content) + "\n", encoding="latin-1" if "annot2" in name else "utf-8")
    for split, name in (("train", "train"), ("valid", "val")):
        path = root / "raw/DAVIS/ImageSets/2017" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{video}\n" for video in lists[split]))
        write_json(
            root / "converted/meta_expressions" / split / "meta_expressions.json", {"videos": converted[split][0]}
        )
        write_json(root / "converted" / split / "meta.json", {"videos": converted[split][1]})
    write_json(root / "raw/DAVIS/davis_semantics.json", semantics)
    return expected


def mask_codes(masks):
    return [code if mask.any() else None for code, mask in zip(encode_rle(masks), masks)]


def mevis(root, seed=0):
    """Overlapping targets, none, absent frames, a video of one frame, ids from 0 and annotation ids anew per split."""
    rng, expected = np.random.default_rng(seed), {}
    for split, lengths in (("train", (4, 1)), ("valid_u", (3,)), ("valid", (3,))):
        videos, codes, expected[split] = {}, {}, []
        for index, num_frames in enumerate(lengths):
            video, scene, names = f"{split}{9 - index}", Scene(rng, num_frames, 2, {1: {0}}), frame_names(num_frames)
            scene.write_frames(root / split / "JPEGImages" / video, names)
            first, items = len(codes), {}
            for masks in scene.layers:
                codes[str(len(codes))] = mask_codes(masks)
            for key, targets in enumerate(([0], [1], [0, 1], [])):
                items[str(key)] = {"exp": f" Objects {targets}  Moving"}
                row = Expected(video, str(key), items[str(key)]["exp"], names)
                if split != "valid":
                    items[str(key)] |= {"obj_id": targets, "anno_id": [first + target for target in targets]}
                    row.object_ids, row.masks = targets, scene.layers[targets].any(0)
                expected[split].append(row)
            videos[video] = {"expressions": items, "vid_id": index, "frames": names}
        write_json(root / split / "meta_expressions.json", {"videos": videos})
        if split != "valid":
            write_json(root / split / "mask_dict.json", codes)
    return expected


def revos(root, seed=0):
    """One file of masks for both splits, frames without split, and names of videos in two parts."""
    rng, expected, codes = np.random.default_rng(seed), {}, {}
    for split, video in (("train", "part_a/clip_1"), ("valid", "part_b/clip_2")):
        scene, names, items = Scene(rng, 3, 2, {0: {2}}), frame_names(3), {}
        scene.write_frames(root / "JPEGImages" / video, names)
        first, expected[split] = len(codes), []
        for masks in scene.layers:
            codes[str(len(codes))] = mask_codes(masks)
        for key, (targets, kind) in enumerate((([1], 0), ([0, 1], 1))):
            text = f"Which one, {kind}?"
            anno_ids = [first + target for target in targets]
            items[str(key)] = {"exp": text, "obj_id": targets, "anno_id": anno_ids, "type_id": kind}
            masks = scene.layers[targets].any(0)
            expected[split].append(Expected(video, str(key), text, names, targets, masks, str(kind)))
        entry = {"expressions": items, "vid_id": 0, "frames": names, "height": HEIGHT, "width": WIDTH}
        write_json(root / f"meta_expressions_{split}_.json", {"videos": {video: entry}})
    write_json(root / "mask_dict.json", codes)
    return expected


def long_rvos(root, seed=0):
    """A folder of PNG files for each object, without those in which it is absent."""
    rng, expected = np.random.default_rng(seed), {}
    for split in ("train", "valid", "test"):
        video, scene, names = f"long_{split}", Scene(rng, 6, 2, {0: {1, 2, 3}, 1: {5}}), frame_names(6, step=3)
        scene.write_frames(root / split / "JPEGImages" / video, names)
        items, expected[split] = {}, []
        for number, masks in enumerate(scene.layers, start=1):
            for mask, name in zip(masks, names):
                if mask.any():
                    path = root / split / "Annotations" / video / str(number) / f"{name}.png"
                    write_image(path, mask.astype(np.uint8) * 255)
            for kind in ("static", "dynamic", "hybrid"):
                key = str(len(items))
                items[key] = {"exp": f"The {kind} one.", "obj_id": str(number), "type": kind}
                expected[split].append(Expected(video, key, items[key]["exp"], names, [number], masks, kind))
        write_json(
            root / split / "meta_expressions.json", {"videos": {video: {"expressions": items, "frames": names}}}
        )
    return expected
