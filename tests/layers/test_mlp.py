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
import pytest
import torch

from hf_rvos.layers.mlp import MLP


@pytest.mark.parametrize("num_layers", [1, 2, 4])
def test_relu_is_between_the_layers_and_not_after_the_last(num_layers):
    torch.manual_seed(0)
    mlp = MLP(6, 5, 3, num_layers)
    mlp.layers[-1].bias.data -= 2  # so that some results are negative
    values = torch.randn(7, 6)
    expected = values
    for index in range(num_layers):
        layer = mlp.layers[index]
        expected = expected @ layer.weight.T + layer.bias
        if index < num_layers - 1:
            expected = expected.clamp(min=0)
    torch.testing.assert_close(mlp(values), expected)
    assert mlp(values).shape == (7, 3)
    assert (mlp(values) < 0).any()
