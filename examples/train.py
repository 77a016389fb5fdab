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
"""Train a model for referring video segmentation from a recipe.

    accelerate launch --config_file examples/accelerate/cpu.yaml examples/train.py \
        --config examples/recipes/tiny_1_appearance.yaml examples/recipes/referformer_tiny.yaml

Settings of a second file go over those of the first, `model` key by key. Every key can be changed on the command line,
and an interrupted run goes on where it stopped:

    ... --output_dir outputs/mine --override model.hidden_size=96 learning_rate=5e-4 --resume_from_checkpoint latest

Two processes on a CPU (`accelerate launch` would start only one):

    ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 examples/train.py --config ...

The output folder holds `log.jsonl`, `checkpoints/step_N`, the trained model with its processor and a model card in
`final`, the one that scored best in `best` if the recipe has `keep_best`, `loss.png` and `all_results.json`.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device, set_seed
from torch.utils.data import DataLoader, Dataset
from transformers.utils import logging

from hf_rvos.auto import AutoModelForReferringVideoSegmentation
from hf_rvos.benchmark import machine
from hf_rvos.data.collate import ClipCollator
from hf_rvos.data.sampling import EpochBatchSampler
from hf_rvos.evaluation.prediction import ModelPredictor
from hf_rvos.evaluation.reporting import markdown_table
from hf_rvos.losses import count_items
from hf_rvos.training.building import (
    StepCollator,
    build_model_and_processor,
    check_data_dirs,
    evaluation_benchmark,
    training_clips,
)
from hf_rvos.training.checkpointing import (
    BestModel,
    check_room,
    choose_checkpoint,
    load_checkpoint,
    replace_folder,
    save_checkpoint,
    sole_run,
)
from hf_rvos.training.launching import expect_unused_heads, name_sharded_layers, start_accelerator
from hf_rvos.training.optimization import average_weights, build_optimizers, rate_factor, set_rates
from hf_rvos.training.progress import Clock, Window, check_finite, share_items
from hf_rvos.training.recipe import Recipe, read_recipe
from hf_rvos.training.reports import RunLog, check_upload, last_layer_terms, upload, write_model_card
from hf_rvos.utils.errors import bad_input_reported
from hf_rvos.utils.files import replace_when_done


def parse_arguments(description: str | None = None) -> tuple[Recipe, str | None]:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", nargs="+", default=[], help="recipe files (YAML), later ones over earlier ones")
    parser.add_argument("--override", nargs="+", default=[], metavar="KEY=VALUE", help="recipe keys to change")
    parser.add_argument("--resume_from_checkpoint", help="a checkpoint folder, or 'latest' of the output folder")
    for entry in fields(Recipe):
        if entry.name != "model":
            parser.add_argument(f"--{entry.name}", default=argparse.SUPPRESS, type=read_value)
    given = vars(parser.parse_args())
    paths, overrides, resume = (given.pop(key) for key in ("config", "override", "resume_from_checkpoint"))
    try:
        changes = []
        for override in overrides:
            key, equals, value = override.partition("=")
            if not equals:
                raise ValueError(f"--override got {override!r}, expected KEY=VALUE")
            changes.append((key, read_value(value)))
        recipe = read_recipe(paths, [*changes, *given.items()])
    except ValueError as error:
        parser.error(str(error))
    return recipe, resume


def read_value(text: str) -> Any:
    """A value of the command line, written as in a recipe."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{text!r} is no YAML: {error}") from None


