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
import json
import warnings
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor

from hf_rvos.models.sgmg import SgMgForReferringVideoSegmentation
from hf_rvos.models.sgmg.convert_sgmg_to_hf import convert_checkpoint, convert_state_dict, infer_config
from hf_rvos.processing import RvosProcessor, RvosVideoProcessor, build_word_tokenizer
from tests.parity.official_weights import official_state_dict


TEXT_HEADS = {"text_config": {"num_attention_heads": 4}}


class Official:
    """A small official checkpoint: its tensors, and the arguments of its training run."""

    def __init__(self, folder: Path, name: str):
        description = json.loads((folder / f"{name}.json").read_text())
        self.state_dict = official_state_dict(folder / f"{name}.keys.json", description["seed"])
        sizes = description["hyperparameters"]
        self.arguments = {"backbone": sizes["backbone"]["official_name"], "nheads": sizes["nheads"], "dropout": 0.1}

    def save(self, folder: Path, arguments: dict | None = None, **changes: torch.Tensor) -> Path:
        """Write the file. The name of the backbone is left out, because it stands for larger sizes."""
        if arguments is None:
            arguments = self.arguments | {"backbone": None}
        content = {"model": self.state_dict | changes, "args": argparse.Namespace(**arguments), "epoch": 5}
        torch.save(content, folder / "official.pth")
        return folder / "official.pth"


@pytest.fixture(scope="module")
def official(fixtures_dir) -> Official:
    return Official(fixtures_dir / "parity/sgmg", "tiny-videoswin")


def convert(checkpoint: Path, **kwargs) -> SgMgForReferringVideoSegmentation:
    output = checkpoint.parent / "converted"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The tokenizer")
        return convert_checkpoint(checkpoint, output, **{"tokenizer": checkpoint.parent / "nowhere"} | kwargs)


# What is written


