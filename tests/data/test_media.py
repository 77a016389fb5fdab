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
"""Frames and masks of a row: every kind of file, positions, and files that are not what they should be."""

import pickle

import numpy as np
import pytest
from PIL import Image

from hf_rvos.data import media
from hf_rvos.data.benchmark_builder import row
from hf_rvos.data.media import (
    RowReader,
    iter_clips,
    iter_frames,
    load_clip,
    load_index_masks,
    load_masks,
    load_target_masks,
)
from hf_rvos.data.moving_shapes import MovingShapesConfig, builder
from hf_rvos.data.moving_shapes.builder import build_rows
from hf_rvos.utils.video_io import VideoWriter
from tests.data.roots import HEIGHT, WIDTH, Scene, frame_names, mask_codes, write_image


NAMES = frame_names(4)


@pytest.fixture
def scene():
    return Scene(np.random.default_rng(0), 4, 2, {0: {1}})


def folder_row(**columns):
    size = {"height": HEIGHT, "width": WIDTH}
    return row("custom", "clip", "0", "A dog", NAMES, "frames/clip", **(size | columns))


def test_frames_are_read_in_the_order_of_the_positions(tmp_path, scene):
    scene.write_frames(tmp_path / "frames/clip", NAMES)
    clip = load_clip(folder_row(), tmp_path, [2, 0, 2])
    for frame, name in zip(clip, (NAMES[2], NAMES[0], NAMES[2]), strict=True):
        assert np.array_equal(frame, Image.open(tmp_path / f"frames/clip/{name}.jpg"))