class ReferringTask:
    """Segment what a sentence says. Another task has the same members, see pretrain_backbone.py.

    Raises:
        ValueError: if data, weights or the way to score are not there or do not fit, before anything is trained.
    """

    usage = """import hf_rvos
from transformers import pipeline

segmenter = pipeline("referring-video-segmentation", model="{name}")
tracks = segmenter("video.mp4", text=["the dog on the left"])
tracks[0]["masks"].shape  # (frames, height, width)"""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        check_data_dirs(recipe)
        self.model, self.processor = build_model_and_processor(recipe)
        self.benchmark = evaluation_benchmark(recipe)
        self.evaluated = self.benchmark.load(self.model.config.model_type)
        self.scored_on = [self.benchmark.name, self.benchmark.split, self.benchmark.limit]
        self.scores = [key for key in self.evaluated.protocol.columns if not key.startswith("num_")]
        if not self.evaluated.protocol.has_truth:
            raise ValueError(f"evaluation: {self.benchmark.name}, {self.benchmark.split} has no masks to compare with")
        # Released training code pads to multiples of 32, but for SOC. Frames of Moving Shapes all have one size.
        is_padded = "moving_shapes" not in recipe.datasets and self.model.config.model_type != "soc"
        multiple = 32 if is_padded else 1
        frames = self.processor.video_processor
        self.collate = ClipCollator(self.processor.tokenizer, frames.image_mean, frames.image_std, multiple)

    def dataset(self) -> Dataset:
        return training_clips(self.recipe, self.model.config.model_type)

    def count_items(self, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        # A model whose losses are divided by something else counts itself.
        return getattr(self.model, "count_items", count_items)(batch["labels"])

    def evaluate(self, model: torch.nn.Module, accelerator: Accelerator) -> tuple[dict[str, Any], str]:
        """Score; each process takes its share of the videos.

        Returns:
            Results for the log, and the same to print.
        """
        protocol, was_training = self.evaluated.protocol, model.training
        # As published for Fast SgMg; other models answer each sentence by itself.
        grouping = "one-per-object" if protocol.name == "ref-davis" else "video"
        predictor = ModelPredictor(model.eval(), self.processor, grouping=grouping)
        predictor.prepare((), protocol)
        results = []
        for number in range(accelerator.process_index, len(self.evaluated.units), accelerator.num_processes):
            results += self.evaluated.score(number, predictor)
        model.train(was_training)
        summary = protocol.summarize(gather_object(results))
        return summary, markdown_table(summary, protocol.columns)

    def save(self, model: torch.nn.Module, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
        model.save_pretrained(folder, state_dict=stored_weights(weights, self.recipe.save_dtype))
        self.processor.save_pretrained(folder)

    def load(self, folder: Path, trained: torch.nn.Module) -> torch.nn.Module:
        """The model as saved; `trained` has what a task does not save."""
        return AutoModelForReferringVideoSegmentation.from_pretrained(folder)


def stored_weights(weights: Mapping[str, torch.Tensor], dtype: str) -> dict[str, torch.Tensor]:
    """Only the numbers on disk are rounded: the configuration keeps float32, so the model loads and runs in that."""
    return {
        name: value.to(getattr(torch, dtype)) if value.is_floating_point() else value
        for name, value in weights.items()
    }


def main() -> None:
    train(ReferringTask, *parse_arguments(__doc__))


def train(task_class: Callable[[Recipe], Any], recipe: Recipe, resume: str | None) -> None:
    """Train, evaluate and save what a task describes.

    What is not there or does not fit ends the program with a message before anything is trained. So does what shows
    only on the way: numbers that are not finite, and full disks.
    """
    with ExitStack() as stack:
        with bad_input_reported():
            accelerator = start_accelerator(recipe)
            output_dir = Path(recipe.output_dir)
            checkpoint = choose_checkpoint(output_dir, resume)
            logging.disable_progress_bar()
            set_seed(recipe.seed)
            with accelerator.main_process_first():  # which makes the caches of the data
                task = task_class(recipe)
                dataset = task.dataset()
            optimizers = build_optimizers(task.model, recipe)
            if recipe.keep_best not in (None, *task.scores):
                raise ValueError(f"keep_best is {recipe.keep_best!r}, expected one of {', '.join(task.scores)}")
            if recipe.push_to_hub and accelerator.is_main_process:
                check_upload(recipe)
            # A step is one batch for the sampler, however many parts of it are accumulated and whoever has them.
            sampler = EpochBatchSampler(
                len(dataset),
                recipe.batch_size * recipe.gradient_accumulation_steps,
                recipe.clip_lengths,
                recipe.seed,
                process_index=accelerator.process_index,
                num_processes=accelerator.num_processes,
            )
            stack.enter_context(sole_run(output_dir, accelerator))
            check_room(output_dir, task.model, has_average=recipe.ema_decay > 0)
            if resume and not checkpoint:
                accelerator.print("no checkpoint yet, starting anew")
        with bad_input_reported((OSError, FloatingPointError)):
            run(task, optimizers, dataset, sampler, accelerator, checkpoint)
    accelerator.end_training()


def run(
    task: Any,
    optimizers: Sequence[torch.optim.Optimizer],
    dataset: Dataset,
    sampler: EpochBatchSampler,
    accelerator: Accelerator,
    checkpoint: Path | None,
) -> None:
    """Train in a folder that is this run's alone, from the start or from a checkpoint."""
    model, recipe = task.model, task.recipe
    output_dir = Path(recipe.output_dir)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    num_trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    accelerator.print(
        f"{type(model).__name__} with {num_parameters:,} parameters, of which {num_trained:,} are trained, on "
        f"{accelerator.device}"
    )

    ema = average_weights(model, recipe.ema_decay, accelerator.device) if recipe.ema_decay else None
    name_sharded_layers(accelerator, model)
    expect_unused_heads(accelerator, model)
    model, *optimizers = accelerator.prepare(model, *optimizers)
    clips_per_step = sampler.batch_size * accelerator.num_processes
    clock = Clock(recipe, sampler.batches_per_epoch, accelerator)
    if checkpoint:
        with bad_input_reported():
            load_checkpoint(accelerator, checkpoint, clock, ema, optimizers)
    sampler.start = clock.step
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=recipe.num_workers,
        collate_fn=StepCollator(task.collate, recipe.batch_size),
        pin_memory=accelerator.device.type == "cuda",
    )
    log = RunLog(accelerator, output_dir, clock)
    best = BestModel(recipe.keep_best, output_dir, clock.run)

    def evaluate(folder: Path) -> tuple[dict[str, Any], str]:
        """Save the model and score what others will load."""
        weights = ema.module.state_dict() if ema else accelerator.get_state_dict(model)
        trained = ema.module if ema else accelerator.unwrap_model(model)
        if accelerator.is_main_process:
            with replace_folder(folder) as unfinished:
                task.save(trained, weights, unfinished)
        accelerator.wait_for_everyone()
        summary, table = task.evaluate(task.load(folder, trained).to(accelerator.device), accelerator)
        log.write({"evaluation": summary})
        accelerator.print(table, flush=True)
        if accelerator.is_main_process:
            best.compare(folder, summary, clock.step)
        accelerator.wait_for_everyone()
        clock.done("evaluation")
        return summary, table

    model.train()
    steps = iter(loader)
    clock.restart()
    window = Window()
    while clock.progress < 1:
        rate = rate_factor(recipe, clock.progress, clock.epoch, clock.step)
        set_rates(optimizers, rate)
        parts = next(steps)
        num_items = share_items([task.count_items(part) for part in parts], accelerator)
        video_ids = [name for batch in parts for name in batch.pop("video_id")]
        step_loss = 0.0
        for number, batch in enumerate(parts):
            # Dropout depends on the step alone, so a resumed run repeats it.
            torch.manual_seed(hash((recipe.seed, clock.step * len(parts) + number, accelerator.process_index)))
            with accelerator.accumulate(model):
                outputs = model(**send_to_device(batch, accelerator.device, non_blocking=True), num_items=num_items)
                accelerator.backward(outputs.loss)
                step_loss = step_loss + outputs.loss.detach()
                if accelerator.sync_gradients:
                    check_finite(step_loss, "loss", clock.step, video_ids)  # once in a step: the host waits for it
                    norm = accelerator.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
                    if norm is not None and accelerator.scaler is None:  # the scaler passes over such a step
                        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # of a sharded model
                        check_finite(norm, "norm of the gradients", clock.step, video_ids)
                        window.add(grad_norm=norm)
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
            losses = {"loss": outputs.loss, **outputs.loss_dict}
            window.add(**{name: value.detach() / len(parts) for name, value in losses.items()})
        if ema:
            ema.update_parameters(accelerator.unwrap_model(model))
        clock.step += 1
        clock.tick()
        window.num_steps += 1

        is_over = clock.progress >= 1
        if clock.step % recipe.logging_steps == 0 or is_over:
            means = window.means(accelerator)
            clips_per_second = window.num_steps * clips_per_step / window.seconds
            learning_rate = recipe.learning_rate * rate
            log.write(means | {"learning_rate": learning_rate, "clips_per_second": clips_per_second})
            terms = " ".join(f"{name[5:]} {means[name]:.4f}" for name in last_layer_terms(means))
            accelerator.print(
                f"step {clock.step}  {clock.elapsed / 60:.1f} min  loss {means['loss']:.3f} ({terms})  "
                f"grad {means.get('grad_norm', 0):.2f}  lr {learning_rate:.2e}  {clips_per_second:.2f} clips/s",
                flush=True,
            )
            window = Window()
        if not is_over:
            if clock.is_due("evaluation", recipe.evaluation_minutes, epochs=recipe.evaluation_epochs):
                with window.paused():
                    evaluate(output_dir / ".evaluated")
            if clock.is_due("checkpoint", recipe.checkpointing_minutes, recipe.checkpointing_steps):
                with window.paused():
                    save_checkpoint(accelerator, output_dir, clock, model, ema)
                clock.done("checkpoint")

    save_checkpoint(accelerator, output_dir, clock, model, ema)
    minutes = clock.elapsed / 60
    summary, table = evaluate(output_dir / "final")
    if accelerator.is_main_process:
        shutil.rmtree(output_dir / ".evaluated", ignore_errors=True)
        results = {
            "steps": clock.step,
            "minutes": minutes,
            "num_parameters": num_parameters,
            "num_trained_parameters": num_trained,
            "num_processes": accelerator.num_processes,
            "clips_per_step": clips_per_step,
            "machine": machine(accelerator.device),
            "val": summary,
            "best": best.score,
        }
        log.save_chart(output_dir / "loss.png")
        write_model_card(output_dir / "final", task, recipe, results, table)
        with replace_when_done(output_dir / "all_results.json") as path:
            path.write_text(json.dumps(results | {"recipe": asdict(recipe)}, indent=2) + "\n")
        if recipe.push_to_hub:
            upload(recipe, output_dir / "final")


if __name__ == "__main__":
    main()
