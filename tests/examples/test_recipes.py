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
"""The recipes say what the documentation says, and each of them trains and evaluates."""

import dataclasses
import itertools
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, RobertaConfig, RobertaModel, TimmBackbone, TimmBackboneConfig

from examples import train
from hf_rvos.auto import AutoModelForReferringVideoSegmentation
from hf_rvos.backbones import BACKBONE_NAMES, backbone_config
from hf_rvos.data.moving_shapes import vocabulary
from hf_rvos.models.ssa.open_clip import read_tower
from hf_rvos.models.video_swin import VideoSwinBackbone
from hf_rvos.processing import build_word_tokenizer
from hf_rvos.training.building import build_model_and_processor
from hf_rvos.training.recipe import Recipe, read_recipe
from tests.data.roots import mevis, ref_davis17, ref_youtube_vos
from tests.data.sentence_roots import write_a2d, write_refcoco
from tests.parity.official_weights import official_state_dict


ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "examples" / "recipes"
DOCS = ROOT / "docs/source/en"
NAMES = sorted(
    path.stem
    for pattern in ("*_video_swin_t_*.yaml", "ssa_convnext_l_*.yaml")
    for path in RECIPES.glob(pattern)
    if not path.stem.endswith("_one_gpu")
)
# What the table calls them.
DATA = {
    ("refcoco", "refcoco+", "refcocog"): "RefCOCO/+/g",
    ("ref_youtube_vos",): "Ref-YouTube-VOS",
    ("refcoco", "refcoco+", "refcocog", "ref_youtube_vos"): "RefCOCO/+/g and Ref-YouTube-VOS",
    ("a2d_sentences",): "A2D-Sentences",
    ("mevis",): "MeViS",
    ("mevis", "ref_youtube_vos"): "MeViS and Ref-YouTube-VOS",
    ("ref_youtube_vos", "refcoco", "refcoco+", "refcocog"): "Ref-YouTube-VOS and RefCOCO/+/g",
}
FRAMES = {"anchors": "around an anchor", "windows": "in a row", "neighbors": "near a random one"}


def read(name):
    return read_recipe([RECIPES / f"{name}.yaml"])


def table():
    """Rows of the table in the documentation, as dicts by title."""
    lines = (DOCS / "tasks/recipes.md").read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| recipe | starts from |"))
    table_lines = itertools.takewhile(lambda line: line.startswith("|"), lines[start:])
    titles, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table_lines)
    return [dict(zip(titles, row, strict=True)) for row in rows]


def number(value):
    """`2.5e-5` and the like."""
    if value == 0:
        return "-"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def sizes(augmentation):
    sides = augmentation["short_sides"]
    text = str(sides[0]) if len(sides) == 1 else f"{min(sides)} to {max(sides)}"
    text += f", at most {augmentation['max_long_side']}"
    if augmentation.get("crop_probability"):
        text += f"; {100 * augmentation['crop_probability']:.0f} % cropped"
    return text


def cells(name):
    """What the table must say of a recipe."""
    recipe = read(name)
    (length,) = recipe.clip_lengths
    frames = f"{length} {FRAMES[recipe.clip_sampling]}"
    drops = recipe.lr_drops or recipe.lr_drop_steps
    drops = f", x{recipe.lr_drop_factor:g} after {' and '.join(map(str, drops))}" if drops else ""
    weights = " : ".join(f"{weight:g}" for weight in recipe.dataset_weights.values())
    start = "CLIP" if recipe.pretrained_clip else "Kinetics, RoBERTa"
    rates = (recipe.learning_rate, recipe.backbone_learning_rate, recipe.text_encoder_learning_rate)
    source = re.search(r"^# Source: (.+)\.$", (RECIPES / f"{name}.yaml").read_text(encoding="utf-8"), re.M)
    return {
        "recipe": f"`{name}`",
        "starts from": "its pre-training" if recipe.pretrained else start,
        "data": DATA[recipe.datasets] + (f", {weights}" if weights else ""),
        "frames": "1" if length == 1 else frames,
        "clips": f"{recipe.batch_size} x {recipe.num_processes}",
        "epochs or steps": f"{recipe.num_epochs or f'{recipe.max_train_steps} steps'}{drops}",
        "rates": " / ".join(map(number, rates)),
        "weight decay": number(recipe.weight_decay),
        "clipping": f"{recipe.max_grad_norm:g}",
        "text encoder": "trained" if rates[2] else "frozen",
        "shorter side": sizes(recipe.augmentation),
        "flip": f"{recipe.augmentation['flip_probability']:g}",
        "source": source[1],
    }


