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
"""train.py for processes that tests start, with changes whose names come first, separated by commas."""

import sys

import torch
from accelerate import Accelerator

from examples import train
from hf_rvos.training.recipe import Recipe
from tests.training.sharded import use_fsdp2


start_accelerator = train.start_accelerator


def plain_steps(model: torch.nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Steps as long as the gradients are, to compare them: the first steps of AdamW turn any gradient, however small,
    into one of the same length."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [torch.optim.SGD([{"params": parameters, "rate": recipe.learning_rate}], lr=recipe.learning_rate)]


def start_sharded(recipe: Recipe) -> Accelerator:
    """The model is shared out to the processes."""
    accelerator = start_accelerator(recipe)
    use_fsdp2(accelerator)
    return accelerator


CHANGES = {"plain_steps": ("build_optimizers", plain_steps), "sharded": ("start_accelerator", start_sharded)}

if __name__ == "__main__":
    for name in sys.argv.pop(1).split(","):
        setattr(train, *CHANGES[name])
    train.main()
