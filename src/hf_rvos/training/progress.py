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
"""How far a run is, and what the losses of a step are divided by."""

import math
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

from hf_rvos.training.recipe import Recipe


class Clock:
    """Steps and seconds of a run, together with the runs it continues.

    Args:
        recipe: When the run ends.
        steps_per_epoch: Steps in which all samples are seen once.
        accelerator: Processes that have to agree on the time, since rates, evaluation and the end depend on it.
    """

    def __init__(self, recipe: Recipe, steps_per_epoch: int, accelerator: Accelerator):
        self.recipe, self.steps_per_epoch, self.accelerator = recipe, steps_per_epoch, accelerator
        by_epochs = recipe.num_epochs and recipe.num_epochs * steps_per_epoch
        self.num_steps = min(by_epochs or math.inf, recipe.max_train_steps or math.inf)
        self.step, self.elapsed = 0, 0.0
        self.run = uuid.uuid4().hex  # which checkpoints and results are of the same run; of the main process
        self.restart()

    @property
    def epoch(self) -> float:
        """Passes through the data so far."""
        return self.step / self.steps_per_epoch

    @property
    def progress(self) -> float:
        """0 at the start, 1 or more at the end."""
        minutes = self.recipe.max_train_minutes
        by_time = 0.0 if minutes is None else self.elapsed / 60 / max(minutes, 1e-9)
        return max(self.step / self.num_steps, by_time)

    def restart(self) -> None:
        """Go on from the last reading: the time since then does not count."""
        self.started = time.monotonic() - self.elapsed
        self.last = dict.fromkeys(("evaluation", "checkpoint"), self.elapsed)

    def tick(self) -> None:
        """Read the time."""
        self.elapsed = time.monotonic() - self.started
        recipe = self.recipe
        minutes = (recipe.max_train_minutes, recipe.checkpointing_minutes, recipe.evaluation_minutes)
        # Only what depends on the time has to be agreed on.
        if self.accelerator.num_processes > 1 and any(entry is not None for entry in minutes):
            elapsed = torch.tensor(self.elapsed, dtype=torch.float64, device=self.accelerator.device)
            self.elapsed = broadcast(elapsed).item()

    def is_due(
        self, what: str, minutes: float | None = None, steps: int | None = None, epochs: int | None = None
    ) -> bool:
        """Whether an "evaluation" or a "checkpoint" is to be made after this step."""
        due = minutes is not None and self.elapsed - self.last[what] >= 60 * minutes
        for every in (steps, epochs and epochs * self.steps_per_epoch):
            due |= bool(every) and self.step % every == 0
        return due

    def done(self, what: str) -> None:
        """Count the minutes to the next time from now."""
        self.tick()
        self.last[what] = self.elapsed

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "elapsed": self.elapsed, "run": self.run}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step, self.elapsed, self.run = state["step"], state["elapsed"], state.get("run", self.run)
        self.restart()


def share_items(counts: Sequence[Mapping[str, torch.Tensor]], accelerator: Accelerator) -> dict[str, torch.Tensor]:
    """What the losses of each batch of a step are divided by, so that the step is that of one large batch.

    Gradients are averaged over the batches that are accumulated and over the processes. Each loss is therefore divided
    by the items of all of them, over the number of batches.

    Args:
        counts: Items of each batch of this process, such as [`~hf_rvos.losses.count_items`] counts.
        accelerator: All processes must call.
    """
    names = sorted(counts[0])
    totals = torch.stack([sum(count[name] for count in counts).float() for name in names]).to(accelerator.device)
    totals = accelerator.reduce(totals, "sum")
    # A sum over nothing is divided by 1; a sum of weights may well be less.
    shares = torch.where(totals > 0, totals, 1.0) / (accelerator.num_processes * len(counts))
    return dict(zip(names, shares.unbind()))


class Window:
    """Numbers of the steps since the last line of the log. Tensors stay on the device until their means are asked."""

    def __init__(self):
        self.sums: dict[str, torch.Tensor | float] = {}
        self.num_steps, self.started = 0, time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time of the block does not count."""
        begin = time.monotonic()
        yield
        self.started += time.monotonic() - begin

    def add(self, **values: torch.Tensor | float) -> None:
        """Add to the sums of the current step."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over the steps and the processes, which must all call."""
        names = sorted(self.sums)
        sums = torch.stack([torch.as_tensor(self.sums[name], device=accelerator.device).float() for name in names])
        means = accelerator.reduce(sums, "mean") / self.num_steps
        return dict(zip(names, means.tolist()))


def check_finite(value: torch.Tensor | float, what: str, step: int, video_ids: Sequence[str]) -> None:
    """Raise `FloatingPointError` that names the clips, before anything is learned from them or written."""
    if isinstance(value, torch.Tensor):
        value = value.detach().item()
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the {what} is {value} at step {step}, clips {', '.join(video_ids)}; lower the learning rate or "
            "max_grad_norm and resume from the last checkpoint"
        )
