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
"""A tiny SOC without dropout, whose weights are large enough that every input matters. Clips are those of ReferFormer.

Model and clips are float64: norms over maps of one pixel amplify the rounding of float32, and hide small differences.
"""

import torch

from hf_rvos.backbones import backbone_config
from hf_rvos.models.soc import SocConfig, SocForReferringVideoSegmentation
from tests.models.referformer.tiny import TEXT_CONFIG


def tiny_config(backbone: dict | None = None, **overrides) -> SocConfig:
    sizes = {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "drop_path_rate": 0.0}
    fields = {
        "backbone_config": backbone_config("video-swin-t", **sizes | (backbone or {})),
        "text_config": TEXT_CONFIG,
        "hidden_size": 128,
        "num_queries": 5,
        "encoder_layers": 1,
        "decoder_layers": 3,
        "attention_heads": 4,
        "fusion_attention_heads": 2,
        "encoder_points": 2,
        "decoder_points": 3,
        "feedforward_size": 48,
        "dropout": 0.0,
        "text_projection_dropout": 0.0,
        "cluster_encoder_layers": 1,
        "cluster_decoder_layers": 2,
        "cluster_attention_heads": 4,
        "cluster_feedforward_size": 40,
        "cluster_dropout": 0.0,
        "mask_feature_size": 6,
    }
    return SocConfig(**fields | overrides)


def tiny_model(backbone: dict | None = None, **overrides) -> SocForReferringVideoSegmentation:
    torch.manual_seed(0)
    model = SocForReferringVideoSegmentation(tiny_config(backbone, **overrides))
    with torch.no_grad():  # the small values of a new model would hide most mistakes
        for parameter in model.parameters():
            std = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
            parameter.add_(torch.randn_like(parameter) * std)
    return model.double().eval()
