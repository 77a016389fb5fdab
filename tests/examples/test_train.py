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
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator
from safetensors.torch import load_file
from transformers import AutoConfig

from examples import train
from hf_rvos.auto import AutoModelForReferringVideoSegmentation
from hf_rvos.evaluation.prediction import ModelPredictor
from hf_rvos.evaluation.run import Benchmark, evaluate
from hf_rvos.training.checkpointing import checkpoint_folders
from hf_rvos.training.optimization import cosine_factor


ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "examples" / "recipes"


@pytest.fixture
def run(tiny_recipe, monkeypatch):
    """Call the script in this process, with options after those of the tiny recipe."""

    def call(output_dir, *options):
        arguments = ["train.py", "--config", str(tiny_recipe), "--output_dir", str(output_dir), *map(str, options)]
        monkeypatch.setattr(sys, "argv", arguments)
        train.main()
        return output_dir

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    return call


@pytest.fixture(scope="module")
def finished(tiny_recipe, tmp_path_factory):
    """Output folder of a whole run with a checkpoint at every step."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        options = ["--output_dir", str(folder), "--override", "checkpointing_steps=1", "save_dtype=float16"]
        patch.setattr(sys, "argv", ["train.py", "--config", str(tiny_recipe), *options])
        train.main()
    return folder


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_every_step_is_logged_with_its_loss_terms_and_rate(finished):
    log = log_of(finished)
    assert [entry["step"] for entry in log if "loss" in entry] == [1, 2, 3, 4]
    assert {"loss", "loss_ce", "loss_dice", "grad_norm", "learning_rate", "clips_per_second"} <= set(log[0])


def test_results_hold_scores_and_recipe(finished):
    results = json.loads((finished / "all_results.json").read_text())
    assert results["steps"] == 4
    assert 0 <= results["val"]["j_and_f"] <= 100
    assert results["recipe"]["max_train_steps"] == 4


def test_evaluation_of_the_task_is_that_of_the_benchmark_and_training_goes_on(finished, tmp_path):
    task = train.ReferringTask(train.Recipe(pretrained=str(finished / "final"), evaluation_videos=1))
    results, table = task.evaluate(task.model.train(), Accelerator(cpu=True))
    assert task.model.training
    predictor = ModelPredictor(task.model.eval(), task.processor)
    expected = evaluate(Benchmark("moving_shapes", None, "val", limit=1), predictor, {}, tmp_path)
    assert results == {key: expected[key] for key in results}
    assert {"j_and_f", "groups"} <= results.keys() and table.startswith("| rows of")


def test_only_the_last_two_checkpoints_are_kept(finished):
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == ["step_3", "step_4"]


def test_weights_are_stored_in_half_and_load_as_float32(finished):
    stored = load_file(finished / "final" / "model.safetensors")
    assert {value.dtype for value in stored.values() if value.is_floating_point()} == {torch.float16}
    loaded = AutoModelForReferringVideoSegmentation.from_pretrained(finished / "final")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_resumed_run_repeats_the_uninterrupted_one(run, finished, tmp_path):
    run(tmp_path, "--override", "checkpointing_steps=1", "save_dtype=float16", "--max_train_steps", 4)
    for folder in (tmp_path / "final", tmp_path / "checkpoints" / "step_4"):
        for path in folder.rglob("*"):
            path.unlink()
        folder.rmdir()
    run(tmp_path, "--save_dtype", "float16", "--resume_from_checkpoint", "latest")
    expected, resumed = (load_file(folder / "final" / "model.safetensors") for folder in (finished, tmp_path))
    assert expected.keys() == resumed.keys()
    for name in expected:
        assert torch.equal(expected[name], resumed[name]), name


def test_half_written_checkpoint_is_not_resumed(tmp_path):
    for name in ("step_9", "step_10", "unfinished_step_11"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["step_9", "step_10"]


def test_latest_without_checkpoint_starts_anew(run, tmp_path, capsys):
    run(tmp_path, "--max_train_steps", 1, "--resume_from_checkpoint", "latest")
    assert "no checkpoint yet" in capsys.readouterr().out
    assert (tmp_path / "final" / "model.safetensors").is_file()


def test_time_limit_ends_the_run(run, tmp_path):
    run(tmp_path, "--override", "max_train_steps=null", "max_train_minutes=0.0001")
    assert json.loads((tmp_path / "all_results.json").read_text())["steps"] == 1


def test_saved_model_can_be_trained_on(run, finished, tmp_path):
    run(tmp_path, "--pretrained", finished / "final", "--max_train_steps", 1, "--learning_rate", 0)
    assert (tmp_path / "final" / "tokenizer.json").is_file()


def test_loss_that_is_not_a_number_names_the_clips(run, tmp_path):
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 1, clips train/\d"):
        run(tmp_path, "--override", "learning_rate=.nan", "warmup=0")


@pytest.mark.parametrize(
    "options, message",
    [
        (["--override", "learning_rat=1"], "'learning_rat' is not known; did you mean 'learning_rate'?"),
        (["--override", "learning_rate=fast"], "'learning_rate' is 'fast', expected"),
        (["--override", "learning_rate"], "expected KEY=VALUE"),
        (["--override", "max_train_steps=null"], "set max_train_steps or max_train_minutes"),
        (["--override", "model=null"], "names no model"),
        (["--override", "model={}"], "names no model"),
        (["--override", "model.model_type=referformr"], "model_type 'referformr' is not known"),
        (
            ["--override", "model.hiden_size=32"],
            "'hiden_size' is not known to referformer; did you mean 'hidden_size'?",
        ),
        (["--override", "model.num_queries=0"], "num_queries is 0, expected at least 1"),
        (["--config", "missing.yaml"], "cannot read the recipe missing.yaml"),
        (["--config", __file__], "cannot read the recipe"),
    ],
)
def test_wrong_setting_gives_one_clear_error(run, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as error:
        run(tmp_path, *options)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_later_recipe_files_have_the_say_and_add_to_the_model(tmp_path, monkeypatch):
    first = {"model": {"num_queries": 1, "hidden_size": 64}, "seed": 1, "max_train_steps": 5}
    second = {"model": {"model_type": "referformer", "hidden_size": 96}, "seed": 2}
    for name, recipe in (("a.yaml", first), ("b.yaml", second)):
        (tmp_path / name).write_text(yaml.safe_dump(recipe))
    options = ["--config", *(str(tmp_path / name) for name in ("a.yaml", "b.yaml")), "--override", "seed=3"]
    monkeypatch.setattr(sys, "argv", ["train.py", *options, "model.hidden_size=32"])
    recipe, _ = train.parse_arguments()
    assert recipe.model == {"num_queries": 1, "hidden_size": 32, "model_type": "referformer"}
    assert (recipe.seed, recipe.max_train_steps) == (3, 5)


def test_saved_model_is_not_taken_for_another(finished):
    with pytest.raises(ValueError, match="is a referformer, not a soc"):
        train.build_model_and_processor(train.Recipe(pretrained=str(finished / "final"), model={"model_type": "soc"}))


def test_saved_model_gets_no_setting_that_its_configuration_does_not_know(finished):
    with pytest.raises(ValueError, match="did you mean 'num_queries'?"):
        train.build_model_and_processor(train.Recipe(pretrained=str(finished / "final"), model={"num_querys": 1}))


def test_recipe_for_two_processes_is_not_trained_with_one(run, tmp_path):
    with pytest.raises(ValueError, match="meant for 2 processes, this run has 1"):
        run(tmp_path / "out", "--num_processes", 2)
    assert not (tmp_path / "out").exists()


def test_recipes_of_the_backbone_follow_each_other():
    stages = [train.read_recipe([path]) for path in sorted(RECIPES.glob("video_swin_tiny_*.yaml"))]
    assert [stage.pretrained for stage in stages] == [None] + [f"{stage.output_dir}/final" for stage in stages[:-1]]
    first = train.read_recipe([RECIPES / "tiny_1_appearance.yaml", RECIPES / "referformer_tiny.yaml"])
    assert first.pretrained_backbone == f"{stages[-1].output_dir}/final"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*_tiny.yaml")), ids=lambda path: path.stem)
def test_recipes_of_a_model_lead_to_one_of_less_than_4_mb(path):
    first = train.read_recipe([RECIPES / "tiny_1_appearance.yaml", path])
    last = train.read_recipe([RECIPES / "tiny_3_whole_videos.yaml", path], [("pretrained", "the second stage")])
    backbone = train.read_recipe([RECIPES / "video_swin_tiny_1_pictures.yaml"]).model
    first.pretrained_backbone, first.model["backbone_config"] = None, backbone
    model, _ = train.build_model_and_processor(first)
    bytes_each = getattr(torch, last.save_dtype).itemsize
    assert sum(parameter.numel() for parameter in model.parameters()) * bytes_each < 4e6


def test_rates_warm_up_and_fall():
    factors = [cosine_factor(step / 100, warmup=0.1, final=0.01) for step in range(101)]
    assert factors[0] == 0 and max(factors) == factors[10] == 1
    assert factors[:11] == sorted(factors[:11]) and factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[100] == pytest.approx(0.01)


def test_parts_have_their_own_rate_and_norms_do_not_decay(tiny_recipe, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", str(tiny_recipe)])
    recipe, _ = train.parse_arguments()
    recipe.learning_rate, recipe.backbone_learning_rate, recipe.text_encoder_learning_rate = 3, 2, 0
    model, _ = train.build_model_and_processor(recipe)
    groups = [group for optimizer in train.build_optimizers(model, recipe) for group in optimizer.param_groups]
    of = {id(parameter): group for group in groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        if ".text_encoder." in name:
            assert id(parameter) not in of and not parameter.requires_grad
            continue
        assert of[id(parameter)]["lr"] == (2 if ".backbone." in name else 3)
        assert (of[id(parameter)]["weight_decay"] == 0) == (parameter.ndim == 1)


def test_muon_takes_the_matrices_of_linear_layers_and_adamw_the_rest(tiny_recipe, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", str(tiny_recipe), "--muon", "true"])
    recipe, _ = train.parse_arguments()
    model, _ = train.build_model_and_processor(recipe)
    muon, adamw = train.build_optimizers(model, recipe)
    taken, left = ({id(p) for group in each.param_groups for p in group["params"]} for each in (muon, adamw))
    assert taken.isdisjoint(left)
    assert taken | left == {id(parameter) for parameter in model.parameters()}
    assert id(model.model.encoder_layers[0].feed_forward.fc1.weight) in taken
    # Tables, convolutions and the head with a single output are no such matrices.
    for module in (model.get_input_embeddings(), model.mask_projection, model.class_heads[0]):
        assert id(module.weight) in left


def test_size_of_the_frames_in_use_may_differ_from_training(tiny_recipe, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", str(tiny_recipe)])
    recipe, _ = train.parse_arguments()
    assert train.build_model_and_processor(recipe)[1].video_processor.size["shortest_edge"] == 64
    recipe.inference_size = 128
    assert train.build_model_and_processor(recipe)[1].video_processor.size["shortest_edge"] == 128


def test_config_of_the_model_follows_the_tokenizer(tiny_recipe, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", str(tiny_recipe), "--max_tokens", "24"])
    recipe, _ = train.parse_arguments()
    model, processor = train.build_model_and_processor(recipe)
    assert isinstance(model.config, type(AutoConfig.for_model("referformer")))
    assert model.config.text_config.vocab_size == len(processor.tokenizer)
    longest = processor.tokenizer(" ".join(["star"] * 22), return_tensors="pt")
    assert longest["input_ids"].shape[1] == 24
    assert torch.isfinite(model.get_text_features(**longest).words).all()


@pytest.mark.slow  # two interpreters start and train
@pytest.mark.parametrize(
    "changes",
    # Without the object cluster the pooler of the text encoder does nothing, and waits for no gradient.
    [["seed=1"], ["model.model_type=soc", "model.use_object_cluster=false"]],
    ids=["all parameters", "some parameters"],
)
def test_two_processes_share_a_run(tiny_recipe, tmp_path, changes):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["examples/train.py", "--config", str(tiny_recipe), "--output_dir", str(tmp_path)]
    command += ["--override", *changes]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(ROOT / "src")
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300)
    assert len(log_of(tmp_path)) == 5  # with the evaluation
    assert json.loads((tmp_path / "all_results.json").read_text())["steps"] == 4
