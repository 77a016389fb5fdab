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
"""Small roots of A2D-Sentences, JHMDB-Sentences, RefCOCO and of one's own data, with the oddities of the real ones."""

import csv
import json
import pickle
from pathlib import Path

import numpy as np
from PIL import Image

from hf_rvos.utils.video_io import VideoWriter


HEIGHT, WIDTH = 24, 32


def blob(rng: np.random.Generator, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A mask that equals none of its mirror images: a box with a corner cut off."""
    top, left = int(rng.integers(0, height // 2)), int(rng.integers(0, width // 2))
    bottom, right = int(rng.integers(top + 4, height)), int(rng.integers(left + 5, width))
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    mask[top : top + 2, left : left + 3] = False
    return mask


def picture(rng: np.random.Generator, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Noise as a frame."""
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def write_table(path: Path, lines: list[list]) -> None:
    """A comma-separated file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)


def write_video(path: Path, num_frames: int, rng: np.random.Generator) -> None:
    """A video file of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps=10, size=(HEIGHT, WIDTH)) as writer:
        for _ in range(num_frames):
            writer.write(picture(rng))


def write_h5(path: Path, instances: list, masks: np.ndarray | list[np.ndarray]) -> None:
    """A file of masks as MATLAB writes it: columns first, and without the first axis if there is one mask."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    stored = np.stack([np.asarray(mask, np.uint8).T for mask in masks])
    with h5py.File(path, "w") as file:
        file["instance"] = np.array(instances, np.float64)
        file["reMask"] = stored[0] if len(stored) == 1 else stored


def write_a2d(root: Path, seed: int = 0) -> dict[str, list[tuple]]:
    """Write A2D-Sentences and return (video, frame, instance, sentence, mask) of the rows of each split."""
    rng = np.random.default_rng(seed)
    folder = root / "text_annotations" / "a2d_annotation_with_instances"
    # The first video would be lost to a reader that takes the first line for titles.
    videos = {"-first": (5, 0), "_second": (4, 0), "third": (6, 1), "missed": (3, 1)}
    for video, (num_frames, _) in videos.items():
        write_video(root / "Release" / "clips320H" / f"{video}.mp4", num_frames, rng)
    write_table(
        root / "Release" / "videoset.csv",
        [
            [video, 13, "0:00:01", "0:00:02", HEIGHT, WIDTH, length, 2, part]
            for video, (length, part) in videos.items()
        ],
    )
    masks = {(video, frame, number): blob(rng) for video in videos for frame in range(1, 7) for number in range(3)}

    def take(video: str, frame: int, *numbers: int) -> list[np.ndarray]:
        return [masks[video, frame, number] for number in numbers]

    write_h5(folder / "-first" / "00001.h5", [0, 1], take("-first", 1, 0, 1))
    write_h5(folder / "-first" / "00005.h5", [1], take("-first", 5, 1))  # one mask; object 0 is away
    write_h5(
        folder / "_second" / "00002.h5", [2, 0], [*take("_second", 2, 2, 0), np.ones((HEIGHT, WIDTH))]
    )  # one more
    write_h5(
        folder / "third" / "00003.h5", [0, 0, 1], [*take("third", 3, 0), blob(rng), *take("third", 3, 1)]
    )  # twice
    write_h5(folder / "third" / "00006.h5", [1], [*take("third", 6, 1), np.ones((HEIGHT, WIDTH))])  # one, and one more
    write_h5(folder / "missed" / "00001.h5", [0], take("missed", 1, 0))
    sentences = [
        ["-first", "0", "A small, red  Box "],
        ["-first", "1", 'the "other" one'],
        ["_second", "0", "box"],
        ["_second", "1 (copy)", "box that is listed wrongly"],
        ["third", "1", "Box on the right"],
        ["third", "0", "box on the left"],
        ["missed", "0", "box of a video that is left out"],
    ]
    write_table(root / "text_annotations" / "a2d_annotation.txt", [["video_id", "instance_id", "query"], *sentences])
    (root / "text_annotations" / "a2d_missed_videos.txt").write_text("missed\n")
    expected = {
        "train": [("-first", 1, 0, 0), ("-first", 1, 1, 1), ("-first", 5, 1, 1), ("_second", 2, 0, 2)],
        "test": [("third", 3, 1, 4), ("third", 6, 1, 4), ("third", 3, 0, 5)],
    }
    samples = {
        split: [
            (video, frame, number, sentences[line][2], masks[video, frame, number])
            for video, frame, number, line in rows
        ]
        for split, rows in expected.items()
    }
    for split, rows in samples.items():
        listed = [[sentence.lower(), video, frame, number] for video, frame, number, sentence, _ in rows]
        (root / f"a2d_sentences_single_frame_{split}_annotations.json").write_text(json.dumps(listed))
    return samples


def write_mat(path: Path, masks: np.ndarray, **options) -> None:
    """A file of masks `(num_masks, height, width)`, frames last as in JHMDB."""
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"part_mask": np.ascontiguousarray(np.asarray(masks, np.uint8).transpose(1, 2, 0))}, **options)


def write_jhmdb(root: Path, seed: int = 0) -> list[tuple]:
    """Write JHMDB-Sentences and return (video, frame, sentence, mask, number of frames) of the rows."""
    rng = np.random.default_rng(seed)
    # Action, video, pictures, masks (fewer than pictures in the first), sentence.
    plan = [("jump", "a_(very)_[odd]_name", 6, 5, " Man  jumping"), ("run", "other", 4, 4, "a boy, running")]
    samples, rows, lines = [], [], [["video_id", "query"]]
    for action, video, num_frames, num_masks, sentence in plan:
        for number in range(1, num_frames + 1):
            path = root / "Rename_Images" / action / video / f"{number:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(rng)).save(path)
        masks = np.stack([blob(rng) for _ in range(num_masks)])
        masks[1] = False  # sampled all the same
        write_mat(root / "puppet_mask" / action / video / "puppet_mask.mat", masks)
        lines.append([video, sentence])
        for frame in (1, 2, 4):
            tail = f"{action}/{video}"
            samples.append(
                [
                    video,
                    f"/elsewhere/Rename_Images/{tail}/{frame:05d}.png",
                    f"/y/puppet_mask/{tail}/puppet_mask.mat",
                    9,
                    sentence,
                ]
            )
            rows.append((video, frame, sentence, masks[frame - 1], num_masks))
    write_table(root / "jhmdb_annotation.txt", lines)
    (root / "jhmdb_sentences_samples_metadata.json").write_text(json.dumps(samples))
    return rows


def box_polygon(left: int, top: int, right: int, bottom: int) -> list[float]:
    """Polygon of a box of whole pixels."""
    return [float(value) for value in (left, top, right, top, right, bottom, left, bottom)]


def box_of(mask: np.ndarray) -> list[float]:
    """Box around a mask as COCO has it: left, top, width, height."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return [float(value) for value in (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)]


