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

import json
import logging
import sys

import pytest
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import is_kernels_available

from hf_rvos.kernels import KernelGuardMixin, use_kernels
from hf_rvos.utils.logging import warn_once
from tests.models.referformer.tiny import random_inputs, tiny_model


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


requires_kernels = pytest.mark.skipif(
    not is_kernels_available(), reason="the installed transformers accepts no installed version of kernels"
)

# Stands for the CUDA kernel: asks for what that one asks for and reads no more than that one reads.
STAND_IN = """
import torch
import torch.nn.functional as F
from torch import nn

CALLS = []


class MultiScaleDeformableAttention(nn.Module):
    has_backward = {has_backward}

    def forward(
        self,
        value,
        value_spatial_shapes,
        value_spatial_shapes_list,
        level_start_index,
        sampling_locations,
        attention_weights,
        {last_argument},
    ):
        sizes = value_spatial_shapes, level_start_index
        values = value, sampling_locations, attention_weights
        assert all(tensor.is_contiguous() for tensor in sizes + values)
        assert all(tensor.dtype == torch.int64 for tensor in sizes)
        assert all(tensor.dtype == value.dtype for tensor in values)
        assert len(value) % min(len(value), {last_argument}) == 0
        CALLS.append(value.shape)
        output = 0
        for level, start in enumerate(level_start_index.tolist()):
            height, width = value_spatial_shapes[level].tolist()
            maps = value[:, start : start + height * width].permute(0, 2, 3, 1).flatten(0, 1)
            grid = 2 * sampling_locations[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1
            samples = F.grid_sample(maps.unflatten(-1, (height, width)), grid, align_corners=False)
            weights = attention_weights[:, :, :, level].transpose(1, 2).flatten(0, 1)
            output = output + (samples * weights[:, None]).sum(-1)
        return output.unflatten(0, (len(value), -1)).permute(0, 3, 1, 2).flatten(2)
"""


@pytest.fixture
def local_kernel(tmp_path):
    """A function that puts a kernel repository in place of the one of CUDA, for the CPU; returns its list of calls."""
    kernels = pytest.importorskip("kernels")
    mappings = []

    def install(has_backward=True, last_argument="im2col_step"):
        build = tmp_path / "kernel" / "build" / "torch-universal"
        build.mkdir(parents=True)
        (build / "__init__.py").write_text("from . import layers\n")
        (build / "layers.py").write_text(STAND_IN.format(has_backward=has_backward, last_argument=last_argument))
        metadata = {"id": tmp_path.name, "name": "stand-in", "version": 1, "license": "Apache-2.0"}
        backend = {"type": "cuda" if torch.version.cuda else "cpu"}
        (build / "metadata.json").write_text(json.dumps(metadata | {"python-depends": [], "backend": backend}))
        repository = kernels.LocalLayerRepository(tmp_path / "kernel", layer_name="MultiScaleDeformableAttention")
        mappings.append(kernels.use_kernel_mapping({repository.layer_name: {"cpu": repository}}))
        mappings[-1].__enter__()
        return sys.modules[repository.load().__module__].CALLS

    yield install
    for mapping in mappings:
        mapping.__exit__(None, None, None)


@requires_kernels
def test_referformer_from_pretrained_with_kernels_runs_offline_on_the_cpu(tmp_path):
    model, inputs = tiny_model(), random_inputs()
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, use_kernels=True)
    assert loaded.use_kernels
    assert torch.equal(loaded(**inputs).pred_masks, model(**inputs).pred_masks)


@requires_kernels
def test_referformer_with_a_kernel_agrees_with_the_torch_path(local_kernel):
    model, inputs = tiny_model(), random_inputs()
    expected = model(**inputs)
    calls = local_kernel()
    assert use_kernels(model)
    outputs = model(**inputs)
    assert calls
    for name in ("logits", "pred_boxes", "pred_masks"):
        torch.testing.assert_close(outputs[name], expected[name], rtol=1e-9, atol=1e-9)


@requires_kernels
def test_kernel_without_backward_steps_aside_in_training_and_returns(local_kernel):
    model, inputs = tiny_model(), random_inputs()
    calls = local_kernel(has_backward=False)
    use_kernels(model)
    model.train()(**inputs).pred_masks.sum().backward()
    assert not calls
    model.eval()(**inputs)
    assert calls


@requires_kernels
def test_kernel_with_other_arguments_leaves_the_torch_path(local_kernel, caplog):
    model, inputs = tiny_model(), random_inputs()
    expected = model(**inputs)
    calls = local_kernel(last_argument="*steps")
    with caplog.at_level(logging.WARNING):
        assert not use_kernels(model)
    assert sum("layers run in torch instead" in record.message for record in caplog.records) == 1
    assert torch.equal(model(**inputs).pred_masks, expected.pred_masks)
    assert not calls
