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
"""Which videos make up a batch, and which frames of a video make up a clip.

Every draw is a function of `(seed, epoch, index)`, never of a worker's state: a run that was interrupted continues
with exactly the batches it would have seen, and the number of workers changes nothing.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


# Samples that are tried one after the other until one shows its object.
MAX_TRIES = 100


def sample_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random numbers of one sample in one epoch."""
    return np.random.default_rng([seed, epoch, index])


def sample_clip(
    num_frames: int, clip_length: int, generator: np.random.Generator, max_stride: int | None = None
) -> np.ndarray:
    """Draw evenly spaced frames that span as much of the video as they can.

    Args:
        num_frames: Frames of the video.
        clip_length: Frames of the clip; a shorter video is padded by repeating its last frame.
        generator: Source of the draw.
        max_stride: Largest distance between two frames, 1 for a window of consecutive frames; None for no limit.

    Returns:
        `(clip_length,)` frame indices in ascending order.
    """
    if min(num_frames, clip_length, max_stride or 1) < 1:
        raise ValueError(
            f"num_frames ({num_frames}), clip_length ({clip_length}) and max_stride ({max_stride}) must be at least 1"
        )
    if clip_length > num_frames:
        return np.minimum(np.arange(clip_length), num_frames - 1)
    stride = min(num_frames // clip_length, max_stride or num_frames)
    start = generator.integers(num_frames - (clip_length - 1) * stride)
    return start + stride * np.arange(clip_length)


def sample_anchor_clip(
    num_frames: int,
    clip_length: int,
    anchor: int,
    generator: np.random.Generator,
    reverse_probability: float = 0.0,
) -> np.ndarray:
    """Draw a clip around a frame: itself, a near frame on each side, and the rest from all over the video.

    ReferFormer and SgMg train on such clips. Near means one to three frames away, clamped to the video. The others are
    drawn without replacement from the frames before and after these three; the last of the three counts as after, so
    it can occur twice. If there are too few, the whole video takes their place, and if it has too few as well, all of
    it and some of its frames once more, where the released code stops at videos shorter than half of that.

    Args:
        num_frames: Frames of the video.
        clip_length: Frames of the clip. A clip of one is the anchor, one of two has no near frame after it.
        anchor: Frame that the clip must contain.
        generator: Source of the draw.
        reverse_probability: How often the clip runs backwards.

    Returns:
        `(clip_length,)` frame indices in ascending order, or in descending order if reversed.
    """
    if clip_length < 1 or not 0 <= anchor < num_frames:
        raise ValueError(
            f"got clip_length {clip_length} and anchor {anchor} of {num_frames} frames, expected at least one frame "
            "and an anchor inside the video"
        )
    before, after = generator.integers(1, 4, 2)
    near = [anchor, max(0, anchor - before), min(num_frames - 1, anchor + after)][:clip_length]
    wanted = clip_length - len(near)
    far = np.concatenate([np.arange(min(near)), np.arange(max(near), num_frames)])
    if len(far) <= wanted:
        far = np.arange(num_frames)
    again = max(0, wanted - num_frames)
    rest = [
        generator.choice(far, wanted - again, replace=False),
        generator.choice(num_frames, again, replace=again > num_frames),
    ]
    frames = np.sort(np.concatenate([near, *rest])).astype(np.int64)
    return frames[::-1].copy() if generator.random() < reverse_probability else frames


def sample_neighbor_clip(
    num_frames: int, clip_length: int, center: int, generator: np.random.Generator, radius: int = 10
) -> np.ndarray:
    """Draw a clip of a frame and others near it, as SSA is trained; some may occur more than once.

    Args:
        num_frames: Frames of the video.
        clip_length: Frames of the clip.
        center: Frame that the clip must contain.
        generator: Source of the draw.
        radius: Largest distance from the center.

    Returns:
        `(clip_length,)` frame indices in ascending order.
    """
    if clip_length < 1 or not 0 <= center < num_frames:
        raise ValueError(
            f"got clip_length {clip_length} and center {center} of {num_frames} frames, expected at least one frame "
            "and a center inside the video"
        )
    near = generator.integers(max(0, center - radius), min(num_frames, center + radius + 1), clip_length - 1)
    return np.sort(np.append(near, center))


def window_starts(num_frames: int, clip_length: int) -> list[int]:
    """First frames of the consecutive windows of a video, as SOC trains on them.

    The last window ends with the video, and overlaps the one before if the video cannot be divided.
    """
    if min(num_frames, clip_length) < 1:
        raise ValueError(f"num_frames ({num_frames}) and clip_length ({clip_length}) must be at least 1")
    return [max(0, min(start, num_frames - clip_length)) for start in range(0, num_frames, clip_length)]


def window_positions(num_frames: int, clip_length: int, start: int) -> np.ndarray:
    """The `(clip_length,)` frames of the window that begins at `start`; behind the end the last one is repeated."""
    return np.minimum(start + np.arange(clip_length), num_frames - 1)


def sample_groups(num_expressions: int, max_size: int, generator: np.random.Generator) -> np.ndarray:
    """Deal expressions out to groups of random size.

    Args:
        num_expressions: Expressions about one clip.
        max_size: Size of the largest group there can be. Each size up to it, as far as expressions are left, is
            equally likely.
        generator: Source of the draw.

    Returns:
        `(num_expressions,)` number of the group of each, from 0.
    """
    if max_size < 1:
        raise ValueError(f"max_size is {max_size}, expected at least 1")
    sizes: list[int] = []
    while (left := num_expressions - sum(sizes)) > 0:
        sizes.append(int(generator.integers(1, min(max_size, left) + 1)))
    return generator.permutation(np.repeat(np.arange(len(sizes)), sizes))


class EpochBatchSampler(Sampler[list[tuple[int, int, int]]]):
    """Batches of `(epoch, index, clip_length)` without end; batch `n` is computed from `n` alone.

    A resumed run passes `start` instead of walking through the batches it has seen. With several processes, each takes
    its own share of every global batch.

    Args:
        num_samples: Samples of an epoch. The last ones that do not fill a global batch wait for another epoch.
        batch_size: Samples of a batch of one process.
        clip_lengths: Frames of the clips of a batch; batches take them in turns.
        seed: Seed of the order.
        start: Number of the first batch to produce.
        process_index: Number of this process.
        num_processes: Processes that share the samples.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        clip_lengths: Sequence[int],
        seed: int,
        start: int = 0,
        process_index: int = 0,
        num_processes: int = 1,
    ):
        self.batches_per_epoch = num_samples // (batch_size * num_processes)
        if self.batches_per_epoch == 0:
            raise ValueError(
                f"{num_samples} samples do not fill one batch of {batch_size} in each of {num_processes} processes"
            )
        self.num_samples, self.batch_size, self.clip_lengths = num_samples, batch_size, tuple(clip_lengths)
        self.seed, self.start = seed, start
        self.process_index, self.num_processes = process_index, num_processes

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        epoch, first = divmod(self.start, self.batches_per_epoch)
        while True:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)
            for number in range(first, self.batches_per_epoch):
                begin = (number * self.num_processes + self.process_index) * self.batch_size
                batch = epoch * self.batches_per_epoch + number
                clip_length = self.clip_lengths[batch % len(self.clip_lengths)]
                yield [(epoch, int(index), clip_length) for index in order[begin : begin + self.batch_size]]
            epoch, first = epoch + 1, 0
