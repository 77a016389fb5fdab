# Copyright 2026 The hf_rvos authors. All rights reserved.
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
import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import hf_rvos
from hf_rvos.cli.segment import ModelType
from hf_rvos.ops.rle import decode_rle
from hf_rvos.utils.video_io import open_video
from tests.cli.commands import assert_refused, run
from tests.tiny_segmenter import TEXT_LIMIT, moving_square, tiny_pipeline, tiny_ssa, tiny_ssa_pipeline


TEXTS = ["the red square", "a blue star"]


def test_segment_writes_overlay_masks_and_report_that_agree(here, model, video):
    result = run(
        *("segment", video, *TEXTS, "--model", model, "--device", "cpu", "--threshold", 0.4),
        *("--output", "out/overlay.mp4", "--masks", "out/masks", "--json", "out/result.json"),
    )
    assert result.exit_code == 0, result.output
    report = json.loads((here / "out" / "result.json").read_text())
    assert report["video"] == {"source": str(video), "height": 40, "width": 60, "fps": 10.0, "num_frames": 40}
    assert report["model"] == str(model) and report["threshold"] == 0.4
    known = {package.__name__: package.__version__ for package in (hf_rvos, transformers, torch)}
    assert known.items() <= report["versions"].items()

    expected = tiny_pipeline()(video, text=TEXTS, threshold=0.4)
    for index, (track, of_pipeline) in enumerate(zip(report["tracks"], expected)):
        assert track["text"] == TEXTS[index]
        assert track["score"] == pytest.approx(of_pipeline["score"])
        np.testing.assert_allclose(track["boxes"], of_pipeline["boxes"], rtol=1e-6)
        np.testing.assert_allclose(track["frame_scores"], of_pipeline["frame_scores"], rtol=1e-6)
        np.testing.assert_allclose(track["timestamps"], np.arange(40) / 10)
        np.testing.assert_array_equal(decode_rle(track["masks"]), of_pipeline["masks"].numpy())
        files = sorted((here / "out" / "masks" / str(index)).iterdir())
        assert files[39].name == "00039.png"
        masks = np.stack([np.asarray(Image.open(file)) for file in files])
        np.testing.assert_array_equal(masks, of_pipeline["masks"].numpy() * np.uint8(255))
    assert of_pipeline["masks"].any()

    overlay = open_video(here / "out" / "overlay.mp4")
    assert (overlay.height, overlay.width, overlay.num_frames, overlay.fps) == (40, 60, 40, 10.0)
    assert sorted(path.name for path in (here / "out").iterdir()) == ["masks", "overlay.mp4", "result.json"]


def test_overlay_lands_in_the_current_folder_by_default(here, model, video):
    result = run("segment", video, "the star", "--model", model)
    assert result.exit_code == 0, result.output
    assert [path.name for path in here.iterdir()] == ["overlay.mp4"]
    assert "the star" in result.stdout and "of 40" in result.stdout


@pytest.mark.parametrize("name", hf_rvos.list_embedded_checkpoints())
def test_segment_takes_the_short_name_of_an_embedded_checkpoint(here, video, name):
    result = run("segment", video, "the red circle", "--model", name, "--json", "result.json")
    assert result.exit_code == 0, result.output
    assert json.loads((here / "result.json").read_text())["model"] == name


def test_segment_takes_a_folder_of_frames_in_bfloat16(here, model, tmp_path_factory):
    frames = tmp_path_factory.mktemp("frames")
    for index, frame in enumerate(moving_square(num_frames=3, height=41, width=61)):
        Image.fromarray(frame).save(frames / f"{index}.jpg")
    result = run("segment", frames, "the star", "--model", model, "--dtype", "bfloat16")
    assert result.exit_code == 0, result.output
    with av.open("overlay.mp4") as container:
        assert (container.streams.video[0].height, container.streams.video[0].width) == (42, 62)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "video: nothing at"), (b"", "video: .* is an empty file"), (b"words" * 99, "cannot be read as a video")],
    ids=["missing", "empty", "unreadable"],
)
def test_bad_video_is_refused(here, model, tmp_path_factory, content, message):
    video = tmp_path_factory.mktemp("bad") / "clip.mp4"
    if content is not None:
        video.write_bytes(content)
    result = run("segment", video, "the star", "--model", model)
    assert_refused(result, message.split(".*")[-1], here)


def test_truncated_video_is_refused(here, model, video, tmp_path_factory):
    cut = tmp_path_factory.mktemp("cut") / "clip.mp4"
    cut.write_bytes(video.read_bytes()[:-500])
    assert_refused(run("segment", cut, "the star", "--model", model), "truncated", here)


def test_folder_without_frames_is_refused(here, model, tmp_path_factory):
    result = run("segment", tmp_path_factory.mktemp("nothing"), "the star", "--model", model)
    assert_refused(result, "has no frames, expected .jpg or .png", here)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "text holds the blank expression"), ("  ", "text holds the blank"), ("star " * TEXT_LIMIT, "the limit is")],
    ids=["empty", "blanks", "long"],
)
def test_bad_text_is_refused(here, model, video, text, message):
    result = run("segment", video, "the star", text, "--model", model, "--json", "result.json", "--masks", "masks")
    assert_refused(result, message, here)


