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
from transformers import AutoModel, PreTrainedModel, pipeline
from transformers.testing_utils import CaptureLogger
from transformers.utils import logging

from hf_rvos import AutoModelForReferringVideoSegmentation, ReferFormerForReferringVideoSegmentation, ReferFormerModel
from hf_rvos.frozen_parts import _fingerprint
from tests.tiny_segmenter import moving_square, tiny_model, tiny_processor


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> dict[str, str]:
    """Folders of the sub-models of the tiny model."""
    folder, base = tmp_path_factory.mktemp("parts"), tiny_model().base_model
    for name in ("backbone", "text_encoder"):
        base.get_submodule(name).save_pretrained(folder / name)
    return {name: str(folder / name) for name in ("backbone", "text_encoder")}


@pytest.fixture
def model() -> ReferFormerForReferringVideoSegmentation:
    model = tiny_model()
    model.base_model.backbone.requires_grad_(False)
    return model


@pytest.fixture
def saved(model, parts, tmp_path) -> Path:
    """The tiny model without its backbone."""
    model.save_pretrained(tmp_path / "saved", trainable_only=True, sources={"backbone": parts["backbone"]})
    return tmp_path / "saved"


def stored_names(folder: Path) -> set[str]:
    return {name for file in folder.glob("*.safetensors") for name in load_file(file)}


def read_config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def change_source(folder: Path, source: str) -> None:
    config = read_config(folder)
    config["frozen_parts"]["backbone"]["source"] = source
    (folder / "config.json").write_text(json.dumps(config))


def load(folder: Path, **options) -> tuple[PreTrainedModel, dict]:
    return ReferFormerForReferringVideoSegmentation.from_pretrained(folder, output_loading_info=True, **options)


def assert_same_weights(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    found, expected = found.state_dict(), expected.state_dict()
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name].to(found[name].dtype))] == []


# Saving


def test_frozen_sub_model_is_left_out(saved, model):
    left_out = model.state_dict().keys() - stored_names(saved)
    assert left_out == {name for name in model.state_dict() if name.startswith("model.backbone.")}


def test_configuration_says_where_it_is_and_what_it_must_be(saved, parts):
    entry = read_config(saved)["frozen_parts"]["backbone"]
    assert entry["source"] == parts["backbone"]
    assert len(entry["fingerprint"]) == 64


def test_two_frozen_sub_models_are_left_out_and_restored(model, parts, tmp_path):
    model.base_model.text_encoder.requires_grad_(False)
    model.save_pretrained(tmp_path, trainable_only=True, sources=parts)
    assert not any(name.startswith(("model.backbone.", "model.text_encoder.")) for name in stored_names(tmp_path))
    assert_same_weights(load(tmp_path)[0], model)


def test_without_a_known_source_the_error_says_how_to_name_one(model, tmp_path):
    with pytest.raises(ValueError, match=r'backbone is frozen, but .* sources=\{"backbone": ...\}'):
        model.save_pretrained(tmp_path, trainable_only=True)
    assert list(tmp_path.iterdir()) == []


def test_model_without_frozen_sub_models_is_refused(tmp_path):
    with pytest.raises(ValueError, match="requires_grad_"):
        tiny_model().save_pretrained(tmp_path, trainable_only=True)


def test_sub_model_with_one_trained_parameter_is_no_frozen_one(model, parts, tmp_path):
    next(model.base_model.backbone.parameters()).requires_grad_(True)
    with pytest.raises(ValueError, match="all sub-models"):
        model.save_pretrained(tmp_path, trainable_only=True, sources={"backbone": parts["backbone"]})


def test_source_of_a_trained_sub_model_is_refused(model, parts, tmp_path):
    with pytest.raises(ValueError, match="sources names text_encoder, but the frozen sub-models are: backbone"):
        model.save_pretrained(tmp_path, trainable_only=True, sources=parts)


def test_weights_that_differ_from_the_source_are_not_left_out(model, parts, tmp_path):
    with torch.no_grad():
        next(model.base_model.backbone.parameters()).add_(1)
    with pytest.raises(ValueError, match="has other weights, in patch_embed.proj.weight for one"):
        model.save_pretrained(tmp_path, trainable_only=True, sources={"backbone": parts["backbone"]})


