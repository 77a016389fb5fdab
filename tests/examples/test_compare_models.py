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
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from hf_rvos.data.moving_shapes import VERSION


ROOT = Path(__file__).parents[2]
MACHINE = {"cpu": "a processor", "cores": 2, "threads": 1, "device": "cpu", "torch": "2.15.0", "date": "2026-11-21"}


@pytest.fixture(scope="module")
def script():
    """The script, imported as when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        patch.syspath_prepend(ROOT / "examples")
        import compare_models

        yield compare_models


@pytest.fixture
def comparison(tiny_recipe, tmp_path):
    """A comparison of two models with two stages and one seed, as a dict."""
    recipe = yaml.safe_load(tiny_recipe.read_text())
    files = {"small.yaml": {"model": recipe.pop("model")}, "stage.yaml": recipe}
    for name, content in files.items():
        (tmp_path / name).write_text(yaml.safe_dump(content))
    models = {"small": {"recipe": "small.yaml"}, "one query": {"recipe": "small.yaml", "model": {"num_queries": 1}}}
    stages = [{"recipe": "stage.yaml", "steps": 2}, {"recipe": "stage.yaml", "steps": 1}]
    return {
        "seeds": [3],
        "settings": {"evaluation_videos": 1},
        "tables": {"models": {"test_videos": 1, "stages": stages, "models": models}},
    }


@pytest.fixture
def with_backbone(comparison):
    """The comparison, whose models start with a backbone of two stages."""
    comparison["backbones"] = {"tiny": ["stage.yaml", "stage.yaml"]}
    comparison["tables"]["models"]["backbone"] = "tiny"
    # The recipe of a backbone has its configuration; here nothing is trained.
    comparison["settings"]["model.model_type"] = "referformer"
    return comparison


@pytest.fixture
def run(script, comparison, tmp_path, monkeypatch):
    """Compare in this process, with options after those that every call needs."""

    def call(*options, output="out"):
        path = tmp_path / "comparison.yaml"
        path.write_text(yaml.safe_dump(comparison, sort_keys=False))
        arguments = ["compare_models.py", "--config", path, "--num_processes", 1, "--output_dir", tmp_path / output]
        monkeypatch.setattr(sys, "argv", [*map(str, [*arguments, *options])])
        script.main()
        return tmp_path / output

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    return call


@pytest.fixture
def launched(script, monkeypatch):
    """What would be launched, as (script, folder); files appear as if it had been done."""
    done = []

    def launch(what, command, log, num_processes):
        option = {key: Path(value) for key, value in zip(command, command[1:]) if key.startswith("--")}
        if "--limit" in option:
            folder = option["--output"]
            folder.mkdir(parents=True, exist_ok=True)
            groups = {"motion": {"j_and_f": 25.0}, "phrasing seen: true": {"j_and_f": 75.0}}
            scores = {"j_and_f": 50.0, "num_rows": 5, "groups": groups}
            videos = {"dataset": "moving_shapes", "split": "test", "config_name": "single", "version": VERSION}
            videos["num_videos"] = int(str(option["--limit"]))
            (folder / "metrics.json").write_text(json.dumps(videos | scores))
        else:
            folder = option["--config"].parent
            for name in ("final", "checkpoints"):
                (folder / name).mkdir(exist_ok=True)
            (folder / "final" / "config.json").write_text("{}")
            results = {"num_parameters": 2000, "num_trained_parameters": 1000, "minutes": 1.5, "machine": MACHINE}
            (folder / "all_results.json").write_text(json.dumps(results))
        done.append((Path(command[command.index("--nproc_per_node") + 2]).name, folder))

    monkeypatch.setattr(script, "launch", launch)
    return done


def recipe_of(folder):
    return yaml.safe_load((folder / "recipe.yaml").read_text())


def test_each_model_is_trained_stage_by_stage_and_then_scored(run, launched):
    output = run()
    expected = []
    for name in ("small", "one_query"):
        folder = output / "models" / name / "seed_3"
        expected += [("train.py", folder / "1"), ("train.py", folder / "2")]
        expected += [("evaluate_benchmark.py", folder / "evaluation")]
    assert launched == expected


def test_backbone_is_trained_first_and_once(run, launched, with_backbone):
    output = run()
    folder = output / "backbones" / "tiny"
    assert launched[:2] == [("pretrain_backbone.py", folder / "1"), ("pretrain_backbone.py", folder / "2")]
    assert [name for name, _ in launched[2:]] == ["train.py", "train.py", "evaluate_benchmark.py"] * 2


def test_models_start_with_the_last_stage_of_their_backbone(run, launched, with_backbone):
    with_backbone["seeds"] = [3, 4]
    output = run("--only", "small")
    final = str(output / "backbones" / "tiny" / "2" / "final")
    for seed in (3, 4):
        folder = output / "models" / "small" / f"seed_{seed}"
        assert recipe_of(folder / "1")["pretrained_backbone"] == final
        assert recipe_of(folder / "2")["pretrained_backbone"] is None
    assert recipe_of(output / "backbones" / "tiny" / "2")["seed"] == 3


def test_a_model_may_have_a_backbone_of_its_own(run, launched, with_backbone):
    with_backbone["backbones"]["other"] = ["stage.yaml"]
    with_backbone["tables"]["models"]["models"]["small"]["backbone"] = "other"
    output = run("--only", "small")
    recipe = recipe_of(output / "models" / "small" / "seed_3" / "1")
    assert recipe["pretrained_backbone"] == str(output / "backbones" / "other" / "1" / "final")


def test_finished_runs_with_a_backbone_may_be_moved(run, launched, with_backbone, tmp_path):
    run()
    launched.clear()
    (tmp_path / "out").rename(tmp_path / "moved")
    run(output="moved")
    assert launched == []


def test_dry_run_tells_of_a_backbone_once(run, launched, with_backbone, capsys):
    run("--dry_run")
    assert capsys.readouterr().out.count("pretrain_backbone.py") == 2


def test_caption_tells_the_minutes_of_the_backbone_apart(run, launched, with_backbone):
    text = " ".join((run("--only", "small") / "models.md").read_text().split())
    assert "minutes of training, without 3.0 of tiny, on" in text
    assert "| small | 3 | 2 | 1 | 3.0 |" in text


def test_stages_differ_in_what_the_comparison_says(run, launched):
    folder = run("--only", "one query") / "models" / "one_query" / "seed_3"
    first, second = recipe_of(folder / "1"), recipe_of(folder / "2")
    assert (first["max_train_steps"], second["max_train_steps"]) == (2, 1)
    assert (first["pretrained"], second["pretrained"]) == (None, str(folder / "1" / "final"))
    for number, recipe in enumerate((first, second), start=1):
        assert recipe["output_dir"] == str(folder / str(number))
        assert (recipe["seed"], recipe["evaluation_videos"], recipe["num_processes"]) == (3, 1, 1)
        assert (recipe["model"]["num_queries"], recipe["model"]["hidden_size"]) == (1, 32)


def test_recipes_of_finished_runs_may_lack_keys_that_are_as_by_default(run, launched):
    output = run()
    launched.clear()
    for path in output.glob("models/*/*/*/recipe.yaml"):
        stored = yaml.safe_load(path.read_text())
        for key in ("datasets", "lr_drops", "evaluation"):
            del stored[key]
        path.write_text(yaml.safe_dump(stored))
    run()
    assert launched == []


def test_finished_runs_are_left_alone(run, launched):
    run()
    launched.clear()
    run()
    assert launched == []


def test_unfinished_run_goes_on_with_the_first_stage_that_is_missing(run, launched):
    folder = run("--only", "small") / "models" / "small" / "seed_3"
    shutil.rmtree(folder / "2")
    launched.clear()
    run("--only", "small")
    assert launched == [("train.py", folder / "2"), ("evaluate_benchmark.py", folder / "evaluation")]


def test_training_that_stopped_before_its_results_goes_on(run, launched):
    folder = run("--only", "small") / "models" / "small" / "seed_3"
    (folder / "2" / "all_results.json").unlink()
    launched.clear()
    run("--only", "small")
    assert launched == [("train.py", folder / "2"), ("evaluate_benchmark.py", folder / "evaluation")]


def test_scores_of_other_videos_make_way(run, launched, comparison):
    folder = run("--only", "small") / "models" / "small" / "seed_3"
    (folder / "evaluation" / "run.json").write_text("{}")  # with which another evaluation would not go on
    comparison["tables"]["models"]["test_videos"] = 2
    launched.clear()
    run("--only", "small")
    assert launched == [("evaluate_benchmark.py", folder / "evaluation")]
    assert not (folder / "evaluation" / "run.json").exists()


def test_scores_of_a_model_that_is_trained_again_make_way(run, launched):
    folder = run("--only", "small") / "models" / "small" / "seed_3"
    (folder / "evaluation" / "metrics.json").unlink()  # killed in its evaluation
    (folder / "evaluation" / "run.json").write_text("{}")
    shutil.rmtree(folder / "2")
    run("--only", "small")
    assert not (folder / "evaluation" / "run.json").exists()


def test_an_interrupted_evaluation_is_kept_to_go_on(run, launched):
    folder = run("--only", "small") / "models" / "small" / "seed_3"
    (folder / "evaluation" / "metrics.json").unlink()
    (folder / "evaluation" / "run.json").write_text("{}")
    run("--only", "small")
    assert (folder / "evaluation" / "run.json").exists()


def test_finished_runs_may_be_moved(run, launched, tmp_path):
    run()
    launched.clear()
    (tmp_path / "out").rename(tmp_path / "moved")
    run(output="moved")
    assert launched == []


def test_dry_run_tells_the_commands_and_does_nothing(run, launched, capsys, tmp_path):
    run("--dry_run", "--only", "small")
    assert launched == [] and not (tmp_path / "out").exists()
    title, *commands = capsys.readouterr().out.splitlines()
    assert title == "models, small, seed 3"
    assert [Path(shlex.split(command)[6]).name for command in commands] == ["train.py"] * 2 + ["evaluate_benchmark.py"]
    assert all("torch.distributed.run --standalone --nproc_per_node 1" in command for command in commands)
    assert all(command.endswith("--resume_from_checkpoint latest") for command in commands[:2])


def test_dry_run_tells_what_is_finished(run, launched, capsys):
    run("--only", "small")
    capsys.readouterr()
    run("--dry_run")
    assert capsys.readouterr().out.splitlines()[:2] == ["models, small, seed 3: finished", "models, one query, seed 3"]


def test_comparison_of_the_repository_can_be_run(script, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    path = ROOT / "examples" / "recipes" / "tiny_comparison.yaml"
    tables = script.read_comparison(path)["tables"].values()
    monkeypatch.setattr(sys, "argv", ["compare_models.py", "--config", str(path), "--dry_run", "--num_processes", "2"])
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    script.main()
    lines = capsys.readouterr().out.splitlines()
    assert sum("pretrain_backbone.py" in line for line in lines) == 4 + 1  # of each backbone once
    assert sum("train.py" in line for line in lines) == sum(len(t["models"]) * len(t["stages"]) for t in tables)
    assert sum("evaluate_benchmark.py" in line for line in lines) == sum(len(table["models"]) for table in tables)
    assert lines[0] == "models, referformer, seed 42"


def test_model_that_is_unknown_here_does_not_keep_the_others_from_being_run(run, launched, comparison, tmp_path):
    (tmp_path / "new.yaml").write_text("model: {model_type: not_yet}")
    comparison["tables"]["models"]["models"]["new"] = {"recipe": "new.yaml"}
    run("--only", "small")
    assert [name for name, _ in launched] == ["train.py", "train.py", "evaluate_benchmark.py"]


def test_only_makes_the_tables_that_have_the_model(run, launched, comparison):
    table = comparison["tables"]["models"]
    comparison["tables"]["parts"] = table | {"models": {"part": table["models"]["small"]}}
    output = run("--only", "part")
    assert (output / "parts.md").is_file() and not (output / "models.md").exists()


def test_table_of_one_seed(run, launched):
    text = (run("--only", "small") / "models.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows == [
        "| model | seed | parameters | trained | minutes | J&F | motion |",
        "|---|---|---:|---:|---:|---:|---:|",
        "| small | 3 | 2 | 1 | 3.0 | 50.0 | 25.0 |",
    ]
    assert "Not finished: one query, seed 3." in text


def test_caption_says_how_the_numbers_came_about(run, launched, tmp_path):
    text = " ".join((run("--only", "small") / "models.md").read_text().split())
    command = f"--config {tmp_path}/comparison.yaml --table models --num_processes 1 --output_dir {tmp_path}/out"
    assert f"python examples/compare_models.py {command}" in text
    assert "stage.yaml (2 steps), stage.yaml (1 steps); 1 processes; seeds: 3." in text
    assert f"first 1 videos (5 rows) of the split `test`, configuration `single`, version {VERSION}" in text
    assert "a processor, 2 cores, threads: 1; device: cpu; torch 2.15.0, 2026-11-21." in text


def test_several_seeds_end_with_their_mean(run, launched, comparison):
    comparison["seeds"] = [3, 4]
    output = run("--only", "small")
    metrics = output / "models" / "small" / "seed_4" / "evaluation" / "metrics.json"
    scores = {"j_and_f": 60.0, "groups": {"motion": {"j_and_f": 26.0}}}
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | scores))
    rows = [line for line in (run("--only", "small") / "models.md").read_text().splitlines() if "small |" in line]
    assert [row.split(" | ")[1:] for row in rows] == [
        ["3", "2", "1", "3.0", "50.0", "25.0 |"],
        ["4", "2", "1", "3.0", "60.0", "26.0 |"],
        ["mean of 2", "2", "1", "3.0", "55.0", "25.5 |"],
    ]
    report = json.loads((output / "models.json").read_text())
    assert [row["j_and_f"] for row in report["rows"]] == [50, 60, 55]


def test_table_is_written_after_each_run(run, launched, script, monkeypatch):
    written = []
    monkeypatch.setattr(script, "write_table", lambda _, __, report: written.append(len(report["rows"])))
    with pytest.raises(FileNotFoundError):  # the text of the table, at the very end
        run()
    assert written == [0, 1, 2]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda it: it.update(sedes=[1]), "key 'sedes' is not known; did you mean 'seeds'?"),
        (lambda it: it.pop("seeds"), "seeds is missing"),
        (lambda it: it.update(seeds=[1, 1]), "expected a list of different whole numbers"),
        (lambda it: it["settings"].update(learning_rat=1), "did you mean 'learning_rate'?"),
        (lambda it: it["tables"]["models"].update(backbone="lost"), "backbone 'lost' is not among backbones: there"),
        (lambda it: it.update(backbones={"tiny": []}), "backbones, tiny is [], expected a list of recipes"),
        (lambda it: it.update(backbones={"tiny": ["lost.yaml"]}), "lost.yaml is no file"),
        (lambda it: it["tables"]["models"].update(video=1), "did you mean 'test_videos'?"),
        (lambda it: it["tables"]["models"].update(test_videos=501), "expected 1 to 500"),
        (lambda it: it["tables"]["models"]["stages"][1].update(step=1), "stage 2: key 'step' is not known"),
        (lambda it: it["tables"]["models"]["stages"][1].update(steps=-1), "stage 2: steps is -1"),
        (lambda it: it["tables"]["models"]["stages"][1].update(recipe="lost.yaml"), "lost.yaml is no file"),
        (lambda it: it["tables"]["models"]["models"]["small"].update(recipe="gone.yaml"), "gone.yaml is no file"),
        (lambda it: it["tables"]["models"]["models"]["small"].update(modell={}), "did you mean 'model'?"),
        (
            lambda it: it["tables"]["models"]["models"]["small"].update(model={"num_querys": 1}),
            "small, seed 3, stage 1 of 2: model setting 'num_querys' is not known to referformer; did you mean 'num_",
        ),
        (
            lambda it: it["tables"]["models"]["models"]["small"].update(model={"num_queries": 0}),
            "num_queries is 0, expected at least 1",
        ),
        (lambda it: it["tables"]["models"]["models"].update({"../x": {}}), "'../x' cannot be a folder of its own"),
        (
            lambda it: it["tables"]["models"]["models"].update(one_query={}),
            "'one query' cannot be a folder of its own",
        ),
        (
            lambda it: it["settings"].update(pretrained_backbone="outputs/nothing"),
            "pretrained_backbone outputs/nothing holds no saved model; `backbones` names what is trained before",
        ),
    ],
)
def test_wrong_comparison_gives_one_clear_error_before_any_training(
    run, launched, comparison, capsys, change, message
):
    change(comparison)
    with pytest.raises(SystemExit) as error:
        run()
    assert error.value.code == 2 and launched == []
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        (["--only", "smal"], "--only: 'smal' is none of 'small', 'one query'"),
        (["--table", "model"], "--table: model is none of models"),
        (["--num_processes", 0], "expected at least 1"),
        (["--config", "missing.yaml"], "cannot read the comparison missing.yaml"),
        (["--output_dir", __file__], "--output_dir: cannot write"),
    ],
    ids=str,
)
def test_wrong_option_gives_one_clear_error(run, launched, capsys, options, message):
    with pytest.raises(SystemExit) as error:
        run(*options)
    assert error.value.code == 2 and launched == []
    assert message in capsys.readouterr().err


def test_more_processes_than_gpus_are_refused(run, launched, capsys, monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SystemExit):
        run("--num_processes", 2)
    assert "each takes a GPU and there are 1" in capsys.readouterr().err


def test_training_with_other_settings_is_not_gone_on_with(run, launched, comparison, capsys, tmp_path):
    run()
    launched.clear()
    comparison["tables"]["models"]["stages"][0]["steps"] = 7
    with pytest.raises(SystemExit):
        run()
    assert launched == []
    assert "models/small/seed_3/1 was trained with other settings: max_train_steps 2 is now 7;" in (
        " ".join(capsys.readouterr().err.split())
    )


def test_other_number_of_processes_is_another_training(run, launched, capsys):
    run()
    with pytest.raises(SystemExit):
        run("--num_processes", 2)
    assert "num_processes 1 is now 2" in capsys.readouterr().err


def test_stage_whose_start_is_gone_is_not_gone_on_with(run, launched, capsys):
    folder = run() / "models" / "small" / "seed_3"
    (folder / "1" / "all_results.json").unlink()
    with pytest.raises(SystemExit):
        run()
    assert f"{folder / '2'} was trained from a stage that is no longer there" in capsys.readouterr().err


def test_failure_shows_the_end_of_the_log_and_ends_the_program(script, tmp_path):
    command = [sys.executable, "-c", "import sys; print('the reason'); sys.exit(3)"]
    with pytest.raises(SystemExit) as error:
        script.launch("models, small, stage 1", command, tmp_path / "train.log", 1)
    assert "the reason\nmodels, small, stage 1 failed with exit code 3" in error.value.code
    assert "the reason" in (tmp_path / "train.log").read_text()


def test_interruption_ends_what_was_launched(script, tmp_path, monkeypatch):
    started = []

    class Interrupted(subprocess.Popen):
        def wait(self, timeout=None):
            started.append(self)
            if len(started) == 1:
                raise KeyboardInterrupt
            return super().wait(timeout)

    monkeypatch.setattr(script.subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        script.launch("", [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "train.log", 1)
    assert started[0].returncode != 0


def test_processes_share_the_cores_unless_the_threads_are_set(script, monkeypatch):
    monkeypatch.setattr(script.os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert script.environment(2)["OMP_NUM_THREADS"] == "4"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert script.environment(2)["OMP_NUM_THREADS"] == "3"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="variables of glibc")
def test_memory_that_a_step_frees_is_there_for_the_next(script, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    code = """
import resource
faults = []
for _ in range(8):
    block = b"x" * 2**26
    del block
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[0])
"""
    counted = subprocess.run([sys.executable, "-c", code], env=script.environment(2), capture_output=True, check=True)
    assert int(counted.stdout) < 2**26 / 2**12  # pages of one block


# Three times torchrun and a process of its own import torch and transformers (about 40 s).
@pytest.mark.slow
def test_two_stages_and_an_evaluation_are_really_run(run, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    output = run("--only", "one query")
    folder = output / "models" / "one_query" / "seed_3"
    for number, steps in (("1", 2), ("2", 1)):
        assert json.loads((folder / number / "all_results.json").read_text())["steps"] == steps
        assert {"final", "checkpoints", "log.jsonl", "train.log"} <= {
            path.name for path in (folder / number).iterdir()
        }
    metrics = json.loads((folder / "evaluation" / "metrics.json").read_text())
    assert metrics["num_videos"] == 1
    (row,) = json.loads((output / "models.json").read_text())["rows"]
    assert row["j_and_f"] == metrics["j_and_f"]
    assert row["num_parameters"] == row["num_trained_parameters"] > 0
