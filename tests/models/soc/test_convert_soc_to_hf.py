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
import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from hf_rvos.models.soc import SocForReferringVideoSegmentation
from hf_rvos.models.soc.convert_soc_to_hf import LICENCE_NOTE, convert_checkpoint, convert_state_dict, infer_config
from hf_rvos.processing import RvosProcessor, RvosVideoProcessor, build_word_tokenizer
from tests.parity.official_weights import official_state_dict


HEADS = {"attention_heads": 4, "cluster_attention_heads": 4, "text_config": {"num_attention_heads": 4}}


@pytest.fixture(scope="module")
def official(fixtures_dir) -> dict[str, torch.Tensor]:
    """The tensors of a small official checkpoint."""
    folder = fixtures_dir / "parity/soc"
    seed = json.loads((folder / "tiny-videoswin.json").read_text())["seed"]
    return official_state_dict(folder / "tiny-videoswin.keys.json", seed)


def save(folder: Path, state_dict: dict[str, torch.Tensor]) -> Path:
    """Write what the official trainer writes, with scores that NumPy computed and the state of its scheduler."""
    scheduler = torch.optim.lr_scheduler.MultiStepLR(torch.optim.SGD([torch.zeros(1)], lr=0.1), milestones=[2])
    content = {
        "epoch": 5,
        "total_epochs": 30,
        "model_state_dict": state_dict,
        "scheduler_state_dict": scheduler.state_dict(),
        "grad_scaler_state_dict": {},
        "best_mAP": np.float64(0.5),
        "best_loss": np.float32(2.5),
    }
    torch.save(content, folder / "official.pth")
    return folder / "official.pth"


def convert(checkpoint: Path, **kwargs) -> SocForReferringVideoSegmentation:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The tokenizer")
        return convert_checkpoint(
            checkpoint, checkpoint.parent / "converted", **{"tokenizer": checkpoint.parent / "nowhere"} | kwargs
        )


def test_missing_licence_is_told_before_anything_is_read(tmp_path, caplog):
    with caplog.at_level(logging.WARNING), pytest.raises(FileNotFoundError):
        convert(tmp_path / "missing.pth")
    assert LICENCE_NOTE in caplog.text
    assert "no licence" in LICENCE_NOTE


def test_weights_are_saved_under_our_names(official, tmp_path):
    model = convert(save(tmp_path, official))
    weights = convert_state_dict(official, model.config.backbone_config)
    weights.pop("model.text_encoder.embeddings.position_ids")  # left out by the reader of the file
    assert weights.keys() == model.state_dict().keys()
    loaded = SocForReferringVideoSegmentation.from_pretrained(tmp_path / "converted").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in weights.items())
    base = model.model
    query = official["voc.transformer_cross_attention_layers.1.multihead_attn.in_proj_weight"][:128]
    assert torch.equal(base.object_cluster.decoder_layers[1].cross_attn.q_proj.weight, query)
    # The official norm1 of a decoder layer follows the cross-attention, norm2 the self-attention.
    norm = official["transformer.decoder.layers.0.norm1.weight"]
    assert torch.equal(base.decoder.layers[0].cross_attn_norm.weight, norm)
    assert dict(RvosVideoProcessor.from_pretrained(tmp_path / "converted").size) == {"shortest_edge": 360}


def test_local_tokenizer_makes_the_whole_processor(official, tmp_path):
    build_word_tokenizer(["red", "circle"]).save_pretrained(tmp_path / "tokenizer")
    convert(save(tmp_path, official), tokenizer=tmp_path / "tokenizer")
    processor = AutoProcessor.from_pretrained(tmp_path / "converted")
    assert isinstance(processor, RvosProcessor)
    assert processor.tokenizer("red circle")["input_ids"] == [0, 5, 4, 2]


def test_sizes_come_from_the_tensors(official):
    config = infer_config(official, overrides=HEADS)
    assert (config.hidden_size, config.num_queries, config.num_classes) == (128, 6, 1)
    assert (config.encoder_layers, config.decoder_layers, config.feedforward_size) == (2, 2, 64)
    assert (config.cluster_encoder_layers, config.cluster_decoder_layers) == (2, 2)
    assert (config.cluster_feedforward_size, config.mask_feature_size) == (64, 8)
    assert (config.encoder_points, config.decoder_points) == (4, 4)
    text, backbone = config.text_config, config.backbone_config
    assert (text.vocab_size, text.hidden_size, text.num_attention_heads) == (128, 64, 4)
    assert (backbone.embed_dim, backbone.depths, backbone.num_heads) == (32, (2, 2, 2, 2), (2, 4, 4, 8))


def test_heads_are_the_published_ones_unless_the_config_says_otherwise(official):
    config = infer_config(official)
    assert (config.attention_heads, config.cluster_attention_heads, config.encoder_points) == (8, 8, 2)


def test_converted_models_predict_as_the_official_code_evaluates(official, tmp_path):
    assert infer_config(official).prediction_layer == 0
    config = json.loads((convert(save(tmp_path, official)).name_or_path / Path("config.json")).read_text())
    assert config["prediction_layer"] == 0
    assert infer_config(official, overrides={"prediction_layer": -1}).prediction_layer == -1


def test_number_of_classes_comes_from_the_score_head(official):
    heads = {f"class_embed.{layer}.{kind}": torch.zeros(65) for layer in range(2) for kind in ("weight", "bias")}
    assert infer_config(official | heads).num_classes == 65


def test_bare_state_dict_converts_to_the_same_model(official, tmp_path):
    (tmp_path / "full").mkdir()
    expected = convert(save(tmp_path / "full", official), config=HEADS)
    torch.save({f"module.{name}": value for name, value in official.items()}, tmp_path / "bare.pth")
    found = convert(tmp_path / "bare.pth", config=HEADS)
    assert found.config.to_json_string() == expected.config.to_json_string()
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in expected.state_dict().items())


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        ({"vita_module.weight": torch.ones(2)}, None, "do not belong to SOC, for example vita_module.weight"),
        ({"txt_proj.fc.bias": None}, None, "text_projection.linear.bias has shape none in the checkpoint"),
        ({"query_embed.weight": None}, None, "no tensor 'query_embed.weight': it is not one of SOC"),
        (
            {},
            {"num_queries": 7},
            "model.decoder.query_positions has shape (6, 128) in the checkpoint, expected (7, 128)",
        ),
        ({}, {"backbone": "video-swin-b"}, "does not fit the backbone 'video-swin-b'"),
        ({}, {"num_querys": 5}, "config has the unknown fields ['num_querys']"),
        ({}, {"hidden_size": 72}, "config does not describe a SOC"),
    ],
    ids=["foreign", "missing", "other model", "size", "backbone", "unknown field", "impossible"],
)
def test_what_does_not_fit_is_named_and_nothing_is_left_behind(change, config, message, official, tmp_path):
    changed = {name: value for name, value in (official | change).items() if value is not None}
    checkpoint = save(tmp_path, changed)
    with pytest.raises(ValueError) as caught:
        convert(checkpoint, config=config)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_existing_output_is_not_touched(tmp_path):
    (tmp_path / "converted").mkdir()
    (tmp_path / "converted" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="^output .* exists already"):
        convert(tmp_path / "missing.pth")
    assert [path.name for path in (tmp_path / "converted").iterdir()] == ["notes.txt"]
