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
"""FSDP2 on a CPU, which works in torch but which Accelerate turns on for accelerators alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from accelerate.commands.config import load_config_from_file
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import distributed


CONFIG = Path(__file__).parents[2] / "examples" / "accelerate" / "fsdp2.yaml"


def use_fsdp2(accelerator: Accelerator) -> None:
    """Bring an accelerator of the CPU, whose processes are connected, where the configuration of the examples brings
    one of GPUs."""
    settings = load_config_from_file(str(CONFIG)).fsdp_config
    settings = {key.removeprefix("fsdp_"): value for key, value in settings.items()}
    settings["fsdp_version"], settings["cpu_offload"] = settings.pop("version"), settings.pop("offload_params")
    for state in (AcceleratorState, PartialState):
        state._shared_state["distributed_type"] = DistributedType.FSDP
    AcceleratorState._shared_state["fsdp_plugin"] = FullyShardedDataParallelPlugin(**settings)
    assert accelerator.is_fsdp2


@contextmanager
def connected_to_itself(store: Path) -> Iterator[None]:
    """A group of processes of which there is one. `store` is a file that is not there yet."""
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    try:
        yield
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        if distributed.is_initialized():  # the end of a training ends the group
            distributed.destroy_process_group()
