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

import pytest
import torch
from safetensors.torch import load_file
from transformers import ConvNextBackbone

from hf_rvos import AutoModelForReferringVideoSegmentation, VideoSwinBackbone
from hf_rvos.backbones import load_backbone
from hf_rvos.checkpoints import embedded_checkpoint, find_checkpoint, find_part, list_embedded_checkpoints


PARTS = {"video-swin-tiny": VideoSwinBackbone, "convnext-tiny": ConvNextBackbone}


@pytest.mark.parametrize("name", list_embedded_checkpoints())
def test_short_name_means_the_embedded_checkpoint(name):
    assert find_checkpoint(name) == str(embedded_checkpoint(name))


@pytest.mark.parametrize("name", ["referformer-tiny", *PARTS])
def test_a_folder_of_that_name_goes_first(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    assert find_checkpoint(name) == name


def test_other_names_are_left_to_the_hub():
    assert find_checkpoint("somebody/something") == "somebody/something"
    assert find_part("somebody/something") is None


@pytest.mark.parametrize("name", list_embedded_checkpoints())
def test_embedded_checkpoint_loads_without_missing_weights(name):
    _, info = AutoModelForReferringVideoSegmentation.from_pretrained(
        embedded_checkpoint(name), output_loading_info=True
    )
    assert not any(info.values())


@pytest.mark.parametrize("name", PARTS)
def test_short_name_of_a_part_means_its_folder(name):
    assert find_checkpoint(name) == str(find_part(name))


@pytest.mark.parametrize("name", PARTS)
def test_part_is_no_model(name):
    assert name not in list_embedded_checkpoints()
    with pytest.raises(ValueError, match="expected one of the embedded checkpoints"):
        embedded_checkpoint(name)


@pytest.mark.parametrize("name", PARTS)
def test_part_loads_as_any_backbone_does(name):
    backbone = load_backbone(find_checkpoint(name))
    assert isinstance(backbone, PARTS[name])
    assert all(value.isfinite().all() for value in backbone.state_dict().values())


@pytest.mark.parametrize("name", list_embedded_checkpoints())
def test_part_is_stored_once(name):
    folder = embedded_checkpoint(name)
    source = json.loads((folder / "config.json").read_text())["frozen_parts"]["backbone"]["source"]
    assert find_part(source) is not None
    assert not any(key.startswith("model.backbone.") for key in load_file(folder / "model.safetensors"))


@pytest.mark.parametrize("name", list_embedded_checkpoints())
def test_model_has_the_numbers_of_its_part(name):
    model = AutoModelForReferringVideoSegmentation.from_pretrained(embedded_checkpoint(name))
    source = model.config.frozen_parts["backbone"]["source"]
    part, found = load_backbone(find_part(source)).state_dict(), model.base_model.backbone.state_dict()
    assert found.keys() <= part.keys()  # SSA uses the stages without the norms after them
    assert all(torch.equal(part[key], found[key]) for key in found)
