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
"""A tiny SSA without dropout, whose weights are large enough that every input matters. Clips are those of ReferFormer.

Model and clips are float64: norms over maps of few pixels amplify the rounding of float32, and hide small differences.
"""

import torch

from hf_rvos.models.ssa import SsaConfig, SsaForReferringVideoSegmentation
from tests.models.referformer.tiny import VOCAB_SIZE


TEXT_CONFIG = {
    "model_type": "clip_text_model",
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "projection_dim": 24,
    "max_position_embeddings": 20,
    "hidden_act": "gelu",
    "bos_token_id": 0,
    "eos_token_id": 2,
}


def tiny_config(**overrides) -> SsaConfig:
    fields = {
        "backbone_config": {"model_type": "convnext", "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 2, 1]},
        "text_config": TEXT_CONFIG,
        "hidden_size": 64,
        "mask_size": 24,
        "num_queries": 5,
        "adapter_size": 16,
        "adapter_attention_heads": 2,
        "adapter_dropout": 0.0,
        "max_text_tokens": 6,
        "text_projection_dropout": 0.0,
        "encoder_layers": 2,
        "encoder_points": 2,
        "encoder_feedforward_size": 40,
        "fusion_dropout": 0.0,
        "decoder_layers": 4,
        "video_decoder_layers": 3,
        "attention_heads": 4,
        "feedforward_size": 48,
        "num_points": 50,
    }
    return SsaConfig(**fields | overrides)


def tiny_model(**overrides) -> SsaForReferringVideoSegmentation:
    torch.manual_seed(0)
    model = SsaForReferringVideoSegmentation(tiny_config(**overrides))
    with torch.no_grad():  # the small values of a new model would hide most mistakes
        for parameter in model.parameters():
            std = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
            parameter.add_(torch.randn_like(parameter) * std)
    return model.double().eval()
