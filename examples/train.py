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
"""Train a model for referring video segmentation on Moving Shapes, from nothing but a recipe.

    accelerate launch --config_file examples/accelerate/cpu.yaml examples/train.py \
        --config examples/recipes/tiny_1_appearance.yaml examples/recipes/referformer_tiny.yaml

The second file adds its `model` settings to those of the first; of any other key the last file has the say. Every key
can be changed on the command line, and an interrupted run goes on where it stopped:

    ... --output_dir outputs/mine --override model.hidden_size=96 learning_rate=5e-4 --resume_from_checkpoint latest

Two processes on a CPU (`accelerate launch` would start only one):

    ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 examples/train.py --config ...

The output folder holds `log.jsonl`, `checkpoints/step_N`, the trained model with its processor in `final`, and
`all_results.json`.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object, set_seed
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset
from transformers import AutoConfig

import hf_rvos  # noqa: F401 (registers the models)
from hf_rvos.auto import AutoModelForReferringVideoSegmentation
from hf_rvos.benchmark import machine
from hf_rvos.data.collate import ClipCollator
from hf_rvos.data.moving_shapes import MovingShapesConfig, vocabulary
from hf_rvos.data.moving_shapes.builder import build_rows
from hf_rvos.data.moving_shapes_clips import MovingShapesClips
from hf_rvos.data.sampling import EpochBatchSampler
from hf_rvos.evaluation.prediction import ModelPredictor
from hf_rvos.evaluation.protocols import find_protocol
from hf_rvos.evaluation.reporting import markdown_table
from hf_rvos.processing.processing_rvos import RvosProcessor
from hf_rvos.processing.video_processing_rvos import RvosVideoProcessor
from hf_rvos.processing.word_tokenizer import build_word_tokenizer
from hf_rvos.training.optimization import build_optimizers, rate_factor, set_rates
from hf_rvos.training.recipe import Recipe, check_model_settings, read_recipe
from hf_rvos.utils.files import replace_when_done


def parse_arguments(description: str | None = None) -> tuple[Recipe, str | None]:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", nargs="+", default=[], help="recipe files (YAML), later ones over earlier ones")
    parser.add_argument("--override", nargs="+", default=[], metavar="KEY=VALUE", help="recipe keys to change")
    parser.add_argument("--resume_from_checkpoint", help="a checkpoint folder, or 'latest' of the output folder")
    for entry in fields(Recipe):
        if entry.name != "model":
            parser.add_argument(f"--{entry.name}", default=argparse.SUPPRESS, type=yaml.safe_load)
    given = vars(parser.parse_args())
    paths, overrides, resume = (given.pop(key) for key in ("config", "override", "resume_from_checkpoint"))
    try:
        changes = []
        for override in overrides:
            key, equals, value = override.partition("=")
            if not equals:
                raise ValueError(f"--override got {override!r}, expected KEY=VALUE")
            changes.append((key, yaml.safe_load(value)))
        recipe = read_recipe(paths, [*changes, *given.items()])
    except ValueError as error:
        parser.error(str(error))
    return recipe, resume


def build_model_and_processor(recipe: Recipe) -> tuple[torch.nn.Module, RvosProcessor]:
    video_processor = RvosVideoProcessor(size={"shortest_edge": recipe.inference_size or min(recipe.frame_size)})
    if recipe.pretrained:
        config = AutoConfig.from_pretrained(recipe.pretrained)
        settings = {"model_type": config.model_type, **recipe.model}
        if settings.pop("model_type") != config.model_type:
            raise ValueError(f"{recipe.pretrained} is a {config.model_type}, not a {recipe.model['model_type']}")
        check_model_settings(settings, config)
        config = AutoConfig.from_pretrained(recipe.pretrained, **settings)
        model = AutoModelForReferringVideoSegmentation.from_pretrained(
            recipe.pretrained, config=config, dtype=torch.float32
        )
        tokenizer = RvosProcessor.from_pretrained(recipe.pretrained).tokenizer
        return model, RvosProcessor(video_processor=video_processor, tokenizer=tokenizer)
    tokenizer = build_word_tokenizer(vocabulary(), recipe.max_tokens)
    settings = dict(recipe.model)
    if recipe.pretrained_backbone:
        settings["backbone_config"] = AutoConfig.from_pretrained(recipe.pretrained_backbone)
        # In the new model it is a part without a folder of its own.
        settings["backbone_config"].architectures, settings["backbone_config"].name_or_path = None, ""
    settings["text_config"] = {
        **settings["text_config"],
        "vocab_size": len(tokenizer),
        # RoBERTa counts positions from the padding id on.
        "max_position_embeddings": recipe.max_tokens + tokenizer.pad_token_id + 1,
    }
    model = AutoModelForReferringVideoSegmentation.from_config(AutoConfig.for_model(**settings))
    if recipe.pretrained_backbone:
        backbone_class = type(model.base_model.backbone)
        model.base_model.backbone = backbone_class.from_pretrained(recipe.pretrained_backbone, dtype=torch.float32)
    return model, RvosProcessor(video_processor=video_processor, tokenizer=tokenizer)


class ReferringTask:
    """Segment what a sentence says. Another task has the same members, see pretrain_backbone.py."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.model, self.processor = build_model_and_processor(recipe)
        # Clips of one size need no padding, and the published inference has none either.
        self.collate = ClipCollator(self.processor.tokenizer, pad_to_multiple_of=1)

    def dataset(self) -> Dataset:
        recipe = self.recipe
        return MovingShapesClips(
            "train",
            num_videos=recipe.num_videos,
            max_stride=recipe.max_stride,
            size=recipe.frame_size,
            flip_probability=recipe.flip_probability,
            seed=recipe.seed,
            skills=recipe.skills,
            num_annotated=recipe.num_annotated,
            max_group_size=recipe.max_group_size,
        )

    def evaluate(self, model: torch.nn.Module, accelerator: Accelerator) -> tuple[dict[str, Any], Any]:
        """Score on the val split; each process takes its share of the videos.

        Returns:
            Results for the log, and the same to print.
        """
        protocol, was_training = find_protocol("moving_shapes"), model.training
        predictor, results = ModelPredictor(model.eval(), self.processor), []
        for index in range(accelerator.process_index, self.recipe.evaluation_videos, accelerator.num_processes):
            results += protocol.score(build_rows("val", index, MovingShapesConfig()), None, predictor)
        model.train(was_training)
        summary = protocol.summarize(gather_object(results))
        return summary, markdown_table(summary, protocol.columns)

    def save(self, model: torch.nn.Module, folder: Path) -> None:
        model.save_pretrained(folder, state_dict=stored_weights(model, self.recipe.save_dtype))
        self.processor.save_pretrained(folder)

    def load(self, folder: Path, trained: torch.nn.Module) -> torch.nn.Module:
        """The model as saved; `trained` has what a task does not save."""
        return AutoModelForReferringVideoSegmentation.from_pretrained(folder)


