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
"""A tiny SgMg without dropout, whose weights are large enough that every input matters.

Model and clips are float64: norms over small maps amplify the rounding of float32, and hide small differences.
"""

import torch

from hf_rvos.backbones import backbone_config
from hf_rvos.models.sgmg import SgMgConfig, SgMgForReferringVideoSegmentation


VOCAB_SIZE = 30
SINGLE_FRAMES = {"window_size": (1, 7, 7), "shrink_window": False, "normalize_stages": True}
TEXT_CONFIG = {
    "model_type": "roberta",
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
    "type_vocab_size": 1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def tiny_config(backbone: dict | None = None, **overrides) -> SgMgConfig:
    sizes = {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "drop_path_rate": 0.0}
    fields = {
        "backbone_config": backbone_config("video-swin-t", **sizes | (backbone or {})),
        "text_config": TEXT_CONFIG,
        "hidden_size": 64,
        "num_queries": 5,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "attention_heads": 4,
        "fusion_attention_heads": 2,
        "encoder_points": 2,
        "decoder_points": 3,
        "feedforward_size": 48,
        "dropout": 0.0,
        "text_projection_dropout": 0.0,
        "refinement_channels": 6,
    }
    return SgMgConfig(**fields | overrides)


def tiny_model(backbone: dict | None = None, **overrides) -> SgMgForReferringVideoSegmentation:
    torch.manual_seed(0)
    model = SgMgForReferringVideoSegmentation(tiny_config(backbone, **overrides))
    with torch.no_grad():  # the small values of a new model would hide most mistakes
        for parameter in model.parameters():
            std = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
            parameter.add_(torch.randn_like(parameter) * std)
    return model.double().eval()


def random_inputs(
    num_videos: int = 2, num_frames: int = 2, height: int = 132, width: int = 136, num_expressions: int | None = None
) -> dict[str, torch.Tensor]:
    """Clips without padding, and expressions of different length: one for each video, or all for the first."""
    generator = torch.Generator().manual_seed(1)
    count = num_expressions or num_videos
    attention_mask = torch.ones(count, 7, dtype=torch.long)
    for index in range(count):
        attention_mask[index, 7 - index % 4 :] = 0
    input_ids = torch.randint(5, VOCAB_SIZE, (count, 7), generator=generator)
    inputs = {
        "pixel_values_videos": torch.randn(num_videos, num_frames, 3, height, width, generator=generator).double(),
        "input_ids": torch.where(attention_mask == 1, input_ids, 1),
        "attention_mask": attention_mask,
    }
    if num_expressions is not None:
        inputs["video_index"] = torch.zeros(num_expressions, dtype=torch.long)
    return inputs


def pad(inputs: dict[str, torch.Tensor], sizes: list[tuple[int, int, int]]) -> dict[str, torch.Tensor]:
    """The same clips, of which only `(num_frames, height, width)` are real; the rest is zero."""
    mask = torch.zeros_like(inputs["pixel_values_videos"][:, :, 0], dtype=torch.bool)
    for index, (num_frames, height, width) in enumerate(sizes):
        mask[index, :num_frames, :height, :width] = True
    return inputs | {"pixel_values_videos": inputs["pixel_values_videos"] * mask[:, :, None], "pixel_mask": mask}


def random_labels(
    num_expressions: int = 2, num_frames: int = 2, height: int = 132, width: int = 136
) -> list[dict[str, torch.Tensor]]:
    """Rectangles; the object of the first expression is absent in the last frame."""
    labels = []
    for index in range(num_expressions):
        masks = torch.zeros(num_frames, height, width, dtype=torch.bool)
        masks[:, 16 : 56 + 8 * index, 24:88] = True
        box = torch.tensor([56 / width, (36 + 4 * index) / height, 64 / width, (40 + 8 * index) / height])
        labels.append(
            {
                "masks": masks,
                "boxes": box.repeat(num_frames, 1),
                "class_labels": torch.zeros(num_frames, dtype=torch.long),
                "valid_frames": torch.ones(num_frames, dtype=torch.bool),
            }
        )
    for name in ("masks", "boxes", "valid_frames"):
        labels[0][name][-1] = 0
    return labels
