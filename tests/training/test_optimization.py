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
import pytest
import torch

from hf_rvos.training.optimization import average_weights, build_optimizers, cosine_factor, rate_factor, set_rates
from hf_rvos.training.recipe import Recipe


def model():
    return torch.nn.ModuleDict({"backbone": torch.nn.Linear(3, 3), "norm": torch.nn.LayerNorm(3)})


def test_rates_drop_after_epochs():
    recipe = Recipe(lr_drops=(2, 4), lr_drop_factor=0.1, warmup=0)
    factors = [rate_factor(recipe, progress=0.5, epoch=epoch) for epoch in (0, 1.99, 2, 3.99, 4, 9)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_rates_drop_after_steps():
    recipe = Recipe(lr_drop_steps=(20, 30), lr_drop_factor=0.1, warmup=0)
    factors = [rate_factor(recipe, progress=0.5, epoch=99, step=step) for step in (0, 19, 20, 29, 30, 99)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_rates_that_drop_warm_up_as_well():
    recipe = Recipe(lr_drops=(2,), warmup=0.5)
    assert [rate_factor(recipe, progress, epoch=0) for progress in (0, 0.25, 0.5)] == [0, 0.5, 1]


def test_without_drops_rates_follow_the_cosine():
    recipe = Recipe(warmup=0.1, final_learning_rate=0.2)
    for progress in (0.05, 0.3, 1.0):
        assert rate_factor(recipe, progress, epoch=99) == cosine_factor(progress, 0.1, 0.2)


def test_a_warm_up_may_last_the_whole_run():
    assert cosine_factor(0.5, warmup=1.0, final=0.1) == 0.5


def test_every_group_has_its_own_rate_times_the_factor():
    optimizers = build_optimizers(model(), Recipe(learning_rate=4, backbone_learning_rate=2))
    set_rates(optimizers, 0.5)
    set_rates(optimizers, 0.1)
    assert {group["lr"] for group in optimizers[0].param_groups} == {0.4, 0.2}


@pytest.mark.parametrize("decays, expected", [(False, {5e-4, 0.0}), (True, {5e-4})])
def test_biases_and_norms_decay_if_asked(decays, expected):
    (optimizer,) = build_optimizers(model(), Recipe(weight_decay=5e-4, decay_biases_and_norms=decays))
    assert {group["weight_decay"] for group in optimizer.param_groups} == expected


def test_parameters_of_a_name_do_not_decay():
    recipe = Recipe(weight_decay=5e-4, decay_biases_and_norms=True, undecayed=("norm",))
    (optimizer,) = build_optimizers(model(), recipe)
    counts = {group["weight_decay"]: sum(p.numel() for p in group["params"]) for group in optimizer.param_groups}
    assert counts == {0.0: 3 + 3} | {5e-4: 9 + 3}


def test_adapters_learn_as_fast_as_the_backbone_that_they_are_in():
    parts = torch.nn.ModuleDict(
        {"adapters": torch.nn.ModuleList([torch.nn.Linear(2, 2)]), "head": torch.nn.Linear(2, 2)}
    )
    parts["backbone"] = torch.nn.Linear(2, 2).requires_grad_(False)
    optimizers = build_optimizers(parts, Recipe(learning_rate=4, backbone_learning_rate=2))
    rates = {id(p): group["rate"] for group in optimizers[0].param_groups for p in group["params"]}
    assert rates == {id(p): 2 for p in parts["adapters"].parameters()} | {id(p): 4 for p in parts["head"].parameters()}


def test_adapters_of_a_decoder_learn_as_fast_as_the_decoder():
    names = {name: torch.nn.Linear(2, 2) for name in ("adapters", "fine")}
    parts = torch.nn.ModuleDict({"model": torch.nn.ModuleDict({"pixel_decoder": torch.nn.ModuleDict(names)})})
    (optimizer,) = build_optimizers(parts, Recipe(learning_rate=4, backbone_learning_rate=2))
    assert {group["rate"] for group in optimizer.param_groups} == {4}


def test_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="all learning rates are 0"):
        build_optimizers(model(), Recipe(learning_rate=0, backbone_learning_rate=0))


def test_a_young_average_forgets_its_random_start():
    source = torch.nn.Linear(1, 1, bias=False)
    average = average_weights(source, 0.99, torch.device("cpu"))
    torch.nn.init.constant_(source.weight, 7.0)
    average.update_parameters(source)  # takes the first as it is
    torch.nn.init.constant_(source.weight, 9.0)
    average.update_parameters(source)
    assert average.module.weight.item() == pytest.approx(7 + 2 * (1 - 2 / 11))
