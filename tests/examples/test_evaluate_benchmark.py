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
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples import evaluate_benchmark, train
from hf_rvos.data.moving_shapes import VERSION, MovingShapesConfig, generate_video
from hf_rvos.utils.visualization import PALETTE


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
    assert (metrics["split"], metrics["config"], metrics["version"]) == ("val", "single", VERSION)
    assert (metrics["num_videos"], metrics["num_rows"]) == (2, len(expressions))
    assert metrics["checkpoint"] == saved_model.as_posix()
    assert sum(group["num_rows"] for group in metrics["skill"].values()) == len(expressions)
    assert [row["expression"] for row in read_rows(tmp_path / "rows.csv")] == expressions
    assert "overall" in capsys.readouterr().out


def test_markdown_table_states_what_was_measured_on_what(run, saved_model, tmp_path):
    run("--limit", 1, "--worst", 0, "--config", "all", "--output", tmp_path)
    num_rows = json.loads((tmp_path / "metrics.json").read_text())["num_rows"]
    caption, _, table = (tmp_path / "metrics.md").read_text().partition("\n\n")
    stated = f"version {VERSION}, config all, split val, num_videos 1, num_rows {num_rows}, checkpoint {saved_model},"
    assert stated in caption
    assert table.startswith("| rows of")


def test_all_adds_rows_with_several_referents_and_with_none(run, tmp_path):
    config = MovingShapesConfig(subset="all")
    limit = next(n for n in range(1, 20) if {"several", "none"} <= skills_of_first_videos(n, config))
    run("--limit", limit, "--worst", 0, "--config", "all", "--output", tmp_path)
    skills = json.loads((tmp_path / "metrics.json").read_text())["skill"]
    assert {"several", "none"} <= skills.keys()
    assert 0 <= skills["none"]["n_accuracy"] <= 100


def skills_of_first_videos(number, config):
    return {row["skill"] for index in range(number) for row in generate_video("val", index, config).rows}


def test_several_checkpoints_have_a_folder_each_and_one_chart(run, saved_model, tmp_path):
    copies = [tmp_path / name / "final" for name in ("first", "second")]
    for copy in copies:
        shutil.copytree(saved_model, copy)
    output = tmp_path / "output"
    run("--limit", 1, "--worst", 1, "--output", output, models=copies)
    assert {path.name for path in output.iterdir()} == {"first-final", "second-final", "skills.png"}
    for copy, name in zip(copies, ("first-final", "second-final")):
        assert {path.name for path in (output / name).iterdir()} == {"metrics.json", "metrics.md", "rows.csv", "worst"}
        assert json.loads((output / name / "metrics.json").read_text())["checkpoint"] == copy.as_posix()
    with Image.open(output / "skills.png") as chart:
        colors = set(map(tuple, np.asarray(chart.convert("RGB")).reshape(-1, 3).tolist()))
    assert colors >= set(PALETTE[:2])


def test_worst_rows_are_drawn_in_their_order(run, tmp_path):
    run("--limit", 2, "--worst", 3, "--output", tmp_path)
    rows = read_rows(tmp_path / "rows.csv")
    rows.sort(key=lambda row: float(row["j_mean"]) + float(row["f_mean"]))
    names = [f"{rank:02d}_{row['video_id']}_{row['expression_id']}.png" for rank, row in enumerate(rows[:3], start=1)]
    assert sorted(path.name for path in (tmp_path / "worst").iterdir()) == names
    assert all(Image.open(tmp_path / "worst" / name).width > 4 * 192 for name in names)


def test_pictures_of_an_earlier_run_go_and_other_files_stay(run, tmp_path):
    run("--limit", 1, "--worst", 2, "--output", tmp_path)
    (tmp_path / "worst" / "notes.txt").write_text("mine")
    run("--limit", 1, "--worst", 1, "--output", tmp_path)
    assert [path.name[:2] for path in sorted((tmp_path / "worst").iterdir())] == ["01", "no"]


# Two new processes import torch and transformers (about 20 s).
@pytest.mark.slow
def test_two_processes_measure_what_one_measures(run, saved_model, tmp_path):
    run("--limit", 3, "--worst", 0, "--config", "all", "--output", tmp_path / "one")
    script = Path(evaluate_benchmark.__file__)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", script]
    options = ["--split", "val", "--limit", "3", "--worst", "0", "--config", "all", "--output", tmp_path / "two"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--model", saved_model, *options], env=environment, check=True, capture_output=True)
    for name in ("rows.csv", "metrics.json", "metrics.md", "skills.png"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


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
    ],
    ids=str,
)
def test_wrong_option_gives_one_clear_error(run, capsys, options, message):
    with pytest.raises(SystemExit) as error:
        run(*options)
    assert error.value.code == 2
    assert message in capsys.readouterr().err
