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
import html
import json
import warnings
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor, AutoTokenizer

from hf_rvos.models.ssa import SsaForReferringVideoSegmentation
from hf_rvos.models.ssa.convert_ssa_to_hf import (
    DEFAULT_TOKENIZER,
    convert_checkpoint,
    convert_state_dict,
    infer_config,
)
from hf_rvos.processing import RvosProcessor, RvosVideoProcessor, build_word_tokenizer
from tests.cli.commands import run
from tests.parity.official_weights import official_state_dict


HEADS = {"text_config": {"num_attention_heads": 4}}


@pytest.fixture(scope="module")
def official(fixtures_dir) -> dict[str, torch.Tensor]:
    """The tensors of a small official checkpoint."""
    return official_state_dict(fixtures_dir / "parity/ssa/tiny.keys.json", seed=1)


def save(folder: Path, state_dict: dict[str, torch.Tensor]) -> Path:
    """Write what the official trainer writes beside the weights."""
    content = {
        "model": state_dict,
        "optimizer": {"state": {0: {"step": torch.tensor(5.0)}}, "param_groups": [{"lr": 5e-5, "params": [0]}]},
        "scheduler": {"base_lrs": [5e-5], "last_epoch": 75000},
        "iteration": 74999,
    }
    torch.save(content, folder / "official.pth")
    return folder / "official.pth"


def convert(checkpoint: Path, **kwargs) -> SsaForReferringVideoSegmentation:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The tokenizer")
        return convert_checkpoint(
            checkpoint, checkpoint.parent / "converted", **{"tokenizer": checkpoint.parent / "nowhere"} | kwargs
        )


def test_weights_are_saved_under_our_names(official, tmp_path):
    model = convert(save(tmp_path, official))
    weights = convert_state_dict(official)
    assert weights.keys() == model.state_dict().keys()
    loaded = SsaForReferringVideoSegmentation.from_pretrained(tmp_path / "converted").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in weights.items())
    packed = official["vita_module.transformer_cross_attention_layers.1.multihead_attn.in_proj_weight"]
    assert torch.equal(model.model.video_decoder.layers[1].cross_attn.q_proj.weight, packed[:64])
    projection = official["backbone.clip_model.text_projection"]
    assert torch.equal(model.model.text_encoder.text_projection.weight, projection.t())


@pytest.mark.parametrize(("config", "shortest_edge"), [({}, 480), ({"multi_target": True}, 448)])
def test_frames_have_the_sizes_and_colours_of_the_published_evaluation(official, config, shortest_edge, tmp_path):
    convert(save(tmp_path, official), config=config)
    processor = RvosVideoProcessor.from_pretrained(tmp_path / "converted")
    assert dict(processor.size) == {"shortest_edge": shortest_edge, "longest_edge": 1333}
    assert [round(255 * value, 3) for value in processor.image_mean] == [122.771, 116.746, 104.094]
    assert [round(255 * value, 3) for value in processor.image_std] == [68.501, 66.632, 70.323]
    assert processor.pad_to_multiple_of == 32


def test_unused_tensors_are_dropped(official):
    unused = {
        "backbone.clip_model.logit_scale",
        "backbone.clip_model.visual.head.mlp.fc1.weight",
        "backbone.clip_model.visual.trunk.head.norm.bias",
        "criterion.empty_weight",
        "vita_criterion.empty_weight",
    }
    assert unused <= official.keys()
    kept = {name: value for name, value in official.items() if name not in unused}
    assert convert_state_dict(kept).keys() == convert_state_dict(official).keys()


def test_head_of_the_base_model_is_dropped_as_well(fixtures_dir):
    official = official_state_dict(fixtures_dir / "parity/ssa/tiny-v1.keys.json", seed=1)
    assert "backbone.clip_model.visual.head.proj.weight" in official
    convert_state_dict(official)


def test_command_makes_model_and_processor(official, tmp_path):
    build_word_tokenizer(["red", "circle"]).save_pretrained(tmp_path / "tokenizer")
    options = ["--checkpoint", save(tmp_path, official), "--tokenizer", tmp_path / "tokenizer"]
    result = run("convert", "--model", "ssa", *options, "--output", tmp_path / "converted")
    assert result.exit_code == 0, result.output
    assert SsaForReferringVideoSegmentation.from_pretrained(tmp_path / "converted").config.num_queries == 5
    processor = AutoProcessor.from_pretrained(tmp_path / "converted")
    assert isinstance(processor, RvosProcessor)
    assert processor.tokenizer("red circle")["input_ids"] == [0, 5, 4, 2]


def test_sizes_come_from_the_tensors(official):
    config = infer_config(official, HEADS)
    assert (config.hidden_size, config.mask_size, config.num_queries, config.adapter_size) == (64, 32, 5, 32)
    assert (config.encoder_layers, config.decoder_layers, config.video_decoder_layers) == (3, 4, 2)
    assert (config.encoder_feedforward_size, config.feedforward_size, config.encoder_points) == (160, 96, 4)
    text, backbone = config.text_config, config.backbone_config
    assert (text.vocab_size, text.hidden_size, text.projection_dim, text.num_attention_heads) == (128, 64, 48, 4)
    assert (text.num_hidden_layers, text.intermediate_size, text.max_position_embeddings) == (2, 256, 77)
    assert (list(backbone.hidden_sizes), list(backbone.depths)) == ([24, 32, 48, 80], [1, 1, 2, 1])


def test_what_tensors_do_not_tell_is_as_published_unless_the_config_says_otherwise(official):
    config = infer_config(official)
    assert (config.attention_heads, config.text_config.num_attention_heads) == (8, 1)
    assert (config.adapter_type, config.multi_target) == ("word_sentence", False)
    assert infer_config(official, {"adapter_type": "word", "multi_target": True}).multi_target
    assert infer_config(official, {"attention_heads": 4}).encoder_points == 8


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
        ({"voc.weight": torch.ones(2)}, None, "do not belong to SSA, for example voc.weight"),
        ({"resizer.fc.bias": None}, None, "text_projection.linear.bias has shape none in the checkpoint"),
        ({"sem_seg_head.predictor.query_embed.weight": None}, None, "it is not one of SSA"),
        (
            {},
            {"num_queries": 7},
            "model.frame_decoder.query_positions has shape (5, 64) in the checkpoint, expected (7, 64)",
        ),
        ({}, {"num_querys": 5}, "config has the unknown fields ['num_querys']"),
        ({}, {"attention_heads": 7}, "config does not describe a SSA"),
    ],
    ids=["foreign", "missing", "other model", "size", "unknown field", "impossible"],
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


def test_default_tokenizer_gives_the_recorded_tokens(fixtures_dir):
    try:
        tokenizer = AutoTokenizer.from_pretrained(DEFAULT_TOKENIZER)
    except OSError:
        pytest.skip(f"the tokenizer {DEFAULT_TOKENIZER} is not in the local cache")
    recorded = json.loads((fixtures_dir / "parity/ssa/tokens.json").read_text())
    for case in recorded["cases"]:
        text = html.unescape(case["text"])  # which the official code does, and the tokenizer does not
        assert tokenizer(text, truncation=True)["input_ids"] == case["input_ids"]
