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

import pytest
import torch

from hf_rvos.checkpoints import DEFAULT_CHECKPOINT
from tests.cli.commands import assert_refused, run


TEXTS = ["the red square", "a blue star"]
STAGES = (
    "decoding processor backbone text_encoder encoder decoder pixel_decoder mask_head post_processing other".split()
)


def test_benchmark_prints_and_writes_all_stages(here, model, video):
    options = ("--model", model, "--text", TEXTS[0], "--text", TEXTS[1], "--num-frames", 3, "--size", 32)
    result = run("benchmark", video, *options, "--repeats", 2, "--json", "out/speed.json")
    assert result.exit_code == 0, result.output
    report = json.loads((here / "out" / "speed.json").read_text())
    assert report["machine"].keys() == {
        *("cpu", "cores", "threads", "device", "torch", "transformers", "hf_rvos", "date"),
    }
    assert report["model"] == str(model) and report["texts"] == TEXTS
    assert (report["video_size"], report["num_frames"], report["repeats"]) == ([40, 60], 3, 2)
    measurements = report["measurements"]
    assert [(each["dtype"], each["path"]) for each in measurements] == [
        *(("float32", "shared"), ("float32", "naive"), ("bfloat16", "shared"), ("bfloat16", "naive")),
    ]
    for each in measurements:
        assert list(each["stages"]) == STAGES and all(seconds > 0 for seconds in each["stages"].values())
        assert sum(each["stages"].values()) == pytest.approx(each["total"])
        assert len(each["totals"]) == 2 and each["input_size"] == [32, 48]
        assert each["sentence_frames_per_second"] == pytest.approx(2 * each["frames_per_second"])

    assert f"{report['machine']['cpu']}, {report['machine']['cores']} cores" in result.stdout
    assert "3 frames of 40x60, resized to 32x48; sentences: 2; median of 2" in result.stdout
    rows = {row.split("|")[1].strip(): row.split("|")[2:-1] for row in result.stdout.splitlines() if row[:1] == "|"}
    assert [name.strip() for name in rows["milliseconds"]] == [
        *("float32", "float32 naive", "bfloat16", "bfloat16 naive"),
    ]
    for name in (*STAGES, "total", "slowest pass", "frames/s", "sentence-frames/s", "peak memory, MiB"):
        assert len(rows[name.replace("_", " ")]) == 4
    assert [float(number) for number in rows["total"]] == pytest.approx(
        [1000 * each["total"] for each in measurements], abs=0.06
    )
    assert not list(here.glob("*.json")) and len(list((here / "out").iterdir())) == 1


def test_benchmark_compares_models_and_numbers_of_sentences(here, model, video):
    options = ("--model", model, "--model", "referformer-tiny", "--num-sentences", 1, "--num-sentences", 2)
    options += ("--num-frames", 2, "--size", 32, "--repeats", 1, "--dtype", "float32")
    result = run("benchmark", video, *options, "--json", "speed.json")
    assert result.exit_code == 0, result.output
    entries = json.loads((here / "speed.json").read_text())["comparison"]
    assert [(each["name"], each["num_sentences"]) for each in entries] == [
        *((str(model), 1), (str(model), 2), ("referformer-tiny", 1), ("referformer-tiny", 2)),
    ]
    lines = [line.split("|") for line in result.stdout.splitlines() if line.startswith("|")]
    lines = lines[2:]  # of the head
    assert [line[1].strip() for line in lines] == [each["name"] for each in entries]
    totals = [each["measurement"]["total"] for each in entries]
    for number, line in enumerate(lines):
        assert float(line[8]) == pytest.approx(totals[number] / max(totals[number % 2 :: 2]), abs=0.006)


def test_benchmark_draws_a_video_for_the_embedded_model(here):
    options = (
        "--height",
        64,
        "--width",
        96,
        "--num-frames",
        2,
        "--num-sentences",
        3,
        "--threads",
        torch.get_num_threads(),
    )
    result = run("benchmark", *options, "--repeats", 1, "--dtype", "float32", "--no-naive")
    assert result.exit_code == 0, result.output
    assert f"{DEFAULT_CHECKPOINT}; 2 frames of 64x96, resized to 128x192; sentences: 3" in result.stdout
    assert "naive" not in result.stdout and "bfloat16" not in result.stdout
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "referformer-tiny", "--model", "referformer-tiny"], "names a model twice"),
        (["--text", "the star", "--num-sentences", 2], "--num-sentences: has no meaning together with --text"),
        (["--random", "video-swin-x"], "--random: backbone 'video-swin-x' is unknown"),
        (["--text", " "], "text holds the blank expression"),
        (["--num-frames", 41], "num_frames is 41, but the video has only 40 frames"),
        (["--height", 64], "--height: has no meaning together with VIDEO"),
        (["--width", 64], "--width: has no meaning together with VIDEO"),
        (["--model", "missing"], "--model: cannot load"),
        (["--device", "toaster"], "--device: 'toaster' cannot be used here"),
        (["--device", "toaster", "--random", "video-swin-t"], "--device: 'toaster' cannot be used here"),
        (["--repeats", 0], "--repeats"),
        (["--num-frames", 0], "--num-frames"),
        (["--num-sentences", 0], "--num-sentences"),
        (["--threads", 0], "--threads"),
        (["--size", 28], "--size"),
        (["--dtype", "int8"], "--dtype"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_bad_options_of_benchmark_are_refused(here, video, options, message):
    assert_refused(run("benchmark", video, *options, "--json", "speed.json"), message, here)


def test_bad_video_of_benchmark_is_refused(here):
    assert_refused(run("benchmark", "no-such-video.mp4"), "video: nothing at", here)


def test_bad_size_of_a_drawn_video_is_refused(here):
    assert_refused(run("benchmark", "--height", 63), "height and width are (63, 640), expected at least 64", here)


def test_unwritable_report_of_benchmark_is_refused_before_any_work(here, tmp_path_factory):
    in_the_way = tmp_path_factory.mktemp("way") / "file"
    in_the_way.write_text("")
    result = run("benchmark", "no-such-video.mp4", "--json", in_the_way / "speed.json")
    assert_refused(result, "--json: cannot write to", here)
