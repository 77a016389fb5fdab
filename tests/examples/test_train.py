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
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, register_tracker_class
from filelock import FileLock
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoConfig

from examples import train
from hf_rvos.auto import AutoModelForReferringVideoSegmentation
from hf_rvos.evaluation.prediction import ModelPredictor
from hf_rvos.evaluation.run import Benchmark, evaluate
from hf_rvos.training.checkpointing import checkpoint_folders
from hf_rvos.training.optimization import cosine_factor
from tests.data.roots import ref_youtube_vos
from tests.examples import changed_train
from tests.training.sharded import connected_to_itself


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


def environment():
    """For another interpreter."""
    paths = {"PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    return os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"} | paths


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


def check_same_weights(first, second):
    expected, found = (load_file(folder / "final" / "model.safetensors") for folder in (first, second))
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name


def test_resumed_run_repeats_the_uninterrupted_one(run, finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    for name in ("final", "checkpoints/step_4"):
        shutil.rmtree(tmp_path / name)
    # Steps 3 and 4 are of the first epoch. How many workers there are does not matter.
    run(tmp_path, "--save_dtype", "float16", "--resume_from_checkpoint", "latest", "--num_workers", 1)
    check_same_weights(finished, tmp_path)
    assert [entry["step"] for entry in log_of(tmp_path) if "loss" in entry] == [1, 2, 3, 4]


KILLED_WHILE_WRITING = """
import os, signal
from accelerate import checkpointing
from examples import train

save, written = checkpointing.save, []

def save_and_die(*arguments, **options):
    save(*arguments, **options)
    written.append(arguments)
    if len(written) == 3:  # the weights of the second checkpoint, whose optimizer is missing
        os.kill(os.getpid(), signal.SIGKILL)

checkpointing.save = save_and_die
train.main()
"""


@pytest.mark.slow  # an interpreter starts, trains and is killed
def test_a_run_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before(run, finished, tiny_recipe, tmp_path):
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, "--config", str(tiny_recipe)]
    command += ["--output_dir", str(tmp_path), "--override", "checkpointing_steps=1", "save_dtype=float16"]
    killed = subprocess.run(command, cwd=ROOT, env=environment(), timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "checkpoints" / "unfinished_step_2" / "model.safetensors").is_file()
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["step_1"]
    options = ["--override", "checkpointing_steps=1", "save_dtype=float16"]
    run(tmp_path, *options, "--resume_from_checkpoint", "latest")
    check_same_weights(finished, tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_3", "step_4"]


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


def refusal(run, capsys, *arguments):
    """What a run that ends with exit code 2 has to say."""
    with pytest.raises(SystemExit) as error:
        run(*arguments)
    assert error.value.code == 2
    return capsys.readouterr().err


def test_loss_that_is_not_a_number_names_the_clips_and_nothing_is_written(run, tmp_path, capsys):
    said = refusal(run, capsys, tmp_path, "--override", "learning_rate=.nan", "warmup=0")
    assert re.search(r"^error: the loss is nan at step 1, clips train/\d", said, re.MULTILINE)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "log.jsonl"]


RATES_OF_ZERO = ("learning_rate=0", "backbone_learning_rate=0", "text_encoder_learning_rate=0")


