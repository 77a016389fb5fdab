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

from hf_rvos.data.sampling import (
    EpochBatchSampler,
    sample_anchor_clip,
    sample_clip,
    sample_generator,
    sample_groups,
    sample_neighbor_clip,
    window_positions,
    window_starts,
)


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


def anchor_clips(*arguments, count=200, **options):
    generator = np.random.default_rng(0)
    return [sample_anchor_clip(*arguments, generator, **options).tolist() for _ in range(count)]


@pytest.mark.parametrize("num_frames", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("clip_length", [1, 2, 3, 4, 5, 8])
def test_clip_around_an_anchor_is_sorted_and_contains_it(num_frames, clip_length):
    for anchor in {0, num_frames // 2, num_frames - 1}:
        for clip in anchor_clips(num_frames, clip_length, anchor, count=10):
            assert len(clip) == clip_length and clip == sorted(clip)
            assert anchor in clip and 0 <= clip[0] and clip[-1] < num_frames


def test_clip_of_one_frame_is_the_anchor():
    assert anchor_clips(30, 1, 12, count=5) == [[12]] * 5


def test_near_frames_are_one_to_three_away_on_both_sides():
    clips = anchor_clips(100, 3, 50)
    assert {clip[0] for clip in clips} == {47, 48, 49}
    assert {clip[1] for clip in clips} == {50}
    assert {clip[2] for clip in clips} == {51, 52, 53}


def test_near_frames_stay_in_the_video():
    assert {clip[0] for clip in anchor_clips(100, 3, 0)} == {0}
    assert {clip[2] for clip in anchor_clips(100, 3, 99)} == {99}


def test_far_frames_come_from_before_and_after_the_near_ones():
    clips = anchor_clips(10, 4, 5, count=2000)
    # The draws of the last near frame put it into the clip twice; no other frame can be there twice.
    twice = {frame for clip in clips for frame in clip if clip.count(frame) > 1}
    assert twice == {6, 7, 8}
    assert {frame for clip in clips for frame in clip} == set(range(10))
    for clip in clips:
        inside = [frame for frame in clip if 2 < frame < 5]
        assert len(inside) <= 2


def test_too_few_far_frames_are_drawn_from_the_whole_video():
    # Outside the near frames there is at most the last one twice, and five more are wanted.
    for clip in anchor_clips(6, 8, 3):
        assert len(set(clip)) >= 5


def test_a_clip_longer_than_the_video_has_all_its_frames():
    for clip in anchor_clips(3, 8, 1):
        assert set(clip) == {0, 1, 2}


def test_clip_is_reversed_as_often_as_asked():
    clips = anchor_clips(100, 5, 50, count=1000, reverse_probability=0.3)
    backwards = [clip for clip in clips if clip[0] > clip[-1]]
    assert all(clip == sorted(clip, reverse=True) for clip in backwards)
    assert 0.25 < len(backwards) / 1000 < 0.35


@pytest.mark.parametrize("anchor", [-1, 5])
def test_anchor_outside_the_video_is_refused(anchor):
    with pytest.raises(ValueError, match="an anchor inside the video"):
        sample_anchor_clip(5, 3, anchor, np.random.default_rng(0))


@pytest.mark.parametrize(
    "num_frames, windows",
    [
        (8, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (6, [[0, 1, 2, 3], [2, 3, 4, 5]]),
        (2, [[0, 1, 1, 1]]),
        (1, [[0, 0, 0, 0]]),
    ],
)
def test_windows_cover_the_video_and_end_with_it(num_frames, windows):
    starts = window_starts(num_frames, 4)
    assert [window_positions(num_frames, 4, start).tolist() for start in starts] == windows


def test_windows_without_frames_are_refused():
    with pytest.raises(ValueError, match="must be at least 1"):
        window_starts(0, 4)


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


@pytest.mark.parametrize(("num_frames", "clip_length"), [(1, 1), (1, 4), (5, 8), (60, 8)])
def test_neighbors_are_near_the_center_and_in_order(num_frames, clip_length):
    for seed in range(30):
        generator = np.random.default_rng(seed)
        center = int(generator.integers(num_frames))
        frames = sample_neighbor_clip(num_frames, clip_length, center, generator)
        assert frames.shape == (clip_length,) and (np.diff(frames) >= 0).all() and center in frames
        assert 0 <= frames.min() and frames.max() < num_frames and abs(frames - center).max() <= 10


def test_neighbors_reach_both_ends_of_their_range_and_may_repeat():
    clips = [sample_neighbor_clip(100, 8, 50, np.random.default_rng(seed)) for seed in range(200)]
    assert set(np.concatenate(clips)) == set(range(40, 61))
    assert any(len(set(clip)) < 8 for clip in clips)


def test_a_center_outside_the_video_is_refused():
    with pytest.raises(ValueError, match="center 5 of 5 frames"):
        sample_neighbor_clip(5, 3, 5, np.random.default_rng(0))