def test_weights_to_save_are_compared_if_there_are_any(model, parts, tmp_path):
    weights = {name: value + 1 if "patch_embed" in name else value for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="has other weights"):
        model.save_pretrained(
            tmp_path, state_dict=weights, trainable_only=True, sources={"backbone": parts["backbone"]}
        )


def test_weights_to_save_are_left_as_they_are(model, parts, tmp_path):
    weights = model.state_dict()
    names = set(weights)
    model.save_pretrained(tmp_path, state_dict=weights, trainable_only=True, sources={"backbone": parts["backbone"]})
    assert set(weights) == names


def test_other_processes_neither_read_sources_nor_write(model, tmp_path):
    model.save_pretrained(tmp_path, is_main_process=False, trainable_only=True, sources={"backbone": "no/where"})
    assert list(tmp_path.iterdir()) == []


def test_saving_as_a_whole_writes_all_and_no_reference(saved, tmp_path):
    loaded, _ = load(saved)
    loaded.save_pretrained(tmp_path / "whole")
    assert stored_names(tmp_path / "whole") == set(loaded.state_dict())
    assert "frozen_parts" not in read_config(tmp_path / "whole")


def test_saving_as_a_whole_into_the_same_folder_leaves_nothing_of_the_reference(saved, model):
    load(saved)[0].save_pretrained(saved)
    assert "frozen_parts" not in read_config(saved)
    assert_same_weights(load(saved)[0], model)


def test_loaded_model_knows_its_sources(saved, tmp_path):
    loaded, _ = load(saved)
    loaded.save_pretrained(tmp_path / "whole")  # in between, which does not make it forget
    loaded.base_model.backbone.requires_grad_(False)
    loaded.save_pretrained(tmp_path / "again", trainable_only=True)
    assert read_config(tmp_path / "again")["frozen_parts"] == read_config(saved)["frozen_parts"]


def test_relative_folder_is_stored_as_a_whole_path(model, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(parts["backbone"]).parent)
    model.save_pretrained(tmp_path, trainable_only=True, sources={"backbone": "backbone"})
    assert read_config(tmp_path)["frozen_parts"]["backbone"]["source"] == parts["backbone"]


def test_upload_without_a_sub_model_needs_a_source_that_others_reach(model, parts, tmp_path):
    with pytest.raises(ValueError, match="push_to_hub: backbone would be left out, but .* a folder of this machine"):
        model.save_pretrained(tmp_path, push_to_hub=True, trainable_only=True, sources={"backbone": parts["backbone"]})


# Loading


@pytest.mark.parametrize(
    "load_class", [ReferFormerForReferringVideoSegmentation, AutoModelForReferringVideoSegmentation]
)
def test_sub_model_is_restored(load_class, saved, model):
    loaded, info = load_class.from_pretrained(saved, output_loading_info=True)
    assert_same_weights(loaded, model)
    assert not any(info.values())


def test_base_model_is_restored(saved, model):
    assert_same_weights(AutoModel.from_pretrained(saved), model.base_model)


def test_base_model_saved_alone_is_restored_below_heads(model, parts, tmp_path):
    model.base_model.save_pretrained(tmp_path, trainable_only=True, sources={"backbone": parts["backbone"]})
    assert_same_weights(ReferFormerModel.from_pretrained(tmp_path), model.base_model)
    assert_same_weights(load(tmp_path)[0].base_model, model.base_model)


def test_pipeline_gives_the_same_masks(saved, model, tmp_path):
    model.save_pretrained(tmp_path / "whole")
    masks = []
    for folder in (saved, tmp_path / "whole"):
        tiny_processor().save_pretrained(folder)
        segmenter = pipeline("referring-video-segmentation", model=str(folder), device="cpu")
        masks.append(segmenter(moving_square(), text="the red square")[0]["masks"])
    assert masks[0].any()
    assert (masks[0] == masks[1]).all()


def test_loading_reports_nothing(saved):
    with CaptureLogger(logging.get_logger("transformers.modeling_utils")) as log:
        load(saved)
    assert log.out == ""


