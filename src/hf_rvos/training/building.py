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
"""From a recipe to the model, its processor, the clips it learns from and the videos it is scored on."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from huggingface_hub.errors import StrictDataclassError
from torch.utils.data import Dataset
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from hf_rvos.auto import AutoModelForReferringVideoSegmentation
from hf_rvos.backbones import freeze_stem, load_backbone
from hf_rvos.checkpoints import find_checkpoint
from hf_rvos.data.augmentation import ClipAugmentation
from hf_rvos.data.loading import load_dataset
from hf_rvos.data.moving_shapes import MovingShapesConfig, vocabulary
from hf_rvos.data.moving_shapes_clips import MovingShapesClips
from hf_rvos.data.referring_clips import ConcatClips, MixedClips, ReferringClips
from hf_rvos.evaluation.protocols import DEFAULT_WINDOW, WINDOWS
from hf_rvos.evaluation.run import Benchmark
from hf_rvos.models.sgmg import FastSgMgForReferringVideoSegmentation
from hf_rvos.models.ssa.processing_ssa import build_video_processor
from hf_rvos.processing.processing_rvos import RvosProcessor
from hf_rvos.processing.video_processing_rvos import RvosVideoProcessor
from hf_rvos.processing.word_tokenizer import build_word_tokenizer
from hf_rvos.training.recipe import Recipe, check_model_settings


# They are about the pictures of one folder.
_REFCOCO = ("refcoco", "refcoco+", "refcocog")
# They learn sentences about several objects, each of which is a target, and about none.
_OBJECT_WISE = ("ssa",)


def build_model_and_processor(recipe: Recipe) -> tuple[PreTrainedModel, RvosProcessor]:
    """Make a new model, or load the one to start from, and say what of it was not loaded.

    Raises:
        ValueError: if saved weights cannot be read, or are not those of the model that the recipe describes.
    """
    if recipe.pretrained:
        model = _load_pretrained(recipe, find_checkpoint(recipe.pretrained))
        saved = _read("pretrained", recipe.pretrained, RvosProcessor.from_pretrained)
        tokenizer, video_processor = saved.tokenizer, saved.video_processor
    else:
        model, tokenizer = _build_new(recipe)
        video_processor = RvosVideoProcessor()
        if model.config.model_type == "ssa":
            # Backbones that do not come from CLIP have seen frames as all others have.
            colors = {name: getattr(video_processor, name) for name in ("image_mean", "image_std")}
            video_processor = build_video_processor(**({} if recipe.pretrained_clip else colors))
    size = recipe.inference_size
    if size is None and "moving_shapes" in recipe.datasets:
        size = min(recipe.frame_size)
    if size is not None:
        shorter, *longest = size if isinstance(size, (list, tuple)) else [size]
        edges = {"shortest_edge": shorter} | ({"longest_edge": longest[0]} if longest else {})
        video_processor = RvosVideoProcessor.from_dict(video_processor.to_dict() | {"size": edges})
    freeze_stem(model.base_model.backbone)
    if recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model, RvosProcessor(video_processor=video_processor, tokenizer=tokenizer)


def _read(key: str, source: str, load: Callable[..., Any], **options: Any) -> Any:
    """Load something saved, with one sentence of what is wrong if it is not there."""
    try:
        return load(find_checkpoint(source), **options)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{key}: cannot load {source!r}, expected a folder or a name of the hub: {reason}") from None


def _load_pretrained(recipe: Recipe, source: str) -> PreTrainedModel:
    config = _read("pretrained", recipe.pretrained, AutoConfig.from_pretrained)
    settings = {"model_type": config.model_type, **recipe.model}
    model_type = settings.pop("model_type")
    if (config.model_type, model_type) == ("sgmg", "fast_sgmg"):
        check_model_settings({name: value for name, value in settings.items() if hasattr(config, name)}, config)
        sgmg = AutoModelForReferringVideoSegmentation.from_pretrained(source, dtype=torch.float32)
        model = FastSgMgForReferringVideoSegmentation.from_sgmg(sgmg, **settings)
    elif config.model_type != model_type:
        raise ValueError(f"{recipe.pretrained} is a {config.model_type}, not a {model_type}")
    else:
        check_model_settings(settings, config)
        try:
            config = AutoConfig.from_pretrained(source, **settings)
        except StrictDataclassError as error:
            raise ValueError(f"model: {error}") from None
        model = load_model(
            "pretrained",
            source,
            AutoModelForReferringVideoSegmentation,
            "class_heads." * recipe.reset_class_heads,
            config,
        )
    if recipe.reset_class_heads:
        if not hasattr(model, "class_heads"):
            raise ValueError(f"reset_class_heads: a {model_type} has no class heads")
        # Of a new model, so that they begin as they do there.
        heads = AutoModelForReferringVideoSegmentation.from_config(model.config).class_heads
        model.class_heads.load_state_dict(heads.state_dict())
        PartialState().print("pretrained: the class heads are new")
    return model


def load_model(
    key: str, source: str, auto_class: Any, new: str = "", config: PreTrainedConfig | None = None
) -> PreTrainedModel:
    """Load weights as float32, and say which of the model they lack, or have beyond it.

    Args:
        key: Recipe key, for messages.
        source: Folder or name of the hub.
        auto_class: What loads it.
        new: Start of the names of tensors that may have another size; empty for none.
        config: Of the model, if not that in the folder.

    Raises:
        ValueError: if it cannot be read, or tensors have other sizes than in the model.
    """
    options = {"dtype": torch.float32, "output_loading_info": True, "ignore_mismatched_sizes": True}
    model, info = _read(key, source, auto_class.from_pretrained, **options, **({"config": config} if config else {}))
    wrong = sorted(entry for entry in info["mismatched_keys"] if not (new and entry[0].startswith(new)))
    if wrong:
        name, saved, built = wrong[0]
        raise ValueError(
            f"{key}: {len(wrong)} tensors of {source} do not fit the model, {name} for one is {tuple(saved)} there "
            f"and {tuple(built)} in the model; leave out what `model` says differently, or take other weights"
        )
    for names, what in ((info["missing_keys"], "not in the file, so new"), (info["unexpected_keys"], "left out")):
        if names:
            shown = ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")
            PartialState().print(f"{key}: {len(names)} tensors are {what}: {shown}")
    return model


def read_part_config(key: str, source: str, settings: Mapping[str, Any] | None) -> PreTrainedConfig:
    """Configuration of a saved part of a new model, with the settings that the recipe has for it.

    Raises:
        ValueError: if it cannot be read, or has no such settings.
    """
    settings = dict(settings or {})
    config = _read(key, source, AutoConfig.from_pretrained)
    model_type = settings.pop("model_type", config.model_type)
    if model_type != config.model_type:
        raise ValueError(f"{key}: {source} is a {config.model_type}, but the model of the recipe has a {model_type}")
    check_model_settings(settings, config)
    for name, value in settings.items():
        setattr(config, name, value)
    # In the new model it is a part without a folder of its own.
    config.architectures, config.name_or_path = None, ""
    return config


def _build_new(recipe: Recipe) -> tuple[PreTrainedModel, Any]:
    settings = dict(recipe.model)
    if recipe.pretrained_backbone:
        settings["backbone_config"] = read_part_config(
            "pretrained_backbone", recipe.pretrained_backbone, settings.get("backbone_config")
        )
    if recipe.pretrained_clip:
        tokenizer = _read("pretrained_clip", recipe.pretrained_clip, AutoTokenizer.from_pretrained)
    elif recipe.pretrained_text_encoder:
        settings["text_config"] = read_part_config(
            "pretrained_text_encoder", recipe.pretrained_text_encoder, settings.get("text_config")
        )
        tokenizer = _read("pretrained_text_encoder", recipe.pretrained_text_encoder, AutoTokenizer.from_pretrained)
    elif "moving_shapes" not in recipe.datasets:
        raise ValueError(
            f"a new model for {', '.join(recipe.datasets)} needs an encoder that knows the language: set "
            "pretrained_text_encoder, for example to roberta-base"
        )
    else:
        tokenizer = build_word_tokenizer(vocabulary(), recipe.max_tokens)
        settings["text_config"] = {
            "model_type": AutoConfig.for_model(settings["model_type"]).text_config.model_type,
            **(settings.get("text_config") or {}),
            "vocab_size": len(tokenizer),
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            # RoBERTa counts positions from the padding id on.
            "max_position_embeddings": recipe.max_tokens + tokenizer.pad_token_id + 1,
        }
    model = AutoModelForReferringVideoSegmentation.from_config(AutoConfig.for_model(**settings))
    if recipe.pretrained_backbone:
        fill_part("pretrained_backbone", recipe.pretrained_backbone, model.base_model.backbone)
    if recipe.pretrained_text_encoder:
        fill_part("pretrained_text_encoder", recipe.pretrained_text_encoder, model.base_model.text_encoder)
    if recipe.pretrained_clip:
        for name in ("backbone", "text_encoder"):
            weights = _read("pretrained_clip", recipe.pretrained_clip, partial(model.read_frozen_part, name))
            _load("pretrained_clip", recipe.pretrained_clip, getattr(model.base_model, name), weights)
    return model, tokenizer


def fill_part(key: str, source: str, part: PreTrainedModel) -> None:
    """Load weights as float32 into a part of a new model.

    Raises:
        ValueError: if they cannot be read, or do not fit.
    """
    if part.config.model_type == "timm_backbone":  # whose from_pretrained reads no folder
        saved = _read(key, source, load_backbone)
    else:
        saved = load_model(key, find_checkpoint(source), type(part))
    weights = saved.state_dict()
    if getattr(part, "pooler", True) is None:
        weights = {name: value for name, value in weights.items() if not name.startswith("pooler.")}
    _load(key, source, part, weights)


def _load(key: str, source: str, part: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> None:
    try:
        part.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise ValueError(f"{key}: {source} does not fit the model of the recipe: {reason}") from None


def data_dir(recipe: Recipe, name: str) -> str | None:
    """Folder of a data set, None for Moving Shapes.

    Raises:
        ValueError: if the recipe does not have it.
    """
    if name == "moving_shapes":
        return None
    for known in (name, *(_REFCOCO if name in _REFCOCO else ())):
        if recipe.data_dirs.get(known):
            return str(recipe.data_dirs[known])
    raise ValueError(
        f"data_dirs has no folder of {name}: add --override data_dirs.{name}=FOLDER, or set it in the recipe"
    )


def check_data_dirs(recipe: Recipe) -> None:
    """Raise `ValueError` if the recipe has no folder for one of its data sets, or there is no such folder."""
    evaluated = [] if recipe.evaluation is None else [evaluation_benchmark(recipe).data_dir]
    for folder in [*(data_dir(recipe, name) for name in recipe.datasets), *evaluated]:
        if folder is not None and not Path(folder).is_dir():
            raise ValueError(f"data_dirs, evaluation: {folder} is no folder")


class StepCollator:
    """Collates the clips of a step in batches, which are then accumulated.

    Args:
        collate: Makes a batch of samples.
        batch_size: Samples of a batch.
    """

    def __init__(self, collate: Callable[[list[Any]], Any], batch_size: int):
        self.collate, self.batch_size = collate, batch_size

    def __call__(self, samples: list[Any]) -> list[Any]:
        starts = range(0, len(samples), self.batch_size)
        return [self.collate(samples[start : start + self.batch_size]) for start in starts]


def training_clips(recipe: Recipe, model_type: str | None = None) -> Dataset:
    """The samples of an epoch, asked for by `(epoch, index, clip_length)`.

    Args:
        recipe: Names and options of the data.
        model_type: Of the model; windows around a single annotated frame were published for each.

    Raises:
        ValueError: if a data set is not there, or an option has no such value.
    """
    if "moving_shapes" in recipe.datasets:
        return MovingShapesClips(
            recipe.split,
            num_videos=recipe.num_videos,
            max_stride=recipe.max_stride,
            size=recipe.frame_size,
            flip_probability=recipe.flip_probability,
            seed=recipe.seed,
            skills=recipe.skills,
            num_annotated=recipe.num_annotated,
            config=MovingShapesConfig(subset=recipe.subset),
            max_group_size=recipe.max_group_size,
            object_masks=model_type in _OBJECT_WISE,
        )
    augmentation = None if recipe.augmentation is None else ClipAugmentation(**recipe.augmentation)
    parts = []
    for name in recipe.datasets:
        folder = data_dir(recipe, name)
        options = recipe.dataset_options.get(name) or {}
        try:
            rows = load_dataset(name, folder, split=recipe.split, **options)
        except ValueError as error:
            raise ValueError(f"datasets, {name}: {error}") from None
        parts.append(
            ReferringClips(
                rows,
                folder,
                recipe.clip_lengths[0],
                sampling=recipe.clip_sampling,
                augmentation=augmentation,
                seed=recipe.seed,
                reverse_probability=recipe.reverse_probability,
                max_expressions=recipe.max_expressions,
                placement=WINDOWS.get(model_type, DEFAULT_WINDOW)[1],
                pseudo_video_options=recipe.pseudo_videos,
                object_masks=model_type in _OBJECT_WISE,
            )
        )
    if len({part.has_single_labels for part in parts}) > 1:
        raise ValueError(
            f"datasets: {', '.join(recipe.datasets)} cannot be learned from together, since clips of some have labels "
            "of one frame only"
        )
    if recipe.dataset_weights:
        return _mix(recipe, parts)
    return parts[0] if len(parts) == 1 else ConcatClips(parts)


def _mix(recipe: Recipe, parts: list[ReferringClips]) -> MixedClips:
    groups: dict[str, list[ReferringClips]] = {}
    for name, part in zip(recipe.datasets, parts, strict=True):
        known = [name, *(_REFCOCO if name in _REFCOCO else ())]
        key = next((entry for entry in known if entry in recipe.dataset_weights), None)
        if key is None:
            raise ValueError(f"dataset_weights has no weight of {name}; give every data set one, or none")
        groups.setdefault(key, []).append(part)
    mixed = [group[0] if len(group) == 1 else ConcatClips(group) for group in groups.values()]
    return MixedClips(mixed, [recipe.dataset_weights[key] for key in groups], recipe.seed)


def evaluation_benchmark(recipe: Recipe) -> Benchmark:
    """What the model is scored on while it trains, and at the end.

    Raises:
        ValueError: if the recipe has no folder for it.
    """
    if recipe.evaluation is None:
        options = {"config_name": recipe.subset}
        return Benchmark("moving_shapes", None, "val", limit=recipe.evaluation_videos, options=options)
    settings = {"split": "val", "protocol": "official", **recipe.evaluation}
    name = settings.pop("dataset")
    folder = settings.pop("data_dir", None) or data_dir(recipe, name)
    options = recipe.dataset_options.get(name) or {}
    return Benchmark(name, None if folder is None else Path(folder), options=options, **settings)
