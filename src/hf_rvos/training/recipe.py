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
"""Recipes: all settings of a training, read from YAML files and the command line and checked before any work."""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from inspect import Parameter, signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

import hf_rvos  # noqa: F401 (registers the models)
from hf_rvos.data.augmentation import ClipAugmentation
from hf_rvos.data.loading import DATASETS
from hf_rvos.data.moving_shapes import SKILLS
from hf_rvos.data.moving_shapes.config import SUBSETS
from hf_rvos.data.pseudo_videos import pseudo_video
from hf_rvos.data.referring_clips import SAMPLINGS


EVALUATION_KEYS = ("dataset", "data_dir", "split", "limit", "protocol", "window")


@dataclass
class Recipe:
    """Every setting of a training. A recipe file has the same keys."""

    output_dir: str = "outputs/train"
    model: dict = field(default_factory=dict)  # the model's configuration, `model_type` included
    pretrained: str | None = None  # saved model to start from; `model` then only says what is to be different
    reset_class_heads: bool = False  # leave those of `pretrained` out, which new ones of `model.num_classes` replace
    pretrained_backbone: str | None = None  # that a new model starts with, as saved by pretrain_backbone.py
    pretrained_text_encoder: str | None = None  # that a new model starts with, a saved RoBERTa and its tokenizer
    pretrained_clip: str | None = None  # in place of both for SSA, with its tokenizer, as OpenCLIP publishes it
    max_tokens: int = 32  # longest expression for a new model of Moving Shapes, whose tokenizer is one of words
    gradient_checkpointing: bool = False  # less memory and more time: layers are run again in the backward pass
    seed: int = 42
    num_processes: int | None = None  # that the recipe is meant for; with any other number it ends at once

    # Data: a batch is per process.
    datasets: tuple[str, ...] = ("moving_shapes",)  # names of `hf_rvos.data.load_dataset`, learned from together
    data_dirs: dict = field(default_factory=dict)  # folder of each; one of the three RefCOCO stands for all
    dataset_options: dict = field(default_factory=dict)  # for each, what `load_dataset` is given as well
    dataset_weights: dict = field(default_factory=dict)  # how often each is seen, not by its size; refcoco: all three
    split: str = "train"
    batch_size: int = 4  # clips, each with all its expressions
    clip_lengths: tuple[int, ...] = (8,)  # frames; steps take the lengths in turns
    # Shorter side in evaluation and in use, or [shorter, at most]; null is that of Moving Shapes in training, or that
    # of the processor.
    inference_size: Any = None
    num_workers: int = 2

    # Data sets of files. A clip is an anchor frame with others around it, a window of consecutive frames, or a random
    # frame with others near it.
    clip_sampling: str = "anchors"
    reverse_probability: float = 0.0  # how often a clip runs backwards
    max_expressions: int = 1  # of one video that a clip may have
    augmentation: dict | None = None  # arguments of `ClipAugmentation`; null changes nothing
    pseudo_videos: dict = field(default_factory=dict)  # arguments of `pseudo_video`, for pictures as longer clips

    # Moving Shapes, which are drawn.
    num_videos: int = 8000
    subset: str = "single"  # or "all", for models that learn sentences about several objects and about none
    skills: Any = None  # list of those to learn from, or a list for lengths of clips; null takes all
    max_stride: int | None = None  # largest distance between frames of a clip; null lets it span the video
    num_annotated: int | None = None  # frames of a clip, drawn at random, to predict; null predicts all
    max_group_size: int | None = None  # deal the expressions of a clip out to groups that a model answers together
    frame_size: tuple[int, ...] = (128, 192)  # height, width
    flip_probability: float = 0.5

    # Optimisation. The first end that is reached counts; progress runs from 0 to 1 with the one that is nearest.
    num_epochs: int | None = None
    max_train_steps: int | None = None
    max_train_minutes: float | None = None  # of this run and those it resumes, evaluation included
    learning_rate: float = 1e-4
    backbone_learning_rate: float = 5e-5
    text_encoder_learning_rate: float = 1e-5  # 0 freezes it
    weight_decay: float = 5e-4
    decay_biases_and_norms: bool = False  # which otherwise get no weight decay
    undecayed: tuple[str, ...] = ()  # parts of names of parameters that get none in any case
    adam_beta2: float = 0.999
    muon: bool = False  # for the matrices of linear layers; everything else is left to AdamW
    warmup: float = 0.02  # share of the progress
    final_learning_rate: float = 0.01  # share of the highest one, at the end of half a cosine
    lr_drops: tuple[int, ...] = ()  # epochs after which rates are multiplied by the factor, in place of the cosine
    lr_drop_steps: tuple[int, ...] = ()  # the same in steps
    lr_drop_factor: float = 0.1
    max_grad_norm: float = 0.1
    gradient_accumulation_steps: int = 1
    ema_decay: float = 0.0  # of the averaged weights, which are then what is evaluated and saved; 0 does without

    # Reports and results.
    logging_steps: int = 20
    checkpointing_steps: int | None = None
    checkpointing_minutes: float | None = 10
    evaluation: dict | None = None  # dataset, data_dir, split, limit of videos, protocol, window; null: Moving Shapes
    evaluation_videos: int = 20  # of the val split of Moving Shapes
    evaluation_minutes: float | None = 20
    evaluation_epochs: int | None = None
    keep_best: str | None = None  # number of the evaluation whose highest value decides what is kept in `best`
    save_dtype: str = "float32"  # of the weights on disk; the model still loads as float32
    report_to: tuple[str, ...] = ()  # trackers that Accelerate knows, such as trackio, tensorboard and wandb
    push_to_hub: bool = False  # upload `final` at the end
    hub_model_id: str | None = None