def test_table_lists_every_recipe_once():
    listed = [row["recipe"].strip("`") for row in table()]
    assert sorted(listed) == NAMES
    assert len(NAMES) == 22


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_of_the_table_is_what_the_recipe_does(name):
    (row,) = [row for row in table() if row["recipe"] == f"`{name}`"]
    assert row == cells(name)


TURNED = {"rotation": 15} | dict.fromkeys(
    ("translation", "perspective", "blur_probability", "brightness", "hue_saturation"), 0
)
COLORS = {"photometric_probability": 0.5, "brightness": 32}
CROPS = {"crop_probability": 0.5, "crop_short_sides": [400, 500, 600], "crop_range": [384, 600]}
PICTURE_CROPS = CROPS | {"cropped_short_sides": [296, 328, 360, 392, 416, 448, 480, 512], "cropped_max_long_side": 640}
REFERFORMER_COLORS = COLORS | {
    "contrast": [0.5, 1.5],
    "saturation": [0.5, 1.5],
    "hue": 18,
    "channel_shuffle_probability": 0.5,
}
SGMG_COLORS = COLORS | {"contrast": [0.8, 1.2], "saturation": [0.8, 1.2], "channel_shuffle_probability": 0.2}
FILE_DATASETS = ("ref_youtube_vos", "ref_davis17", "a2d_sentences", "refcoco", "mevis")
IN_TABLE = ("flip_probability", "short_sides", "max_long_side")


@pytest.mark.parametrize("name", NAMES)
def test_what_the_table_leaves_out_is_as_published(name):
    recipe = read(name)
    model, is_of_pictures = re.split("_video|_convnext", name)[0], recipe.clip_lengths == (1,)
    colors = {"referformer": REFERFORMER_COLORS, "soc": {}, "ssa": {}}.get(model, SGMG_COLORS)
    crops = {} if model == "soc" else PICTURE_CROPS if is_of_pictures and model != "ssa" else CROPS
    expected = crops if is_of_pictures else colors | crops
    if "sgmg" in model and not is_of_pictures and "a2d" not in name:
        expected = expected | {"photometric_after_resize": True}
    assert {key: value for key, value in recipe.augmentation.items() if key not in IN_TABLE} == expected
    is_reversed = "sgmg" in model and recipe.datasets == ("ref_youtube_vos",)
    assert recipe.reverse_probability == (0.3 if is_reversed else 0)
    assert recipe.max_expressions == (4 if model == "fast_sgmg" else 1)
    assert recipe.decay_biases_and_norms and recipe.warmup == 0
    drops = recipe.lr_drops or recipe.lr_drop_steps
    assert drops or recipe.final_learning_rate == 1  # without drops rates would follow a cosine
    assert recipe.undecayed == (("norm", "embedding", "positions") if model == "ssa" else ())
    pseudo_videos = {"soc_video_swin_t_joint": {"hue_saturation": 0}, "ssa_convnext_l_ref_youtube_vos": TURNED}
    assert recipe.pseudo_videos == pseudo_videos.get(name, {})
    if model == "ssa" and not recipe.pretrained:
        assert recipe.model.get("multi_target", False) == ("mevis" in name)


@pytest.mark.parametrize("name", NAMES)
def test_variant_for_one_gpu_takes_the_same_steps(name):
    several, one = (dataclasses.asdict(read(variant)) for variant in (name, f"{name}_one_gpu"))
    assert one["num_processes"] == 1
    clips = [
        recipe["batch_size"] * recipe["num_processes"] * recipe["gradient_accumulation_steps"]
        for recipe in (several, one)
    ]
    assert clips[0] == clips[1]
    different = {key for key in several if several[key] != one[key]}
    assert different == {"num_processes", "gradient_accumulation_steps", "gradient_checkpointing"}


