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
"""The layout of Ref-YouTube-VOS from any data set: what is written reads back as the same expressions and masks."""

import json
import logging
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from hf_rvos.data.benchmark_builder import Report, row
from hf_rvos.data.export import convert_davis, export_dataset
from hf_rvos.data.long_rvos import read_rows as read_long_rvos
from hf_rvos.data.media import load_clip, load_masks
from hf_rvos.data.mevis import read_rows as read_mevis
from hf_rvos.data.moving_shapes import MovingShapesConfig
from hf_rvos.data.moving_shapes.builder import build_rows
from hf_rvos.data.ref_davis17 import read_rows as read_ref_davis17
from hf_rvos.data.ref_youtube_vos import RefYouTubeVOS, read_rows
from hf_rvos.data.revos import read_rows as read_revos
from tests.data import roots
from tests.data.roots import HEIGHT, VOID, WIDTH, Scene, frame_names, mask_codes, write_image
from tests.data.samples import fresh_root


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def read_back(folder, split):
    report = Report()
    return list(read_rows(folder, split, report)), report


def assert_same_videos(written, converted):
    """All files of two folders are equal, JSON by content."""
    assert set(files_of(written)) == set(files_of(converted))
    for name, path in files_of(converted).items():
        if path.suffix == ".json":
            content = path.read_text(encoding="utf-8")
            assert json.loads((written / name).read_text(encoding="utf-8")) == json.loads(content)
        else:
            assert (written / name).read_bytes() == path.read_bytes()


def test_davis_converts_as_the_official_tool_does(tmp_path):
    roots.ref_davis17(tmp_path)
    before = set(files_of(tmp_path / "raw"))
    assert convert_davis(tmp_path / "raw", tmp_path / "output") == tmp_path / "output"
    assert_same_videos(tmp_path / "output", tmp_path / "converted")
    assert set(files_of(tmp_path / "raw")) == before


def test_shared_davis_converts_as_the_official_tool_does(shared_dir, tmp_path):
    root = shared_dir / "data/mini/ref_davis"
    assert_same_videos(convert_davis(root / "raw", tmp_path / "output"), root / "converted")


def test_davis_of_another_seed_converts_as_the_official_tool_does(shared_dir, tmp_path):
    root = fresh_root(shared_dir, tmp_path, "ref_davis")
    assert_same_videos(convert_davis(root / "raw", tmp_path / "output"), root / "converted")


def test_missing_videos_are_left_out_of_the_conversion_with_a_warning(tmp_path, caplog):
    roots.ref_davis17(tmp_path)
    for path in (tmp_path / "raw/DAVIS/JPEGImages/480p/motorbike").iterdir():
        path.unlink()
    with caplog.at_level(logging.WARNING, "hf_rvos"):
        output = convert_davis(tmp_path / "raw", tmp_path / "output")
    assert "missing videos: 1 (such as motorbike)" in caplog.text
    assert {row["video_id"] for row in read_ref_davis17(output, "valid", Report())} == {"tiny-boat"}


