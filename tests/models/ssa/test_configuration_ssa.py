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
import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, CLIPTextConfig, ConvNextConfig

from hf_rvos.models.ssa import SsaConfig
from tests.models.ssa.tiny import tiny_config


def test_defaults_are_the_published_model():
    config = SsaConfig()
    backbone, text = config.backbone_config, config.text_config
    assert isinstance(backbone, ConvNextConfig)
    assert (list(backbone.hidden_sizes), list(backbone.depths)) == ([192, 384, 768, 1536], [3, 3, 27, 3])
    assert backbone.drop_path_rate == 0
    assert isinstance(text, CLIPTextConfig)
    assert (text.num_hidden_layers, text.hidden_size, text.intermediate_size) == (16, 768, 3072)
    assert (text.num_attention_heads, text.projection_dim, text.hidden_act) == (12, 768, "gelu")
    assert (config.hidden_size, config.mask_size, config.num_queries) == (256, 256, 20)
    assert (config.encoder_layers, config.decoder_layers, config.video_decoder_layers) == (6, 9, 6)
    assert (config.encoder_feedforward_size, config.feedforward_size) == (1024, 2048)
    assert config.d_model == 256


def test_losses_are_weighted_as_the_published_code_applies_them():
    config = SsaConfig()
    assert (config.class_loss_weight, config.mask_loss_weight, config.dice_loss_weight) == (2, 5, 5)
    assert config.similarity_loss_weight == 1  # 0.5 in the published configuration, which is never applied
    assert (config.no_object_weight, config.num_points, config.num_supervised_frame_layers) == (0.1, 12544, 3)


def test_an_expression_has_one_target_unless_told_otherwise():
    assert not SsaConfig().multi_target
    assert SsaConfig().score_threshold == 0.5


def test_round_trip_through_disk_keeps_every_field(tmp_path):
    config = tiny_config(adapter_type="word", multi_target=True, dice_loss_weight=4)
    config.save_pretrained(tmp_path)
    for loaded in (SsaConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert isinstance(loaded, SsaConfig)
        assert loaded.to_dict() | {"_name_or_path": ""} == config.to_dict()


@pytest.mark.parametrize("fields", [{"hidden_size": "256"}, {"num_queries": 5.0}, {"freeze_backbone": "yes"}])
def test_values_of_a_wrong_type_are_refused(fields):
    (name,) = fields
    with pytest.raises(StrictDataclassError, match=f"field '{name}'"):
        SsaConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 72}, r"hidden_size \(72\) must be divisible by the groups of a normalisation \(32\)"),
        ({"attention_heads": 7}, r"hidden_size \(64\) must be divisible by attention_heads \(7\)"),
        ({"attention_heads": 1}, "attention_heads is 1, expected at least 2"),
        ({"adapter_attention_heads": 3}, r"adapter_size \(16\) must be divisible by adapter_attention_heads \(3\)"),
        ({"adapter_size": 6}, r"adapter_size \(6\) must be divisible by sine codes of two axes \(4\)"),
        ({"adapter_type": "sentence"}, r"adapter_type is 'sentence', expected one of \('word_sentence', 'word'\)"),
        ({"encoder_feedforward_size": 42}, r"encoder_feedforward_size \(42\) must be divisible by attention_heads"),
        ({"num_supervised_frame_layers": 6}, "num_supervised_frame_layers is 6, but decoder_layers .4. make 5"),
        ({"importance_ratio": 1.5}, "importance_ratio is 1.5, expected a share from 0 to 1"),
        ({"oversample_ratio": 0.5}, r"importance_ratio is 0.75, .* at most oversample_ratio \(0.5\)"),
        ({"num_queries": 0}, "num_queries is 0, expected at least 1"),
        ({"frames_at_once": 0}, "frames_at_once is 0, expected at least 1"),
        ({"score_threshold": 1.0}, "score_threshold is 1.0, expected a probability below 1"),
        ({"fusion_dropout": 1.5}, "fusion_dropout is 1.5, expected a probability below 1"),
        ({"backbone_config": {"model_type": "convnext", "depths": [1, 1], "hidden_sizes": [8, 8]}}, "has 2 stages"),
        ({"backbone_config": {"model_type": "video_swin"}}, "backbone_config has the model_type 'video_swin'"),
        ({"text_config": {"model_type": "roberta"}}, "text_config has the model_type 'roberta', expected 'clip_text"),
    ],
)
def test_impossible_sizes_are_refused_with_the_numbers(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        tiny_config(**fields)