_FIELDS = {entry.name: entry for entry in fields(Recipe)}
# Smallest value that makes sense.
_AT_LEAST = {
    **dict.fromkeys(("max_tokens", "num_processes", "batch_size", "max_group_size", "max_expressions"), 1),
    **dict.fromkeys(("num_videos", "max_stride", "num_annotated", "gradient_accumulation_steps", "logging_steps"), 1),
    **dict.fromkeys(("num_epochs", "max_train_steps", "checkpointing_steps", "evaluation_epochs"), 1),
    **dict.fromkeys(("clip_lengths", "frame_size", "lr_drops", "lr_drop_steps", "evaluation_videos"), 1),
    **dict.fromkeys(("learning_rate", "backbone_learning_rate", "text_encoder_learning_rate", "weight_decay"), 0),
    **dict.fromkeys(("num_workers", "max_train_minutes"), 0),
}
# Shares of a whole.
_SHARES = ("warmup", "final_learning_rate", "reverse_probability", "flip_probability", "ema_decay")
# Parts of a model that come from somewhere else, with their settings.
_SAVED_PARTS = {
    "pretrained_backbone": "backbone_config",
    "pretrained_text_encoder": "text_config",
}


def unknown(what: str, name: Any, known: Iterable[str], to: str = "") -> str:
    """The message that there is no such name, with the one that may have been meant."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"{what} {name!r} is not known; " + (
        f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}."
    )


def set_value(recipe: dict[str, Any], key: str, value: Any) -> None:
    """Set one recipe key, converted to the type of the field; with dots a key inside a mapping such as `model`."""
    name, *inner = str(key).split(".")
    if name not in _FIELDS or (inner and dict not in _kinds(_FIELDS[name].type)):
        raise ValueError(unknown("recipe key", key, _FIELDS))
    if inner:
        # Copies, since a recipe that is read again shares its parts.
        place = recipe[name] = dict(recipe.get(name) or {})
        for part in inner[:-1]:
            place[part] = dict(place.get(part) or {})
            place = place[part]
        place[inner[-1]] = value
        return
    try:
        recipe[name] = _convert(value, _FIELDS[name].type)
    except (TypeError, ValueError):
        annotation = _FIELDS[name].type
        expected = annotation.__name__ if isinstance(annotation, type) else str(annotation)
        raise ValueError(f"recipe key {key!r} is {value!r}, expected {expected}") from None


def _kinds(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)


def _convert(value: Any, annotation: Any) -> Any:
    kinds = _kinds(annotation)
    if annotation is Any or (value is None and NoneType in kinds):
        return value
    if value is None and dict in kinds:
        return {}
    if get_origin(annotation) is tuple:
        values = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_convert(entry, get_args(annotation)[0]) for entry in values)
    kind = kinds[0]
    if kind in (bool, dict):
        if not isinstance(value, kind):
            raise TypeError
        return value
    if isinstance(value, (bool, dict, list, tuple)) or value is None:
        raise TypeError
    # YAML reads 1e-4 as text.
    if kind is int and float(value) != int(float(value)):
        raise ValueError
    return int(float(value)) if kind is int else kind(value)


def check_model_settings(settings: Mapping[str, Any], config: PreTrainedConfig) -> None:
    """Raise `ValueError` for a setting that the configuration, or that of a part, lacks, which would be kept and do
    nothing, and for another `model_type` of a part, which would keep the settings of the one that is there."""
    for name, value in settings.items():
        if not hasattr(config, name):
            raise ValueError(
                unknown("model setting", name, config.to_dict()).replace(";", f" to {config.model_type};")
            )
        part = getattr(config, name)
        if isinstance(value, Mapping) and isinstance(part, PreTrainedConfig):
            if value.get("model_type", part.model_type) != part.model_type:
                raise ValueError(f"model setting {name} is of a {value['model_type']}, expected a {part.model_type}")
            check_model_settings(value, part)


def read_recipe(paths: Sequence[str | Path], changes: Iterable[tuple[str, Any]] = ()) -> Recipe:
    """Put recipe files together, later ones over earlier ones, then single keys.

    A file with the key `base` goes over the file of that name, which is relative to it. What is a mapping, such as
    `model`, is put together key by key; of everything else the last file has the say.

    Args:
        paths: YAML files.
        changes: Keys and values; with dots a key inside a mapping, such as `model.hidden_size`.

    Raises:
        ValueError: if a file cannot be read, or the recipe could not be trained.
    """
    values: dict[str, Any] = {}
    for path in paths:
        _update(values, Path(path), [])
    for key, value in changes:
        set_value(values, key, value)
    recipe = Recipe(**values)
    check_recipe(recipe)
    return recipe


def _update(values: dict[str, Any], path: Path, above: list[Path]) -> None:
    """Put a file, after its base, over the values; `above` are the files whose base it is."""
    if path.resolve() in above:
        chain = " -> ".join(entry.name for entry in [*above, path])
        raise ValueError(f"the recipe {path} is its own base: {chain}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read the recipe {path}: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"the recipe {path} is no mapping of keys to values")
    base = content.pop("base", None)
    if base is not None:
        _update(values, path.parent / str(base), [*above, path.resolve()])
    for key, value in content.items():
        try:
            if value is None and key == "model":
                continue
            merged = {**(values.get(key) or {}), **value} if isinstance(value, dict) else value
            set_value(values, key, merged)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def check_recipe(recipe: Recipe) -> None:
    """Raise `ValueError` if the recipe could not be trained, as far as that can be told without files."""
    if recipe.num_epochs is None and recipe.max_train_steps is None and recipe.max_train_minutes is None:
        raise ValueError("the recipe says no end: set max_train_steps or max_train_minutes or num_epochs")
    for name, least in _AT_LEAST.items():
        value = getattr(recipe, name)
        values = value if isinstance(value, tuple) else (value,)
        if any(entry is not None and entry < least for entry in values):
            raise ValueError(f"{name} is {value}, expected at least {least}")
    for name in _SHARES:
        if not 0 <= getattr(recipe, name) <= 1:
            raise ValueError(f"{name} is {getattr(recipe, name)}, expected a share from 0 to 1")
    if not recipe.max_grad_norm > 0:
        raise ValueError(
            f"max_grad_norm is {recipe.max_grad_norm}, expected a number above 0, such as .inf for no limit"
        )
    if not recipe.clip_lengths:
        raise ValueError("clip_lengths is empty, expected one length at least")
    if len(recipe.frame_size) != 2:
        raise ValueError(f"frame_size is {list(recipe.frame_size)}, expected height and width")
    for name, unit in (("lr_drops", "epochs"), ("lr_drop_steps", "steps")):
        drops = getattr(recipe, name)
        if list(drops) != sorted(set(drops)):
            raise ValueError(f"{name} is {list(drops)}, expected ascending numbers of {unit}")
    if recipe.lr_drops and recipe.lr_drop_steps:
        raise ValueError("lr_drops and lr_drop_steps: rates drop after epochs or after steps, leave one of them out")
    dtype = getattr(torch, recipe.save_dtype, None)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"save_dtype is {recipe.save_dtype!r}, expected float32, float16 or bfloat16")
    if recipe.push_to_hub and not recipe.hub_model_id:
        raise ValueError("push_to_hub: set hub_model_id to the name of the repository, such as user/model")
    _check_data(recipe)
    _check_model(recipe)


def _check_data(recipe: Recipe) -> None:
    if not recipe.datasets:
        raise ValueError(f"datasets is empty, expected some of {', '.join(DATASETS)}")
    evaluation = recipe.evaluation or {}
    for key in evaluation:
        if key not in EVALUATION_KEYS:
            raise ValueError(unknown("evaluation key", key, EVALUATION_KEYS))
    if recipe.evaluation is not None and not evaluation.get("dataset"):
        raise ValueError("evaluation names no data set: set evaluation.dataset, or evaluation to null")
    if other := sorted(recipe.dataset_weights.keys() - set(recipe.datasets)):
        raise ValueError(f"dataset_weights names {', '.join(other)}, expected some of {', '.join(recipe.datasets)}")
    for name, weight in recipe.dataset_weights.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < math.inf:
            raise ValueError(f"dataset_weights: that of {name} is {weight!r}, expected a number above 0")
    named = {"datasets": recipe.datasets, "data_dirs": recipe.data_dirs, "dataset_options": recipe.dataset_options}
    named["evaluation.dataset"] = [evaluation["dataset"]] if evaluation else []
    for key, names in named.items():
        for name in names:
            if name not in DATASETS:
                raise ValueError(unknown(f"{key}: the data set", name, DATASETS))
    if "moving_shapes" in recipe.datasets and len(recipe.datasets) > 1:
        raise ValueError("datasets: moving_shapes is drawn while training and learned from alone")
    if "moving_shapes" not in recipe.datasets and len(recipe.clip_lengths) > 1:
        raise ValueError(f"clip_lengths is {list(recipe.clip_lengths)}, expected one length for data sets of files")
    if "moving_shapes" not in recipe.datasets and recipe.flip_probability != _FIELDS["flip_probability"].default:
        raise ValueError("flip_probability flips clips of moving_shapes; set augmentation.flip_probability for others")
    for skills in recipe.skills.values() if isinstance(recipe.skills, dict) else [recipe.skills]:
        if not isinstance(skills, (list, tuple, NoneType)):
            raise ValueError(f"skills is {skills!r}, expected a list of some of {', '.join(SKILLS)}")
        for skill in skills or ():
            if skill not in SKILLS:
                raise ValueError(unknown("skills: the skill", skill, SKILLS))
    if recipe.subset not in SUBSETS:
        raise ValueError(f"subset is {recipe.subset!r}, expected one of {', '.join(SUBSETS)}")
    if recipe.clip_sampling not in SAMPLINGS:
        raise ValueError(f"clip_sampling is {recipe.clip_sampling!r}, expected one of {', '.join(SAMPLINGS)}")
    for name, arguments in (("augmentation", ClipAugmentation), ("pseudo_videos", pseudo_video)):
        known = [
            entry.name for entry in signature(arguments).parameters.values() if entry.default is not Parameter.empty
        ]
        for key in getattr(recipe, name) or ():
            if key not in known:
                raise ValueError(unknown(f"{name} key", key, known))
    try:
        ClipAugmentation(**recipe.augmentation or {})
    except (TypeError, ValueError) as error:
        raise ValueError(f"augmentation: {error}") from None


def _check_model(recipe: Recipe) -> None:
    if not recipe.pretrained and not recipe.model.get("model_type"):
        raise ValueError(
            "the recipe names no model: set model with its model_type, or pretrained to a saved one. Recipes of a "
            "stage leave that to a second one, as in --config tiny_1_appearance.yaml referformer_tiny.yaml"
        )
    if recipe.reset_class_heads and not recipe.pretrained:
        raise ValueError("reset_class_heads: there are none to reset; set pretrained to a saved model")
    if recipe.pretrained_clip and recipe.model.get("model_type") != "ssa":
        raise ValueError("pretrained_clip: only a new model of type ssa has the towers of CLIP")
    if recipe.pretrained_clip and (recipe.pretrained_backbone or recipe.pretrained_text_encoder):
        raise ValueError("pretrained_clip stands for pretrained_backbone and pretrained_text_encoder, leave those out")
    if "model_type" in recipe.model:
        model_type = recipe.model["model_type"]
        if model_type not in CONFIG_MAPPING:
            raise ValueError(f"model_type {model_type!r} is not known to hf_rvos or transformers")
        config = AutoConfig.for_model(model_type)
        parts = {
            name
            for name, value in recipe.model.items()
            if isinstance(value, dict) and isinstance(getattr(config, name, None), PreTrainedConfig)
        }
        settings = {name: value for name, value in recipe.model.items() if name not in parts}
        check_model_settings(settings, config)
        if recipe.pretrained:  # whose parts are compared with the recipe when it is read
            return
        for name in parts - {part for key, part in _SAVED_PARTS.items() if getattr(recipe, key)}:
            settings[name] = recipe.model[name]
            # Of the backbone it has to be said, since there are several; the language has one encoder.
            default = None if name == "backbone_config" else getattr(config, name).model_type
            part_type = settings[name].get("model_type", default)
            if part_type not in CONFIG_MAPPING:
                raise ValueError(f"model: {name} has model_type {part_type!r}, expected one that transformers knows")
            check_model_settings(settings[name], AutoConfig.for_model(part_type))
        try:
            AutoConfig.for_model(**settings)
        except StrictDataclassError as error:
            raise ValueError(f"model: {error}") from None
