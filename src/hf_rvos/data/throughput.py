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
"""How many training clips one core reads and augments in a second, and where the time goes.

python -m hf_rvos.data.throughput
python -m hf_rvos.data.throughput --dataset mevis --data_dir data/mevis --clip_length 8 --sampling windows
python -m hf_rvos.data.throughput --train referformer:video-swin-t    # and how many clips a model takes
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from accelerate.utils import send_to_device
from PIL import Image
from transformers import PreTrainedModel

from hf_rvos.benchmark import machine, peak_memory, random_segmenter
from hf_rvos.data.augmentation import ClipAugmentation
from hf_rvos.data.collate import ClipCollator
from hf_rvos.data.image_files import write_index_png, write_json
from hf_rvos.data.loading import load_dataset
from hf_rvos.data.referring_clips import SAMPLINGS, ReferringClips
from hf_rvos.processing.word_tokenizer import build_word_tokenizer


# All that ReferFormer does to videos.
COLORS = {"brightness": 32, "contrast": (0.5, 1.5), "saturation": (0.5, 1.5), "hue": 18}
SIZES = {"short_sides": (288, 320, 352, 392, 416, 448, 480, 512), "max_long_side": 640, "crop_probability": 0.5}
AUGMENTATION = ClipAugmentation(flip_probability=0.5, channel_shuffle_probability=0.5, **COLORS, **SIZES)


def measure_throughput(
    rows: Any, root: Path | None, clip_length: int = 5, sampling: str = "anchors", num_clips: int = 20
) -> dict[str, Any]:
    """Read, augment and collate clips one by one.

    Args:
        rows: `datasets.Dataset` with masks.
        root: Root of the data set.
        clip_length: Frames of a clip.
        sampling: As of `ReferringClips`.
        num_clips: Clips to read, drawn at random.

    Returns:
        `clips_per_second_per_core`, by the time that processors worked, and `clips_per_second` by the clock, which
        also has the waiting for disk and other programs; milliseconds of work for a clip, `clip_ms`, and for its parts
        `decoding_ms` (frames), `masks_ms`, `augmentation_ms` and `collating_ms`; and what was measured: `num_clips`,
        `clip_length`, and the `(height, width)` of the first video as `size`.
    """
    seconds = dict.fromkeys(("decoding", "masks", "augmentation", "collating"), 0.0)

    def timed(stage: str, function: Callable) -> Callable:
        def call(*arguments: Any) -> Any:
            started = time.process_time()
            result = function(*arguments)
            seconds[stage] += time.process_time() - started
            return result

        return call

    clips = ReferringClips(rows, root, clip_length, sampling, timed("augmentation", AUGMENTATION))
    clips._read_frames = timed("decoding", clips._read_frames)
    clips._read_masks = timed("masks", clips._read_masks)
    collate = timed("collating", ClipCollator(build_word_tokenizer(" ".join(rows["expression"]).split(), 512)))
    collate([clips[0, 0, clip_length]])  # the first one also loads libraries
    seconds.update(dict.fromkeys(seconds, 0.0))
    started, clock_started = time.process_time(), time.perf_counter()
    for index in np.random.default_rng(0).integers(len(clips), size=num_clips):
        collate([clips[0, int(index), clip_length]])
    worked, passed = time.process_time() - started, time.perf_counter() - clock_started
    parts = {f"{stage}_ms": 1000 * spent / num_clips for stage, spent in seconds.items()}
    speed = {"clips_per_second_per_core": num_clips / worked, "clips_per_second": num_clips / passed}
    what = {"num_clips": num_clips, "clip_length": clip_length, "size": [rows[0]["height"], rows[0]["width"]]}
    return {**speed, "clip_ms": 1000 * worked / num_clips, **parts, **what}


def measure_training(
    model: PreTrainedModel,
    rows: Any,
    root: Path | None,
    clip_length: int = 5,
    sampling: str = "anchors",
    num_steps: int = 3,
    augmentation: ClipAugmentation = AUGMENTATION,
) -> dict[str, Any]:
    """Take training steps of one such clip each: forward, backward and AdamW on all parameters that are trained.

    Args:
        model: A model; what it learns is of no use.
        rows: As of `measure_throughput`.
        root: As of `measure_throughput`.
        clip_length: As of `measure_throughput`.
        sampling: As of `measure_throughput`.
        num_steps: Steps to time, after a first one whose memory is measured.
        augmentation: What makes the frames as large as the model sees them.

    Returns:
        `step_ms` and `training_clips_per_second`: on a GPU by the clock, on a processor by the time that it worked;
        `training_memory_mib`, what a step takes at most beside the weights, with gradients and the state of AdamW;
        `weights_mib`; `(height, width)` of the frames of that clip as `training_size`; and where, as `device`.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clips = ReferringClips(rows, root, clip_length, sampling, augmentation)
    collate = ClipCollator(build_word_tokenizer(" ".join(rows["expression"]).split(), 512))
    model = model.to(device).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights = sum(parameter.nbytes for parameter in model.parameters())
    optimizer = torch.optim.AdamW(trained, lr=1e-5)

    def now() -> float:
        if device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def step(batch: dict[str, Any]) -> float:
        started = now()
        model(**send_to_device(batch, device)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return now() - started

    batches = []
    for index in np.random.default_rng(0).integers(len(clips), size=1 + num_steps):
        batches.append(collate([clips[0, int(index), clip_length]]))
        del batches[-1]["video_id"]
    memory = peak_memory(lambda: step(batches[0]), device)
    if memory is not None and device.type == "cuda":
        memory -= weights
    seconds = sum(map(step, batches[1:])) / num_steps
    return {
        "training_size": list(batches[0]["pixel_values_videos"].shape[-2:]),
        "weights_mib": weights / 2**20,
        "training_memory_mib": None if memory is None else memory / 2**20,
        "step_ms": 1000 * seconds,
        "training_clips_per_second": 1 / seconds,
        "device": machine(device)["device"],
    }


def write_example(root: Path, num_frames: int = 30, size: tuple[int, int] = (720, 1280)) -> None:
    """Write a video of a moving box over a pattern of many scales, in the layout of Ref-YouTube-VOS."""
    generator, (height, width) = np.random.default_rng(0), size
    scales = [generator.integers(0, 256, (2**level, 2**level, 3), np.uint8) for level in range(1, 9)]
    pattern = np.mean([cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) for noise in scales], axis=0)
    folders = [root / "train" / kind / "example" for kind in ("JPEGImages", "Annotations")]
    for folder in [*folders, root / "meta_expressions" / "train"]:
        folder.mkdir(parents=True)
    names = [f"{number:05d}" for number in range(num_frames)]
    for number, name in enumerate(names):
        left, mask = width * number // (2 * num_frames), np.zeros(size, np.uint8)
        mask[height // 3 : 2 * height // 3, left : left + width // 3] = 1
        frame = np.where(mask[..., None], 255 - pattern, pattern).astype(np.uint8)
        Image.fromarray(frame).save(folders[0] / f"{name}.jpg", quality=90)
        write_index_png(folders[1] / f"{name}.png", mask)
    videos = {"example": {"frames": names, "expressions": {"0": {"exp": "the box on the left", "obj_id": "1"}}}}
    write_json(root / "meta_expressions" / "train" / "meta_expressions.json", {"videos": videos})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ref_youtube_vos", help="as in hf_rvos.data.load_dataset")
    parser.add_argument("--data_dir", type=Path, help="its root; without, a video of 720p is made up and measured")
    parser.add_argument("--clip_length", type=int, default=5)
    parser.add_argument("--sampling", choices=SAMPLINGS, default="anchors")
    parser.add_argument("--num_clips", type=int, default=20)
    parser.add_argument("--train", metavar="MODEL", help="time training steps, too; soc:video-swin-t for example")
    parser.add_argument("--num_steps", type=int, default=3, help="training steps to time")
    parser.add_argument("--gradient_checkpointing", action="store_true", help="in them")
    parser.add_argument("--short_side", type=int, help="of all frames in them; without, several sizes and crops")
    options = vars(parser.parse_args())
    name, root, cache = options.pop("dataset"), options.pop("data_dir"), None
    trained, num_clips, num_steps = (options.pop(key) for key in ("train", "num_clips", "num_steps"))
    is_checkpointed, short_side = options.pop("gradient_checkpointing"), options.pop("short_side")
    cv2.setNumThreads(1), torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        if root is None and name == "ref_youtube_vos":
            root, cache = Path(folder, "example"), Path(folder, "rows")
            write_example(root)
        rows = load_dataset(name, root, "train", cache_dir=cache)
        measured = measure_throughput(rows, root, num_clips=num_clips, **options)
        if trained:
            model = random_segmenter(trained)[0]
            if is_checkpointed:
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            measured |= {"model": trained, "gradient_checkpointing": is_checkpointed}
            if short_side:
                options["augmentation"] = ClipAugmentation(short_sides=(short_side,), max_long_side=2 * short_side)
            measured |= measure_training(model, rows, root, num_steps=num_steps, **options)
        print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
