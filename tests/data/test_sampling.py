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
from itertools import islice

import numpy as np
import pytest

from hf_rvos.data.sampling import EpochBatchSampler, sample_clip, sample_generator, sample_groups


def batches(count, **settings):
    defaults = {"num_samples": 10, "batch_size": 2, "clip_lengths": [4, 8, 16], "seed": 3}
    return list(islice(EpochBatchSampler(**defaults | settings), count))


@pytest.mark.parametrize("clip_length, stride", [(4, 4), (5, 3), (8, 2), (9, 1), (16, 1)])
def test_clip_spans_the_video(clip_length, stride):
    for seed in range(20):
        frames = sample_clip(16, clip_length, np.random.default_rng(seed))
        assert len(frames) == clip_length
        assert (np.diff(frames) == stride).all()
        assert 0 <= frames[0] and frames[-1] < 16


def test_every_start_of_a_window_occurs():
    generator = np.random.default_rng(0)
    starts = {int(sample_clip(10, 8, generator, max_stride=1)[0]) for _ in range(100)}
    assert starts == {0, 1, 2}


def test_max_stride_limits_the_distance():
    assert (np.diff(sample_clip(100, 4, np.random.default_rng(0), max_stride=3)) == 3).all()


def test_one_frame_is_drawn_from_the_whole_video():
    generator = np.random.default_rng(0)
    assert {int(sample_clip(5, 1, generator)[0]) for _ in range(100)} == {0, 1, 2, 3, 4}


def test_short_video_repeats_its_last_frame():
    assert sample_clip(3, 5, np.random.default_rng(0)).tolist() == [0, 1, 2, 2, 2]


@pytest.mark.parametrize("arguments", [(0, 4), (4, 0)])
def test_clip_without_frames_is_refused(arguments):
    with pytest.raises(ValueError, match="must be at least 1"):
        sample_clip(*arguments, np.random.default_rng(0))


def test_draws_depend_on_seed_epoch_and_index():
    draws = {sample_generator(*key).random() for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)]}
    assert len(draws) == 4


def test_group_sizes_up_to_the_largest_all_occur():
    generator = np.random.default_rng(0)
    draws = [np.bincount(sample_groups(7, 3, generator)) for _ in range(50)]
    assert {int(sizes.sum()) for sizes in draws} == {7}
    assert {int(size) for sizes in draws for size in sizes} == {1, 2, 3}


def test_groups_without_members_are_refused():
    with pytest.raises(ValueError, match="max_size is 0"):
        sample_groups(3, 0, np.random.default_rng(0))


def test_an_epoch_shows_every_sample_once():
    epoch = [index for batch in batches(5) for _, index, _ in batch]
    assert sorted(epoch) == list(range(10))


def test_epochs_have_different_orders():
    both = batches(10)
    assert [key[0] for batch in both for key in batch] == [0] * 10 + [1] * 10
    assert [key[1] for batch in both[:5] for key in batch] != [key[1] for batch in both[5:] for key in batch]


def test_batches_take_the_clip_lengths_in_turns():
    assert [{length for _, _, length in batch} for batch in batches(7)] == [{4}, {8}, {16}, {4}, {8}, {16}, {4}]


@pytest.mark.parametrize("start", [1, 4, 5, 7, 13])
def test_a_later_start_gives_the_same_batches(start):
    assert batches(15 - start, start=start) == batches(15)[start:]


def test_processes_share_the_batches_of_one():
    shares = [batches(4, num_processes=2, process_index=rank) for rank in (0, 1)]
    for first, second in zip(*shares):
        assert len({index for _, index, _ in first + second}) == 4
        assert first[0][2] == second[0][2]


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="3 samples do not fill one batch of 2 in each of 2 processes"):
        batches(1, num_samples=3, num_processes=2)
