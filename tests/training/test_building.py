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
from safetensors.torch import save_file
from transformers import RobertaConfig, RobertaModel

from hf_rvos.auto import AutoModelForReferringVideoSegmentation
from hf_rvos.backbones import load_backbone
from hf_rvos.checkpoints import find_part
from hf_rvos.data.moving_shapes import vocabulary
from hf_rvos.data.referring_clips import ConcatClips, ReferringClips
from hf_rvos.models.soc import SocConfig
from hf_rvos.models.video_swin import VideoSwinBackbone, VideoSwinConfig
from hf_rvos.processing.processing_rvos import RvosProcessor
from hf_rvos.processing.video_processing_rvos import RvosVideoProcessor
from hf_rvos.processing.word_tokenizer import build_word_tokenizer
from hf_rvos.training.building import (
    StepCollator,
    build_model_and_processor,
    check_data_dirs,
    data_dir,
    evaluation_benchmark,
    training_clips,
)
from hf_rvos.training.recipe import Recipe
from tests.data import roots, sentence_roots


BACKBONE = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": [4, 2, 2]}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
EMBEDDED = "video-swin-tiny"
MODEL = {
    "hidden_size": 128,
    "num_queries": 2,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "attention_heads": 2,
    "fusion_attention_heads": 2,
    "feedforward_size": 16,
    "cluster_encoder_layers": 1,
    "cluster_decoder_layers": 1,
    "cluster_attention_heads": 2,
    "cluster_feedforward_size": 16,
}