def test_only_the_asked_frames_are_opened(tmp_path, scene):
    write_image(tmp_path / "frames/clip/00002.jpg", scene.frames[2])
    assert load_clip(folder_row(), tmp_path, [2]).shape == (1, HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png"])
def test_frames_may_have_any_of_the_usual_suffixes(tmp_path, scene, suffix):
    write_image(tmp_path / f"frames/clip/00000{suffix}", scene.frames[0])
    assert load_clip(folder_row(), tmp_path, [0]).shape == (1, HEIGHT, WIDTH, 3)


def test_grey_images_become_rgb_and_an_unknown_size_is_found(tmp_path, scene):
    write_image(tmp_path / "frames/clip/00000.jpg", scene.frames[0, ..., 0])
    clip = load_clip(folder_row(height=None, width=None, media_kind="image"), tmp_path, [0])
    assert clip.shape == (1, HEIGHT, WIDTH, 3) and np.ptp(clip, axis=-1).max() == 0


def test_frames_of_a_video_file_are_counted_from_one_and_clamped(tmp_path):
    shades = [40, 120, 200]
    with VideoWriter(tmp_path / "clip.mp4", 25, (HEIGHT, WIDTH)) as writer:
        for shade in shades:
            writer.write(np.full((HEIGHT, WIDTH, 3), shade, np.uint8))
    video = {**folder_row(), "media_kind": "video", "media_dir": "clip.mp4", "frames": ["1", "2", "3", "4"]}
    levels = load_clip(video, tmp_path, [3, 0, 1, 2, 0]).mean((1, 2, 3))
    np.testing.assert_allclose(levels, [200, 40, 120, 200, 40], atol=4)
    assert len(list(iter_frames(video, tmp_path))) == 4


@pytest.mark.parametrize("clips", [[range(2), range(2, 4)], [range(3), range(1, 4)], [[3, 0], [1], [0, 0]]])
def test_clips_of_a_video_file_are_read_in_one_pass(tmp_path, monkeypatch, clips):
    with VideoWriter(tmp_path / "clip.mp4", 25, (HEIGHT, WIDTH)) as writer:
        for shade in (40, 120, 200):
            writer.write(np.full((HEIGHT, WIDTH, 3), shade, np.uint8))
    video = {**folder_row(), "media_kind": "video", "media_dir": "clip.mp4", "frames": ["1", "2", "3", "4"]}
    expected = [load_clip(video, tmp_path, list(clip)) for clip in clips]
    passes, open_once = [], media.open_video
    monkeypatch.setattr(media, "open_video", lambda path: passes.append(path) or open_once(path))
    for clip, frames in zip(iter_clips(video, tmp_path, clips), expected, strict=True):
        np.testing.assert_array_equal(clip, frames)
    assert len(passes) == 1


def test_clips_of_folders_are_read_one_by_one(tmp_path, scene):
    scene.write_frames(tmp_path / "frames/clip", NAMES)
    clips = iter_clips(folder_row(), tmp_path, [range(1), range(1, 4)])
    np.testing.assert_array_equal(next(clips), load_clip(folder_row(), tmp_path, [0]))
    (tmp_path / f"frames/clip/{NAMES[3]}.jpg").unlink()
    with pytest.raises(ValueError, match=NAMES[3]):
        next(clips)


def test_clips_of_generated_videos_are_drawn_once(monkeypatch):
    generated = build_rows("test", 0, MovingShapesConfig(height=64, width=96, num_frames=8))[0]
    drawn, draw = [], builder.draw_clip
    monkeypatch.setattr(builder, "draw_clip", lambda *args: drawn.append(args) or draw(*args))
    clips = list(iter_clips(generated, None, [range(5), range(5, 8)]))
    assert len(drawn) == 1
    np.testing.assert_array_equal(np.concatenate(clips), load_clip(generated))


def test_generated_rows_need_no_root():
    config = MovingShapesConfig(height=64, width=96, num_frames=8)
    generated = build_rows("test", 0, config)[0]
    assert np.array_equal(load_clip(generated, positions=[2, 1]), load_clip(generated)[[2, 1]])
    assert load_masks(generated).shape == (8, 64, 96)


def test_index_masks_are_the_union_of_the_ids_without_void(tmp_path, scene):
    labels = scene.labels.copy()
    labels[:, 0] = 255
    scene.write_labels(tmp_path / "masks/clip", NAMES, labels)
    both = folder_row(mask_kind="index_png", mask_dir="masks/clip", object_ids=[1, 2])
    assert np.array_equal(load_masks(both, tmp_path), (labels == 1) | (labels == 2))
    assert np.array_equal(load_index_masks(both, tmp_path, [3, 1]), labels[[3, 1]])


def test_object_masks_without_a_file_are_empty(tmp_path, scene):
    for number, masks in enumerate(scene.layers, start=1):
        for mask, name in zip(masks, NAMES):
            if mask.any():
                write_image(tmp_path / f"masks/clip/{number}/{name}.png", mask.astype(np.uint8) * 255)
    for ids in ([1], [2], [1, 2]):
        target = folder_row(mask_kind="object_png", mask_dir="masks/clip", object_ids=ids)
        expected = scene.layers[[number - 1 for number in ids]].any(0)
        assert np.array_equal(load_masks(target, tmp_path), expected)


def test_object_masks_without_ids_are_in_the_folder_itself(tmp_path, scene):
    for mask, name in zip(scene.layers[1], NAMES):
        write_image(tmp_path / f"masks/clip/{name}.png", mask.astype(np.uint8), palette=True)
    target = folder_row(mask_kind="object_png", mask_dir="masks/clip")
    assert np.array_equal(load_masks(target, tmp_path), scene.layers[1])


def test_coded_masks_need_no_root(scene):
    target = folder_row(mask_kind="rle", masks=mask_codes(scene.layers[0]), object_ids=[0])
    assert np.array_equal(load_masks(target, positions=[1, 0]), scene.layers[0][[1, 0]])


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (None, None)])
def test_expressions_without_target_have_empty_masks(tmp_path, scene, size):
    scene.write_frames(tmp_path / "frames/clip", NAMES)
    target = folder_row(mask_kind="rle", masks=[None] * 4, object_ids=[], height=size[0], width=size[1])
    masks = load_masks(target, tmp_path)
    assert masks.shape == (4, HEIGHT, WIDTH) and not masks.any()


def test_frames_that_are_not_annotated_are_not_read(tmp_path, scene):
    write_image(tmp_path / "masks/clip/00002.png", scene.labels[2], palette=True)
    target = folder_row(mask_kind="index_png", mask_dir="masks/clip", object_ids=[2], annotated_frames=[2])
    masks = load_masks(target, tmp_path)
    assert np.array_equal(masks[2], scene.labels[2] == 2) and not masks[[0, 1, 3]].any()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16"])
def test_masks_with_colours_are_refused(tmp_path, mode):
    (tmp_path / "masks/clip").mkdir(parents=True)
    Image.new(mode, (WIDTH, HEIGHT)).save(tmp_path / "masks/clip/00000.png")
    target = folder_row(mask_kind="index_png", mask_dir="masks/clip", object_ids=[1])
    with pytest.raises(ValueError, match=f"00000.png.*mode {mode}.*palette indices"):
        load_masks(target, tmp_path, [0])