def test_unreachable_tokenizer_is_one_warning_and_the_rest_is_saved(official, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = convert_checkpoint(official.save(tmp_path), tmp_path / "converted", tokenizer=tmp_path / "nowhere")
    messages = [str(warning.message) for warning in caught if "tokenizer" in str(warning.message)]
    assert len(messages) == 1
    assert "add it later with RvosProcessor(" in messages[0]
    assert str(tmp_path / "converted") in messages[0]
    loaded = SgMgForReferringVideoSegmentation.from_pretrained(tmp_path / "converted")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert model.name_or_path == str(tmp_path / "converted")
    video_processor = RvosVideoProcessor.from_pretrained(tmp_path / "converted")
    assert dict(video_processor.size) == {"shortest_edge": 360}
    assert video_processor.pad_to_multiple_of == 16


def test_local_tokenizer_makes_the_whole_processor(official, tmp_path):
    build_word_tokenizer(["red", "circle"]).save_pretrained(tmp_path / "tokenizer")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        convert_checkpoint(official.save(tmp_path), tmp_path / "converted", tokenizer=tmp_path / "tokenizer")
    for processor_class in (RvosProcessor, AutoProcessor):
        processor = processor_class.from_pretrained(tmp_path / "converted")
        assert isinstance(processor, RvosProcessor)
        assert processor.tokenizer("red circle")["input_ids"] == [0, 5, 4, 2]
        assert dict(processor.video_processor.size) == {"shortest_edge": 360}


def test_weights_are_saved_under_our_names(official, tmp_path):
    model = convert(official.save(tmp_path))
    weights = convert_state_dict(official.state_dict, model.config.backbone_config)
    weights.pop("model.text_encoder.embeddings.position_ids", None)  # left out by the reader of the file
    assert weights.keys() == model.state_dict().keys()
    query = official.state_dict["transformer.decoder.layers.1.self_attn.in_proj_weight"][:64]
    assert torch.equal(model.model.decoder.layers[1].self_attn.q_proj.weight, query)
    # The official norm1 of a decoder layer follows the cross-attention, norm2 the self-attention.
    assert torch.equal(
        model.model.decoder.layers[0].cross_attn_norm.weight,
        official.state_dict["transformer.decoder.layers.0.norm1.weight"],
    )


def test_half_precision_checkpoint_keeps_its_values(official, tmp_path):
    half = {name: value.half() if value.is_floating_point() else value for name, value in official.state_dict.items()}
    model = convert(official.save(tmp_path, **half))
    found = model.model.decoder.query_positions.float()
    assert torch.equal(found, half["query_embed.weight"].float())


def test_licence_is_told_before_anything_is_read(tmp_path, caplog):
    with caplog.at_level("WARNING"), pytest.raises(FileNotFoundError):
        convert(tmp_path / "missing.pth")
    assert [record.message for record in caplog.records if "CC BY-NC 4.0" in record.message]


def test_convolution_over_logits_and_map_is_cut_in_two(official):
    weights = convert_state_dict(official.state_dict, infer_config(official.state_dict, {}).backbone_config)
    both = official.state_dict["mask_refine.conv1_1div4.weight"]
    assert torch.equal(weights["mask_refiner.fine.mask_conv.weight"], both[:, :16])
    assert torch.equal(weights["model.guide_convs.1.weight"], both[:, 16:])


# What is inferred


def test_sizes_and_heads_come_from_tensors_and_arguments(official):
    config = infer_config(official.state_dict, official.arguments | {"backbone": None})
    assert (config.hidden_size, config.num_queries) == (64, 5)
    assert (config.feedforward_size, config.refinement_channels, config.patch_size) == (96, 16, 4)
    assert (config.encoder_layers, config.decoder_layers, config.attention_heads) == (2, 2, 4)
    assert (config.encoder_points, config.decoder_points, config.num_classes) == (4, 4, 1)
    text, backbone = config.text_config, config.backbone_config
    assert (text.vocab_size, text.hidden_size, text.num_hidden_layers) == (128, 64, 2)
    assert (text.intermediate_size, text.max_position_embeddings) == (128, 40)
    assert (text.pad_token_id, text.type_vocab_size, text.layer_norm_eps) == (1, 1, 1e-5)
    assert (backbone.embed_dim, backbone.depths, backbone.num_heads) == (24, (2, 2, 2, 2), (2, 2, 4, 4))
    assert (backbone.window_size, backbone.shrink_window, backbone.normalize_stages) == ((8, 7, 7), True, False)


def test_without_arguments_heads_are_the_published_ones_or_those_of_the_config(official, tmp_path):
    published = infer_config(official.state_dict, {})
    assert (published.attention_heads, published.encoder_points) == (8, 2)
    overridden = infer_config(official.state_dict, {}, {"attention_heads": 4})
    assert (overridden.attention_heads, overridden.encoder_points) == (4, 4)


def test_bare_state_dict_converts_to_the_same_model(official, tmp_path):
    (tmp_path / "full").mkdir()
    expected = convert(official.save(tmp_path / "full"), config=TEXT_HEADS)
    torch.save({f"module.{name}": value for name, value in official.state_dict.items()}, tmp_path / "bare.pth")
    found = convert(tmp_path / "bare.pth", config=TEXT_HEADS | {"attention_heads": 4})
    assert found.config.to_json_string() == expected.config.to_json_string()
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in expected.state_dict().items())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tiny-resnet", {"model_type": "timm_backbone", "backbone": "resnet50", "freeze_batch_norm_2d": True}),
        ("tiny-swin", {"model_type": "video_swin", "window_size": [1, 7, 7], "shrink_window": False, "embed_dim": 24}),
    ],
)
def test_image_backbones_are_recognised_by_their_tensors(name, expected, fixtures_dir, tmp_path):
    official = Official(fixtures_dir / "parity/sgmg", name)
    model = convert(official.save(tmp_path))
    for field, value in expected.items():
        assert getattr(model.config.backbone_config, field) == value


def test_number_of_classes_comes_from_the_score_head(official, tmp_path):
    heads = {f"class_embed.{layer}.weight": torch.randn(65, 64) for layer in range(2)}
    heads |= {f"class_embed.{layer}.bias": torch.randn(65) for layer in range(2)}
    assert convert(official.save(tmp_path, **heads)).config.num_classes == 65