SMALL_CONVNEXT = {"model_type": "convnext", "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
SMALL_CLIP_TEXT = {"model_type": "clip_text_model", "projection_dim": 16} | TEXT


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbone")
    stages = [f"stage{number}" for number in range(1, 5)]
    VideoSwinBackbone(VideoSwinConfig(**BACKBONE, out_features=stages)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory):
    """A RoBERTa with its tokenizer."""
    folder = tmp_path_factory.mktemp("roberta")
    tokenizer = build_word_tokenizer(vocabulary())
    RobertaModel(RobertaConfig(**TEXT, vocab_size=len(tokenizer), max_position_embeddings=40)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, backbone, text_encoder):
    """A whole model with its processor."""
    folder = tmp_path_factory.mktemp("model")
    recipe = Recipe(
        model={"model_type": "soc", **MODEL}, pretrained_backbone=backbone, pretrained_text_encoder=text_encoder
    )
    model, processor = build_model_and_processor(recipe)
    for head in model.class_heads:
        torch.nn.init.ones_(head.weight)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def test_a_new_model_starts_with_saved_backbone_and_text_encoder(saved, backbone, text_encoder):
    model = AutoModelForReferringVideoSegmentation.from_pretrained(saved).model
    for part, folder in ((model.backbone, backbone), (model.text_encoder, text_encoder)):
        expected, found = type(part).from_pretrained(folder).state_dict(), part.state_dict()
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert RvosProcessor.from_pretrained(saved).tokenizer.get_vocab() == build_word_tokenizer(vocabulary()).get_vocab()


def test_settings_of_a_part_go_over_those_it_was_saved_with(backbone, text_encoder):
    settings = {"backbone_config": {"drop_path_rate": 0.5}, "text_config": {"hidden_dropout_prob": 0.0}}
    recipe = Recipe(model={"model_type": "soc", **MODEL, **settings}, pretrained_backbone=backbone)
    recipe.pretrained_text_encoder = text_encoder
    config = build_model_and_processor(recipe)[0].config
    assert (config.backbone_config.drop_path_rate, config.text_config.hidden_dropout_prob) == (0.5, 0.0)
    assert config.backbone_config.embed_dim == 8


def test_a_model_without_sentences_needs_no_pooler(backbone, text_encoder):
    recipe = Recipe(model={"model_type": "soc", **MODEL, "use_object_cluster": False}, pretrained_backbone=backbone)
    recipe.pretrained_text_encoder = text_encoder
    assert build_model_and_processor(recipe)[0].model.text_encoder.pooler is None


def test_class_heads_are_those_of_a_new_model_and_all_else_is_loaded(saved, capsys):
    torch.manual_seed(3)
    model, _ = build_model_and_processor(Recipe(pretrained=saved, reset_class_heads=True))
    loaded = AutoModelForReferringVideoSegmentation.from_pretrained(saved)
    torch.manual_seed(3)
    new = AutoModelForReferringVideoSegmentation.from_config(loaded.config)
    for name, value in model.state_dict().items():
        source = new if name.startswith("class_heads.") else loaded
        assert torch.equal(value, source.state_dict()[name]), name
    assert "the class heads are new" in capsys.readouterr().out


def test_new_class_heads_may_have_another_number_of_classes(saved):
    model, _ = build_model_and_processor(Recipe(pretrained=saved, reset_class_heads=True, model={"num_classes": 3}))
    assert model.class_heads[0].weight.shape == (3, 128)


@pytest.mark.parametrize("name, model_type", [("soc-tiny", "soc"), ("sgmg-tiny", "fast_sgmg")])
def test_settings_of_a_part_go_over_those_of_a_saved_model(name, model_type):
    settings = {"model_type": model_type, "backbone_config": {"drop_path_rate": 0.3}}
    backbone = build_model_and_processor(Recipe(pretrained=name, model=settings))[0].config.backbone_config
    assert (backbone.drop_path_rate, backbone.model_type) == (0.3, "video_swin")
    assert backbone.depths == load_backbone(find_part(EMBEDDED)).config.depths


def test_a_setting_of_another_type_is_one_clear_error(saved):
    with pytest.raises(ValueError, match="model: .*num_queries"):
        build_model_and_processor(Recipe(pretrained=saved, model={"num_queries": "five"}))


def test_what_was_not_loaded_is_printed(saved, capsys):
    settings = {"use_object_cluster": False}
    build_model_and_processor(Recipe(pretrained=saved, model=settings))
    assert "tensors are left out: model." in capsys.readouterr().out


def test_activations_are_computed_again_if_asked(saved):
    model, _ = build_model_and_processor(Recipe(pretrained=saved, gradient_checkpointing=True))
    assert model.is_gradient_checkpointing


def test_backbone_may_be_the_embedded_one():
    model, _ = build_model_and_processor(Recipe(model={"model_type": "soc", **MODEL}, pretrained_backbone=EMBEDDED))
    expected = load_backbone(find_part(EMBEDDED)).state_dict()
    found = model.base_model.backbone.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"pretrained": "no/such"}, "pretrained: cannot load 'no/such', expected a folder or a name of the hub"),
        ({"pretrained": "SAVED", "model": {"num_queries": 9}}, "tensors of .* do not fit the model"),
        ({"pretrained": "SAVED", "model": {"model_type": "sgmg"}}, "is a soc, not a sgmg"),
        (
            {"pretrained": "SAVED", "model": {"backbone_config": {"model_type": "convnext"}}},
            "model setting backbone_config is of a convnext, expected a video_swin",
        ),
        (
            {"pretrained": "SAVED", "model": {"backbone_config": {"drop_path_rte": 0.3}}},
            "'drop_path_rte' is not known to video_swin; did you mean 'drop_path_rate'?",
        ),
        ({"pretrained": "ssa-tiny", "reset_class_heads": True}, "reset_class_heads: a ssa has no class heads"),
        ({"pretrained_backbone": "no-such"}, "pretrained_backbone: cannot load 'no-such'"),
        ({"pretrained_backbone": "TEXT"}, "is a roberta, but the model of the recipe has a video_swin"),
        ({"pretrained_text_encoder": "BACKBONE"}, "is a video_swin, but the model of the recipe has a roberta"),
        ({"model": {"backbone_config": {"embed_dim": 16}}}, "pretrained_backbone: .* does not fit the model"),
        ({"model": {"backbone_config": {"depths": [2, 1, 1, 1]}}}, "pretrained_backbone: .* does not fit the model"),
        ({"model": {"text_config": {"vocab_size": 7}}}, "pretrained_text_encoder: .* does not fit the model"),
        ({"model": {"backbone_config": {"dim": 16}}}, "model setting 'dim' is not known to video_swin"),
        ({"pretrained_text_encoder": None, "datasets": ("mevis",)}, "a new model for mevis needs an encoder"),
    ],
)
def test_weights_that_do_not_fit_give_one_clear_error(saved, backbone, text_encoder, settings, message):
    places = {"SAVED": saved, "BACKBONE": backbone, "TEXT": text_encoder}
    settings = {"pretrained_backbone": "BACKBONE", "pretrained_text_encoder": "TEXT"} | settings
    settings = {key: places.get(value, value) if isinstance(value, str) else value for key, value in settings.items()}
    if "pretrained" not in settings:
        parts = {"backbone_config": {"model_type": "video_swin"}, "text_config": {"model_type": "roberta"}}
        for name, values in settings.get("model", {}).items():
            parts[name] = parts[name] | values
        settings["model"] = {"model_type": "soc", **MODEL, **parts}
    with pytest.raises(ValueError, match=message) as error:
        build_model_and_processor(Recipe(**settings))
    assert "\n" not in str(error.value)


