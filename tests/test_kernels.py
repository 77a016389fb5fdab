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

import logging

import pytest
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from hf_rvos.kernels import KernelGuardMixin, use_kernels
from hf_rvos.utils.logging import warn_once


class SamplingLayer(nn.Module):
    kernel_layer_name = "MultiScaleDeformableAttention"

    def forward(self, values):
        return values + 1


class ToyConfig(PreTrainedConfig):
    model_type = "toy_with_kernels"


class PlainToy(PreTrainedModel):
    config: ToyConfig

    def __init__(self, config):
        super().__init__(config)
        self.layer = SamplingLayer()
        self.scale = nn.Parameter(torch.ones(1))
        self.post_init()

    def _init_weights(self, module):
        pass

    def forward(self, values):
        return self.layer(values) * self.scale


class GuardedToy(KernelGuardMixin, PlainToy):
    pass


@pytest.fixture(autouse=True)
def forget_warnings():
    warn_once.cache_clear()


@pytest.fixture
def broken_kernels(monkeypatch):
    """The hub cannot be reached after one of the layers has been replaced."""

    def set_use_kernels(self, use_kernels, kernel_config=None, mode=None):
        if use_kernels:
            self.layer.forward = lambda values: values * 0
            self._use_kernels = True
            self.kernel_config = object()
            raise ConnectionError("no route to the hub\ndetails")

    monkeypatch.setattr(PreTrainedModel, "set_use_kernels", set_use_kernels)


def test_failing_kernels_leave_the_torch_path(broken_kernels):
    model = GuardedToy(ToyConfig())
    model.set_use_kernels(True)
    assert model(torch.ones(1)).item() == 2
    assert model.use_kernels is False
    assert model.kernel_config is None


def test_failing_kernels_warn_once_with_the_cause(broken_kernels, caplog):
    model = GuardedToy(ToyConfig())
    with caplog.at_level(logging.WARNING):
        model.set_use_kernels(True)
        model.use_kernels = True
    assert [record.message for record in caplog.records if "kernels" in record.message.lower()] == [
        "Kernels from the hub are not used, layers run in torch instead (ConnectionError: no route to the hub)"
    ]


def test_from_pretrained_with_failing_kernels_loads_the_model(broken_kernels, tmp_path):
    GuardedToy(ToyConfig()).save_pretrained(tmp_path)
    model = GuardedToy.from_pretrained(tmp_path, use_kernels=True)
    assert model(torch.ones(1)).item() == 2


def test_from_pretrained_with_kernels_works_in_this_environment(tmp_path):
    GuardedToy(ToyConfig()).save_pretrained(tmp_path)
    model = GuardedToy.from_pretrained(tmp_path, use_kernels=True)
    model.train().eval()
    assert model(torch.ones(1)).item() == 2


def test_models_of_other_libraries_are_guarded_by_the_function(broken_kernels):
    model = PlainToy(ToyConfig())
    assert use_kernels(model) is False
    assert model(torch.ones(1)).item() == 2


def test_kernels_on_the_cpu_warn_that_there_are_none(monkeypatch, caplog):
    monkeypatch.setattr(
        PreTrainedModel, "set_use_kernels", lambda self, *args, **kwargs: setattr(self, "_use_kernels", True)
    )
    with caplog.at_level(logging.WARNING):
        assert use_kernels(GuardedToy(ToyConfig()))
    assert sum("on the CPU layers run in torch" in record.message for record in caplog.records) == 1


def test_turning_kernels_off_stays_possible(broken_kernels):
    model = GuardedToy(ToyConfig())
    model.set_use_kernels(False)
    assert model.use_kernels is False