def test_a_split_without_videos_is_left_out_of_the_conversion(tmp_path):
    roots.ref_davis17(tmp_path)
    frames = tmp_path / "raw/DAVIS/JPEGImages/480p"
    shutil.rmtree(frames / "dogs-scale")
    output = convert_davis(tmp_path / "raw", tmp_path / "output")
    assert {path.name for path in output.iterdir()} == {"meta_expressions", "valid"}
    shutil.rmtree(frames)
    with pytest.raises(ValueError, match="has no frames of any video of train, valid"):
        convert_davis(tmp_path / "raw", tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


def test_frames_that_are_not_as_published_are_not_converted(tmp_path):
    roots.ref_davis17(tmp_path)
    path = tmp_path / "raw/DAVIS/JPEGImages/480p/motorbike/00001.jpg"
    path.rename(path.with_suffix(".jpeg"))
    with pytest.raises(ValueError, match="motorbike/00001.jpeg' should be a .jpg file"):
        convert_davis(tmp_path / "raw", tmp_path / "output")


def test_something_else_is_not_converted(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)does not look like.*Davis17_annot"):
        convert_davis(tmp_path, tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_a_full_output_folder_is_refused(tmp_path):
    roots.ref_davis17(tmp_path)
    with pytest.raises(ValueError, match="not empty"):
        convert_davis(tmp_path / "raw", tmp_path / "converted")


@pytest.mark.parametrize(
    ("write", "read", "subfolder", "split"),
    [
        (roots.ref_youtube_vos, read_rows, ".", "train"),
        (roots.ref_youtube_vos, read_rows, ".", "valid"),
        (roots.ref_davis17, read_ref_davis17, "raw", "valid"),
        (roots.mevis, read_mevis, ".", "train"),
        (roots.revos, read_revos, ".", "valid"),
        (roots.long_rvos, read_long_rvos, ".", "test"),
    ],
)
def test_every_expression_keeps_its_sentence_frames_and_masks(tmp_path, write, read, subfolder, split):
    write(tmp_path / "root")
    source = tmp_path / "root" / subfolder
    rows = list(read(source, split, Report()))
    output = export_dataset(rows, source, tmp_path / "output", split)
    copies, report = read_back(output, split)
    assert report.counts == {} and len(copies) == len(rows)
    for values in rows:
        (copy,) = [
            other
            for other in copies
            if other["expression_id"] == values["expression_id"]
            # Overlapping targets are in copies of the video with a number.
            and (other["video_id"] == values["video_id"] or other["video_id"][:-2] == values["video_id"])
        ]
        assert copy["expression_raw"] == values["expression_raw"]
        assert np.array_equal(load_clip(copy, output), load_clip(values, source))
        assert copy["mask_kind"] == ("none" if values["mask_kind"] == "none" else "index_png")
        if values["mask_kind"] != "none":
            assert np.array_equal(load_masks(copy, output), load_masks(values, source))


def test_a_data_set_in_this_layout_stays_as_it_is(tmp_path):
    roots.ref_youtube_vos(tmp_path / "root")
    rows = RefYouTubeVOS(tmp_path / "root", cache_dir=tmp_path / "cache")
    rows.download_and_prepare()
    output = export_dataset(rows.as_dataset("train"), tmp_path / "root", tmp_path / "output", "train")
    columns = ("video_id", "expression_id", "object_ids", "frames", "categories")
    copies = [[values[column] for column in columns] for values in read_back(output, "train")[0]]
    assert copies == [[values[column] for column in columns] for values in rows.as_dataset("train")]


@pytest.fixture
def scene():
    return Scene(np.random.default_rng(1), 3, 2)


def coded_row(scene, expression_id, masks, **columns):
    columns = {"mask_kind": "rle", "masks": mask_codes(masks), "height": HEIGHT, "width": WIDTH} | columns
    return row("custom", "clip", expression_id, f"thing {expression_id}", frame_names(3), "frames/clip", **columns)


def half(left):
    masks = np.zeros((3, HEIGHT, WIDTH), bool)
    masks[:, :, slice(0, WIDTH // 2) if left else slice(WIDTH // 2, WIDTH)] = True
    return masks


def test_equal_target_sets_share_an_object_and_others_do_not(tmp_path, scene):
    scene.write_frames(tmp_path / "frames/clip", frame_names(3))
    rows = [
        coded_row(scene, "a", half(True), object_ids=[7, 300]),
        coded_row(scene, "b", half(False), object_ids=[5]),
        coded_row(scene, "c", half(True), object_ids=[300, 7]),
    ]
    copies, _ = read_back(export_dataset(rows, tmp_path, tmp_path / "output", "train"), "train")
    assert [(copy["video_id"], copy["object_ids"]) for copy in copies] == [("clip", [1]), ("clip", [2]), ("clip", [1])]


def test_overlapping_targets_go_to_copies_of_the_video_with_a_warning(tmp_path, scene, caplog):
    scene.write_frames(tmp_path / "frames/clip", frame_names(3))
    rows = [
        coded_row(scene, "left", half(True), object_ids=[0]),
        coded_row(scene, "both", half(True) | half(False), object_ids=[0, 1]),
        coded_row(scene, "right", half(False), object_ids=[1]),
    ]
    with caplog.at_level(logging.WARNING, "hf_rvos"):
        output = export_dataset(rows, tmp_path, tmp_path / "output", "train")
    copies, _ = read_back(output, "train")
    assert [(copy["video_id"], copy["expression_id"]) for copy in copies] == [
        ("clip", "left"),
        ("clip", "right"),
        ("clip-2", "both"),
    ]
    assert "1 of 1 videos" in caplog.text


def test_a_copy_does_not_take_the_name_of_another_video(tmp_path, scene):
    scene.write_frames(tmp_path / "frames/clip", frame_names(3))
    rows = [coded_row(scene, str(number), half(True), object_ids=[number]) for number in (0, 1)]
    rows.append({**coded_row(scene, "2", half(True), object_ids=[0]), "video_id": "clip-2"})
    copies, _ = read_back(export_dataset(rows, tmp_path, tmp_path / "output", "train"), "train")
    assert [copy["video_id"] for copy in copies] == ["clip", "clip-3", "clip-2"]


def test_expressions_without_target_have_an_object_without_pixels(tmp_path, scene):
    scene.write_frames(tmp_path / "frames/clip", frame_names(3))
    rows = [
        coded_row(scene, "0", half(True) & False, object_ids=[]),
        coded_row(scene, "1", half(True), object_ids=[4]),
    ]
    output = export_dataset(rows, tmp_path, tmp_path / "output", "train")
    copies, _ = read_back(output, "train")
    assert not load_masks(copies[0], output).any() and load_masks(copies[1], output).any()
    meta = json.loads((output / "train/meta.json").read_text())["videos"]["clip"]["objects"]
    assert [item["frames"] for item in meta.values()] == [[], frame_names(3)]


def test_only_annotated_frames_get_masks(tmp_path, scene):
    scene.write_frames(tmp_path / "frames/clip", frame_names(3))
    rows = [
        coded_row(scene, str(position), half(True), object_ids=[4], annotated_frames=[position]) for position in (1, 2)
    ]
    copies, _ = read_back(export_dataset(rows, tmp_path, tmp_path / "output", "train"), "train")
    assert [(copy["video_id"], copy["annotated_frames"]) for copy in copies] == [("clip", [1]), ("clip-2", [2])]


def test_void_is_kept_and_masks_are_in_palette_mode(tmp_path):
    roots.ref_davis17(tmp_path)
    rows = list(read_ref_davis17(tmp_path / "raw", "valid", Report()))
    output = export_dataset(rows, tmp_path / "raw", tmp_path / "output", "val")
    with Image.open(output / "valid/Annotations/tiny-boat/00000.png") as image:
        labels = np.array(image)
        assert image.mode == "P" and image.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
    assert (labels[:2] == VOID).all() and set(np.unique(labels)) <= {0, 1, 2, VOID}


def test_jpeg_frames_are_linked_and_others_compressed(tmp_path, scene):
    scene.write_frames(tmp_path / "frames/clip", frame_names(2))
    write_image(tmp_path / "frames/other/00000.png", scene.frames[0])
    rows = [
        row("custom", name, "0", "dog", frame_names(number), f"frames/{name}")
        for name, number in (("clip", 2), ("other", 1))
    ]
    output = export_dataset(rows, tmp_path, tmp_path / "output", "test") / "test/JPEGImages"
    assert os.path.samefile(output / "clip/00001.jpg", tmp_path / "frames/clip/00001.jpg")
    with Image.open(output / "other/00000.jpg") as image:
        assert image.format == "JPEG" and image.size == (WIDTH, HEIGHT)


def test_frames_are_copied_where_links_cannot_be_made(tmp_path, scene, monkeypatch):
    def refuse(*args):
        raise OSError("another file system")

    monkeypatch.setattr(os, "link", refuse)
    scene.write_frames(tmp_path / "frames/clip", frame_names(1))
    values = row("custom", "clip", "0", "dog", frame_names(1), "frames/clip")
    output = export_dataset([values], tmp_path, tmp_path / "output", "test")
    copy, source = output / "test/JPEGImages/clip/00000.jpg", tmp_path / "frames/clip/00000.jpg"
    assert copy.read_bytes() == source.read_bytes() and not os.path.samefile(copy, source)


def test_frames_are_numbered_where_their_names_do_not_sort(tmp_path, scene):
    names = ["9", "10", "11"]
    scene.write_frames(tmp_path / "frames/clip", names)
    values = row("custom", "clip", "0", "dog", names, "frames/clip")
    output = export_dataset([values], tmp_path, tmp_path / "output", "test")
    (copy,), _ = read_back(output, "test")
    assert copy["frames"] == frame_names(3)
    assert np.array_equal(load_clip(copy, output), load_clip(values, tmp_path))


def test_generated_videos_are_written_too(tmp_path):
    rows = build_rows("test", 0, MovingShapesConfig(height=64, width=96, num_frames=8, subset="all"))
    copies, _ = read_back(export_dataset(rows, None, tmp_path / "output", "test"), "test")
    assert sorted(copy["expression"] for copy in copies) == sorted(values["expression"] for values in rows)


def test_nothing_is_left_behind_when_a_file_is_missing(tmp_path, scene):
    scene.write_frames(tmp_path / "frames/clip", frame_names(2))
    values = row("custom", "clip", "0", "dog", frame_names(3), "frames/clip")
    with pytest.raises(ValueError, match="00002"):
        export_dataset([values], tmp_path, tmp_path / "output", "test")
    assert files_of(tmp_path / "output") == {}


@pytest.mark.parametrize(
    ("rows", "message"), [("none", "no rows"), ("twice", "two rows clip/0"), ("outside", "../clip")]
)
def test_rows_that_cannot_be_written_are_refused(tmp_path, scene, rows, message):
    scene.write_frames(tmp_path / "frames/clip", frame_names(1))
    values = row("custom", "clip", "0", "dog", frame_names(1), "frames/clip")
    rows = {"none": [], "twice": [values, values], "outside": [{**values, "video_id": "../clip"}]}[rows]
    with pytest.raises(ValueError, match=message):
        export_dataset(rows, tmp_path, tmp_path / "output", "test")
    assert files_of(tmp_path / "output") == {}


def test_files_that_are_there_are_not_overwritten(tmp_path, scene):
    scene.write_frames(tmp_path / "frames/clip", frame_names(1))
    values = row("custom", "clip", "0", "dog", frame_names(1), "frames/clip")
    export_dataset([values], tmp_path, tmp_path / "output", "test")
    with pytest.raises(ValueError, match="not empty"):
        export_dataset([values], tmp_path, tmp_path / "output", "test")
    assert len(read_back(export_dataset([values], tmp_path, tmp_path / "output", "train"), "train")[0]) == 1
