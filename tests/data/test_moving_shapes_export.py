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
"""Moving Shapes as files: what is written can be read back as the layouts promise."""

import json

import numpy as np
import pytest
from PIL import Image

from hf_rvos.data.image_files import voc_palette
from hf_rvos.data.moving_shapes import MovingShapesConfig, export_mp4, export_ref_youtube_vos, generate_video
from hf_rvos.utils.video_io import open_video


CONFIG = MovingShapesConfig(height=64, width=96, num_frames=8)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return export_ref_youtube_vos(tmp_path_factory.mktemp("export") / "root", "val", 2, CONFIG)


@pytest.fixture(scope="module")
def videos():
    return [generate_video("val", index, CONFIG) for index in range(2)]


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))["videos"]


def test_expressions_name_objects_by_their_pixel_value(root, videos):
    written = read_json(root / "meta_expressions/valid/meta_expressions.json")
    assert list(written) == [video.video_id for video in videos]
    for video in videos:
        assert written[video.video_id]["frames"] == [f"{time:05d}" for time in range(8)]
        expressions = written[video.video_id]["expressions"]
        assert list(expressions) == [row["expression_id"] for row in video.rows]
        assert [(item["exp"], item["obj_id"]) for item in expressions.values()] == [
            (row["expression"], str(row["object_ids"][0] + 1)) for row in video.rows
        ]


def test_masks_are_indexed_and_equal_the_object_map(root, videos):
    for video in videos:
        for time in range(8):
            with Image.open(root / "valid/Annotations" / video.video_id / f"{time:05d}.png") as mask:
                assert mask.mode == "P"
                assert mask.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
                assert np.array_equal(np.array(mask), video.object_map[time])


def test_frames_are_close_to_the_drawn_ones(root, videos):
    for video in videos:
        for time in range(8):
            frame = np.array(Image.open(root / "valid/JPEGImages" / video.video_id / f"{time:05d}.jpg"))
            assert np.abs(frame.astype(int) - video.frames[time]).mean() < 3


def test_meta_lists_the_frames_in_which_each_object_is_seen(root, videos):
    written = read_json(root / "valid/meta.json")
    for video in videos:
        objects = written[video.video_id]["objects"]
        assert [item["category"] for item in objects.values()] == [item.shape for item in video.scene.objects]
        for number, item in objects.items():
            seen = (video.object_map == int(number)).any((1, 2))
            assert item["frames"] == [f"{time:05d}" for time in np.flatnonzero(seen)]


def test_splits_share_a_root(root):
    export_ref_youtube_vos(root, "test", 1, CONFIG)
    assert {path.name for path in root.iterdir()} == {"meta_expressions", "test", "valid"}


def test_existing_files_are_not_overwritten(root):
    before = sorted(root.rglob("*"))
    with pytest.raises(ValueError, match="not empty"):
        export_ref_youtube_vos(root, "val", 1, CONFIG)
    assert sorted(root.rglob("*")) == before


def test_nothing_is_left_behind_when_writing_fails(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        export_ref_youtube_vos(tmp_path / "root", "val", 1, CONFIG)
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.name.startswith(".")] == []
    assert not (tmp_path / "root/valid").exists()


def test_sentences_with_several_referents_do_not_fit_the_layout(tmp_path):
    with pytest.raises(ValueError, match="subset"):
        export_ref_youtube_vos(tmp_path / "root", "val", 1, MovingShapesConfig(subset="all"))


@pytest.mark.parametrize("export", [export_ref_youtube_vos, export_mp4])
def test_unknown_split_is_refused_before_anything_is_written(tmp_path, export):
    with pytest.raises(ValueError, match="split"):
        export(tmp_path / "root", "valid", 1, CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_palette_is_that_of_pascal_voc():
    palette = np.array(voc_palette()).reshape(256, 3)
    assert palette[[1, 2, 3, 8, 255]].tolist() == [
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [64, 0, 0],
        [224, 224, 192],
    ]
    assert len(np.unique(palette, axis=0)) == 256


def test_mp4_has_every_frame_and_the_sentences(tmp_path, videos):
    folder = export_mp4(tmp_path / "mp4", "val", 2, CONFIG)
    rows = json.loads((folder / "expressions.json").read_text(encoding="utf-8"))
    for video in videos:
        assert rows[video.video_id] == video.rows
        frames = np.stack([frame for frame, _ in open_video(folder / f"{video.video_id}.mp4")])
        assert frames.shape == video.frames.shape
        assert np.abs(frames.astype(int) - video.frames).mean() < 12
