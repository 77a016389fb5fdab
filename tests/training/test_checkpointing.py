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
import resource
import shutil
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from safetensors import SafetensorError

from hf_rvos.training.checkpointing import (
    BestModel,
    changed_settings,
    check_room,
    checkpoint_folders,
    choose_checkpoint,
    load_checkpoint,
    replace_folder,
    save_checkpoint,
)
from hf_rvos.training.optimization import average_weights, set_rates
from hf_rvos.training.progress import Clock
from hf_rvos.training.recipe import Recipe


@pytest.fixture
def run(tmp_path):
    """A prepared model with its optimizer, average and clock, after a step."""

    def build(seed=0, width=4, **settings):
        torch.manual_seed(seed)
        accelerator = Accelerator(cpu=True)
        model = torch.nn.Linear(width, width)
        ema = average_weights(model, 0.9, accelerator.device)
        recipe = Recipe(output_dir=str(tmp_path), max_train_steps=9, **settings)
        rate = recipe.learning_rate
        group = {"params": list(model.parameters()), "lr": rate, "rate": rate, "weight_decay": recipe.weight_decay}
        model, optimizer = accelerator.prepare(model, torch.optim.AdamW([group]))
        accelerator.backward(model(torch.ones(1, width)).sum())
        optimizer.step()
        ema.update_parameters(model)
        clock = Clock(recipe, 1, accelerator)
        return SimpleNamespace(accelerator=accelerator, model=model, ema=ema, clock=clock, optimizers=[optimizer])

    return build


def save(run, folder, step):
    run.clock.step = step
    save_checkpoint(run.accelerator, folder, run.clock, run.model, run.ema)


def make_checkpoint(folder):
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    return folder


def test_all_of_a_checkpoint_comes_back(run, tmp_path):
    first = run()
    first.clock.elapsed = 12.5
    save(first, tmp_path, 3)
    second = run(seed=1)
    load_checkpoint(
        second.accelerator, tmp_path / "checkpoints" / "step_3", second.clock, second.ema, second.optimizers
    )
    assert (second.clock.step, second.clock.elapsed) == (3, 12.5)
    for part in ("model", "ema"):
        expected, found = (getattr(one, part).state_dict() for one in (first, second))
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_checkpoint_has_no_pickles_but_those_that_load_as_plain_tensors(run, tmp_path):
    save(run(), tmp_path, 3)
    files = list((tmp_path / "checkpoints" / "step_3").iterdir())
    assert {path.suffix for path in files} == {".safetensors", ".json", ".bin", ".pkl"}
    for path in files:
        if path.suffix == ".bin":
            torch.load(path, weights_only=True)
    assert [path.name for path in files if path.suffix == ".pkl"] == ["random_states_0.pkl"]


def test_an_optimizer_file_that_runs_code_is_not_loaded(run, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "was_run"), "w"))

    save(run(), tmp_path, 3)
    folder = tmp_path / "checkpoints" / "step_3"
    torch.save(Evil(), folder / "optimizer.bin")
    second = run()
    with pytest.raises(ValueError, match="does not fit the recipe .Weights only load failed"):
        load_checkpoint(second.accelerator, folder, second.clock, second.ema, second.optimizers)
    assert not (tmp_path / "was_run").exists()


def test_a_checkpoint_of_another_model_gives_one_clear_error(run, tmp_path):
    save(run(), tmp_path, 3)
    second = run(width=5)
    with pytest.raises(ValueError, match="does not fit the recipe .* resume with the recipe that it was written with"):
        load_checkpoint(
            second.accelerator, tmp_path / "checkpoints" / "step_3", second.clock, second.ema, second.optimizers
        )


def test_settings_that_changed_are_told(run, tmp_path, capsys):
    save(run(learning_rate=0.1), tmp_path, 3)
    second = run(learning_rate=0.2, num_workers=7)
    load_checkpoint(
        second.accelerator, tmp_path / "checkpoints" / "step_3", second.clock, second.ema, second.optimizers
    )
    assert "learning_rate was 0.1 and is now 0.2" in (told := capsys.readouterr().out)
    assert "num_workers" not in told and "clip_lengths" not in told


def test_rates_and_decay_are_those_of_the_recipe_and_not_of_the_checkpoint(run, tmp_path):
    save(run(learning_rate=0.1, weight_decay=0.3), tmp_path, 3)
    second = run(learning_rate=0.01, weight_decay=0.2)
    load_checkpoint(
        second.accelerator, tmp_path / "checkpoints" / "step_3", second.clock, second.ema, second.optimizers
    )
    set_rates(second.optimizers, 0.5)
    (group,) = second.optimizers[0].param_groups
    assert (group["rate"], group["lr"], group["weight_decay"]) == (0.01, 0.005, 0.2)
    assert second.optimizers[0].optimizer.state  # the rest of the optimizer is that of the checkpoint


def test_accumulation_begins_anew_with_a_checkpoint(run, tmp_path):
    first = run()
    first.accelerator.step = 3
    save(first, tmp_path, 3)
    second = run()
    load_checkpoint(
        second.accelerator, tmp_path / "checkpoints" / "step_3", second.clock, second.ema, second.optimizers
    )
    assert second.accelerator.step == 0


def test_another_number_of_processes_is_told():
    recipe = Recipe()
    state = {"recipe": json.loads(json.dumps(vars(recipe))), "num_processes": 8}
    assert list(changed_settings(state, recipe, 2)) == ["num_processes was 8 and is now 2"]


def test_two_checkpoints_are_kept(run, tmp_path):
    one = run()
    for step in (8, 9, 10, 11):
        save(one, tmp_path, step)
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["step_10", "step_11"]