@pytest.mark.parametrize(
    "options, message",
    [
        (["--override", "learning_rat=1"], "'learning_rat' is not known; did you mean 'learning_rate'?"),
        (["--override", "learning_rate=fast"], "'learning_rate' is 'fast', expected"),
        (["--override", "learning_rate"], "expected KEY=VALUE"),
        (["--override", "output_dir=[a"], "'[a' is no YAML"),
        (["--skills", "[a"], "argument --skills: invalid"),
        (["--override", *RATES_OF_ZERO], "all learning rates are 0"),
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
    assert message in refusal(run, capsys, tmp_path, *options)


def test_a_folder_belongs_to_one_run_at_a_time(run, tmp_path, capsys):
    with FileLock(tmp_path / ".lock"):  # of the same process, but another lock
        assert "error: output_dir: a run is going on in" in refusal(run, capsys, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


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


def test_recipe_for_two_processes_is_not_trained_with_one(run, tmp_path, capsys):
    assert "meant for 2 processes, this run has 1" in refusal(run, capsys, tmp_path / "out", "--num_processes", 2)
    assert not (tmp_path / "out").exists()


def test_recipes_of_the_backbone_follow_each_other():
    stages = [train.read_recipe([path]) for path in sorted(RECIPES.glob("video_swin_tiny_*.yaml"))]
    assert [stage.pretrained for stage in stages] == [None] + [f"{stage.output_dir}/final" for stage in stages[:-1]]
    first = train.read_recipe([RECIPES / "tiny_1_appearance.yaml", RECIPES / "referformer_tiny.yaml"])
    assert first.pretrained_backbone == f"{stages[-1].output_dir}/final"


def test_ssa_follows_a_backbone_of_pictures():
    first = train.read_recipe([RECIPES / "ssa_tiny_1_pictures.yaml", RECIPES / "ssa_tiny.yaml"])
    backbone = train.read_recipe([RECIPES / "convnext_tiny_pictures.yaml"])
    assert first.pretrained_backbone == f"{backbone.output_dir}/final"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*_tiny.yaml")), ids=lambda path: path.stem)
def test_recipes_of_a_model_lead_to_one_of_less_than_4_mb(path):
    stages = sorted(RECIPES.glob("ssa_tiny_?_*.yaml" if path.stem == "ssa_tiny" else "tiny_?_*.yaml"))
    backbones = {"ssa_tiny": "convnext_tiny_pictures.yaml"}
    first = train.read_recipe([stages[0], path])
    last = train.read_recipe([stages[-1], path], [("pretrained", "the second stage")])
    backbone = train.read_recipe([RECIPES / backbones.get(path.stem, "video_swin_tiny_1_pictures.yaml")]).model
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


def run_two_processes(train_changes, tiny_recipe, output_dir, *options):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["tests/examples/changed_train.py", train_changes]
    command += ["--config", str(tiny_recipe), "--output_dir", str(output_dir), *options]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True, timeout=300)


WITHOUT_DROPOUT = [
    f"model.{key}=0"
    for key in (
        "dropout",
        "text_projection_dropout",
        "backbone_config.drop_path_rate",
        "text_config.hidden_dropout_prob",
        "text_config.attention_probs_dropout_prob",
    )
]


@pytest.mark.slow  # two interpreters start and train
@pytest.mark.parametrize(
    ("train_changes", "changes"),
    [
        ("plain_steps", ["model.pixel_decoder_dropout=0"]),
        # Without the object cluster the pooler of the text encoder does nothing, and waits for no gradient.
        ("plain_steps", ["model.model_type=soc", "model.use_object_cluster=false"]),
        ("plain_steps", ["model.pixel_decoder_dropout=0", "model.auxiliary_loss=false", "model.decoder_layers=2"]),
        ("plain_steps,sharded", ["model.pixel_decoder_dropout=0"]),
    ],
    ids=["all parameters", "some parameters", "unused heads", "sharded parameters"],
)
def test_two_processes_that_accumulate_take_the_steps_of_one_large_batch(
    run, tiny_recipe, tmp_path, monkeypatch, train_changes, changes
):
    changes = [*changes, *WITHOUT_DROPOUT, "learning_rate=1", "warmup=0", "ema_decay=0"]
    changes += ["max_train_steps=2", "clip_lengths=[2]", "num_videos=8"]
    sharing = ["batch_size=1", "gradient_accumulation_steps=2"]
    run_two_processes(train_changes, tiny_recipe, tmp_path / "shared", "--override", *changes, *sharing)
    monkeypatch.setattr(train, "build_optimizers", changed_train.plain_steps)
    run(tmp_path / "alone", "--override", *changes, "batch_size=4")
    shared, alone = (load_file(tmp_path / name / "final" / "model.safetensors") for name in ("shared", "alone"))
    assert shared.keys() == alone.keys()
    # Each of the two steps is 0.1 long, the norm to which gradients are cut; sums in another order differ by 1e-6.
    difference = max((shared[name] - alone[name]).abs().max().item() for name in alone)
    assert difference < 1e-5
    logs = [[entry["loss"] for entry in log_of(tmp_path / name) if "loss" in entry] for name in ("shared", "alone")]
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)
    assert json.loads((tmp_path / "shared" / "all_results.json").read_text())["clips_per_step"] == 4


@pytest.mark.slow  # two trainings and an evaluation after each
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")  # of views that nothing changes in place
def test_sharded_run_goes_on_from_its_checkpoint(run, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "start_accelerator", changed_train.start_sharded)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    options = ["--override", "checkpointing_steps=1", "ema_decay=0", "max_train_steps=2"]
    with connected_to_itself(tmp_path / "store"):
        run(whole, *options)
    assert (whole / "checkpoints" / "step_1" / "pytorch_model_fsdp.bin").is_file()
    shutil.copytree(whole, resumed)
    for name in ("final", "checkpoints/step_2"):
        shutil.rmtree(resumed / name)
    with connected_to_itself(tmp_path / "another_store"):
        run(resumed, *options, "--resume_from_checkpoint", "latest")
    check_same_weights(whole, resumed)
    assert [entry["step"] for entry in log_of(resumed) if "loss" in entry] == [1, 2]


@pytest.fixture(scope="module")
def on_files(finished, tiny_recipe, tmp_path_factory):
    """Output folder of a run on a data set of files that is scored after each of two epochs, and its tracker."""

    class Tracker(GeneralTracker):
        name = "of_these_tests"
        requires_logging_directory = False
        tracker, lines = None, []

        def __init__(self, project, **options):
            super().__init__()

        def log(self, values, step=None, **options):
            self.lines.append((step, values))

    register_tracker_class(Tracker)
    data, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("run")
    ref_youtube_vos(data)
    options = ["datasets=[ref_youtube_vos]", f"data_dirs.ref_youtube_vos={data}", f"pretrained={finished / 'final'}"]
    options += ["model=null", "reset_class_heads=true", "augmentation.short_sides=[64, 80]", "clip_lengths=[2]"]
    options += ["evaluation.dataset=ref_youtube_vos", "evaluation.split=train", "evaluation.limit=1"]
    options += ["max_train_steps=null", "num_epochs=2", "lr_drops=[1]", "evaluation_epochs=1", "keep_best=j_and_f"]
    options += [
        "gradient_accumulation_steps=2",
        "gradient_checkpointing=true",
        f"report_to={Tracker.name}",
        "warmup=0",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        arguments = ["--config", str(tiny_recipe), "--output_dir", str(folder), "--override", *options]
        patch.setattr(sys, "argv", ["train.py", *arguments])
        train.main()
    return folder, Tracker.lines


def test_epochs_end_the_run_and_drop_the_rates(on_files):
    log = [entry for entry in log_of(on_files[0]) if "loss" in entry]
    per_epoch = len(log) // 2
    assert json.loads((on_files[0] / "all_results.json").read_text())["steps"] == len(log) == 2 * per_epoch
    rates = [entry["learning_rate"] for entry in log]
    assert rates == pytest.approx([1e-4] * per_epoch + [1e-5] * per_epoch)


def test_the_best_model_of_all_evaluations_is_kept(on_files):
    folder = on_files[0]
    scores = [(entry["evaluation"]["j_and_f"], entry["step"]) for entry in log_of(folder) if "evaluation" in entry]
    assert len(scores) == 2  # after the first epoch, and at the end
    best = json.loads((folder / "best" / "best.json").read_text())
    assert best["j_and_f"] == max(scores)[0]
    best.pop("run")  # of which run it is, should another one begin in this folder
    assert json.loads((folder / "all_results.json").read_text())["best"] == best
    assert AutoModelForReferringVideoSegmentation.from_pretrained(folder / "best").config.model_type == "referformer"
    assert not (folder / ".evaluated").exists()


def test_a_tracker_gets_losses_and_scores(on_files):
    folder, lines = on_files
    written = [entry["step"] for entry in log_of(folder)]
    assert [step for step, _ in lines] == written
    assert any("loss" in values for _, values in lines) and any("evaluation/j_and_f" in values for _, values in lines)


def test_the_trained_model_has_a_card_with_its_scores_and_the_run_a_chart(on_files):
    folder = on_files[0]
    card = ModelCard.load(folder / "final" / "README.md")
    results = json.loads((folder / "all_results.json").read_text())
    scores = {score.metric_type: score.metric_value for score in card.data.eval_results}
    assert scores["j_and_f"] == round(results["val"]["j_and_f"], 2)
    assert "| data | ref_youtube_vos, split train |" in card.text and "| clips of a step | 2 |" in card.text
    assert (folder / "loss.png").stat().st_size > 0


@pytest.mark.parametrize(
    "options, message",
    [
        (["keep_best=j_f"], "keep_best is 'j_f', expected one of j_mean, f_mean, j_and_f"),
        (["datasets=[mevis]", "model=null", "pretrained=FINAL"], "add --override data_dirs.mevis=FOLDER"),
        (["datasets=[mevis]", "data_dirs.mevis=/no/such"], "/no/such is no folder"),
        (["evaluation.dataset=ref_youtube_vos", "evaluation.data_dir=DATA"], "val has no masks to compare with"),
        (["report_to=[wandb]"], "report_to: wandb is not installed"),
        (["batch_size=5"], "4 samples do not fill one batch of 5"),
    ],
)
def test_what_is_not_there_is_told_before_anything_is_written(run, finished, tmp_path, capsys, options, message):
    ref_youtube_vos(tmp_path / "data")
    places = {"FINAL": str(finished / "final"), "DATA": str(tmp_path / "data")}
    for name, place in places.items():
        options = [option.replace(name, place) for option in options]
    assert message in refusal(run, capsys, tmp_path / "out", "--override", "clip_lengths=[2]", *options)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_a_run_is_not_started_anew_over_an_earlier_one(run, finished, capsys):
    before = sorted(path.stat().st_mtime_ns for path in finished.rglob("*"))
    assert "has checkpoints of an earlier run up to step_4" in refusal(run, capsys, finished, "--max_train_steps", 2)
    assert sorted(path.stat().st_mtime_ns for path in finished.rglob("*")) == before
