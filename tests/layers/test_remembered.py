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
import torch

from hf_rvos.layers.remembered import remembered


@remembered
def ramp(size: int, device: torch.device) -> torch.Tensor:
    return torch.arange(size, dtype=torch.float32, device=device)


def test_the_same_arguments_give_the_same_tensor():
    device = torch.device("cpu")
    assert ramp(3, device) is ramp(3, device)
    assert ramp(4, device).shape == (4,)


def test_a_default_device_does_not_leak_into_what_is_remembered():
    with torch.device("meta"):
        ramp(5, torch.device("cpu"))
    assert ramp(5, torch.device("cpu")).tolist() == [0, 1, 2, 3, 4]


def test_a_tensor_born_in_inference_mode_takes_part_in_training():
    with torch.inference_mode():
        ramp(6, torch.device("cpu"))
    weight = torch.ones(6, requires_grad=True)
    (weight * ramp(6, torch.device("cpu"))).sum().backward()
    assert weight.grad.tolist() == [0, 1, 2, 3, 4, 5]


def test_an_exported_program_leaves_nothing_behind():
    class Ramp(torch.nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return values + ramp(7, values.device)

    values = torch.ones(7)
    program = torch.export.export(Ramp(), (values,))
    assert type(ramp(7, values.device)) is torch.Tensor
    assert torch.equal(Ramp()(values), program.module()(values))
