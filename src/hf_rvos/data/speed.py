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
"""How long the rows of a large training set take to load, measured on one that is made up for it.

python -m hf_rvos.data.speed
"""

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

import hf_rvos.data.ref_youtube_vos  # noqa: F401, so that its import is not measured
from hf_rvos.benchmark import machine, peak_memory, run_apart
from hf_rvos.data.facts import FACTS
from hf_rvos.data.image_files import write_jpeg, write_json
from hf_rvos.data.loading import load_dataset


PUBLISHED = FACTS["ref_youtube_vos"].published["train"]
FRAMES_OF_VIDEO = 27  # videos have 3 to 6 seconds, of which 6 frames a second are there


def write_root(root: Path, num_videos: int, num_expressions: int) -> None:
    """Write the split `train` of a root in the layout of Ref-YouTube-VOS.

    Of each video the first frame is a small picture, whose header is read; other frames and masks are empty files, of
    which only the names are.

    Args:
        root: A new folder.
        num_videos: How many videos there are.
        num_expressions: How many expressions they have together.
    """
    names = [f"{5 * number:05d}" for number in range(FRAMES_OF_VIDEO)]
    objects = {number: {"category": "person", "frames": names} for number in ("1", "2")}
    videos, meta = {}, {}
    for index in range(num_videos):
        video = f"{index:010x}"
        expressions = {
            str(key): {"exp": f"person number {number} in a red jacket on the left", "obj_id": str(1 + key % 2)}
            for key, number in enumerate(range(index, num_expressions, num_videos))
        }
        videos[video], meta[video] = {"expressions": expressions, "frames": names}, {"objects": objects}
        for kind, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".png")):
            folder = root / "train" / kind / video
            folder.mkdir(parents=True)
            for name in names:
                (folder / f"{name}{suffix}").touch()
        write_jpeg(root / "train/JPEGImages" / video / f"{names[0]}.jpg", np.zeros((8, 8, 3), np.uint8))
    (root / "meta_expressions/train").mkdir(parents=True)
    write_json(root / "meta_expressions/train/meta_expressions.json", {"videos": videos})
    write_json(root / "train/meta.json", {"videos": meta})


def load(root: Path, cache_dir: Path) -> dict[str, Any]:
    """Load the training split in this process.

    Returns:
        `num_rows`; `seconds` and, of this process, `cpu_seconds`; and `peak_memory_mib`, how much more memory than
        before it had at most, None where that is not known.
    """
    measured = {}

    def work() -> None:
        started, cpu_started = time.perf_counter(), time.process_time()
        rows = load_dataset("ref_youtube_vos", root, split="train", cache_dir=cache_dir)
        measured.update(num_rows=len(rows), seconds=time.perf_counter() - started)
        measured.update(cpu_seconds=time.process_time() - cpu_started)

    peak = peak_memory(work, torch.device("cpu"))
    return measured | {"peak_memory_mib": None if peak is None else peak / 2**20}


def compare_loading(
    num_videos: int = PUBLISHED.videos, num_expressions: int = PUBLISHED.expressions[0]
) -> dict[str, Any]:
    """Load a made-up training set twice, in a new process each time.

    Returns:
        `num_videos`, `num_frames`, and what [`load`] says `cold`, without cached rows, and `cached`, with those that
        the first time left. The files have just been written, so no time goes into fetching them from a disk.
    """
    with TemporaryDirectory() as folder:
        root, cache_dir = Path(folder, "root"), Path(folder, "cache")
        write_root(root, num_videos, num_expressions)
        measured = {name: run_apart(load, root, cache_dir) for name in ("cold", "cached")}
    return {"num_videos": num_videos, "num_frames": FRAMES_OF_VIDEO * num_videos, **measured}


if __name__ == "__main__":
    print(json.dumps({"machine": machine(torch.device("cpu")), **compare_loading()}, indent=2))
