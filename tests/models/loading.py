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
"""What tests of loading compare."""

import torch
from torch import nn


def assert_same_weights(loaded: nn.Module, model: nn.Module):
    """Bit for bit, which outputs need not be.

    Weights that were read from a file begin anywhere in memory. On some processors this changes how products of
    matrices are rounded.
    """
    found, expected = loaded.state_dict(), model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
