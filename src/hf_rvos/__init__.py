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
"""Referring video object segmentation in the manner of transformers: a sentence and a video in, masks out.

Importing the package registers its models, processors and pipeline with the auto classes of transformers.
"""

from importlib import import_module
from typing import Any

from hf_rvos.auto import register_all


__version__ = "0.1.0.dev0"

# Public names by the module that defines them; a module is imported when one of its names is first used.
_MODULES = {
    "hf_rvos.auto": ["AutoModelForReferringVideoSegmentation", "register_all"],
    "hf_rvos.backbones": ["backbone_config"],
    "hf_rvos.checkpoints": ["embedded_checkpoint", "list_embedded_checkpoints"],
    "hf_rvos.data.checking": ["check_dataset"],
    "hf_rvos.data.export": ["convert_davis", "export_dataset"],
    "hf_rvos.data.loading": ["load_builder", "load_dataset"],
    "hf_rvos.data.media": ["RowReader", "load_clip", "load_index_masks", "load_masks", "load_target_masks"],
    "hf_rvos.data.moving_shapes": [
        "MovingShapes",
        "MovingShapesConfig",
        "MovingShapesVideo",
        "export_mp4",
        "export_ref_youtube_vos",
        "generate_video",
        "vocabulary",
    ],
    "hf_rvos.kernels": ["use_kernels"],
    "hf_rvos.losses": ["match_queries", "referring_segmentation_loss"],
    "hf_rvos.metrics.functional": ["contour_accuracy", "region_similarity", "sequence_statistics"],
    "hf_rvos.modeling_outputs": ["ReferringVideoSegmentationOutput"],
    "hf_rvos.models.referformer": [
        "ReferFormerConfig",
        "ReferFormerForReferringVideoSegmentation",
        "ReferFormerModel",
        "ReferFormerPreTrainedModel",
    ],
    "hf_rvos.models.sgmg": [
        "FastSgMgConfig",
        "FastSgMgForReferringVideoSegmentation",
        "FastSgMgModel",
        "FastSgMgPreTrainedModel",
        "SgMgConfig",
        "SgMgForReferringVideoSegmentation",
        "SgMgModel",
        "SgMgPreTrainedModel",
    ],
    "hf_rvos.models.soc": ["SocConfig", "SocForReferringVideoSegmentation", "SocModel", "SocPreTrainedModel"],
    "hf_rvos.models.ssa": ["SsaConfig", "SsaForReferringVideoSegmentation", "SsaModel", "SsaPreTrainedModel"],
    "hf_rvos.models.video_swin": ["VideoSwinBackbone", "VideoSwinConfig"],
    "hf_rvos.pipelines": ["ReferringVideoSegmentationPipeline"],
    "hf_rvos.processing": ["RvosProcessor", "RvosVideoProcessor"],
    "hf_rvos.utils.video_io": ["VideoReader", "VideoWriter", "open_video"],
    "hf_rvos.utils.visualization": ["draw_masks"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [*_MODULE_OF, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})


register_all()
