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
"""Datasets: builders, sampling of clips, transforms and batches. Import what is needed from the modules themselves."""

from typing import Any


__all__ = ["load_dataset"]


def __getattr__(name: str) -> Any:
    if name == "load_dataset":  # not imported before it is used: `datasets` is heavy and optional
        from hf_rvos.data.loading import load_dataset

        return load_dataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