def test_a_mask_of_another_size_is_refused(tmp_path):
    write_image(tmp_path / "masks/clip/00000.png", np.zeros((5, 7), np.uint8), palette=True)
    target = folder_row(mask_kind="index_png", mask_dir="masks/clip", object_ids=[1])
    with pytest.raises(ValueError, match=f"5x7.*{HEIGHT}x{WIDTH}"):
        load_masks(target, tmp_path, [0])


def test_a_frame_of_another_size_is_refused(tmp_path):
    write_image(tmp_path / "frames/clip/00000.jpg", np.zeros((5, 7, 3), np.uint8))
    with pytest.raises(ValueError, match=f"00000.*5x7.*{HEIGHT}x{WIDTH}"):
        load_clip(folder_row(), tmp_path, [0])


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_damaged_and_missing_files_are_named(tmp_path, scene, content):
    path = tmp_path / "frames/clip/00000.png"
    write_image(path, scene.frames[0])
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    with pytest.raises(ValueError, match="00000.png.*damaged or no image"):
        load_clip(folder_row(), tmp_path, [0])
    with pytest.raises(ValueError, match="no frame.*00001"):
        load_clip(folder_row(), tmp_path, [1])


def test_a_missing_index_mask_is_an_error(tmp_path):
    target = folder_row(mask_kind="index_png", mask_dir="masks/clip", object_ids=[1])
    with pytest.raises(ValueError, match="no file.*00003.png"):
        load_masks(target, tmp_path, [3])


def test_a_damaged_code_is_named():
    target = folder_row(mask_kind="rle", masks=[{"size": [HEIGHT, WIDTH], "counts": None}] * 4)
    with pytest.raises(ValueError, match="frame 0 of custom clip/0"):
        load_masks(target)


@pytest.mark.parametrize("positions", [[], [4], [-1]])
def test_positions_outside_the_row_are_refused(tmp_path, positions):
    with pytest.raises(ValueError, match="expected one or more in 0 ... 3"):
        load_clip(folder_row(), tmp_path, positions)


def test_rows_without_ground_truth_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no ground truth"):
        load_masks(folder_row(), tmp_path)


def test_index_masks_of_an_unknown_object_are_refused(tmp_path):
    with pytest.raises(ValueError, match="object_ids is None"):
        load_masks(folder_row(mask_kind="index_png", mask_dir="masks/clip"), tmp_path)


def test_other_masks_have_no_index_map(tmp_path):
    with pytest.raises(ValueError, match="expected 'index_png'"):
        load_index_masks(folder_row(mask_kind="rle"), tmp_path)


def test_files_need_a_root():
    with pytest.raises(ValueError, match="^root: "):
        load_clip(folder_row())


def test_the_transform_adds_arrays_and_pickles_small(tmp_path, scene):
    scene.write_frames(tmp_path / "frames/clip", NAMES)
    rows = [folder_row(), folder_row(mask_kind="rle", masks=mask_codes(scene.layers[0]))]
    reader = pickle.loads(pickle.dumps(RowReader(tmp_path)))
    batch = reader({column: [values[column] for values in rows] for column in rows[0]})
    assert [clip.shape for clip in batch["video"]] == [(4, HEIGHT, WIDTH, 3)] * 2
    assert batch["masks"][0] is None and np.array_equal(batch["masks"][1], scene.layers[0])
    assert batch["expression"] == ["a dog", "a dog"]
    assert len(pickle.dumps(reader)) < 1000


@pytest.mark.parametrize("kind", ["index_png", "object_png"])
def test_targets_in_files_are_read_apart(tmp_path, scene, kind):
    if kind == "index_png":
        scene.write_labels(tmp_path / "masks/clip", NAMES, scene.labels)
    else:
        for number, masks in enumerate(scene.layers, start=1):
            for mask, name in zip(masks, NAMES):
                write_image(tmp_path / f"masks/clip/{number}/{name}.png", mask.astype(np.uint8) * 255)
    both = folder_row(mask_kind=kind, mask_dir="masks/clip", object_ids=[1, 2])
    apart = load_target_masks(both, tmp_path, [2, 0])
    assert apart.shape[:2] == (2, 2) and np.array_equal(apart.any(0), load_masks(both, tmp_path, [2, 0]))
    for number, masks in zip((1, 2), apart):
        assert np.array_equal(masks, load_masks(both | {"object_ids": [number]}, tmp_path, [2, 0]))


def test_targets_that_nothing_takes_apart_are_one(scene):
    several = folder_row(mask_kind="rle", masks=mask_codes(scene.layers[0]), object_ids=[0, 1])
    assert np.array_equal(load_target_masks(several), load_masks(several)[None])
