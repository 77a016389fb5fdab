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
import csv
import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from examples import evaluate_benchmark, train
from hf_rvos.data.moving_shapes import SKILLS, VERSION, MovingShapesConfig, generate_video
from hf_rvos.utils.visualization import PALETTE
from tests.data import roots


@pytest.fixture(scope="module")
def saved_model(tiny_recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", "--config", str(tiny_recipe)])
        model, processor = train.build_model_and_processor(train.parse_arguments()[0])
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def run(saved_model, monkeypatch):
    def call(*options, models=(saved_model,)):
        arguments = ["evaluate_benchmark.py", "--split", "val", "--model", *models, *options]
        monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
        evaluate_benchmark.main()

    return call


def read_rows(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_files_hold_what_was_measured_on_what(run, saved_model, tmp_path, capsys):
    run("--limit", 2, "--worst", 0, "--output", tmp_path)
    expressions = [row["expression"] for index in range(2) for row in generate_video("val", index).rows]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    stated = {"dataset": "moving_shapes", "split": "val", "config_name": "single", "version": VERSION}
    assert stated.items() <= metrics.items()
    assert (metrics["num_videos"], metrics["num_rows"]) == (2, len(expressions))
    assert metrics["checkpoint"] == str(saved_model)
    skills = [group["num_expressions"] for name, group in metrics["groups"].items() if name in SKILLS]
    assert sum(skills) == len(expressions)
    assert [row["expression"] for row in read_rows(tmp_path / "expressions.csv")] == expressions
    assert "overall" in capsys.readouterr().out


def test_markdown_table_states_what_was_measured_on_what(run, saved_model, tmp_path):
    run("--limit", 1, "--worst", 0, "--option", "config_name=all", "--output", tmp_path)
    caption, _, table = (tmp_path / "metrics.md").read_text().partition("\n\n")
    assert caption.startswith(f"dataset moving_shapes, split val, config_name all, version {VERSION}, protocol ")
    assert f", checkpoint {saved_model}," in caption and ", num_videos 1," in caption
    assert table.startswith("| rows of")


def test_all_adds_rows_with_several_referents_and_with_none(run, tmp_path):
    config = MovingShapesConfig(subset="all")
    limit = next(n for n in range(1, 20) if {"several", "none"} <= skills_of_first_videos(n, config))
    run("--limit", limit, "--worst", 0, "--option", "config_name=all", "--output", tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {"several", "none"} <= metrics["groups"].keys()
    assert 0 <= metrics["n_acc"] <= 100


def skills_of_first_videos(number, config):
    return {row["skill"] for index in range(number) for row in generate_video("val", index, config).rows}


def test_several_checkpoints_have_a_folder_each_and_one_chart(run, saved_model, tmp_path):
    copies = [tmp_path / name / "final" for name in ("first", "second")]
    for copy in copies:
        shutil.copytree(saved_model, copy)
    output = tmp_path / "output"
    run("--limit", 1, "--worst", 1, "--output", output, models=copies)
    assert {path.name for path in output.iterdir()} == {"first-final", "second-final", "chart.png"}
    for copy, name in zip(copies, ("first-final", "second-final")):
        assert {path.name for path in (output / name).iterdir()} == {
            *("run.json", "videos", "metrics.json", "metrics.md", "expressions.csv", "chart.png", "worst"),
        }
        assert json.loads((output / name / "metrics.json").read_text())["checkpoint"] == str(copy)
    with Image.open(output / "chart.png") as chart:
        colors = set(map(tuple, np.asarray(chart.convert("RGB")).reshape(-1, 3).tolist()))
    assert colors >= set(PALETTE[:2])


def test_other_data_sets_are_read_from_their_folder(run, tmp_path):
    roots.ref_davis17(tmp_path)
    options = ("--dataset", "ref_davis17", "--split", "valid", "--data_dir", tmp_path / "raw", "--grouping", "single")
    run(*options, "--output", tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["protocol"], metrics["grouping"], metrics["num_videos"]) == ("ref-davis", "single", 2)
    assert len(metrics["groups"]) == 4


def test_pictures_of_an_earlier_run_go_and_other_files_stay(run, tmp_path):
    run("--limit", 1, "--worst", 2, "--output", tmp_path)
    (tmp_path / "worst" / "notes.txt").write_text("mine")
    run("--limit", 1, "--worst", 1, "--output", tmp_path)
    assert [path.name[:2] for path in sorted((tmp_path / "worst").iterdir())] == ["01", "no"]


def test_names_are_as_long_as_needed_to_tell_paths_apart():
    assert evaluate_benchmark.short_names(["/x/a/final"]) == ["final"]
    assert evaluate_benchmark.short_names(["/x/a/final", "/x/b/final"]) == ["a-final", "b-final"]
    assert evaluate_benchmark.short_names(["/final", "/a/final"]) == ["final", "a-final"]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--limit", 0], "expected at least 1"),
        (["--worst", -1], "expected at least 0"),
        (["--model", "missing"], "holds no config.json"),
        (["--model", "same", "same"], "names a checkpoint twice"),
        (["--output", __file__], "--output: cannot write"),
        (["--option", "all"], "--option: got 'all', expected key=value"),
        (["--protocol", "best"], "argument --protocol: invalid choice: 'best'"),
        (["--dataset", "mewis"], "argument --dataset: invalid choice: 'mewis'"),
        (["--dataset", "refcoco", "--protocol", "per-expression"], "protocol: refcoco has one frame"),
    ],
    ids=str,
)
def test_wrong_option_gives_one_clear_error(run, capsys, options, message):
    with pytest.raises(SystemExit) as error:
        run(*options)
    assert error.value.code == 2
    assert message in capsys.readouterr().err
