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
import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from hf_rvos.data import load_dataset
from hf_rvos.data.augmentation import ClipAugmentation
from hf_rvos.data.collate import ClipCollator
from hf_rvos.data.media import load_clip, load_masks
from hf_rvos.data.moving_shapes import MovingShapesConfig
from hf_rvos.data.moving_shapes.builder import build_rows
from hf_rvos.data.referring_clips import ConcatClips, MixedClips, ReferringClips
from hf_rvos.data.sampling import EpochBatchSampler, window_positions
from hf_rvos.processing.word_tokenizer import build_word_tokenizer
from tests.data import roots, sentence_roots


WRITERS = {
    "ref_youtube_vos": roots.ref_youtube_vos,
    "mevis": roots.mevis,
    "long_rvos": roots.long_rvos,
    "a2d_sentences": sentence_roots.write_a2d,
    "refcoco": sentence_roots.write_refcoco,
}
AUGMENTATION = ClipAugmentation(
    flip_probability=0.5, brightness=32, hue=18, short_sides=(16, 20), crop_probability=0.5, crop_short_sides=(24,)
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("roots")
    for name, write in WRITERS.items():
        write(folder / name)
    return folder


@pytest.fixture
def clips(root):
    """Clips of the training split of a data set, or of such of its rows as pass a test."""

    def build(name, clip_length=3, keep=None, change=None, **options):
        rows = load_dataset(name, root / name, "train")
        if keep is not None:
            rows = rows.filter(keep)
        if change is not None:
            rows = rows.map(change)
        return ReferringClips(rows, root / name, clip_length, **options)

    return build


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(second[name], value) if torch.is_tensor(value) else second[name] == value


def frames_of(sample):
    return sample["frames"].permute(0, 2, 3, 1).numpy()


def empty(row):
    return {"masks": [None] * row["num_frames"]}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("sampling", ["anchors", "windows"])
@pytest.mark.parametrize("max_expressions", [1, 3])
def test_every_sample_is_a_clip_of_visible_objects(clips, name, sampling, max_expressions):
    data = clips(name, sampling=sampling, max_expressions=max_expressions, augmentation=AUGMENTATION)
    num_labels = 1 if name == "a2d_sentences" else 3
    for index in range(len(data)):
        sample = data[0, index, 3]
        count = len(sample["expressions"])
        size = sample["frames"].shape[-2:]
        assert 1 <= count <= max_expressions and all(sample["expressions"])
        assert sample["frames"].shape == (3, 3, *size) and sample["frames"].dtype == torch.uint8
        assert sample["masks"].shape == (count, num_labels, *size) and sample["masks"].dtype == torch.bool
        assert sample["boxes"].shape == (count, num_labels, 4)
        assert sample["valid_frames"].any(-1).all()
        assert ("annotated_frames" in sample) == (name == "a2d_sentences")
        assert sample["video_id"].startswith(f"{name} ")


def test_windows_are_frames_and_masks_of_the_video(clips):
    data = clips("ref_youtube_vos", clip_length=2, sampling="windows")
    for index in range(len(data)):
        sample, row = data[0, index, 2], data.rows[int(data.row_numbers[index])]
        positions = window_positions(row["num_frames"], 2, int(data.starts[index]))
        assert np.array_equal(frames_of(sample), load_clip(row, data.root, positions))
        assert np.array_equal(sample["masks"][0].numpy(), load_masks(row, data.root, positions))
        assert sample["expressions"] == [row["expression"]]


def test_windows_without_the_object_are_no_samples(clips):
    # The cat is absent from the first two of five frames.
    cat = clips("ref_youtube_vos", 2, lambda row: row["expression"] == "cat", sampling="windows")
    assert cat.starts.tolist() == [2, 3]


def test_every_expression_has_an_anchor_in_each_stretch_of_the_video(clips):
    data = clips("ref_youtube_vos", 2)
    found = {}
    for number, start in zip(data.row_numbers.tolist(), data.starts.tolist()):
        found.setdefault(data.rows[number]["num_frames"], []).append(start)
    assert found == {4: [0, 2, 0, 2], 5: [0, 2, 4]}


def test_an_anchor_is_in_its_clip(clips):
    data = clips("ref_youtube_vos", 2)
    for index in range(len(data)):
        row = data.rows[int(data.row_numbers[index])]
        anchor = load_clip(row, data.root, [int(data.starts[index])])[0]
        if load_masks(row, data.root).any((1, 2)).all():  # else another sample may be in its place
            assert any(np.array_equal(frame, anchor) for frame in frames_of(data[0, index, 2]))


def test_clips_run_backwards_if_asked(clips):
    forwards, backwards = (clips("long_rvos", reverse_probability=p)[0, 1, 3] for p in (0, 1))
    assert torch.equal(backwards["frames"], forwards["frames"].flip(0))
    assert torch.equal(backwards["masks"], forwards["masks"].flip(1))


def test_a_sample_depends_on_its_key_alone(clips):
    first, second = (clips("mevis", augmentation=AUGMENTATION, max_expressions=3) for _ in range(2))
    samples = [first[2, index, 3] for index in range(len(first))]
    for index in reversed(range(len(second))):
        second[1, index, 4]
        assert_same(second[2, index, 3], samples[index])


def test_epochs_show_different_clips(clips):
    data = clips("long_rvos", augmentation=AUGMENTATION)
    assert len({data[epoch, 0, 3]["frames"].sum().item() for epoch in range(5)}) > 2


def test_two_workers_make_the_batches_of_none(clips):
    data = ConcatClips([clips(name, augmentation=AUGMENTATION) for name in ("refcoco", "ref_youtube_vos")])
    collate = ClipCollator(build_word_tokenizer(["a", "dog", "cat", "both", "parts", "the", "two"]))
    batches = []
    for num_workers in (0, 2):
        sampler = EpochBatchSampler(len(data), 2, [3, 1], seed=4)
        loader = iter(DataLoader(data, batch_sampler=sampler, collate_fn=collate, num_workers=num_workers))
        batches.append([next(loader) for _ in range(6)])
    for plain, by_workers in zip(*batches, strict=True):
        assert plain["video_id"] == by_workers["video_id"]
        for name in ("pixel_values_videos", "input_ids"):
            assert torch.equal(plain[name], by_workers[name])
        for label, other in zip(plain["labels"], by_workers["labels"], strict=True):
            assert_same(label, other)


def test_a_video_of_one_frame_repeats_it(clips):
    for sampling in ("anchors", "windows"):
        data = clips("mevis", keep=lambda row: row["num_frames"] == 1, sampling=sampling)
        frames = data[0, 0, 3]["frames"]
        assert len(frames) == 3 and (frames == frames[:1]).all()


def test_a_video_shorter_than_the_clip_is_shown_as_a_whole(clips):
    for sampling in ("anchors", "windows"):
        data = clips("ref_youtube_vos", 9, sampling=sampling)
        sample, row = data[0, 0, 9], data.rows[0]
        assert len(sample["frames"]) == 9
        assert len({frame.tobytes() for frame in frames_of(sample)}) == row["num_frames"] == 4


def test_a_picture_alone_is_the_picture(clips):
    data = clips("refcoco", 1)
    sample, row = data[0, 0, 1], data.rows[0]
    assert np.array_equal(frames_of(sample), load_clip(row, data.root))
    assert np.array_equal(sample["masks"][0].numpy(), load_masks(row, data.root))


def test_a_picture_becomes_a_clip_that_moves(clips):
    data = clips("refcoco", 4)
    frames = frames_of(data[0, 0, 4])
    assert len({frame.tobytes() for frame in frames}) == 4
    assert any(np.array_equal(frame, load_clip(data.rows[0], data.root)[0]) for frame in frames)


def test_options_reach_the_pseudo_video(clips):
    still = dict.fromkeys(("perspective", "rotation", "translation", "blur_probability", "brightness"), 0)
    frames = clips("refcoco", 4, pseudo_video_options=still | {"hue_saturation": 0})[0, 0, 4]["frames"]
    assert (frames == frames[:1]).all()


@pytest.mark.parametrize("options", [{}, {"sampling": "windows"}, {"reverse_probability": 1.0}], ids=str)
def test_the_only_annotated_frame_of_a_clip_has_the_labels(clips, options):
    data = clips("a2d_sentences", 3, **options)
    assert len(data) == len(data.rows)
    for index, row in enumerate(data.rows):
        sample = data[0, index, 3]
        (place,), annotated = sample["annotated_frames"].tolist(), row["annotated_frames"]
        assert np.array_equal(frames_of(sample)[place], load_clip(row, data.root, annotated)[0])
        assert np.array_equal(sample["masks"][0].numpy(), load_masks(row, data.root, annotated))


@pytest.mark.parametrize("placement, place", [("middle", 1), ("first", 0)])
def test_labels_of_a_window_at_the_start_are_placed_as_asked(clips, placement, place):
    # Frame 1 of the video is annotated, and shown twice.
    data = clips("a2d_sentences", 3, sampling="windows", placement=placement)
    assert data[0, 0, 3]["annotated_frames"].tolist() == [place]


@pytest.mark.parametrize("sampling", ["anchors", "windows"])
def test_frames_without_annotation_are_left_out(clips, sampling):
    data = clips("ref_youtube_vos", 8, lambda row: row["num_frames"] == 4, sampling=sampling)
    annotated = [0, 2, 3]
    partly = clips(
        "ref_youtube_vos",
        8,
        lambda row: row["num_frames"] == 4,
        lambda row: {"annotated_frames": annotated},
        sampling=sampling,
    )
    wanted = {frame.tobytes() for frame in load_clip(data.rows[0], data.root, annotated)}
    assert {frame.tobytes() for frame in frames_of(partly[0, 0, 8])} == wanted
    assert len({frame.tobytes() for frame in frames_of(data[0, 0, 8])}) == 4


def test_numbers_of_expressions_are_equally_likely_and_of_one_video(clips):
    data = clips("mevis", 4, max_expressions=3)
    long_video = [index for index, number in enumerate(data.row_numbers) if data.rows[int(number)]["num_frames"] == 4]
    counts = []
    for epoch in range(100):
        sample = data[epoch, long_video[0], 4]
        assert sample["expressions"][0] == "objects [0] moving"
        assert len(set(sample["expressions"])) == len(sample["expressions"])
        assert set(sample["expressions"]) <= {f"objects {ids} moving" for ids in ([0], [1], [0, 1])}
        counts.append(len(sample["expressions"]))
    assert min(np.bincount(counts, minlength=4)[1:]) > 15


def test_masks_belong_to_their_expressions(clips):
    data = clips("mevis", 4, max_expressions=3, sampling="windows")
    masks = {row["expression"]: load_masks(row, data.root) for row in data.rows if row["num_frames"] == 4}
    for epoch in range(5):
        sample = data[epoch, 0, 4]
        for expression, track in zip(sample["expressions"], sample["masks"], strict=True):
            assert np.array_equal(track.numpy(), masks[expression])


def test_further_expressions_whose_object_is_not_seen_are_dropped(clips):
    data = clips(
        "mevis",
        4,
        lambda row: row["num_frames"] == 4,
        lambda row: empty(row) if row["expression"] == "objects [1] moving" else {},
        max_expressions=3,
    )
    shown = {expression for epoch in range(20) for expression in data[epoch, 0, 4]["expressions"]}
    assert shown == {"objects [0] moving", "objects [0, 1] moving"}


def test_expressions_without_target_are_no_samples(clips):
    data = clips("mevis")
    assert any(row["object_ids"] == [] for row in data.rows)
    assert all(data.rows[int(number)]["object_ids"] for number in data.row_numbers)


def test_a_sample_without_its_object_is_replaced(clips):
    data = clips("mevis", change=lambda row: {} if row["expression"] == "objects [0] moving" else empty(row))
    shown = [data[0, index, 3]["expressions"] for index in range(len(data))]
    assert shown == [["objects [0] moving"]] * len(data)


def test_a_data_set_that_never_shows_its_objects_is_named(clips):
    data = clips("mevis", change=empty)
    with pytest.raises(ValueError, match="mevis: none of 100 samples .* the last was mevis train"):
        data[0, 0, 3]


def test_windows_of_a_data_set_without_objects_are_refused_at_once(clips):
    with pytest.raises(ValueError, match="mevis has no clip that shows an object"):
        clips("mevis", change=empty, sampling="windows")


def test_rows_without_masks_are_refused_at_once(root):
    rows = load_dataset("ref_youtube_vos", root / "ref_youtube_vos", "valid")
    with pytest.raises(ValueError, match="12 of 12 rows have no masks .* the first is ref_youtube_vos aa/0"):
        ReferringClips(rows, root / "ref_youtube_vos", 3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sampling": "random"}, "sampling is 'random', expected one of anchors, windows"),
        ({"placement": "last"}, "placement is 'last', expected one of"),
        ({"clip_length": 0}, r"clip_length \(0\)"),
        ({"max_expressions": 0}, r"max_expressions \(0\)"),
    ],
)
def test_unknown_options_are_refused(clips, options, message):
    with pytest.raises(ValueError, match=message):
        clips("mevis", **options)


