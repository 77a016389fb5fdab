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
"""What tests of loading need."""

import torch
from torch import nn


def in_own_memory(loaded: nn.Module) -> nn.Module:
    """The model with copies of its weights.

    Weights that were read from a file begin anywhere in memory, and on some processors this changes how products of
    matrices are rounded. Copies begin where those of a new model do, so equal weights give equal outputs, bit for bit.
    """
    for values in (*loaded.parameters(), *loaded.buffers()):
        values.data = values.data.clone(memory_format=torch.preserve_format)
    return loaded
