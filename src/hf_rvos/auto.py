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
"""Auto classes of transformers that know the models of this library."""

from collections import OrderedDict

from transformers import AutoBackbone, AutoConfig, AutoModel, AutoProcessor, AutoVideoProcessor
from transformers.models.auto.auto_factory import _BaseAutoModelClass, _LazyAutoMapping
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from hf_rvos.models.referformer import ReferFormerConfig, ReferFormerForReferringVideoSegmentation, ReferFormerModel
from hf_rvos.models.sgmg import (
    FastSgMgConfig,
    FastSgMgForReferringVideoSegmentation,
    FastSgMgModel,
    SgMgConfig,
    SgMgForReferringVideoSegmentation,
    SgMgModel,
)
from hf_rvos.models.soc import SocConfig, SocForReferringVideoSegmentation, SocModel
from hf_rvos.models.ssa import SsaConfig, SsaForReferringVideoSegmentation, SsaModel
from hf_rvos.models.video_swin import VideoSwinBackbone, VideoSwinConfig
from hf_rvos.pipelines.referring_video_segmentation import register_pipeline
from hf_rvos.processing import RvosProcessor, RvosVideoProcessor


MODEL_FOR_REFERRING_VIDEO_SEGMENTATION_MAPPING = _LazyAutoMapping(CONFIG_MAPPING_NAMES, OrderedDict())


class AutoModelForReferringVideoSegmentation(_BaseAutoModelClass):
    """Loads or builds the referring video segmentation model that belongs to a configuration.

    Example:
        >>> from hf_rvos import AutoModelForReferringVideoSegmentation, embedded_checkpoint
        >>> model = AutoModelForReferringVideoSegmentation.from_pretrained(embedded_checkpoint("referformer-tiny"))
    """

    _model_mapping = MODEL_FOR_REFERRING_VIDEO_SEGMENTATION_MAPPING


# (configuration, model without heads, model with heads)
_MODELS = (
    (ReferFormerConfig, ReferFormerModel, ReferFormerForReferringVideoSegmentation),
    (FastSgMgConfig, FastSgMgModel, FastSgMgForReferringVideoSegmentation),
    (SgMgConfig, SgMgModel, SgMgForReferringVideoSegmentation),
    (SocConfig, SocModel, SocForReferringVideoSegmentation),
    (SsaConfig, SsaModel, SsaForReferringVideoSegmentation),
)
# (configuration, backbone)
_BACKBONES = ((VideoSwinConfig, VideoSwinBackbone),)


def register_all() -> None:
    """Make the auto classes and `pipeline` of transformers find everything in this library.

    Importing `hf_rvos` does it; a second call changes nothing.
    """
    for config_class, backbone_class in _BACKBONES:
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoBackbone.register(config_class, backbone_class, exist_ok=True)
    for config_class, base_class, task_class in _MODELS:
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoModel.register(config_class, base_class, exist_ok=True)
        AutoModelForReferringVideoSegmentation.register(config_class, task_class, exist_ok=True)
        AutoVideoProcessor.register(config_class, RvosVideoProcessor, exist_ok=True)
        AutoProcessor.register(config_class, RvosProcessor, exist_ok=True)
    register_pipeline()


__all__ = ["AutoModelForReferringVideoSegmentation", "register_all"]
