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
"""Checkpoints of a run and folders of models: each is complete, or it is not there."""

import json
import math
import pickle
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch.optim.swa_utils import AveragedModel

from hf_rvos.training.progress import Clock
from hf_rvos.training.recipe import Recipe


STATE_FILE = "state.json"
SCORE_FILE = "best.json"
KEPT = 2
# Keys that may be different in a run that is resumed.
_FREE_KEYS = ("output_dir", "num_workers", "report_to", "push_to_hub", "hub_model_id")


def checkpoint_folders(output_dir: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted((output_dir / "checkpoints").glob("step_*"), key=lambda path: int(path.name.split("_")[1]))


def choose_checkpoint(output_dir: Path, resume: str | None) -> Path | None:
    """The checkpoint to go on from.

    Args:
        output_dir: Of the run.
        resume: A folder, or "latest" for the last one of the output folder, if there is one; None to begin anew.

    Raises:
        ValueError: if the folder is no checkpoint, or the run would write among the later checkpoints of another one.
    """
    present = checkpoint_folders(output_dir)
    last = present[-1] if present else None
    if resume == "latest":
        return last
    chosen = None if resume is None else Path(resume)
    if chosen is not None and not (chosen / STATE_FILE).is_file():
        raise ValueError(f"resume_from_checkpoint: {resume} is no checkpoint of this script, it has no {STATE_FILE}")
    if last is not None and (chosen is None or chosen.resolve() != last.resolve()):
        raise ValueError(
            f"output_dir: {output_dir} has checkpoints of an earlier run up to {last.name}; go on with "
            "--resume_from_checkpoint latest, take another output_dir, or remove them"
        )
    return chosen


@contextmanager
def sole_run(output_dir: Path, accelerator: Accelerator) -> Iterator[None]:
    """Keep other runs out of a folder, which is made if it is not there, while the block runs. When a process ends, in
    whatever way, the system opens the folder again.

    Raises:
        ValueError: in all processes, if a run is going on there.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    lock, is_taken = FileLock(output_dir / ".lock", blocking=False), False
    if accelerator.is_main_process:
        try:
            lock.acquire()
        except Timeout:
            is_taken = True
        except (OSError, NotImplementedError):  # some file systems of clusters have no locks
            accelerator.print(f"{output_dir} cannot be locked, so nothing tells whether another run writes there")
    (is_taken,) = broadcast_object_list([is_taken])
    if is_taken:
        raise ValueError(
            f"output_dir: a run is going on in {output_dir}; wait for its end, or take another output_dir"
        )
    try:
        yield
    finally:
        lock.release()


def check_room(output_dir: Path, model: torch.nn.Module, has_average: bool) -> None:
    """Raise `OSError` if the disk has no room for a checkpoint: the weights, twice those that are trained for the
    optimizer, and an average of the weights if there is one."""
    sizes = [parameter.numel() * parameter.element_size() for parameter in model.parameters()]
    trained = [size for size, parameter in zip(sizes, model.parameters()) if parameter.requires_grad]
    needed = sum(sizes) * (1 + has_average) + 2 * sum(trained)
    free = shutil.disk_usage(output_dir).free
    if free < needed:
        raise OSError(
            f"output_dir: a checkpoint takes {needed / 1e9:.2f} GB and {output_dir} has room for {free / 1e9:.2f} GB; "
            "what is there was left as it is. Make room, or take another output_dir"
        )


def save_checkpoint(
    accelerator: Accelerator, output_dir: Path, clock: Clock, model: torch.nn.Module, ema: AveragedModel | None
) -> None:
    """Write a checkpoint of this step beside the others and rename it, so that a run that is killed leaves complete
    ones only. The last two are kept.

    Raises:
        FloatingPointError: if a weight is not finite.
        OSError: if it cannot be written.
    """
    folder = output_dir / "checkpoints" / f"step_{clock.step}"
    unfinished = folder.with_name(f"unfinished_{folder.name}")
    if folder.exists():  # the run was resumed from it, or ends at it
        return
    # Of a model that is sharded each process has a part.
    parts = (getattr(parameter, "to_local", lambda whole=parameter: whole)() for parameter in model.parameters())
    if not all(torch.isfinite(part).all() for part in parts):
        raise FloatingPointError(
            f"some weights are not finite at step {clock.step}, so no checkpoint was written; lower the learning rate "
            "and resume from the last one"
        )
    accelerator.wait_for_everyone()
    try:
        if accelerator.is_main_process:
            for leftover in folder.parent.glob("unfinished_*"):
                shutil.rmtree(leftover)
            check_room(output_dir, model, ema is not None)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(unfinished))
        if accelerator.is_main_process:
            if ema is not None:
                save_model(ema, unfinished / "average.safetensors")
            # Text and safetensors: what accelerate would make of them are pickles that can run code.
            state = clock.state_dict() | {"num_processes": accelerator.num_processes, "recipe": asdict(clock.recipe)}
            (unfinished / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n")
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise OSError(
            f"the checkpoint of step {clock.step} could not be written: {error}. Earlier ones are as they were: "
            "--resume_from_checkpoint latest goes on from them"
        ) from error
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        unfinished.rename(folder)
        for old in checkpoint_folders(output_dir)[:-KEPT]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def load_checkpoint(
    accelerator: Accelerator,
    folder: Path,
    clock: Clock,
    ema: AveragedModel | None,
    optimizers: Sequence[torch.optim.Optimizer],
) -> None:
    """Go on from a checkpoint, and say which settings are others than when it was written; those of now hold.

    Raises:
        ValueError: if it is one of another model or with other optimizers.
    """
    state = json.loads((folder / STATE_FILE).read_text())
    accelerator.print(f"resuming from {folder}")
    for change in changed_settings(state, clock.recipe, accelerator.num_processes):
        accelerator.print(f"  {change}")
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    settings = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    try:
        # Pickles of the optimizers are read as plain tensors and numbers, the default of accelerate.
        accelerator.load_state(str(folder))
        if ema is not None:
            load_model(ema, folder / "average.safetensors")
    except (RuntimeError, ValueError, KeyError, OSError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"resume_from_checkpoint: {folder} does not fit the recipe ({reason}); resume with the recipe that it was "
            "written with, or start from final with --pretrained"
        ) from error
    # Optimizers come back with the rates and decays of the checkpoint.
    for group, current in zip((group for optimizer in optimizers for group in optimizer.param_groups), settings):
        group.update(current)
    accelerator.step = 0  # batches of a step so far, whose number may have been another
    clock.load_state_dict(state)


def changed_settings(state: dict[str, Any], recipe: Recipe, num_processes: int) -> Iterator[str]:
    """What of the recipe, or the number of processes, is not as when a state was written."""
    current = json.loads(json.dumps(asdict(recipe)))
    for key, value in (current | {"num_processes": num_processes}).items():
        before = state["num_processes"] if key == "num_processes" else state["recipe"].get(key)
        if key not in _FREE_KEYS and before != value:
            yield f"{key} was {before!r} and is now {value!r}"


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write a folder to. If the block ends without an error it replaces the old one."""
    new, old = (path.with_name(f".{path.name}.{suffix}") for suffix in ("new", "old"))
    recover_folder(path)
    shutil.rmtree(new, ignore_errors=True)
    try:
        yield new
    except BaseException as error:
        shutil.rmtree(new, ignore_errors=True)
        if isinstance(error, SafetensorError):  # which is no OSError, also where the disk is full
            raise OSError(f"{path} could not be written: {error}. An earlier one is as it was") from error
        raise
    if path.exists():
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(path: Path) -> None:
    """Bring back what `replace_folder` had moved away when it was killed, or remove it if the new one is there."""
    old = path.with_name(f".{path.name}.old")
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.exists():
        old.rename(path)


class BestModel:
    """Keeps the model with the highest score in the folder `best`, and the score in it, in `best.json`.

    Args:
        key: Name of the score; None keeps nothing.
        output_dir: Folder of the run.
        run: Its name. What another run has left there does not count.
    """

    def __init__(self, key: str | None, output_dir: Path, run: str):
        self.key, self.folder, self.run = key, output_dir / "best", run
        self.score: dict[str, Any] | None = None
        if key is None:
            return
        if PartialState().is_main_process:
            recover_folder(self.folder)
        if (self.folder / SCORE_FILE).is_file():
            score = json.loads((self.folder / SCORE_FILE).read_text())
            self.score = score if key in score and score.pop("run", None) == run else None

    def compare(self, folder: Path, summary: Mapping[str, Any], step: int) -> None:
        """Copy a saved model if its score is the highest so far."""
        value = None if self.key is None else summary.get(self.key)
        if value is None or math.isnan(value) or (self.score is not None and value <= self.score[self.key]):
            return
        self.score = {"step": step, self.key: value}
        with replace_folder(self.folder) as unfinished:
            shutil.copytree(folder, unfinished)
            (unfinished / SCORE_FILE).write_text(json.dumps(self.score | {"run": self.run}) + "\n")