def stored_weights(model: torch.nn.Module, dtype: str) -> dict[str, torch.Tensor]:
    """Only the numbers on disk are rounded: the configuration keeps float32, so the model loads and runs in that."""
    return {
        name: value.to(getattr(torch, dtype)) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }


class Clock:
    """Steps and seconds of a run, together with the runs it continues; what checkpoints keep beside the weights."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator, self.step, self.elapsed = accelerator, 0, 0.0
        self.restart()

    def restart(self) -> None:
        self.started = time.monotonic() - self.elapsed

    def tick(self) -> None:
        """Read the time. Processes must agree on it, since rates, evaluation and the end depend on it."""
        self.elapsed = time.monotonic() - self.started
        if self.accelerator.num_processes > 1:
            self.elapsed = broadcast_object_list([self.elapsed])[0]

    def progress(self, recipe: Recipe) -> float:
        by_steps = self.step / recipe.max_train_steps if recipe.max_train_steps else 0.0
        by_time = self.elapsed / 60 / recipe.max_train_minutes if recipe.max_train_minutes else 0.0
        return max(by_steps, by_time)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "elapsed": self.elapsed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.elapsed = state["step"], state["elapsed"]
        self.restart()


def checkpoint_folders(output_dir: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted((output_dir / "checkpoints").glob("step_*"), key=lambda path: int(path.name.split("_")[1]))


def save_checkpoint(accelerator: Accelerator, output_dir: Path, step: int) -> None:
    """Write beside and rename, so that a run killed at any moment leaves only complete checkpoints. Two are kept."""
    folder = output_dir / "checkpoints" / f"step_{step}"
    unfinished = folder.with_name(f"unfinished_{folder.name}")
    if accelerator.is_main_process:
        for leftover in folder.parent.glob("unfinished_*"):
            shutil.rmtree(leftover)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(unfinished))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)
        for old in checkpoint_folders(output_dir)[:-2]:
            shutil.rmtree(old)


def main() -> None:
    train(ReferringTask, *parse_arguments(__doc__))


def train(task_class: Callable[[Recipe], Any], recipe: Recipe, resume: str | None) -> None:
    """Train, evaluate and save what a task describes."""
    accelerator = Accelerator(gradient_accumulation_steps=recipe.gradient_accumulation_steps)
    if recipe.num_processes not in (None, accelerator.num_processes):
        raise ValueError(
            f"the recipe is meant for {recipe.num_processes} processes, this run has {accelerator.num_processes}; "
            "start it with that number, or set num_processes to null"
        )
    output_dir = Path(recipe.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    set_seed(recipe.seed)

    task = task_class(recipe)
    model = task.model
    optimizers = build_optimizers(model, recipe)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    num_trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    accelerator.print(f"{type(model).__name__} with {num_parameters:,} parameters on {accelerator.device}")

    def average(averaged: list[torch.Tensor], current: list[torch.Tensor], updates: torch.Tensor) -> None:
        # A young average forgets faster, or it would keep the random start.
        decay = min(recipe.ema_decay, (1 + int(updates)) / (10 + int(updates)))
        torch._foreach_lerp_(averaged, current, 1 - decay)

    ema = AveragedModel(model, device=accelerator.device, multi_avg_fn=average) if recipe.ema_decay else None
    model, *optimizers = accelerator.prepare(model, *optimizers)
    clock = Clock(accelerator)
    accelerator.register_for_checkpointing(clock, *([ema] if ema else []))

    if resume == "latest":
        resume = next(iter(checkpoint_folders(output_dir)[::-1]), None)
        accelerator.print(f"resuming from {resume}" if resume else "no checkpoint yet, starting anew")
    if resume:
        accelerator.load_state(str(resume))

    sampler = EpochBatchSampler(
        recipe.num_videos,
        recipe.batch_size,
        recipe.clip_lengths,
        recipe.seed,
        start=clock.step * recipe.gradient_accumulation_steps,
        process_index=accelerator.process_index,
        num_processes=accelerator.num_processes,
    )
    loader = DataLoader(
        task.dataset(),
        batch_sampler=sampler,
        num_workers=recipe.num_workers,
        collate_fn=task.collate,
        pin_memory=accelerator.device.type == "cuda",
    )

    def trained_model() -> torch.nn.Module:
        return ema.module if ema else accelerator.unwrap_model(model)

    def log(values: dict[str, Any]) -> None:
        if accelerator.is_main_process:
            with open(output_dir / "log.jsonl", "a") as file:
                file.write(json.dumps({"step": clock.step, "minutes": clock.elapsed / 60} | values) + "\n")

    model.train()
    batches = iter(loader)
    clock.restart()
    last_checkpoint = last_evaluation = clock.elapsed
    running, window_start, num_clips = {}, time.monotonic(), 0
    while clock.progress(recipe) < 1:
        rate = rate_factor(recipe, clock.progress(recipe), epoch=0)
        set_rates(optimizers, rate)
        for micro_step in range(recipe.gradient_accumulation_steps):
            batch = next(batches)
            video_ids = batch.pop("video_id")
            # Dropout depends on the step alone, so a resumed run repeats it.
            number = clock.step * recipe.gradient_accumulation_steps + micro_step
            torch.manual_seed(hash((recipe.seed, number, accelerator.process_index)))
            batch = move(batch, accelerator.device)
            with accelerator.accumulate(model):
                outputs = model(**batch)
                if not torch.isfinite(outputs.loss):
                    raise FloatingPointError(
                        f"the loss is {outputs.loss.item()} at step {clock.step}, clips {', '.join(video_ids)}; "
                        "lower the learning rate or max_grad_norm and resume from the last checkpoint"
                    )
                accelerator.backward(outputs.loss)
                if accelerator.sync_gradients:
                    running["grad_norm"] = running.get("grad_norm", 0) + accelerator.clip_grad_norm_(
                        model.parameters(), recipe.max_grad_norm
                    )
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
            for name, value in {"loss": outputs.loss, **outputs.loss_dict}.items():
                running[name] = running.get(name, 0) + value.detach() / recipe.gradient_accumulation_steps
            num_clips += len(video_ids) * accelerator.num_processes
        if ema:
            ema.update_parameters(accelerator.unwrap_model(model))
        clock.step += 1
        clock.tick()

        if clock.step % recipe.logging_steps == 0:
            names = sorted(running)
            values = accelerator.reduce(torch.stack([torch.as_tensor(running[name]) for name in names]), "mean")
            means = dict(zip(names, (values / recipe.logging_steps).tolist(), strict=True))
            clips_per_second = num_clips / (time.monotonic() - window_start)
            learning_rate = recipe.learning_rate * rate
            log(means | {"learning_rate": learning_rate, "clips_per_second": clips_per_second})
            terms = " ".join(
                f"{name[5:]} {means[name]:.4f}" for name in names if name.startswith("loss_") and name[-1:] > "9"
            )
            accelerator.print(
                f"step {clock.step}  {clock.elapsed / 60:.1f} min  loss {means['loss']:.3f} ({terms})  "
                f"grad {means['grad_norm']:.2f}  lr {learning_rate:.2e}  {clips_per_second:.2f} clips/s",
                flush=True,
            )
            running, window_start, num_clips = {}, time.monotonic(), 0

        if is_due(clock.elapsed - last_evaluation, recipe.evaluation_minutes):
            summary, table = task.evaluate(trained_model(), accelerator)
            log({"evaluation": summary})
            accelerator.print(table, flush=True)
            clock.tick()
            last_evaluation = clock.elapsed
        by_steps = recipe.checkpointing_steps and clock.step % recipe.checkpointing_steps == 0
        if by_steps or is_due(clock.elapsed - last_checkpoint, recipe.checkpointing_minutes):
            save_checkpoint(accelerator, output_dir, clock.step)
            last_checkpoint = clock.elapsed

    save_checkpoint(accelerator, output_dir, clock.step)
    final = output_dir / "final"
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        with replace_when_done(final) as folder:
            task.save(trained_model(), folder)
    accelerator.wait_for_everyone()

    # What counts is the model that others will load.
    summary, table = task.evaluate(task.load(final, trained_model()).to(accelerator.device), accelerator)
    accelerator.print(table)
    if accelerator.is_main_process:
        results = {
            "steps": clock.step,
            "minutes": clock.elapsed / 60,
            "num_parameters": num_parameters,
            "num_trained_parameters": num_trained,
            "machine": machine(accelerator.device),
            "val": summary,
        }
        with replace_when_done(output_dir / "all_results.json") as path:
            path.write_text(json.dumps(results | {"recipe": asdict(recipe)}, indent=2) + "\n")
    accelerator.end_training()


def is_due(seconds: float, every_minutes: float | None) -> bool:
    return every_minutes is not None and seconds >= 60 * every_minutes


def move(value: Any, device: torch.device) -> Any:
    """The same nest of dicts and lists with its tensors on the device."""
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: move(entry, device) for key, entry in value.items()}
    if isinstance(value, list):
        return [move(entry, device) for entry in value]
    return value


if __name__ == "__main__":
    main()
