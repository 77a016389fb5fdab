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
import json
from types import SimpleNamespace

import pytest
import yaml
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from huggingface_hub import ModelCard
from PIL import Image

from hf_rvos.training import reports
from hf_rvos.training.progress import Clock
from hf_rvos.training.recipe import Recipe
from hf_rvos.training.reports import RunLog, check_upload, flatten, public_recipe, upload, write_model_card


class Tracker(GeneralTracker):
    name = "of_this_test"
    requires_logging_directory = False
    tracker = None

    def __init__(self):
        super().__init__()
        self.config, self.lines, self.is_finished = None, [], False

    def store_init_configuration(self, values):
        self.config = values

    def log(self, values, step=None, **kwargs):
        self.lines.append((step, values))


@pytest.fixture
def start(tmp_path):
    def call(step=0, tracker=None):
        accelerator = Accelerator(cpu=True, log_with=tracker)
        clock = Clock(Recipe(max_train_steps=9), 1, accelerator)
        clock.step = step
        return RunLog(accelerator, tmp_path, clock)

    return call


def test_lines_say_step_and_minutes(start):
    log = start()
    log.clock.step, log.clock.elapsed = 3, 90.0
    log.write({"loss": 2.0})
    assert log.read() == [{"step": 3, "minutes": 1.5, "loss": 2.0}]


def test_a_resumed_run_drops_what_came_after_its_checkpoint_and_a_half_line(start):
    log = start()
    for log.clock.step in (1, 2, 3):
        log.write({"loss": 1.0})
    with open(log.path, "a") as file:
        file.write('{"step": 4, "lo')
    assert [line["step"] for line in start(step=2).read()] == [1, 2]


def test_a_new_run_begins_a_new_log(start):
    start().write({"loss": 1.0})
    assert start().read() == []


def test_trackers_get_the_settings_and_all_numbers(start):
    tracker = Tracker()
    log = start(tracker=tracker)
    assert tracker.config["batch_size"] == 4 and tracker.config["clip_lengths"] == "[8]"
    log.clock.step = 5
    log.write({"evaluation": {"j_and_f": 7.0, "groups": {"event": {"number": 3, "note": "text"}}}})
    assert tracker.lines == [(5, {"evaluation/j_and_f": 7.0, "evaluation/groups/event/number": 3})]


def test_what_trackers_cannot_take_becomes_text():
    assert flatten({"a": {"b": None, "c": [1, 2]}, "d": True}) == {"a/b": "null", "a/c": "[1, 2]", "d": True}


def test_the_chart_shows_the_losses_of_the_last_layer(start, tmp_path, monkeypatch):
    drawn = {}
    save = reports.save_line_chart
    monkeypatch.setattr(
        reports, "save_line_chart", lambda path, curves, *rest: drawn.update(curves) or save(path, curves, *rest)
    )
    log = start()
    for log.clock.step in (10, 20):
        log.write({"loss": 3.0, "loss_ce": 1.0, "loss_ce_0": 2.0, "grad_norm": 9.0})
    log.write({"evaluation": {"j_and_f": 1.0}})
    log.save_chart(tmp_path / "loss.png")
    assert drawn == {"loss": ([10, 20], [3.0, 3.0]), "loss_ce": ([10, 20], [1.0, 1.0])}
    with Image.open(tmp_path / "loss.png") as chart:
        assert chart.size == (1200, 750)


def test_a_log_without_losses_makes_no_chart(start, tmp_path):
    start().save_chart(tmp_path / "loss.png")
    assert not (tmp_path / "loss.png").exists()


def results(**changes):
    machine = {"cpu": "CPU", "cores": 2, "device": "cpu", "torch": "1", "transformers": "2", "hf_rvos": "3"}
    return {
        "steps": 1234,
        "minutes": 5.67,
        "num_parameters": 10,
        "num_trained_parameters": 7,
        "num_processes": 2,
        "clips_per_step": 16,
        "machine": machine | {"date": "2030-01-02"},
        "val": {"j_and_f": 43.219, "num_expressions": 3},
    } | changes


def test_the_model_card_has_what_was_measured_and_no_folders_and_no_licence(tmp_path):
    recipe = Recipe(
        output_dir="/disk/mine/runs/mine",
        data_dirs={"mevis": "/disk/mine/mevis"},
        datasets=("mevis",),
        evaluation={"dataset": "mevis", "data_dir": "/disk/mine/mevis"},
    )
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "soc", "architectures": ["Soc"]}))
    task = SimpleNamespace(usage='load("{name}")', scored_on=["mevis", "valid_u", 7])
    write_model_card(tmp_path, task, recipe, results(), "| a table |")
    card = ModelCard.load(tmp_path / "README.md")
    (score,) = card.data.eval_results
    assert (score.metric_type, score.metric_value, score.dataset_split) == ("j_and_f", 43.22, "valid_u")
    assert card.data.license is None and "soc" in card.data.tags
    for text in ('load("mine")', "1,234 in 5.7 minutes", "| a table |", "the first 7 videos of mevis, split valid_u"):
        assert text in card.text
    assert "/disk/mine" not in card.content


def test_the_public_recipe_is_a_recipe():
    settings = yaml.safe_load(public_recipe(Recipe(data_dirs={"mevis": "x"}, batch_size=3)))
    assert settings["batch_size"] == 3 and "data_dirs" not in settings
    Recipe(**settings)


class Hub:
    """What is asked of the hub; `broken` is the call that fails."""

    def __init__(self, broken=None, error=None):
        self.calls, self.broken, self.error = [], broken, error

    def __call__(self):
        return self

    def __getattr__(self, name):
        def call(*arguments, **options):
            if name == self.broken:
                raise self.error
            self.calls.append((name, arguments, options))

        return call


RECIPE = Recipe(hub_model_id="me/mine", push_to_hub=True)


def test_before_training_the_recipe_goes_to_a_private_repository(monkeypatch):
    monkeypatch.setattr(reports, "HfApi", hub := Hub())
    check_upload(RECIPE)
    (made, (name,), options), (put, _, content) = hub.calls
    assert (made, name, options["private"], options["exist_ok"]) == ("create_repo", "me/mine", True, True)
    assert put == "upload_file" and content["repo_id"] == "me/mine" and b"batch_size" in content["path_or_fileobj"]


@pytest.mark.parametrize("broken", ["create_repo", "upload_file"])
def test_a_repository_that_cannot_be_written_is_told_before_training(monkeypatch, broken):
    monkeypatch.setattr(reports, "HfApi", Hub(broken, OSError("Token is required\nmore")))
    with pytest.raises(ValueError, match=r"push_to_hub: cannot write to me/mine \(Token is required\); log in"):
        check_upload(RECIPE)


def test_the_trained_model_is_uploaded(monkeypatch, tmp_path):
    monkeypatch.setattr(reports, "HfApi", hub := Hub())
    upload(RECIPE, tmp_path)
    assert hub.calls == [("upload_folder", (), {"folder_path": tmp_path, "repo_id": "me/mine"})]


def test_an_upload_that_fails_says_how_to_do_it_later(monkeypatch, tmp_path):
    monkeypatch.setattr(reports, "HfApi", Hub("upload_folder", OSError("no network")))
    with pytest.raises(OSError, match=f"no network.*hf upload me/mine {tmp_path}"):
        upload(RECIPE, tmp_path)