def test_config_file_overrides_what_the_checkpoint_tells(official, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TEXT_HEADS | {"dropout": 0.25}))
    config = convert(official.save(tmp_path), config=tmp_path / "config.json").config
    assert config.dropout == 0.25
    assert (config.text_config.num_attention_heads, config.text_config.vocab_size) == (4, 128)


# What is refused


def refusal(official: Official, folder: Path, checkpoint: Path, error=ValueError, **kwargs) -> str:
    """The message of a conversion that must fail and leave nothing behind."""
    before = sorted(folder.iterdir())
    with pytest.raises(error) as caught:
        convert(checkpoint, **kwargs)
    assert sorted(folder.iterdir()) == before
    return str(caught.value)


def test_backbone_that_does_not_match_is_named_with_both_shapes(official, tmp_path):
    message = refusal(official, tmp_path, official.save(tmp_path, official.arguments))
    assert "does not fit the backbone 'video_swin_t_p4w7'" in message
    assert "(24, 3, 1, 4, 4) in the checkpoint, expected (96, 3, 1, 4, 4)" in message


@pytest.mark.parametrize("backbone", ["resnet50", "swin_t_p4w7", "video_swin_b_p4w7"])
def test_backbone_named_in_the_config_is_the_one_in_the_error(backbone, official, tmp_path):
    message = refusal(official, tmp_path, official.save(tmp_path), config={"backbone": backbone})
    assert f"does not fit the backbone {backbone!r}" in message
    assert "model.backbone." in message


def test_other_size_that_does_not_match_is_named_with_both_shapes(official, tmp_path):
    message = refusal(official, tmp_path, official.save(tmp_path), config={"num_queries": 7})
    assert "does not fit the configuration: model.decoder.query_positions has shape (5, 64)" in message
    assert "expected (7, 64) (1 tensors differ)" in message


def test_missing_tensor_is_named(official, tmp_path):
    small = Official.__new__(Official)
    small.arguments = official.arguments
    small.state_dict = {name: value for name, value in official.state_dict.items() if name != "text_proj.fc.bias"}
    message = refusal(small, tmp_path, small.save(tmp_path))
    assert "model.word_projection.linear.bias has shape none in the checkpoint, expected (64,)" in message


def test_tensor_of_another_model_is_named(official, tmp_path):
    message = refusal(official, tmp_path, official.save(tmp_path, **{"vita_module.weight": torch.ones(2)}))
    assert "1 of " in message
    assert "do not belong to SgMg, for example vita_module.weight" in message


def test_checkpoint_of_another_model_is_named(tmp_path):
    torch.save({"model": {"sam.encoder.weight": torch.ones(2)}}, tmp_path / "official.pth")
    message = refusal(None, tmp_path, tmp_path / "official.pth")
    assert message == "The checkpoint has no tensor 'query_embed.weight': it is not one of SgMg."


@pytest.mark.parametrize(
    ("option", "value"),
    [("with_box_refine", False), ("rel_coord", False), ("two_stage", True), ("num_feature_levels", 3)],
)
def test_options_that_no_released_model_has_are_refused(option, value, official, tmp_path):
    message = refusal(official, tmp_path, official.save(tmp_path, official.arguments | {option: value}))
    assert f"trained with {option}={value}" in message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_querys": 5}, "config has the unknown fields ['num_querys']"),
        ({"backbone": "resnet18"}, "backbone 'resnet18' is unknown"),
        ({"backbone_config": {"embed_dim": 24}}, "backbone_config needs a model_type"),
        ({"hidden_size": 80}, "config does not describe a SgMg: .* hidden_size (80) must be divisible"),
        ({"dropout": "much"}, "config does not describe a SgMg: .* 'dropout'"),
    ],
    ids=["unknown", "backbone", "model_type", "impossible", "type"],
)
def test_wrong_config_is_one_clear_error(config, message, official, tmp_path):
    found = refusal(official, tmp_path, official.save(tmp_path), config=config)
    assert all(part in found for part in message.split(" .* "))


def test_existing_output_is_not_touched_and_nothing_is_read(tmp_path):
    (tmp_path / "converted").mkdir()
    (tmp_path / "converted" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="^output .* exists already"):
        convert(tmp_path / "missing.pth")
    assert [path.name for path in (tmp_path / "converted").iterdir()] == ["notes.txt"]