@pytest.mark.parametrize("name", [name for name in NAMES if read(name).pretrained])
def test_fine_tuning_starts_from_where_pre_training_ends(name):
    recipe = read(name)
    start = Path(recipe.pretrained)
    assert (start.name, str(start.parent)) == ("final", read(start.parent.name).output_dir)
    assert recipe.reset_class_heads == (not name.startswith("ssa"))


@pytest.mark.parametrize("name", NAMES)
def test_results_of_a_recipe_lie_under_its_name(name):
    assert read(name).output_dir == f"outputs/{name}"


@pytest.mark.parametrize("path", sorted((RECIPES / "backbones").glob("*.yaml")), ids=lambda path: path.stem)
def test_backbone_of_a_second_recipe_is_the_published_one(path):
    recipe = read_recipe([RECIPES / "referformer_video_swin_t_refcoco_pretraining.yaml", path])
    described = AutoConfig.for_model(**recipe.model["backbone_config"]).to_dict()
    assert described == backbone_config(path.stem).to_dict()
    assert recipe.pretrained_backbone != read("referformer_video_swin_t_refcoco_pretraining").pretrained_backbone
    assert recipe.model["model_type"] == "referformer"


def test_there_is_a_second_recipe_for_every_backbone_but_the_default_one():
    names = {path.stem.replace("_", "-") for path in (RECIPES / "backbones").glob("*.yaml")}
    assert names == set(BACKBONE_NAMES) - {"video-swin-t"}


def test_every_key_of_a_recipe_is_documented():
    text = (DOCS / "tasks/train.md").read_text(encoding="utf-8")
    keys = text[text.index("## Keys") : text.index("## What a run writes")]
    documented = set(re.findall(r"`(\w+)`", " ".join(line.split("|")[1] for line in keys.splitlines() if "|" in line)))
    assert documented == {field.name for field in dataclasses.fields(Recipe)}


def test_files_that_the_documentation_names_are_there():
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md"))
    named = set(re.findall(r"examples/[\w./-]+\.(?:yaml|py)", text))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