def test_a_clip_that_is_not_there_or_does_not_fit_gives_one_clear_error(tmp_path):
    settings = {"model": {"model_type": "ssa"}, "pretrained_clip": str(tmp_path)}
    with pytest.raises(ValueError, match="pretrained_clip: cannot load .*, expected a folder or a name of the hub"):
        build_model_and_processor(Recipe(**settings))
    build_word_tokenizer(vocabulary()).save_pretrained(tmp_path)
    save_file({"visual.trunk.stem.0.bias": torch.zeros(3)}, tmp_path / "open_clip_model.safetensors")
    settings["model"] |= {"backbone_config": SMALL_CONVNEXT, "text_config": SMALL_CLIP_TEXT}
    with pytest.raises(ValueError, match="pretrained_clip: .* does not fit the model of the recipe: Missing key"):
        build_model_and_processor(Recipe(**settings))


def test_a_new_text_encoder_is_of_the_kind_that_the_model_has():
    text = {name: value for name, value in SMALL_CLIP_TEXT.items() if name != "model_type"}
    settings = {"model_type": "ssa", "backbone_config": SMALL_CONVNEXT, "text_config": text}
    model, _ = build_model_and_processor(Recipe(model=settings))
    assert model.config.text_config.model_type == "clip_text_model"


def test_only_towers_of_clip_want_the_colours_of_clip(text_encoder):
    model = {"model_type": "ssa", "backbone_config": SMALL_CONVNEXT, "text_config": SMALL_CLIP_TEXT}
    _, processor = build_model_and_processor(Recipe(model=model, frame_size=(96, 144)))
    frames = processor.video_processor
    assert tuple(frames.image_mean) == tuple(RvosVideoProcessor().image_mean)
    assert frames.enlarge_masks_twice and dict(frames.size) == {"shortest_edge": 96}


@pytest.mark.parametrize(
    "settings, size",
    [
        ({"inference_size": 360}, {"shortest_edge": 360}),
        ({"inference_size": [360, 640]}, {"shortest_edge": 360, "longest_edge": 640}),
        ({"frame_size": (64, 96)}, {"shortest_edge": 64}),
        ({"datasets": ("mevis",)}, {"shortest_edge": 77}),
    ],
)
def test_frames_in_use_have_the_size_of_the_recipe_or_of_training(saved, tmp_path, settings, size):
    model, tokenizer = AutoModelForReferringVideoSegmentation.from_pretrained(saved), build_word_tokenizer(["dog"])
    model.save_pretrained(tmp_path)
    processor = RvosVideoProcessor(size={"shortest_edge": 77})
    RvosProcessor(video_processor=processor, tokenizer=tokenizer).save_pretrained(tmp_path)
    _, built = build_model_and_processor(Recipe(pretrained=str(tmp_path), **settings))
    assert dict(built.video_processor.size) == size


def test_one_folder_stands_for_the_three_refcoco():
    recipe = Recipe(data_dirs={"refcoco": "coco", "refcocog": "other"})
    assert [data_dir(recipe, name) for name in ("refcoco", "refcoco+", "refcocog")] == ["coco", "coco", "other"]


def test_a_data_set_without_a_folder_is_told_with_the_way_to_give_one(tmp_path):
    with pytest.raises(ValueError, match="add --override data_dirs.mevis=FOLDER"):
        check_data_dirs(Recipe(datasets=("mevis",)))
    with pytest.raises(ValueError, match="missing is no folder"):
        check_data_dirs(Recipe(datasets=("mevis",), data_dirs={"mevis": str(tmp_path / "missing")}))
    evaluation = {"dataset": "revos", "data_dir": str(tmp_path / "gone")}
    with pytest.raises(ValueError, match="gone is no folder"):
        check_data_dirs(Recipe(evaluation=evaluation))


def test_a_folder_of_another_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="datasets, mevis: "):
        training_clips(Recipe(datasets=("mevis",), data_dirs={"mevis": str(tmp_path)}))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    roots.ref_youtube_vos(folder / "ref_youtube_vos")
    roots.mevis(folder / "mevis")
    sentence_roots.write_a2d(folder / "a2d_sentences")
    return {name: str(folder / name) for name in ("ref_youtube_vos", "mevis", "a2d_sentences")}


def test_settings_of_the_recipe_reach_the_clips(data):
    settings = {"clip_lengths": (2,), "reverse_probability": 1.0, "max_expressions": 3, "seed": 5}
    recipe = Recipe(datasets=("mevis",), data_dirs=data, augmentation={"flip_probability": 1.0}, **settings)
    recipe.pseudo_videos = {"rotation": 1}
    clips = training_clips(recipe)
    assert isinstance(clips, ReferringClips)
    assert (clips.seed, clips.reverse_probability, clips.max_expressions) == (5, 1.0, 3)
    assert (clips.sampling, clips.augmentation.flip_probability) == ("anchors", 1.0)
    assert clips.pseudo_video_options == {"rotation": 1}
    assert len(clips[0, 0, 2]["frames"]) == 2


