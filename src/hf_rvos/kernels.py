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
"""Fast kernels from the hub, where they can be had; the torch code of the layers everywhere else."""

from collections.abc import Callable

from transformers import PreTrainedModel

from hf_rvos.utils.logging import get_logger, warn_once


logger = get_logger(__name__)


class KernelGuardMixin:
    """Makes `use_kernels=True` a wish: without network, `kernels` package or fitting build the model runs in torch.

    Goes before [`PreTrainedModel`] in the list of bases. It also covers `from_pretrained(..., use_kernels=True)`,
    `model.use_kernels = True` and the change between `train()` and `eval()`, which all end in `set_use_kernels`.
    """

    def set_use_kernels(self, use_kernels: bool, *args, **kwargs) -> None:
        """Turn the kernels of the hub on, or warn once why that is not possible.

        Args:
            use_kernels (`bool`):
                Whether to use them. False is for symmetry; transformers cannot take a kernel out again.
            args:
                Passed on to transformers.
            kwargs:
                Passed on to transformers.
        """
        change = super().set_use_kernels
        if use_kernels:
            _attempt(self, lambda: change(True, *args, **kwargs))
        else:
            change(False, *args, **kwargs)


def use_kernels(model: PreTrainedModel) -> bool:
    """Use the kernels of the hub in a model if they can be had, otherwise leave it as it is and warn once.

    Args:
        model ([`PreTrainedModel`]):
            Any model, on the device it will run on.

    Returns:
        `bool`: whether kernels are on.
    """
    _attempt(model, lambda: model.set_use_kernels(True))
    return model.use_kernels


def _attempt(model: PreTrainedModel, turn_on: Callable[[], None]) -> None:
    try:
        turn_on()
    except Exception as error:  # noqa: BLE001 - network, cache, versions and builds fail with unrelated types
        _restore(model)
        cause = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        warn_once(logger, f"Kernels from the hub are not used, layers run in torch instead ({cause})")
        return
    if model.use_kernels and model.device.type == "cpu":
        warn_once(logger, "Kernels from the hub need an accelerator; on the CPU layers run in torch.")


def _restore(model: PreTrainedModel) -> None:
    """Undo a half-done replacement: kernels are set as `forward` of the instance, over the one of its class."""
    model._use_kernels = False
    model.kernel_config = None
    for module in model.modules():
        if hasattr(type(module), "kernel_layer_name"):
            module.__dict__.pop("forward", None)
