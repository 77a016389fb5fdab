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

import pytest
import torch
from transformers import AutoBackbone, AutoConfig, AutoModel, AutoProcessor, AutoTokenizer, AutoVideoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

import hf_rvos
from tests.tiny_segmenter import tiny_model, tiny_processor


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "auto_class, name",
    [
        (AutoConfig, "ReferFormerConfig"),
        (AutoModel, "ReferFormerModel"),
        (hf_rvos.AutoModelForReferringVideoSegmentation, "ReferFormerForReferringVideoSegmentation"),
        (AutoProcessor, "RvosProcessor"),
        (AutoVideoProcessor, "RvosVideoProcessor"),
    ],
    ids=["config", "model", "task", "processor", "video_processor"],
)
def test_auto_class_finds_the_class_of_this_library(saved, auto_class, name):
    loaded = auto_class.from_pretrained(saved)
    assert type(loaded) is getattr(hf_rvos, name)


def test_tokenizer_is_found_beside_the_model(saved):
    assert (
        AutoTokenizer.from_pretrained(saved)("the star").input_ids == tiny_processor().tokenizer("the star").input_ids
    )


def test_video_processor_alone_is_found_beside_the_model(tmp_path):
    tiny_model().config.save_pretrained(tmp_path)
    tiny_processor().video_processor.save_pretrained(tmp_path)
    assert type(AutoVideoProcessor.from_pretrained(tmp_path)) is hf_rvos.RvosVideoProcessor


def test_loaded_weights_equal_the_saved_ones(saved):
    before = tiny_model().state_dict()
    after = hf_rvos.AutoModelForReferringVideoSegmentation.from_pretrained(saved).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_backbone_is_built_by_its_auto_class():
    config = hf_rvos.backbone_config("video-swin-t", embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
    assert type(AutoBackbone.from_config(config)) is hf_rvos.VideoSwinBackbone


def test_a_model_of_another_kind_is_refused(tmp_path):
    AutoConfig.for_model("bert").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="ReferFormerConfig"):
        hf_rvos.AutoModelForReferringVideoSegmentation.from_pretrained(tmp_path)


def test_pipeline_is_registered_and_registering_twice_changes_nothing(caplog):
    before = dict(PIPELINE_REGISTRY.supported_tasks["referring-video-segmentation"])
    hf_rvos.register_all()
    assert dict(PIPELINE_REGISTRY.supported_tasks["referring-video-segmentation"]) == before
    assert not caplog.records
