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

"""Constant tensors that are made once for each size and device."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def remembered(make: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let a function that makes constant tensors from hashable arguments keep what it made.

    A program that is being traced makes its own tensors: remembered ones would be foreign to it, and its own could not
    be used outside.
    """
    make_once = lru_cache(maxsize=64)(make)

    @wraps(make)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if torch.compiler.is_compiling():
            return make(*args, **kwargs)
        with torch.inference_mode(False):  # tensors born in inference mode could not serve a training step later
            return make_once(*args, **kwargs)

    return call
