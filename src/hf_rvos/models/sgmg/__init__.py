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

from hf_rvos.models.sgmg.configuration_fast_sgmg import FastSgMgConfig
from hf_rvos.models.sgmg.configuration_sgmg import SgMgConfig
from hf_rvos.models.sgmg.modeling_fast_sgmg import (
    FastSgMgForReferringVideoSegmentation,
    FastSgMgModel,
    FastSgMgPreTrainedModel,
    FastSgMgSceneFeatures,
)
from hf_rvos.models.sgmg.modeling_sgmg import (
    SgMgForReferringVideoSegmentation,
    SgMgModel,
    SgMgModelOutput,
    SgMgPreTrainedModel,
    SgMgTextFeatures,
    SgMgVideoFeatures,
)


__all__ = [
    "FastSgMgConfig",
    "FastSgMgForReferringVideoSegmentation",
    "FastSgMgModel",
    "FastSgMgPreTrainedModel",
    "FastSgMgSceneFeatures",
    "SgMgConfig",
    "SgMgForReferringVideoSegmentation",
    "SgMgModel",
    "SgMgModelOutput",
    "SgMgPreTrainedModel",
    "SgMgTextFeatures",
    "SgMgVideoFeatures",
]