@pytest.mark.parametrize("threshold", ["0", "1", "1.5", "nan"])
def test_threshold_out_of_range_is_refused(here, model, video, threshold):
    result = run("segment", video, "the star", "--model", model, "--threshold", threshold)
    assert_refused(result, "threshold is", here)


def test_missing_model_is_refused(here, video):
    assert_refused(run("segment", video, "the star", "--model", here / "missing"), "--model: cannot load", here)


def test_checkpoint_of_another_model_is_refused(here, video, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9
    )
    transformers.BertModel(config).save_pretrained(folder)
    assert_refused(run("segment", video, "the star", "--model", folder), "--model: cannot load", here)


def test_corrupt_weights_are_refused(here, model, video, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corrupt")
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:1000])
    assert_refused(run("segment", video, "the star", "--model", folder), "--model: cannot load", here)


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
def test_device_that_is_not_there_is_refused(here, model, video, device):
    result = run("segment", video, "the star", "--model", model, "--device", device)
    assert_refused(result, "--device:", here)


@pytest.mark.parametrize("option", ["--output", "--json", "--masks"])
def test_unwritable_place_is_refused_before_the_video_is_opened(here, model, tmp_path_factory, option):
    in_the_way = tmp_path_factory.mktemp("way") / "file"
    in_the_way.write_text("")
    result = run("segment", "no-such-video.mp4", "the star", "--model", model, option, in_the_way / "result.mp4")
    assert_refused(result, f"{option}: cannot write to", here)


def test_output_that_is_no_video_is_refused(here, model, video):
    result = run("segment", video, "the star", "--model", model, "--output", "overlay.text")
    assert_refused(result, "output: cannot write a video at 'overlay.text'", here)


def test_damage_found_on_the_way_leaves_no_file(here, model, tmp_path_factory):
    frames = tmp_path_factory.mktemp("frames")
    for index, frame in enumerate(moving_square(num_frames=40)):
        Image.fromarray(frame).save(frames / f"{index}.png")
    content = (frames / "39.png").read_bytes()
    (frames / "39.png").write_bytes(content[: len(content) // 2])
    result = run("segment", frames, "the star", "--model", model, "--json", "result.json", "--masks", "masks")
    assert result.exit_code == 2
    assert "39.png" in result.stderr and "damaged or truncated" in result.stderr
    assert not list(here.iterdir())


def test_convert_knows_every_model_that_has_released_weights():
    converters = Path(hf_rvos.__file__).parent.glob("models/*/convert_*_to_hf.py")
    assert {path.parent.name for path in converters} == {*ModelType} - {ModelType.backbone}


@pytest.mark.parametrize("model", ["referformer", "soc"])
def test_convert_refuses_a_missing_checkpoint(here, model):
    result = run("convert", "--model", model, "--checkpoint", "missing.pth", "--output", "converted")
    assert_refused(result, "missing.pth", here)


def test_what_is_not_in_the_video_is_said(here, model, video):
    scores = [track["score"] for track in tiny_pipeline()(video, text=TEXTS)]
    options = ("--score-threshold", (scores[0] + scores[1]) / 2, "--json", "result.json", "--masks", "masks")
    result = run("segment", video, *TEXTS, "--model", model, "--device", "cpu", *options)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("not in the video") == 1
    absent = int(np.argmin(scores))
    report = json.loads((here / "result.json").read_text())
    assert [track["in_video"] for track in report["tracks"]] == [index != absent for index in range(2)]
    assert report["score_threshold"] == pytest.approx(np.mean(scores))
    for index, track in enumerate(report["tracks"]):
        assert track["score"] == pytest.approx(scores[index])
        assert decode_rle(track["masks"]).any() == (index != absent)
        masks = [np.asarray(Image.open(file)) for file in (here / "masks" / str(index)).iterdir()]
        assert np.any(masks) == (index != absent)


@pytest.mark.parametrize("value", ["1", "often", "-0.5", "nan"])
def test_a_bad_score_threshold_is_refused(here, model, video, value):
    result = run("segment", video, "the star", "--model", model, f"--score-threshold={value}")
    assert_refused(result, "--score-threshold: got", here)


def test_several_targets_are_refused_by_a_model_for_one(here, model, video):
    result = run("segment", video, "the star", "--model", model, "--multi-target")
    assert_refused(result, "multi_target: a model of type 'referformer' finds one object", here)


def test_a_model_for_several_targets_segments_whole_videos(here, video, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ssa")
    segmenter = tiny_ssa_pipeline(tiny_ssa(frames_at_once=16, score_threshold=0.3))
    segmenter.save_pretrained(folder)
    result = run("segment", video, "a blue star", "--model", folder, "--multi-target", "--json", "result.json")
    assert result.exit_code == 0, result.output
    (track,) = json.loads((here / "result.json").read_text())["tracks"]
    (wanted,) = segmenter(video, text="a blue star", multi_target=True)
    assert len(track["masks"]) == 40
    assert (decode_rle(track["masks"]) == wanted["masks"].numpy()).mean() > 0.999
