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
"""Models under FSDP2 in a single process: every weight is a shard that has to be gathered before it is used."""

import copy

import pytest
import torch
from accelerate import Accelerator

from hf_rvos.training.launching import name_sharded_layers
from tests.models.referformer import tiny as referformer
from tests.models.sgmg import tiny as sgmg
from tests.models.sgmg.test_modeling_fast_sgmg import fast_model
from tests.models.soc import tiny as soc
from tests.models.ssa import tiny as ssa
from tests.training.sharded import connected_to_itself, use_fsdp2


MODELS = {
    "referformer": referformer.tiny_model,
    "soc": soc.tiny_model,
    "sgmg": sgmg.tiny_model,
    "fast_sgmg": fast_model,
    "ssa": ssa.tiny_model,
}


# Parts of outputs are views, which nothing changes in place.
pytestmark = pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")


@pytest.fixture
def accelerator(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with connected_to_itself(tmp_path / "store"):
        accelerator = Accelerator()
        use_fsdp2(accelerator)
        yield accelerator


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointing"])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_a_sharded_model_are_those_of_the_whole_one(name, checkpointing, accelerator):
    whole = MODELS[name]()
    batch = referformer.random_inputs() | {"labels": referformer.random_labels()}
    sharded = copy.deepcopy(whole)
    torch.manual_seed(0)  # points that a loss draws
    whole(**batch).loss.backward()

    if checkpointing:
        sharded.train().gradient_checkpointing_enable()
    name_sharded_layers(accelerator, sharded)
    parameters = [parameter for parameter in sharded.parameters() if parameter.requires_grad]
    sharded, _ = accelerator.prepare(sharded, torch.optim.SGD(parameters, lr=1.0))
    torch.manual_seed(0)
    accelerator.backward(sharded(**batch).loss)
    expected = dict(whole.named_parameters())
    for key, parameter in sharded.named_parameters():
        assert (parameter.grad is None) == (expected[key].grad is None), key
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad.full_tensor(), expected[key].grad, msg=key)
