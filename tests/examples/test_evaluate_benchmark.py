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
import sys

import pytest

from examples import evaluate_benchmark, train
from hf_rvos.data.moving_shapes import VERSION, generate_video


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
    def call(*options):
        arguments = ["evaluate_benchmark.py", "--model", str(saved_model), *map(str, options)]
        monkeypatch.setattr(sys, "argv", arguments)
        evaluate_benchmark.main()

    return call


def test_files_hold_what_was_measured_on_what(run, tmp_path, capsys):
    run("--limit", 2, "--split", "val", "--output", tmp_path)
    expressions = [row["expression"] for index in range(2) for row in generate_video("val", index).rows]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["split"], metrics["version"], metrics["num_videos"]) == ("val", VERSION, 2)
    assert metrics["num_rows"] == len(expressions)
    assert sum(group["num_rows"] for group in metrics["skill"].values()) == len(expressions)
    with open(tmp_path / "rows.csv") as file:
        assert [row["expression"] for row in csv.DictReader(file)] == expressions
    assert "overall" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, message",
    [(["--limit", 0], "expected at least 1"), (["--model", "missing"], "holds no config.json")],
)
def test_wrong_option_gives_one_clear_error(run, capsys, options, message):
    with pytest.raises(SystemExit) as error:
        run(*options)
    assert error.value.code == 2
    assert message in capsys.readouterr().err
