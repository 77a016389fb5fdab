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
"""Moving Shapes as `datasets` rows: shared schema, lazy frames, processes and streaming."""

import numpy as np
import pytest

from hf_rvos.data.media import RowReader, load_clip, load_masks
from hf_rvos.data.moving_shapes import (
    MovingShapes,
    MovingShapesConfig,
    draw_clip,
    generate_video,
)
from hf_rvos.data.moving_shapes import builder as builder_module
from hf_rvos.data.moving_shapes.builder import MOVING_SHAPES_FEATURES
from hf_rvos.data.schema import FEATURES


PARAMETERS = {"height": 64, "width": 96, "num_frames": 8, "num_videos": 3}
CONFIG = MovingShapesConfig(height=64, width=96, num_frames=8, subset="all")


def prepared(cache_dir, num_proc=None, config_name="all"):
    builder = MovingShapes(cache_dir=str(cache_dir), config_name=config_name, **PARAMETERS)
    builder.download_and_prepare(num_proc=num_proc)
    return builder


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def rows(builder):
    return builder.as_dataset(split="test")


def test_rows_have_the_columns_of_every_benchmark_and_three_more(rows):
    assert rows.features == MOVING_SHAPES_FEATURES
    assert set(rows.features) - set(FEATURES) == {"skill", "phrasing_seen", "program"}


def test_rows_with_other_columns_are_stale(tmp_path, monkeypatch):
    def cache_dir():
        return MovingShapes(cache_dir=str(tmp_path), config_name="all", **PARAMETERS).cache_dir

    before = cache_dir()
    monkeypatch.setattr(builder_module, "MOVING_SHAPES_FEATURES", FEATURES)
    assert cache_dir() != before


def test_rows_are_those_of_the_generator_in_order(rows):
    expected = [row for index in range(3) for row in generate_video("test", index, CONFIG).rows]
    for row, wanted in zip(rows, expected, strict=True):
        assert {name: row[name] for name in wanted} == wanted


def test_video_and_expression_id_are_the_key(rows):
    assert len({(row["video_id"], row["expression_id"]) for row in rows}) == len(rows)


def test_masks_come_back_from_their_codes_and_none_means_absent(rows):
    absent = 0
    for row in rows:
        video = generate_video("test", int(row["video_id"][-6:]), CONFIG)
        expected = video.masks(row)
        assert np.array_equal(load_masks(row), expected)
        assert [code is None for code in row["masks"]] == (~expected.any((1, 2))).tolist()
        absent += row["masks"].count(None)
    assert absent > 0


def test_frames_of_a_row_are_drawn_again_identically(rows):
    for row in rows:
        video = generate_video("test", int(row["video_id"][-6:]), CONFIG)
        assert np.array_equal(load_clip(row), video.frames)
        assert np.array_equal(load_clip(row, positions=[5, 2]), video.frames[[5, 2]])


def test_transform_decodes_only_what_is_asked_for(rows):
    batch = rows.with_transform(RowReader())[1:3]
    assert [clip.shape for clip in batch["video"]] == [(8, 64, 96, 3)] * 2
    assert [masks.dtype for masks in batch["masks"]] == [bool] * 2
    assert batch["expression"] == rows[1:3]["expression"]


def test_categories_are_the_shapes_of_the_targets(rows):
    for row in rows:
        objects = generate_video("test", int(row["video_id"][-6:]), CONFIG).scene.objects
        assert row["categories"] == [objects[number].shape for number in row["object_ids"]]


def test_streaming_gives_the_same_rows(builder, rows):
    stream = builder.as_streaming_dataset(split="test")
    assert stream.num_shards == 3
    assert list(stream) == list(rows)


def test_two_processes_write_the_same_rows(tmp_path, rows):
    assert list(prepared(tmp_path, num_proc=2).as_dataset(split="test")) == list(rows)


def test_published_splits_have_their_sizes(tmp_path):
    builder = MovingShapes(cache_dir=str(tmp_path))
    sizes = {split: builder.as_streaming_dataset(split=split).num_shards for split in ("train", "val", "test")}
    assert builder.config.name == "single" and sizes == {"train": 8000, "val": 200, "test": 500}


def test_parameters_change_the_cache(tmp_path):
    ids = {MovingShapes(cache_dir=str(tmp_path), height=height).config_id for height in (64, 96, 128)}
    assert len(ids) == 3


def test_rows_of_another_dataset_are_refused(rows):
    with pytest.raises(ValueError, match="video_id"):
        draw_clip({**rows[0], "video_id": "0062f687f1"})


def test_rows_of_another_version_are_refused(rows):
    with pytest.raises(ValueError, match="version"):
        draw_clip({**rows[0], "media_dir": "moving_shapes-0.9.0"})


def test_only_the_splits_that_are_asked_for_are_drawn(tmp_path):
    builder = MovingShapes(cache_dir=str(tmp_path), splits=("val",), **PARAMETERS)
    builder.download_and_prepare()
    assert list(builder.as_dataset()) == ["val"]