def test_data_sets_are_put_together(data):
    recipe = Recipe(datasets=("mevis", "ref_youtube_vos"), data_dirs=data, clip_lengths=(2,), clip_sampling="windows")
    clips = training_clips(recipe)
    assert isinstance(clips, ConcatClips)
    assert [part.name for part in clips.parts] == ["mevis", "ref_youtube_vos"]
    assert {part.sampling for part in clips.parts} == {"windows"}


def test_data_sets_are_seen_by_weight(data):
    recipe = Recipe(datasets=("mevis", "ref_youtube_vos"), data_dirs=data, clip_lengths=(2,))
    recipe.dataset_weights = {"mevis": 1, "ref_youtube_vos": 0.5}
    clips = training_clips(recipe)
    assert clips.counts == [len(clips.parts[0]), round(len(clips.parts[0]) / 2)]
    recipe.dataset_weights.pop("mevis")
    with pytest.raises(ValueError, match="dataset_weights has no weight of mevis"):
        training_clips(recipe)


def test_one_weight_stands_for_the_three_refcoco(data, tmp_path):
    sentence_roots.write_refcoco(tmp_path)
    recipe = Recipe(datasets=("mevis", "refcoco"), data_dirs=data | {"refcoco": str(tmp_path)}, clip_lengths=(2,))
    recipe.datasets += ("refcoco",)
    recipe.dataset_weights = {"mevis": 1, "refcoco": 0.5}
    clips = training_clips(recipe)
    assert [type(part) for part in clips.parts] == [ReferringClips, ConcatClips]
    assert clips.counts == [len(clips.parts[0]), round(len(clips.parts[0]) / 2)]


@pytest.mark.parametrize("model_type, is_apart", [("ssa", True), ("soc", False)])
def test_objects_are_apart_for_models_that_learn_them_so(data, model_type, is_apart):
    recipe = Recipe(datasets=("mevis",), data_dirs=data, clip_lengths=(2,))
    assert ("object_masks" in training_clips(recipe, model_type)[0, 0, 2]) == is_apart
    drawn = training_clips(Recipe(subset="all"), model_type)
    assert ("object_masks" in drawn[0, 0, 4]) == is_apart and drawn.config.subset == "all"


def test_data_sets_with_labels_of_one_frame_are_not_put_together_with_others(data):
    recipe = Recipe(datasets=("mevis", "a2d_sentences"), data_dirs=data, clip_lengths=(2,))
    with pytest.raises(ValueError, match="cannot be learned from together"):
        training_clips(recipe)


@pytest.mark.parametrize("model_type, placement", [("soc", "middle"), ("sgmg", "first")])
def test_labels_of_one_frame_are_placed_as_the_model_is_evaluated(data, model_type, placement):
    recipe = Recipe(datasets=("a2d_sentences",), data_dirs=data, clip_lengths=(2,))
    assert training_clips(recipe, model_type).placement == placement


def test_options_of_a_data_set_reach_its_rows(data):
    options = {"ref_youtube_vos": {"unknown": 1}}
    with pytest.raises(ValueError, match="datasets, ref_youtube_vos: unknown: is no option"):
        training_clips(Recipe(datasets=("ref_youtube_vos",), data_dirs=data, dataset_options=options))


def test_a_recipe_is_scored_on_moving_shapes_or_what_it_names(data):
    drawn = evaluation_benchmark(Recipe(evaluation_videos=3))
    assert (drawn.name, drawn.split, drawn.limit) == ("moving_shapes", "val", 3)
    evaluation = {"dataset": "mevis", "split": "valid_u", "limit": 1, "protocol": "per-expression"}
    named = evaluation_benchmark(Recipe(evaluation=evaluation, data_dirs=data))
    assert (named.name, named.split, named.limit, named.protocol) == ("mevis", "valid_u", 1, "per-expression")
    assert str(named.data_dir) == data["mevis"]


def test_a_step_is_collated_in_batches():
    assert StepCollator(tuple, 2)([1, 2, 3, 4]) == [(1, 2), (3, 4)]


def test_an_sgmg_can_go_on_as_a_fast_one(tmp_path, text_encoder, backbone):
    settings = {key: value for key, value in MODEL.items() if hasattr(SocConfig(), key) and "cluster" not in key}
    recipe = Recipe(model={"model_type": "sgmg", **settings}, pretrained_backbone=backbone)
    recipe.pretrained_text_encoder = text_encoder
    model, processor = build_model_and_processor(recipe)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    fast, _ = build_model_and_processor(Recipe(pretrained=str(tmp_path), model={"model_type": "fast_sgmg"}))
    assert fast.config.model_type == "fast_sgmg"
    assert torch.equal(fast.class_heads[0].weight, model.class_heads[0].weight)