def test_drawn_videos_need_no_root():
    rows = Dataset.from_list(build_rows("val", 0, MovingShapesConfig()))
    sample = ReferringClips(rows, None, 4)[0, 0, 4]
    assert sample["frames"].shape[0] == sample["masks"].shape[1] == 4


def test_data_sets_follow_one_another(clips):
    first, second = clips("ref_youtube_vos"), clips("refcoco")
    both = ConcatClips([first, second, second])
    assert len(both) == len(first) + 2 * len(second)
    assert_same(both[1, len(first) - 1, 3], first[1, len(first) - 1, 3])
    assert_same(both[1, len(first), 3], second[1, 0, 3])
    assert_same(both[1, len(both) - 1, 3], second[1, len(second) - 1, 3])


class Numbers(torch.utils.data.Dataset):
    """Samples that say by which pass and number they were asked for."""

    def __init__(self, name, size):
        self.name, self.size = name, size

    def __len__(self):
        return self.size

    def __getitem__(self, key):
        return self.name, *key


@pytest.mark.parametrize("sizes", [(4, 10), (10, 3), (5, 5)])
def test_data_sets_are_mixed_by_weight_and_not_by_size(sizes):
    mixed = MixedClips([Numbers(name, size) for name, size in zip("ab", sizes)], [1.0, 0.6], seed=3)
    assert mixed.counts == [sizes[0], round(0.6 * sizes[0])] and len(mixed) == sum(mixed.counts)
    epochs = 7
    samples = [mixed[epoch, index, 8] for epoch in range(epochs) for index in range(len(mixed))]
    for name, size, count in zip("ab", sizes, mixed.counts):
        own = [sample[1:3] for sample in samples if sample[0] == name]
        assert len(own) == epochs * count
        # Nothing comes again before everything has come, and then with other random numbers.
        for start in range(0, len(own), size):
            in_pass = own[start : start + size]
            assert {passes for passes, _ in in_pass} == {start // size}
            assert len(set(in_pass)) == len(in_pass) == min(size, len(own) - start)


def test_a_mixed_sample_depends_on_its_key_alone():
    mixed, other = (MixedClips([Numbers("a", 9), Numbers("b", 20)], [1, 2], seed=1) for _ in range(2))
    keys = [(epoch, index, 8) for epoch in range(3) for index in range(len(mixed))]
    expected = [mixed[key] for key in keys]
    assert [other[key] for key in reversed(keys)] == expected[::-1]


def test_objects_of_an_expression_are_given_apart(clips):
    data = clips("mevis", object_masks=True, max_expressions=3, sampling="neighbors")
    numbers = set()
    for index in range(len(data)):
        sample = data[0, index, 3]
        assert len(sample["object_masks"]) == len(sample["expressions"]) == len(sample["masks"])
        for objects, union in zip(sample["object_masks"], sample["masks"]):
            assert objects.shape[1:] == union.shape and torch.equal(objects.any(0), union)
            assert objects.flatten(1).any(1).all()
            numbers.add(len(objects))
    assert numbers > {1, 2}


def test_objects_are_changed_together_with_their_clip(clips):
    plain, mirrored = (
        clips("mevis", object_masks=True, augmentation=ClipAugmentation(flip_probability=p, short_sides=(16,)))
        for p in (0, 1)
    )
    for index in range(len(plain)):
        one, other = plain[0, index, 3], mirrored[0, index, 3]
        assert one["frames"].shape[-2] == 16
        for objects, flipped in zip(one["object_masks"], other["object_masks"], strict=True):
            assert torch.equal(objects, flipped.flip(-1))


@pytest.mark.parametrize("sampling", ["anchors", "windows", "neighbors"])
def test_expressions_about_nothing_are_learned_from_where_objects_are_apart(clips, sampling):
    change = {"object_ids": [], "masks": [None] * 3, "target_masks": None}
    data = clips("mevis", object_masks=True, sampling=sampling, change=lambda row: change | empty(row))
    sample = data[0, 0, 3]
    assert sample["object_masks"][0].shape[0] == 0 and not sample["masks"].any() and len(sample["expressions"]) == 1
    with pytest.raises(ValueError, match="no clip that shows an object"):
        clips("mevis", sampling=sampling, change=lambda row: change | empty(row))


def test_objects_apart_cost_nothing_where_they_are_not_wanted(clips):
    data = clips("mevis")
    assert "target_masks" not in data.rows.column_names and "object_masks" not in data[0, 0, 3]


@pytest.mark.parametrize("name", WRITERS)
def test_neighbors_of_any_data_set_are_clips(clips, name):
    data = clips(name, sampling="neighbors", object_masks=True, augmentation=AUGMENTATION)
    for index in range(len(data)):
        sample = data[0, index, 3]
        # In MeViS, one of the sentences is about nothing.
        assert len(sample["frames"]) == 3 and (len(sample["object_masks"][0]) >= 1 or name == "mevis")
        assert ("annotated_frames" in sample) == (name == "a2d_sentences")