SMALL_MODEL = {
    "hidden_size": 64,  # GroupNorm with 32 groups needs two numbers in each, also in a map of one cell
    "num_queries": 2,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "attention_heads": 2,
    "fusion_attention_heads": 2,
    "encoder_points": 1,
    "decoder_points": 1,
    "feedforward_size": 16,
}
SMALL_MODELS = {
    "referformer": {"mask_feature_size": 8},
    "soc": {
        "hidden_size": 128,
        "cluster_encoder_layers": 1,
        "cluster_decoder_layers": 1,
        "cluster_attention_heads": 2,
        "cluster_feedforward_size": 16,
    },
    "sgmg": {},
    "fast_sgmg": {},
}
# Its towers have the sizes of a small CLIP, which is stored for other tests.
SMALL_SSA = {
    "backbone_config": {"model_type": "convnext", "hidden_sizes": [24, 32, 48, 80], "depths": [1, 1, 2, 1]},
    "text_config": {
        "model_type": "clip_text_model",
        "vocab_size": 128,
        "hidden_size": 64,
        "intermediate_size": 256,
        "projection_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },
    "hidden_size": 32,
    "mask_size": 16,
    "num_queries": 3,
    "adapter_size": 16,
    "adapter_attention_heads": 2,
    "encoder_layers": 1,
    "encoder_feedforward_size": 16,
    "decoder_layers": 2,
    "video_decoder_layers": 1,
    "attention_heads": 2,
    "feedforward_size": 16,
    "num_points": 64,
}
SMALL_FRAMES = {
    "short_sides": [64],
    "max_long_side": 96,
    "crop_short_sides": [80],
    "crop_range": [56, 80],
    "cropped_short_sides": [64],
    "cropped_max_long_side": 96,
}


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    """Folders of a small backbone and a small text encoder, in place of the published ones."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    sizes = {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": (2, 2, 2)}
    VideoSwinBackbone(backbone_config("video-swin-t", **sizes)).save_pretrained(folder / "backbone")
    tokenizer = build_word_tokenizer(vocabulary(), 32)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
    )
    RobertaModel(config).save_pretrained(folder / "text")
    tokenizer.save_pretrained(folder / "text")
    return {"pretrained_backbone": str(folder / "backbone"), "pretrained_text_encoder": str(folder / "text")}


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """Folder of a small CLIP as OpenCLIP publishes it, with a tokenizer of few words."""
    folder = tmp_path_factory.mktemp("clip")
    weights = official_state_dict(ROOT / "tests/fixtures/parity/ssa/tiny.keys.json", seed=0)
    prefix = "backbone.clip_model."
    weights = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    save_file(weights, folder / "open_clip_model.safetensors")
    build_word_tokenizer(vocabulary()[:100], 32).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def small_roots(tmp_path_factory):
    """Folders of the data sets, as `data_dirs` has them, and the split of RefCOCO to evaluate on."""
    folder = tmp_path_factory.mktemp("roots")
    ref_youtube_vos(folder / "ref_youtube_vos")
    ref_davis17(folder / "davis")
    write_a2d(folder / "a2d")
    write_refcoco(folder / "coco")
    for name, split_by in (("refcoco+", "unc"), ("refcocog", "umd")):
        shutil.copytree(folder / "coco" / "refcoco", folder / "coco" / name)
        (folder / "coco" / name / "refs(unc).p").rename(folder / "coco" / name / f"refs({split_by}).p")
    mevis(folder / "mevis")
    places = ("ref_youtube_vos", "davis/converted", "a2d", "coco", "mevis")
    return {name: folder / place for name, place in zip(FILE_DATASETS, places, strict=True)}, "testA"


@pytest.fixture(scope="session")
def mini_roots(shared_dir):
    """The same for the miniature data sets of the shared folder."""
    places = ("ref_youtube_vos", "ref_davis/converted", "a2d_sentences", "refcoco", "mevis")
    folder = shared_dir / "data" / "mini"
    return {name: folder / place for name, place in zip(FILE_DATASETS, places, strict=True)}, "val"


@pytest.fixture(scope="session")
def run(tmp_path_factory, parts, clip):
    """Train a recipe for a step with a small model on small frames, after its pre-training, and give its folder."""
    finished = {}

    def call(name, roots, variant=""):
        folders, split = roots
        key = name, variant, str(folders["refcoco"])
        if key in finished:
            return finished[key]
        folder = finished[key] = tmp_path_factory.mktemp(name)
        recipe = read(name)
        dirs = {dataset: str(folders[dataset]) for dataset in recipe.data_dirs}
        evaluation = {"data_dir": str(folders[recipe.evaluation["dataset"]]), "limit": 1}
        if recipe.evaluation["dataset"] == "refcoco":
            evaluation["split"] = split
        changes = {
            "output_dir": str(folder),
            "num_processes": None,
            "batch_size": 1,
            "num_workers": 0,
            "max_train_steps": 1,
            "evaluation_epochs": None,
            "evaluation_minutes": None,
            "checkpointing_minutes": None,
            "data_dirs": dirs,
            "evaluation": {**recipe.evaluation, **evaluation},
            "augmentation": {**recipe.augmentation, **SMALL_FRAMES},
            "inference_size": [64, 96],
        }
        if recipe.pretrained:
            start = call(Path(recipe.pretrained).parent.name, roots, variant)
            changes |= {"pretrained": str(start / "final")}
        elif recipe.pretrained_clip:
            changes |= {"pretrained_clip": clip, "model": recipe.model | SMALL_SSA}
        else:
            model_type = recipe.model["model_type"]
            changes |= parts | {"model": recipe.model | SMALL_MODEL | SMALL_MODELS[model_type]}
        if variant:
            changes |= {"gradient_accumulation_steps": 2}
        recipe = read_recipe([RECIPES / f"{name}{variant}.yaml"], changes.items())
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ACCELERATE_USE_CPU", "true")
            train.train(train.ReferringTask, recipe, None)
        return folder

    return call


def check_run(folder, name, parts, clip):
    results = json.loads((folder / "all_results.json").read_text())
    assert results["steps"] == 1
    scores = results["val"]
    assert 0 <= scores.get("j_and_f", scores.get("overall_iou")) <= 100
    # What was frozen is as it was, what was not has moved.
    recipe = results["recipe"]
    trained = AutoModelForReferringVideoSegmentation.from_pretrained(folder / "final").state_dict()
    if recipe["pretrained"]:
        start = AutoModelForReferringVideoSegmentation.from_pretrained(recipe["pretrained"]).state_dict()
    elif recipe["pretrained_clip"]:
        towers = {part: read_tower(part, clip) for part in ("backbone", "text_encoder")}
        start = {f"model.{part}.{key}": value for part, tower in towers.items() for key, value in tower.items()}
    else:
        start = RobertaModel.from_pretrained(parts["pretrained_text_encoder"]).state_dict()
        start = {f"model.text_encoder.{key}": value for key, value in start.items()}
        backbone = VideoSwinBackbone.from_pretrained(parts["pretrained_backbone"]).state_dict()
        start |= {f"model.backbone.{key}": value for key, value in backbone.items()}
    # Adapters of a new model are new themselves.
    names = {"text_encoder", "backbone", "adapters"} & {key.split(".")[1] for key in start}
    moved = dict.fromkeys(names, False)
    for key in trained.keys() & start.keys():
        part = key.split(".")[1]
        if part in moved:
            moved[part] |= not torch.equal(trained[key], start[key])
    expected = {"text_encoder": cells(name)["text encoder"] == "trained", "backbone": not name.startswith("ssa")}
    assert moved == expected | dict.fromkeys(moved.keys() - expected.keys(), True)


@pytest.mark.parametrize("name", NAMES)
def test_recipe_trains_and_evaluates(name, run, small_roots, parts, clip):
    check_run(run(name, small_roots), name, parts, clip)


def test_new_model_starts_from_a_saved_resnet_whose_stem_stays(parts, tmp_path):
    saved = TimmBackbone(TimmBackboneConfig(backbone="resnet10t", out_indices=[1, 2, 3, 4], freeze_batch_norm_2d=True))
    saved.save_pretrained(tmp_path)
    changes = parts | {"pretrained_backbone": str(tmp_path), "model.hidden_size": 32, "num_processes": None}
    recipe = read_recipe([RECIPES / "referformer_video_swin_t_refcoco_pretraining.yaml"], changes.items())
    model, _ = build_model_and_processor(recipe)
    backbone = model.base_model.backbone
    for name, value in saved.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], value), name
    stages = {name.split(".")[1] for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert stages == {"layer2", "layer3", "layer4"}


@pytest.mark.slow  # two to four seconds of a core each, on top of the ones above
@pytest.mark.parametrize("name", NAMES)
def test_variant_for_one_gpu_trains_and_evaluates_on_the_shared_data(name, run, mini_roots, parts, clip):
    check_run(run(name, mini_roots, "_one_gpu"), name, parts, clip)


@pytest.mark.slow  # four trainings of a step and three evaluations, a quarter of a minute
def test_tiny_ssa_goes_through_all_its_stages(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.syspath_prepend(ROOT / "examples")
    from pretrain_backbone import AttributeTask

    changes = {"max_train_steps": 1, "num_workers": 0, "num_videos": 40, "evaluation_videos": 1, "batch_size": 1}
    backbone = [RECIPES / "convnext_tiny_pictures.yaml"]
    train.train(AttributeTask, read_recipe(backbone, (changes | {"output_dir": str(tmp_path / "0")}).items()), None)
    changes |= {"gradient_accumulation_steps": 1, "pretrained_backbone": str(tmp_path / "0" / "final")}
    for number, stage in enumerate(sorted(RECIPES.glob("ssa_tiny_?_*.yaml")), start=1):
        changes["output_dir"] = str(tmp_path / str(number))
        recipe = read_recipe([stage, RECIPES / "ssa_tiny.yaml"], changes.items())
        train.train(train.ReferringTask, recipe, None)
        changes |= {"pretrained": str(tmp_path / str(number) / "final")}
    trained = AutoModelForReferringVideoSegmentation.from_pretrained(tmp_path / "3" / "final").model
    saved = load_file(tmp_path / "0" / "final" / "model.safetensors")
    for name, value in trained.backbone.state_dict().items():
        torch.testing.assert_close(value, saved[name], atol=1e-3, rtol=1e-3)  # saved as float16
