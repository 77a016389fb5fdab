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

from hf_rvos.data import load_dataset
from hf_rvos.data.augmentation import ClipAugmentation
from hf_rvos.data.media import load_clip, load_masks
from hf_rvos.data.throughput import measure_throughput, measure_training, write_example
from tests.tiny_segmenter import tiny_model


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    folder = tmp_path_factory.mktemp("throughput")
    write_example(folder / "root", num_frames=6, size=(90, 160))
    return load_dataset("ref_youtube_vos", folder / "root", "train", cache_dir=folder / "rows"), folder / "root"


def test_example_is_a_video_of_a_moving_object(example):
    rows, root = example
    assert len(rows) == 1 and load_clip(rows[0], root).shape == (6, 90, 160, 3)
    lefts = load_masks(rows[0], root).any(1).argmax(1)
    assert (np.diff(lefts) > 0).all()


def test_measurement_says_what_it_measured(example):
    rows, root = example
    measured = measure_throughput(rows, root, clip_length=2, num_clips=2)
    parts = [measured[f"{stage}_ms"] for stage in ("decoding", "masks", "augmentation", "collating")]
    assert min(parts) > 0
    assert sum(parts) <= measured["clip_ms"]
    assert measured["clips_per_second_per_core"] == pytest.approx(1000 / measured["clip_ms"])
    assert measured["clips_per_second"] > 0
    assert {key: measured[key] for key in ("num_clips", "clip_length", "size")} == {
        "num_clips": 2,
        "clip_length": 2,
        "size": [90, 160],
    }


def test_training_steps_are_timed_and_taken(example):
    model, augmentation = tiny_model(), ClipAugmentation(short_sides=(50,), max_long_side=100)
    before = [parameter.clone() for parameter in model.parameters()]
    measured = measure_training(model, *example, clip_length=2, num_steps=2, augmentation=augmentation)
    assert measured["training_clips_per_second"] == pytest.approx(1000 / measured["step_ms"])
    assert measured["step_ms"] > 0
    assert measured["training_size"] == [64, 96]  # the example is 90x160, and frames are padded to multiples of 32
    assert not all(torch.equal(old, new.cpu()) for old, new in zip(before, model.parameters()))
