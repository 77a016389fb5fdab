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
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from hf_rvos.auto import AutoModelForReferringVideoSegmentation
from hf_rvos.backbones import load_backbone
from hf_rvos.checkpoints import find_part


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scripts():
    """The two scripts, imported as when they are run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        patch.syspath_prepend(ROOT / "examples")
        import pretrain_backbone
        import train

        yield pretrain_backbone, train


@pytest.fixture(scope="module")
def backbone_recipe(tiny_recipe, tmp_path_factory):
    recipe = yaml.safe_load(tiny_recipe.read_text())
    recipe["model"] = recipe["model"]["backbone_config"]
    path = tmp_path_factory.mktemp("recipe") / "backbone.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture(scope="module")
def finished(scripts, backbone_recipe, tmp_path_factory):
    """Output folder of a whole run."""
    pretrain_backbone, train = scripts
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["", "--config", str(backbone_recipe), "--output_dir", str(folder)])
        train.train(pretrain_backbone.AttributeTask, *train.parse_arguments())
    return folder


def test_results_hold_the_share_of_right_labels(finished, scripts):
    results = json.loads((finished / "all_results.json").read_text())
    assert set(results["val"]) == set(scripts[0].ATTRIBUTE_CLASSES)
    assert all(0 <= value <= 1 for value in results["val"].values())


def test_a_model_starts_with_the_backbone(finished, scripts, tiny_recipe, monkeypatch, tmp_path):
    train = scripts[1]
    options = ["--pretrained_backbone", finished / "final", "--output_dir", tmp_path, "--max_train_steps", 1]
    options += ["--backbone_learning_rate", 0, "--ema_decay", 0]
    monkeypatch.setattr(sys, "argv", ["", "--config", str(tiny_recipe), *map(str, options)])
    train.main()
    model = AutoModelForReferringVideoSegmentation.from_pretrained(tmp_path / "final")
    found = model.base_model.backbone.state_dict()
    for name, value in load_file(finished / "final" / "model.safetensors").items():
        assert torch.equal(found[name], value)


def test_training_goes_on_from_a_saved_backbone(finished, scripts):
    pretrain_backbone, train = scripts
    task = pretrain_backbone.AttributeTask(train.Recipe(pretrained=str(finished / "final")))
    assert torch.equal(
        task.model.backbone.patch_embed.proj.weight,
        load_file(finished / "final" / "model.safetensors")["patch_embed.proj.weight"],
    )


def test_an_embedded_backbone_is_trained_on_with_other_settings(scripts):
    pretrain_backbone, train = scripts
    recipe = train.Recipe(pretrained="video-swin-tiny", model={"drop_path_rate": 0.3})
    backbone = pretrain_backbone.AttributeTask(recipe).model.backbone
    expected = load_backbone(find_part("video-swin-tiny")).state_dict()
    assert backbone.config.drop_path_rate == 0.3
    assert all(torch.equal(backbone.state_dict()[name], value) for name, value in expected.items())


def test_evaluation_counts_positions_on_objects_alone(scripts, backbone_recipe, monkeypatch):
    pretrain_backbone, train = scripts
    monkeypatch.setattr(sys, "argv", ["", "--config", str(backbone_recipe)])
    task = pretrain_backbone.AttributeTask(train.parse_arguments()[0])
    # A model that sees no object anywhere is never right about "object".
    torch.nn.init.zeros_(task.model.classifier.weight)
    torch.nn.init.zeros_(task.model.classifier.bias)
    accelerator = train.Accelerator()
    summary, _ = task.evaluate(task.model, accelerator)
    assert summary["object"] == 0
    task.model.classifier.bias.data[1] = 1
    summary, _ = task.evaluate(task.model, accelerator)
    assert summary["object"] == 1


def test_clip_without_an_object_has_a_finite_loss(scripts, backbone_recipe, monkeypatch):
    pretrain_backbone, train = scripts
    monkeypatch.setattr(sys, "argv", ["", "--config", str(backbone_recipe)])
    task = pretrain_backbone.AttributeTask(train.parse_arguments()[0])
    batch = task.collate([task.dataset()[0, 0, 1]])
    for name, label in batch["labels"].items():
        label.fill_(0 if name in ("object", "velocity") else pretrain_backbone.IGNORED)
    loss = task.model(batch["pixel_values_videos"], batch["labels"]).loss
    loss.backward()
    assert torch.isfinite(loss)


def test_batches_that_are_accumulated_have_the_gradient_of_one_large_batch(scripts, backbone_recipe, monkeypatch):
    pretrain_backbone, train = scripts
    monkeypatch.setattr(sys, "argv", ["", "--config", str(backbone_recipe)])
    task = pretrain_backbone.AttributeTask(train.parse_arguments()[0])
    task.model.eval()  # without stochastic depth
    samples = [task.dataset()[0, index, 1] for index in range(3)]

    def gradient(parts):
        task.model.zero_grad()
        num_items = train.share_items([task.count_items(part) for part in parts], train.Accelerator())
        for part in parts:
            (task.model(part["pixel_values_videos"], part["labels"], num_items).loss / len(parts)).backward()
        return torch.cat([parameter.grad.flatten() for parameter in task.model.parameters()])

    whole = gradient([task.collate(samples)])
    found = gradient([task.collate(samples[:2]), task.collate(samples[2:])])
    assert (found - whole).norm() < 1e-4 * whole.norm()
