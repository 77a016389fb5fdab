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

"""Fast SgMg model configuration."""

from huggingface_hub.dataclasses import strict

from hf_rvos.models.sgmg.configuration_sgmg import SgMgConfig


@strict
class FastSgMgConfig(SgMgConfig):
    """Configuration of [`FastSgMgModel`] and [`FastSgMgForReferringVideoSegmentation`].

    It has all fields of [`SgMgConfig`], and one more.

    Args:
        residual_decoupling (`bool`, *optional*, defaults to `False`):
            Whether the pixels of an expression are the shared ones plus what they gather from its words, normalised,
            in place of the product of the two.
    """

    model_type = "fast_sgmg"

    residual_decoupling: bool = False
