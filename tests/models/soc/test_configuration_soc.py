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
from transformers import AutoConfig, RobertaConfig

from hf_rvos.backbones import backbone_config
from hf_rvos.models.soc import SocConfig
from tests.models.soc.tiny import tiny_config


def test_defaults_are_the_published_model():
    config = SocConfig()
    assert config.backbone_config.to_dict() == backbone_config("video-swin-t").to_dict()
    assert isinstance(config.text_config, RobertaConfig)
    assert (config.text_config.hidden_size, config.text_config.max_position_embeddings) == (768, 514)
    assert config.text_config.layer_norm_eps == 1e-5
    sizes = (config.hidden_size, config.num_queries, config.encoder_layers, config.decoder_layers)
    assert sizes == (256, 20, 3, 3)
    assert config.d_model == 256


def test_predictions_are_those_of_the_published_evaluation():
    config = SocConfig()
    assert config.prediction_layer == 0
    assert not config.mix_videos_in_cluster


def test_round_trip_through_disk_keeps_every_field(tmp_path):
    config = tiny_config(num_classes=3, dice_loss_weight=4)
    config.save_pretrained(tmp_path)
    for loaded in (SocConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert isinstance(loaded, SocConfig)
        assert loaded.to_dict() | {"_name_or_path": ""} == config.to_dict()


@pytest.mark.parametrize("fields", [{"hidden_size": "256"}, {"num_queries": 5.0}, {"auxiliary_loss": "yes"}])
def test_values_of_a_wrong_type_are_refused(fields):
    (name,) = fields
    with pytest.raises(StrictDataclassError, match=f"field '{name}'"):
        SocConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 72}, r"hidden_size \(72\) must be divisible by the groups of a normalisation \(32\)"),
        ({"attention_heads": 7}, r"hidden_size \(128\) must be divisible by attention_heads \(7\)"),
        ({"fusion_attention_heads": 5}, r"hidden_size \(128\) must be divisible by fusion_attention_heads \(5\)"),
        ({"cluster_attention_heads": 3}, r"hidden_size \(128\) must be divisible by cluster_attention_heads \(3\)"),
        ({"cluster_decoder_layers": 0}, "cluster_decoder_layers is 0, expected at least 1"),
        ({"prediction_layer": 3}, "prediction_layer is 3, expected one of the 3 decoder layers: -3 to 2"),
        ({"prediction_layer": -4}, "prediction_layer is -4, expected one of the 3 decoder layers: -3 to 2"),
        ({"attention_heads": 0}, "attention_heads is 0, expected at least 1"),
        ({"num_queries": 0}, "num_queries is 0, expected at least 1"),
        ({"decoder_layers": 0}, "decoder_layers is 0, expected at least 1"),
        ({"encoder_points": 0}, "encoder_points is 0, expected at least 1"),
        ({"dynamic_mask_layers": 1}, "dynamic_mask_layers is 1, expected at least 2"),
        ({"dropout": 1.5}, "dropout is 1.5, expected a probability below 1"),
    ],
)
def test_impossible_sizes_are_refused_with_the_numbers(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        tiny_config(**fields)


def test_sub_configurations_can_be_dicts():
    config = SocConfig(
        backbone_config=backbone_config("swin-t").to_dict(), text_config={"model_type": "roberta", "hidden_size": 48}
    )
    assert list(config.backbone_config.window_size) == [1, 7, 7]
    assert config.text_config.hidden_size == 48
