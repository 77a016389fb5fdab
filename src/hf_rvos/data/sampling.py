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

Every draw is a function of `(seed, epoch, index)`, never of a worker's state: a run that was interrupted continues with
exactly the batches it would have seen, and the number of workers changes nothing.
"""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


def sample_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random numbers of one sample in one epoch."""
    return np.random.default_rng([seed, epoch, index])


def sample_clip(
    num_frames: int, clip_length: int, generator: np.random.Generator, strides: tuple[int, ...] = (1,)
) -> np.ndarray:
    """Draw a window of evenly spaced frames.

    Args:
        num_frames: Frames of the video.
        clip_length: Frames of the clip; a shorter video is padded by repeating its last frame.
        generator: Source of the draw.
        strides: Distances between frames to choose from. Those too long for the video are left out.

    Returns:
        `(clip_length,)` frame indices in ascending order.
    """
    if clip_length < 1 or num_frames < 1 or not strides or min(strides) < 1:
        raise ValueError(
            f"num_frames ({num_frames}), clip_length ({clip_length}) and strides ({strides}) must all be at least 1"
        )
    # The last frame is (clip_length - 1) strides after the first one.
    fitting = [stride for stride in strides if (clip_length - 1) * stride < num_frames]
    if not fitting:
        return np.minimum(np.arange(clip_length), num_frames - 1)
    stride = fitting[generator.integers(len(fitting))]
    start = generator.integers(num_frames - (clip_length - 1) * stride)
    return start + stride * np.arange(clip_length)


class EpochBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of `(epoch, index)` without end; batch `n` is computed from `n` alone.

    A resumed run passes `start` instead of walking through the batches it has seen. With several processes, each takes
    its own share of every global batch.

    Args:
        num_samples: Samples of an epoch. The last ones that do not fill a global batch wait for another epoch.
        batch_size: Samples of a batch of one process.
        seed: Seed of the order.
        start: Number of the first batch to produce.
        process_index: Number of this process.
        num_processes: Processes that share the samples.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
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
        self.num_samples, self.batch_size, self.seed, self.start = num_samples, batch_size, seed, start
        self.process_index, self.num_processes = process_index, num_processes

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, first = divmod(self.start, self.batches_per_epoch)
        while True:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)
            for number in range(first, self.batches_per_epoch):
                begin = (number * self.num_processes + self.process_index) * self.batch_size
                yield [(epoch, int(index)) for index in order[begin : begin + self.batch_size]]
            epoch, first = epoch + 1, 0
