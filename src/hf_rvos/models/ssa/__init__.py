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

from hf_rvos.models.ssa.configuration_ssa import SsaConfig
from hf_rvos.models.ssa.modeling_ssa import SsaForReferringVideoSegmentation, SsaModel, SsaPreTrainedModel
from hf_rvos.models.ssa.outputs_ssa import (
    SsaFrameFeatures,
    SsaModelOutput,
    SsaPredictions,
    SsaSegmentationOutput,
    SsaTextFeatures,
    SsaVideoFeatures,
    SsaVideoQueries,
)


__all__ = [
    "SsaConfig",
    "SsaForReferringVideoSegmentation",
    "SsaFrameFeatures",
    "SsaModel",
    "SsaModelOutput",
    "SsaPreTrainedModel",
    "SsaPredictions",
    "SsaSegmentationOutput",
    "SsaTextFeatures",
    "SsaVideoFeatures",
    "SsaVideoQueries",
]
