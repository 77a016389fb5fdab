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
"""train.py with steps as long as the gradients are, to compare them: the first steps of AdamW turn any gradient,
however small, into one of the same length."""

import torch

from examples import train
from hf_rvos.training.recipe import Recipe


def build_optimizers(model: torch.nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [torch.optim.SGD([{"params": parameters, "rate": recipe.learning_rate}], lr=recipe.learning_rate)]


if __name__ == "__main__":
    train.build_optimizers = build_optimizers
    train.main()