def test_loading_draws_no_random_numbers(saved):
    before = torch.get_rng_state()
    load(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_sub_model_is_trained_or_not_as_in_a_whole_checkpoint(saved):
    assert all(parameter.requires_grad for parameter in load(saved)[0].parameters())


def test_checkpoint_in_pieces_is_restored(model, parts, tmp_path):
    sources = {"backbone": parts["backbone"]}
    model.save_pretrained(tmp_path, max_shard_size="100KB", trainable_only=True, sources=sources)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert_same_weights(load(tmp_path)[0], model)


def test_checkpoint_in_the_old_format_is_restored(saved, model):
    torch.save(load_file(saved / "model.safetensors"), saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    assert_same_weights(load(saved)[0], model)


def test_sub_model_gets_the_number_format_that_is_asked_for(saved, model):
    loaded, _ = load(saved, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert_same_weights(loaded, model.to(torch.bfloat16))


def test_model_in_half_precision_is_saved_beside_a_source_in_full(model, parts, tmp_path):
    model.to(torch.bfloat16).save_pretrained(tmp_path, trainable_only=True, sources={"backbone": parts["backbone"]})
    loaded, _ = load(tmp_path)
    assert loaded.dtype == torch.bfloat16
    assert_same_weights(loaded, model)


def test_model_in_full_precision_is_saved_beside_a_source_in_half(model, tmp_path):
    backbone = model.base_model.backbone
    backbone.to(torch.float16).save_pretrained(tmp_path / "backbone")
    backbone.to(torch.float32)
    model.save_pretrained(tmp_path / "saved", trainable_only=True, sources={"backbone": str(tmp_path / "backbone")})
    loaded, _ = load(tmp_path / "saved")
    assert loaded.base_model.backbone.dtype == torch.float32
    assert_same_weights(loaded, model)


def test_device_map_covers_the_sub_model(saved, model):
    loaded, _ = load(saved, device_map={"": "cpu"})
    assert_same_weights(loaded, model)


def test_sub_model_can_be_kept_on_disk(saved, model, tmp_path):
    base = {f"model.{name}" for name in (*dict(model.base_model.named_children()), "level_embedding")}
    devices = dict.fromkeys({*dict(model.named_children()), *base} - {"model"}, "cpu") | {"model.backbone": "disk"}
    loaded, _ = load(saved, device_map=devices, offload_folder=tmp_path / "offload")
    assert loaded.base_model.backbone.patch_embed.proj.weight.device.type == "meta"
    frames = torch.zeros(1, 2, 3, 32, 32)
    maps = loaded.base_model.backbone(frames).feature_maps
    # Numbers that are read again lie elsewhere in memory, and sums are rounded otherwise.
    torch.testing.assert_close(maps, model.base_model.backbone(frames).feature_maps, atol=1e-5, rtol=0)


def test_checkpoint_may_be_moved(saved, model, tmp_path):
    shutil.move(saved, tmp_path / "elsewhere")
    assert_same_weights(load(tmp_path / "elsewhere")[0], model)


def test_source_is_found_in_the_cache_of_the_hub(model, parts, tmp_path):
    repository = tmp_path / "models--somebody--backbone"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("0" * 40)
    shutil.copytree(parts["backbone"], repository / "snapshots" / ("0" * 40))
    model.save_pretrained(tmp_path / "saved", trainable_only=True, sources={"backbone": parts["backbone"]})
    change_source(tmp_path / "saved", "somebody/backbone")
    assert_same_weights(load(tmp_path / "saved", cache_dir=tmp_path)[0], model)


def test_what_the_checkpoint_has_itself_goes_first(saved, model, tmp_path):
    model.save_pretrained(tmp_path / "whole")
    shutil.copy(tmp_path / "whole/model.safetensors", saved)
    change_source(saved, "/no/such/folder")
    assert_same_weights(load(saved)[0], model)


def test_missing_source_gives_one_clear_error(saved):
    change_source(saved, "/no/such/folder")
    with pytest.raises(
        ValueError, match="backbone is not in the checkpoint and cannot be read from '/no/such/folder'"
    ):
        load(saved)


def test_source_of_the_hub_that_is_not_cached_gives_one_clear_error(saved):
    change_source(saved, "somebody/backbone")
    with pytest.raises(ValueError, match="cannot be read from 'somebody/backbone'.* under \"frozen_parts\""):
        load(saved)


@pytest.mark.parametrize("source", ["../backbone", "./backbone", "a/folder/below", "."])
def test_path_that_depends_on_the_working_directory_is_refused(source, saved, parts, monkeypatch):
    (Path(parts["backbone"]) / "a/folder").mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(parts["backbone"])
    change_source(saved, source)
    with pytest.raises(
        ValueError, match="that is no name of an embedded part, no whole path of a folder and no hub id"
    ):
        load(saved)


@pytest.fixture
def copied(saved, parts, tmp_path) -> Path:
    """A copy of the backbone, which is the source of `saved`."""
    shutil.copytree(parts["backbone"], tmp_path / "copied")
    change_source(saved, str(tmp_path / "copied"))
    return tmp_path / "copied"


def change_weights(file: Path, change) -> None:
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


def test_source_with_other_weights_gives_one_clear_error(saved, copied):
    change_weights(copied / "model.safetensors", lambda weights: weights["patch_embed.proj.weight"].mul_(2))
    with pytest.raises(ValueError, match="does not have the weights that it was saved with: their fingerprint is"):
        load(saved)


@pytest.mark.parametrize(
    "other",
    [
        {"large": torch.arange(30000.0).reshape(100, 300) * (1 + 1e-6), "small": torch.zeros(3)},
        {"large": torch.arange(30000.0).reshape(300, 100), "small": torch.zeros(3)},
        {"large": torch.arange(30000.0).reshape(100, 300), "small": torch.tensor([0.0, 0.0, 1e-30])},
        {"large": torch.arange(30000.0).reshape(100, 300), "small": torch.zeros(3, dtype=torch.int32)},
        {"large": torch.arange(30000.0).reshape(100, 300), "other": torch.zeros(3)},
    ],
    ids=["trained on", "shape", "one number of few", "format", "name"],
)
def test_fingerprint_tells_weights_apart(other):
    weights = {"small": torch.zeros(3), "large": torch.arange(30000.0).reshape(100, 300)}
    assert _fingerprint(weights) == _fingerprint({name: weights[name].clone() for name in ("large", "small")})
    assert _fingerprint(other) != _fingerprint(weights)


def test_source_of_another_size_gives_one_clear_error(saved, copied):
    change_weights(
        copied / "model.safetensors",
        lambda weights: weights.update({"patch_embed.proj.weight": weights["patch_embed.proj.weight"][:4].clone()}),
    )
    with pytest.raises(ValueError, match="backbone is not in the checkpoint and cannot be read"):
        load(saved)


def test_source_without_one_of_the_weights_gives_one_clear_error(saved, copied):
    change_weights(copied / "model.safetensors", lambda weights: weights.pop("patch_embed.proj.weight"))
    with pytest.raises(ValueError, match="it has no patch_embed.proj.weight"):
        load(saved)


def test_half_written_source_gives_one_clear_error(saved, copied):
    content = (copied / "model.safetensors").read_bytes()
    (copied / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="backbone is not in the checkpoint and cannot be read"):
        load(saved)


def test_source_without_weights_gives_one_clear_error(saved, copied):
    (copied / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="backbone is not in the checkpoint and cannot be read"):
        load(saved)


def test_weights_that_only_the_source_has_are_passed_over(saved, copied, model):
    change_weights(copied / "model.safetensors", lambda weights: weights.update(classifier=torch.zeros(3)))
    with CaptureLogger(logging.get_logger("transformers.modeling_utils")) as log:
        loaded, info = load(saved)
    assert_same_weights(loaded, model)
    assert not any(info.values())
    assert log.out == ""


def test_half_written_checkpoint_is_an_error(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(OSError, match="model.safetensors"):
        load(saved)


@pytest.mark.parametrize(
    "entries",
    [
        {"backbone": "somewhere"},
        {"backbone": {"source": "x"}},
        {"no_part": {"source": "x", "fingerprint": "y"}},
        ["backbone"],
    ],
)
def test_unreadable_reference_names_the_sub_models(entries, saved):
    config = read_config(saved) | {"frozen_parts": entries}
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="frozen_parts in config.json is .*: backbone, text_encoder"):
        load(saved)