def test_a_checkpoint_that_is_there_is_not_written_again(run, tmp_path):
    one = run()
    save(one, tmp_path, 3)
    before = (tmp_path / "checkpoints" / "step_3" / "state.json").stat().st_mtime_ns
    save(one, tmp_path, 3)
    assert (tmp_path / "checkpoints" / "step_3" / "state.json").stat().st_mtime_ns == before


def test_a_write_that_fails_leaves_the_earlier_ones_and_no_half(run, tmp_path):
    one = run(width=64)
    save(one, tmp_path, 3)
    before = {path: path.read_bytes() for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # as on a full disk, a write ends half way
    try:
        with pytest.raises(OSError, match="checkpoint of step 4 could not be written: .* Earlier ones are as they"):
            save(one, tmp_path, 4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    after = {path: path.read_bytes() for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()}
    assert after == before


def test_weights_that_are_not_finite_are_not_written(run, tmp_path):
    one = run()
    torch.nn.init.constant_(one.model.bias, float("nan"))
    with pytest.raises(FloatingPointError, match="some weights are not finite at step 3"):
        save(one, tmp_path, 3)
    assert not (tmp_path / "checkpoints").exists()


def test_no_room_is_told_before_anything_is_written(tmp_path, monkeypatch):
    model = torch.nn.Linear(100, 10, bias=False)  # 4000 bytes
    model.weight.requires_grad_(True)
    for free, has_average in ((11_999, False), (15_999, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        with pytest.raises(OSError, match="Make room"):
            check_room(tmp_path, model, has_average)
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free + 1))
        check_room(tmp_path, model, has_average)


def test_latest_is_the_last_and_may_be_none(tmp_path):
    assert choose_checkpoint(tmp_path, "latest") is None
    for step in (9, 10):
        last = make_checkpoint(tmp_path / "checkpoints" / f"step_{step}")
    assert choose_checkpoint(tmp_path, "latest") == last


def test_a_run_does_not_write_among_the_checkpoints_of_another(tmp_path):
    first = make_checkpoint(tmp_path / "checkpoints" / "step_1")
    last = make_checkpoint(tmp_path / "checkpoints" / "step_2")
    elsewhere = make_checkpoint(tmp_path / "elsewhere" / "checkpoints" / "step_7")
    for resume in (None, str(first), str(elsewhere)):
        with pytest.raises(ValueError, match="has checkpoints of an earlier run up to step_2; go on with"):
            choose_checkpoint(tmp_path, resume)
    assert choose_checkpoint(tmp_path, str(last)) == last
    assert choose_checkpoint(tmp_path / "new", str(elsewhere)) == elsewhere


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no checkpoint"):
        choose_checkpoint(tmp_path, str(tmp_path))


def test_a_folder_is_replaced_when_the_new_one_is_complete(tmp_path):
    for content in ("first", "second"):
        with replace_folder(tmp_path / "final") as folder:
            folder.mkdir()
            (folder / content).touch()
    assert [path.name for path in (tmp_path / "final").iterdir()] == ["second"]
    with pytest.raises(KeyError), replace_folder(tmp_path / "final") as folder:
        folder.mkdir()
        raise KeyError
    assert [path.name for path in (tmp_path / "final").iterdir()] == ["second"]
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_a_disk_that_is_full_is_told_and_leaves_the_folder_as_it_was(tmp_path):
    (tmp_path / "final").mkdir()
    with pytest.raises(OSError, match="final could not be written: no space"), replace_folder(tmp_path / "final"):
        raise SafetensorError("no space")
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_folder_is_there_after_a_kill_between_the_two_renames_or_after_them(tmp_path, is_replaced):
    old = tmp_path / ".best.old"
    for folder in (old, *([tmp_path / "best"] if is_replaced else [])):
        folder.mkdir()
        score = {"step": 1, "j_and_f": 7.0 if folder == old else 8.0, "run": "a"}
        (folder / "best.json").write_text(json.dumps(score))
    assert BestModel("j_and_f", tmp_path, run="a").score["j_and_f"] == (8.0 if is_replaced else 7.0)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_the_model_with_the_highest_score_is_kept(tmp_path):
    best = BestModel("j_and_f", tmp_path, run="a")
    for step, score in enumerate((float("nan"), 3.0, 5.0, float("nan"), 4.0, 5.0)):
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / "step").write_text(str(step))
        best.compare(tmp_path / "model", {"j_and_f": score}, step)
    assert (tmp_path / "best" / "step").read_text() == "2"
    assert json.loads((tmp_path / "best" / "best.json").read_text()) == {"step": 2, "j_and_f": 5.0, "run": "a"}
    assert BestModel("j_and_f", tmp_path, run="a").score == best.score
    assert BestModel("j_mean", tmp_path, run="a").score is None


def test_the_best_model_of_an_earlier_run_does_not_count(tmp_path):
    (tmp_path / "model").mkdir()
    BestModel("j_and_f", tmp_path, run="earlier").compare(tmp_path / "model", {"j_and_f": 8.0}, 900)
    best = BestModel("j_and_f", tmp_path, run="later")
    assert best.score is None
    best.compare(tmp_path / "model", {"j_and_f": 6.0}, 1)
    assert BestModel("j_and_f", tmp_path, run="later").score == {"step": 1, "j_and_f": 6.0}


def test_without_a_key_no_model_is_kept(tmp_path):
    BestModel(None, tmp_path, run="a").compare(tmp_path / "model", {"j_and_f": 1.0}, 1)
    assert not (tmp_path / "best").exists()
