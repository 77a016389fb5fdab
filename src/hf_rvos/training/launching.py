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
"""Start Accelerate for a recipe, and refuse before any work what could only fail later."""

from datetime import timedelta

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, InitProcessGroupKwargs, LoggerType
from torch import nn
from transformers import PreTrainedModel

from hf_rvos.training.recipe import Recipe, unknown


def start_accelerator(recipe: Recipe) -> Accelerator:
    """Make the `Accelerator` of a run.

    Raises:
        ValueError: if the recipe is not meant for the processes that were started, asks for what they cannot do, or
            for a tracker that is not installed.
    """
    check_trackers(recipe.report_to)
    accelerator = Accelerator(
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        log_with=list(recipe.report_to) or None,
        project_dir=recipe.output_dir,
        # Processes wait for the one that builds the caches of the data, and for the last one to evaluate.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=7))],
    )
    if recipe.num_processes not in (None, accelerator.num_processes):
        raise ValueError(
            f"the recipe is meant for {recipe.num_processes} processes, this run has {accelerator.num_processes}; "
            "start it with that number, or set num_processes to null"
        )
    check_sharding(recipe, accelerator.distributed_type)
    check_precision(recipe, accelerator.mixed_precision)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        # It clips and accumulates by itself.
        accelerator.state.deepspeed_plugin.deepspeed_config |= {
            "train_micro_batch_size_per_gpu": recipe.batch_size,
            "gradient_accumulation_steps": recipe.gradient_accumulation_steps,
            "gradient_clipping": recipe.max_grad_norm,
        }
    elif accelerator.gradient_accumulation_steps != recipe.gradient_accumulation_steps:
        raise ValueError(
            f"gradient_accumulation_steps is {recipe.gradient_accumulation_steps} in the recipe, but the launcher "
            f"says {accelerator.gradient_accumulation_steps}; leave it to the recipe"
        )
    return accelerator


def check_sharding(recipe: Recipe, distributed_type: DistributedType) -> None:
    """Raise `ValueError` for what needs whole parameters, if each process has a part of them."""
    if distributed_type not in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        return
    for key, is_set in (("ema_decay", recipe.ema_decay > 0), ("muon", recipe.muon)):
        if is_set:
            raise ValueError(
                f"{key} needs whole parameters in each process, which {distributed_type.value} shards; "
                f"set it to {'0' if key == 'ema_decay' else 'false'}, or use examples/accelerate/ddp.yaml"
            )


def check_precision(recipe: Recipe, mixed_precision: str) -> None:
    """Raise `ValueError` for two optimizers in float16: the gradients of the second would be scaled down twice."""
    if recipe.muon and mixed_precision == "fp16":
        raise ValueError(
            "muon works beside AdamW, and two optimizers cannot share the scaled gradients of mixed precision fp16; "
            "take bf16, or set muon to false"
        )


def expect_unused_heads(accelerator: Accelerator, model: nn.Module) -> None:
    """Tell DDP that parameters may have no gradient: without auxiliary losses those of earlier layers' heads."""
    if not getattr(getattr(model, "config", None), "auxiliary_loss", True):
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)


def name_sharded_layers(accelerator: Accelerator, model: nn.Module) -> None:
    """Tell FSDP which layers are gathered one at a time: those the model names, as long as it has them, but for those
    around its input embeddings. Accelerate shards the embeddings by themselves, and nothing can be sharded twice."""
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is None or plugin.transformer_cls_names_to_wrap is not None or not isinstance(model, PreTrainedModel):
        return
    embeddings = model.get_input_embeddings()
    layers = {type(layer).__name__ for layer in model.modules() if embeddings not in list(layer.modules())}
    plugin.transformer_cls_names_to_wrap = sorted(layers & set(model._no_split_modules))


def check_trackers(names: tuple[str, ...]) -> None:
    """Raise `ValueError` if a tracker is unknown, or known and not installed; Accelerate would do without it."""
    installed = {tracker.value for tracker in get_available_trackers()}
    built_in = {tracker.value for tracker in LoggerType} - {LoggerType.ALL.value}
    for name in names:
        if name in built_in and name not in installed:
            raise ValueError(f"report_to: {name} is not installed; pip install {name}, or leave it out")
        if name not in built_in and name not in LOGGER_TYPE_TO_CLASS:
            raise ValueError(unknown("report_to: the tracker", name, sorted(built_in)))
