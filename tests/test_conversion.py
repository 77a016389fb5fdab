# Copyright 2026 The hf_rvos authors. All rights reserved.
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
import argparse
import io
import warnings
from collections import OrderedDict
from pathlib import Path, PurePosixPath

import pytest
import torch

from hf_rvos import conversion
from hf_rvos.conversion import (
    check_options,
    check_output,
    load_official_checkpoint,
    read_overrides,
    rename_keys,
    save_converted,
    split_backbone,
)
from hf_rvos.processing import RvosVideoProcessor
from tests.tiny_segmenter import tiny_model


WEIGHT = torch.arange(6.0).view(2, 3)


class Foreign:
    """Unpickling it would make a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def save(folder: Path, content, **kwargs) -> Path:
    torch.save(content, folder / "checkpoint.pth", **kwargs)
    return folder / "checkpoint.pth"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old_format"])
def test_training_checkpoint_gives_its_weights_and_arguments(zipped, tmp_path):
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    content = {
        "model": OrderedDict(weight=WEIGHT),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": schedule.state_dict(),
        "epoch": 5,
        "args": argparse.Namespace(nheads=4, lr_backbone_names=["backbone.0"], output_dir="out", resume=None),
    }
    path = save(tmp_path, content, _use_new_zipfile_serialization=zipped)
    state_dict, arguments = load_official_checkpoint(path, "model")
    assert list(state_dict) == ["weight"]
    assert torch.equal(state_dict["weight"], WEIGHT)
    assert (arguments["nheads"], arguments["lr_backbone_names"]) == (4, ["backbone.0"])


def test_bare_state_dict_is_taken(tmp_path):
    state_dict, arguments = load_official_checkpoint(save(tmp_path, {"weight": WEIGHT, "epoch": 3}), "model")
    assert list(state_dict) == ["weight"]
    assert arguments == {}


@pytest.mark.parametrize("arguments", [None, "python main.py"])
def test_arguments_of_another_kind_count_as_none(arguments, tmp_path):
    path = save(tmp_path, {"model": {"weight": WEIGHT}, "args": arguments})
    assert load_official_checkpoint(path, "model")[1] == {}


def test_prefix_of_distributed_training_and_keys_without_weights_are_dropped(tmp_path):
    one = torch.ones(1)
    content = {
        "module.layer.weight": WEIGHT,
        "module.layer.total_ops": one,
        "module.total_params": one,
        "module.norm.num_batches_tracked": one,
        "module.attn.relative_position_index": one,
        "module.text_encoder.embeddings.position_ids": one,
    }
    state_dict, _ = load_official_checkpoint(save(tmp_path, {"model": content}), "model")
    assert list(state_dict) == ["layer.weight"]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old_format"])
def test_foreign_objects_are_named_and_not_run(zipped, tmp_path):
    trace = tmp_path / "trace"
    content = {"model": {"weight": WEIGHT}, "extra": Foreign(trace)}
    path = save(tmp_path, content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="could run foreign code") as caught:
        load_official_checkpoint(path, "model")
    assert not trace.exists()
    assert str(path) in str(caught.value)


def test_refused_object_is_named_without_the_advice_to_load_it_unsafely(tmp_path):
    path = save(tmp_path, {"model": {"weight": WEIGHT}, "extra": PurePosixPath("a")})
    with pytest.raises(ValueError, match="holds the object pathlib.PurePosixPath") as caught:
        load_official_checkpoint(path, "model")
    assert "weights_only" not in str(caught.value)


def damaged_files() -> dict[str, bytes]:
    whole, old = io.BytesIO(), io.BytesIO()
    torch.save({"model": {"weight": torch.randn(1000)}}, whole)
    torch.save({"model": {"weight": torch.randn(1000)}}, old, _use_new_zipfile_serialization=False)
    return {
        "empty": b"",
        "text": b"hello, this is no checkpoint\n",
        "json": b'{"model": 1}',
        "half": whole.getvalue()[:2000],
        "last_bytes_missing": whole.getvalue()[:-100],
        "half_of_old_format": old.getvalue()[:2000],
        "header_only": whole.getvalue()[:8],
    }


@pytest.mark.parametrize("kind", damaged_files())
def test_damaged_file_is_one_clear_error(kind, tmp_path):
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(damaged_files()[kind])
    with pytest.raises(ValueError, match="is damaged or was not made by torch.save") as caught:
        load_official_checkpoint(path, "model")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["missing.pth", "."])
def test_missing_file_and_folder_name_the_argument(name, tmp_path):
    with pytest.raises(FileNotFoundError, match="^checkpoint is .*, which is not a file"):
        load_official_checkpoint(tmp_path / name, "model")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(2), "holds a Tensor, expected a dict"),
        ([WEIGHT], "holds a list, expected a dict"),
        ({"state_dict": {"weight": WEIGHT}}, r"no state dict under 'model'; it holds \['state_dict'\]"),
        ({"model": "swin"}, "no state dict under 'model'"),
        ({"model": {}}, "no state dict under 'model'"),
        ({0: WEIGHT}, "no state dict under 'model'"),
    ],
    ids=["tensor", "list", "another_key", "text", "empty", "numbers_as_keys"],
)
def test_file_without_state_dict_says_what_it_holds(content, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_official_checkpoint(save(tmp_path, content), "model")


def test_first_fitting_rule_renames_a_whole_name():
    rules = [(r"a\.(\d)\.w", r"first.\1"), (r"a\.(.*)", r"second.\1"), (r"b", "third")]
    renamed = rename_keys({"a.0.w": WEIGHT, "a.0.w.x": WEIGHT, "b": WEIGHT}, rules, "Toy")
    assert list(renamed) == ["first.0", "second.0.w.x", "third"]


@pytest.mark.parametrize(("kind", "shape"), [("weight", (6, 2)), ("bias", (6,))])
def test_packed_attention_is_cut_into_query_key_and_value(kind, shape):
    packed = torch.arange(float(torch.Size(shape).numel())).view(shape)
    renamed = rename_keys({f"attn.in_proj_{kind}": packed}, [(r"attn\.(.*)", r"layer.\1")], "Toy")
    assert list(renamed) == [f"layer.{name}_proj.{kind}" for name in "qkv"]
    assert torch.equal(torch.cat(list(renamed.values())), packed)


def test_unknown_names_are_counted_and_named():
    with pytest.raises(ValueError, match="2 of 3 tensors do not belong to Toy, for example b, c"):
        rename_keys({"a": WEIGHT, "b": WEIGHT, "c": WEIGHT}, [("a", "x")], "Toy")


def test_backbone_is_split_off_and_doubled_box_heads_are_dropped():
    names = ("backbone.0.body.norm.weight", "transformer.decoder.bbox_embed.0.bias", "bbox_embed.0.bias")
    backbone, others = split_backbone(dict.fromkeys(names, WEIGHT))
    assert (list(backbone), list(others)) == (["norm.weight"], ["bbox_embed.0.bias"])


def test_only_options_with_another_value_are_refused():
    check_options({"two_stage": False, "lr": 0.1}, two_stage=False, with_box_refine=True)
    with pytest.raises(ValueError, match="trained with two_stage=True; only False is supported"):
        check_options({"two_stage": True}, two_stage=False)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_config_file_that_is_no_json_object_is_refused(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"^config '.*config\.json' (is not JSON|holds a list)"):
        read_overrides(tmp_path / "config.json")


def test_missing_config_file_names_the_argument(tmp_path):
    with pytest.raises(FileNotFoundError, match="^config is "):
        read_overrides(tmp_path / "nowhere.json")


def test_output_must_be_new_or_empty(tmp_path):
    assert check_output(tmp_path) == tmp_path
    assert check_output(tmp_path / "new") == tmp_path / "new"
    (tmp_path / "notes.txt").write_text("mine")
    for taken in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(FileExistsError, match="^output .* exists already"):
            check_output(taken)


def convert(output: Path):
    model = tiny_model()
    with pytest.warns(UserWarning, match="tokenizer"):
        save_converted(
            type(model), model.config, model.state_dict(), output, RvosVideoProcessor(), str(output / "nowhere")
        )


@pytest.mark.parametrize("exists", [False, True], ids=["new", "empty"])
def test_only_the_wanted_folder_is_made(exists, tmp_path):
    if exists:
        (tmp_path / "converted").mkdir()
    convert(tmp_path / "converted")
    assert [path.name for path in tmp_path.iterdir()] == ["converted"]
    names = {path.name for path in (tmp_path / "converted").iterdir()}
    assert names == {"config.json", "model.safetensors", "video_preprocessor_config.json"}


def test_failure_while_saving_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*args):
        warnings.warn("no tokenizer", stacklevel=1)
        raise OSError("No space left on device")

    monkeypatch.setattr(conversion, "_save_processor", fail)
    with pytest.raises(OSError, match="No space left"):
        convert(tmp_path / "converted")
    assert list(tmp_path.iterdir()) == []


def test_values_that_changed_on_the_way_are_noticed(tmp_path, monkeypatch):
    model_class = type(tiny_model())
    plain = model_class.from_pretrained

    def with_an_error(folder):
        model = plain(folder)
        model.mask_projection.bias.data[0] += 1
        return model

    monkeypatch.setattr(model_class, "from_pretrained", with_an_error)
    with pytest.raises(RuntimeError, match=r"\['mask_projection.bias'\]"):
        convert(tmp_path / "converted")
    assert list(tmp_path.iterdir()) == []