def write_refcoco(root: Path) -> dict[str, list[tuple]]:
    """Write RefCOCO split by unc and return (sentence id, sentence, raw, image, annotation, mask) of each split."""
    rng = np.random.default_rng(0)
    (root / "train2014").mkdir(parents=True)
    images, annotations, masks = [], [], {}
    crowd = np.zeros(HEIGHT * WIDTH, bool)
    crowd[100:130] = True
    segmentations = {
        51: [box_polygon(2, 3, 10, 9)],
        52: [box_polygon(0, 0, 4, 4), box_polygon(20, 10, 30, 20)],
        900100000001: {"size": [HEIGHT, WIDTH], "counts": [100, 30, HEIGHT * WIDTH - 130]},
        54: [box_polygon(1, 1, 6, 12)],
    }
    boxes = {51: [(2, 3, 10, 9)], 52: [(0, 0, 4, 4), (20, 10, 30, 20)], 54: [(1, 1, 6, 12)]}
    for number, (annotation, segmentation) in enumerate(segmentations.items()):
        image = 700 + 11 * number
        name = f"COCO_train2014_{image:012d}.jpg"
        Image.fromarray(picture(rng)).save(root / "train2014" / name)
        images.append({"id": image, "file_name": name, "height": HEIGHT, "width": WIDTH})
        mask = crowd.reshape(WIDTH, HEIGHT).T if annotation > 100 else np.zeros((HEIGHT, WIDTH), bool)
        for left, top, right, bottom in boxes.get(annotation, ()):
            mask[top:bottom, left:right] = True
        masks[annotation] = image, mask
        annotations.append(
            {
                "id": annotation,
                "image_id": image,
                "category_id": 90,
                "iscrowd": int(annotation > 100),
                "bbox": box_of(mask),
                "segmentation": segmentation,
            }
        )
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 90, "name": "toothbrush"}]}
    (root / "refcoco").mkdir()
    (root / "refcoco" / "instances.json").write_text(json.dumps(coco))
    # Annotation, stored split, sentences (id, sentence, raw).
    plan = [
        (52, "train", [(0, "both parts", "Both parts!"), (1, "the two", "the two")]),
        (51, "testA", [(2, "left box", "Left  box")]),
        (54, "testAB", [(3, "tall box", "tall box.")]),
        (900100000001, "train", [(4, "many", "Many")]),
    ]
    refs, rows = [], {"train": [], "testA": [], "testB": []}
    for number, (annotation, split, sentences) in enumerate(plan):
        image, mask = masks[annotation]
        stored = [{"sent_id": k, "sent": sent, "raw": raw, "tokens": sent.split()} for k, sent, raw in sentences]
        refs.append(
            {
                "ref_id": number,
                "ann_id": annotation,
                "image_id": image,
                "category_id": 90,
                "split": split,
                "file_name": f"COCO_train2014_{image:012d}_{annotation}.jpg",
                "sentences": stored,
                "sent_ids": [k for k, _, _ in sentences],
            }
        )
        for part in {"testAB": ["testA", "testB"]}.get(split, [split]):
            rows[part] += [(str(k), sent, raw, image, annotation, mask) for k, sent, raw in sentences]
    (root / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs, 0))
    return rows


def write_custom(root: Path, seed: int = 0) -> dict[str, np.ndarray]:
    """Write a video file, a folder of frames, and masks for it as PNG files, but no list of sentences."""
    rng = np.random.default_rng(seed)
    write_video(root / "clips" / "noise.mp4", 4, rng)
    ids = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    ids[:, 2:9, 3:12], ids[:, 10:20, 8:30] = 1, 4
    for number, name in enumerate(("frame2", "frame9", "frame10")):
        for folder in ("frames/walk", "ids/walk", "one/walk"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(rng)).save(root / "frames" / "walk" / f"{name}.png")
        Image.fromarray(ids[number]).save(root / "ids" / "walk" / f"{name}.png")
        if number != 1:
            Image.fromarray((ids[number] == 4).astype(np.uint8) * 255).save(root / "one" / "walk" / f"{name}.png")
    return {"ids": ids}
