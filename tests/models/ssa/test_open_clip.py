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
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_rvos import AutoModelForReferringVideoSegmentation
from hf_rvos.models.ssa import SsaForReferringVideoSegmentation
from hf_rvos.models.ssa.convert_ssa_to_hf import convert_state_dict, infer_config
from tests.parity.official_weights import official_state_dict


CLIP = "backbone.clip_model."


@pytest.fixture(scope="module")
def official(fixtures_dir) -> dict[str, torch.Tensor]:
    return official_state_dict(fixtures_dir / "parity/ssa/tiny.keys.json", seed=1)


@pytest.fixture(scope="module")
def model(official) -> SsaForReferringVideoSegmentation:
    model = SsaForReferringVideoSegmentation(infer_config(official, {"attention_heads": 2})).eval()
    model.load_state_dict(convert_state_dict(official))
    return model


@pytest.fixture
def clip(official, tmp_path) -> str:
    """A folder with the whole CLIP as OpenCLIP publishes it."""
    weights = {name.removeprefix(CLIP): value for name, value in official.items() if name.startswith(CLIP)}
    (tmp_path / "clip").mkdir()
    save_file(weights, tmp_path / "clip/open_clip_model.safetensors")
    (tmp_path / "clip/open_clip_config.json").write_text("{}")
    return str(tmp_path / "clip")


@pytest.fixture
def saved(model, clip, tmp_path) -> Path:
    """The model without its towers."""
    sources = {"backbone": clip, "text_encoder": clip}
    model.save_pretrained(tmp_path / "saved", trainable_only=True, sources=sources)
    return tmp_path / "saved"


def assert_restored(folder: Path, model: SsaForReferringVideoSegmentation, **options) -> None:
    loaded, info = AutoModelForReferringVideoSegmentation.from_pretrained(folder, output_loading_info=True, **options)
    weights = loaded.state_dict()
    assert [name for name, value in model.state_dict().items() if not torch.equal(weights[name], value)] == []
    assert not any(info.values())


def test_towers_are_frozen_without_asking_and_left_out(saved):
    names = load_file(saved / "model.safetensors")
    assert not any(name.startswith(("model.backbone.", "model.text_encoder.")) for name in names)


def test_towers_are_restored_from_a_file_of_open_clip(saved, model):
    assert_restored(saved, model)


def test_towers_are_restored_from_an_older_file_of_open_clip(saved, clip, model):
    weights = load_file(f"{clip}/open_clip_model.safetensors")
    torch.save(weights, f"{clip}/open_clip_pytorch_model.bin")
    Path(clip, "open_clip_model.safetensors").unlink()
    assert_restored(saved, model)


def test_towers_are_restored_from_the_cache_of_the_hub(saved, clip, model, tmp_path):
    repository = tmp_path / "models--somebody--clip"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("0" * 40)
    shutil.copytree(clip, repository / "snapshots" / ("0" * 40))
    config = json.loads((saved / "config.json").read_text())
    for entry in config["frozen_parts"].values():
        entry["source"] = "somebody/clip"
    (saved / "config.json").write_text(json.dumps(config))
    assert_restored(saved, model, cache_dir=tmp_path)


def test_towers_may_lie_in_folders_of_transformers_instead(saved, model, tmp_path):
    config = json.loads((saved / "config.json").read_text())
    for name, entry in config["frozen_parts"].items():
        model.base_model.get_submodule(name).save_pretrained(tmp_path / name)
        entry["source"] = str(tmp_path / name)
    (saved / "config.json").write_text(json.dumps(config))
    assert_restored(saved, model)


def test_loaded_towers_are_frozen_and_in_evaluation_mode(saved):
    base = SsaForReferringVideoSegmentation.from_pretrained(saved).train().base_model
    for tower in (base.backbone, base.text_encoder):
        assert not tower.training
        assert not any(parameter.requires_grad for parameter in tower.parameters())


def test_another_clip_gives_one_clear_error(saved, clip):
    weights = load_file(f"{clip}/open_clip_model.safetensors")
    weights["visual.trunk.stem.0.weight"] *= 2
    save_file(weights, f"{clip}/open_clip_model.safetensors")
    with pytest.raises(ValueError, match="does not have the weights that it was saved with"):
        SsaForReferringVideoSegmentation.from_pretrained(saved)


def test_clip_with_another_image_tower_gives_one_clear_error(saved, clip):
    save_file({"visual.conv1.weight": torch.zeros(2, 2)}, f"{clip}/open_clip_model.safetensors")
    with pytest.raises(
        ValueError, match="backbone is not in the checkpoint and cannot be read .* do not belong to SSA"
    ):
        SsaForReferringVideoSegmentation.from_pretrained(saved)


def test_source_with_neither_form_gives_one_clear_error(saved, clip):
    Path(clip, "open_clip_model.safetensors").unlink()
    with pytest.raises(ValueError, match="backbone is not in the checkpoint and cannot be read"):
        SsaForReferringVideoSegmentation.from_pretrained(saved)
