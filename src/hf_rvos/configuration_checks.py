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

"""Checks of the sizes that the configurations of several models have."""

from transformers import PreTrainedConfig


def check_counts(config: PreTrainedConfig, *names: str, at_least: int = 1):
    """Raise `ValueError` if one of these fields is smaller."""
    for name in names:
        if getattr(config, name) < at_least:
            raise ValueError(f"{name} is {getattr(config, name)}, expected at least {at_least}")


def check_dropouts(config: PreTrainedConfig, *names: str):
    """Raise `ValueError` if one of these fields is not in [0, 1)."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}, expected a probability below 1")


def check_hidden_size(config: PreTrainedConfig, *names: str):
    """Raise `ValueError` if these numbers of heads, or the 32 groups of a norm, do not divide `hidden_size`."""
    divisors = {name: getattr(config, name) for name in names} | {"the groups of a normalisation": 32}
    for name, divisor in divisors.items():
        if config.hidden_size % divisor:
            raise ValueError(f"hidden_size ({config.hidden_size}) must be divisible by {name} ({divisor})")
