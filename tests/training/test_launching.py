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
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.tracking import GeneralTracker, register_tracker_class
from accelerate.utils import DistributedType

from hf_rvos.training import launching
from hf_rvos.training.launching import check_precision, check_sharding, check_trackers, start_accelerator
from hf_rvos.training.recipe import Recipe


CONFIGS = Path(__file__).parents[2] / "examples" / "accelerate"


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(launching, "get_available_trackers", list)
    with pytest.raises(ValueError, match="wandb is not installed; pip install wandb"):
        check_trackers(("wandb",))


def test_an_unknown_tracker_gives_the_nearest_name():
    with pytest.raises(ValueError, match="'tensorbord' is not known; did you mean 'tensorboard'?"):
        check_trackers(("tensorbord",))


def test_a_tracker_of_ones_own_is_accepted():
    class Own(GeneralTracker):
        name = "own_of_this_test"
        requires_logging_directory = False
        tracker = None

    register_tracker_class(Own)
    check_trackers((Own.name,))


def test_another_number_of_processes_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="meant for 8 processes, this run has 1"):
        start_accelerator(Recipe(num_processes=8, output_dir=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_accumulation_is_not_left_to_the_launcher(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "3")
    with pytest.raises(ValueError, match="is 2 in the recipe, but the launcher says 3"):
        start_accelerator(Recipe(gradient_accumulation_steps=2, output_dir=str(tmp_path)))


@pytest.mark.parametrize("kind", [DistributedType.FSDP, DistributedType.DEEPSPEED])
@pytest.mark.parametrize("settings", [{"muon": True}, {"ema_decay": 0.9}], ids=["muon", "average"])
def test_what_needs_whole_parameters_is_refused_if_they_are_shared_out(kind, settings):
    (key,) = settings
    with pytest.raises(ValueError, match=f"{key} needs whole parameters"):
        check_sharding(Recipe(**settings), kind)
    check_sharding(Recipe(**settings), DistributedType.MULTI_GPU)
    check_sharding(Recipe(), kind)


def test_two_optimizers_are_refused_where_gradients_are_scaled():
    with pytest.raises(ValueError, match="take bf16, or set muon to false"):
        check_precision(Recipe(muon=True), "fp16")
    check_precision(Recipe(muon=True), "bf16")
    check_precision(Recipe(), "fp16")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configurations_of_accelerate_are_such(path):
    config = load_config_from_file(str(path))
    assert config.num_processes >= 1


def test_there_is_a_configuration_for_each_way_to_share_a_model():
    kinds = {path.stem: load_config_from_file(str(path)).distributed_type for path in CONFIGS.glob("*.yaml")}
    assert kinds == {
        "cpu": DistributedType.NO,
        "single_gpu": DistributedType.NO,
        "ddp": DistributedType.MULTI_GPU,
        "fsdp2": DistributedType.FSDP,
        "deepspeed_zero2": DistributedType.DEEPSPEED,
    }
