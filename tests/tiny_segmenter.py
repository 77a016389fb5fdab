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
"""A tiny ReferFormer with random weights and its processor, for tests of what is around the model."""

import numpy as np
import torch

from hf_rvos import ReferFormerConfig, ReferFormerForReferringVideoSegmentation, backbone_config
from hf_rvos.models.ssa import SsaConfig, SsaForReferringVideoSegmentation
from hf_rvos.models.ssa.processing_ssa import build_video_processor
from hf_rvos.pipelines import ReferringVideoSegmentationPipeline
from hf_rvos.processing import RvosProcessor, RvosVideoProcessor, build_word_tokenizer


WORDS = "the a red green blue circle square star moving left right up down".split()
TEXT_LIMIT = 12


def tiny_processor(shortest_edge: int = 48, text_limit: int = TEXT_LIMIT, **kwargs) -> RvosProcessor:
    tokenizer = build_word_tokenizer(WORDS, model_max_length=text_limit)
    return RvosProcessor(RvosVideoProcessor(size={"shortest_edge": shortest_edge}, **kwargs), tokenizer)


def tiny_model(text_limit: int = TEXT_LIMIT) -> ReferFormerForReferringVideoSegmentation:
    config = ReferFormerConfig(
        backbone_config=backbone_config("video-swin-t", embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2)),
        text_config={
            "model_type": "roberta",
            "vocab_size": len(WORDS) + 4,
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "max_position_embeddings": text_limit + 2,
        },
        hidden_size=64,
        num_queries=3,
        encoder_layers=1,
        decoder_layers=2,
        attention_heads=2,
        fusion_attention_heads=2,
        feedforward_size=32,
        mask_feature_size=8,
    )
    torch.manual_seed(5)
    model = ReferFormerForReferringVideoSegmentation(config).eval()
    # Larger weights than a new model has, so that masks are not empty and sentences differ.
    for name, parameter in model.named_parameters():
        if "norm" not in name.lower():
            torch.nn.init.normal_(parameter, std=1.5 / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 0.1)
    return model


def tiny_ssa(**settings) -> SsaForReferringVideoSegmentation:
    """An SSA with random weights, a few of whose queries are above the threshold."""
    config = SsaConfig(
        backbone_config={"model_type": "convnext", "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]},
        text_config={
            "model_type": "clip_text_model",
            "vocab_size": len(WORDS) + 4,
            "hidden_size": 16,
            "intermediate_size": 16,
            "projection_dim": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": TEXT_LIMIT,
        },
        hidden_size=32,
        num_queries=5,
        adapter_size=16,
        adapter_attention_heads=2,
        encoder_layers=1,
        encoder_feedforward_size=32,
        decoder_layers=2,
        video_decoder_layers=1,
        attention_heads=2,
        feedforward_size=32,
        **{"mask_size": 16, "frames_at_once": 3, **settings},
    )
    torch.manual_seed(5)
    model = SsaForReferringVideoSegmentation(config).eval()
    for name, parameter in model.named_parameters():
        if "positions" in name:  # which alone tell the queries of a new model apart
            torch.nn.init.normal_(parameter, std=3)
        elif "norm" not in name.lower():
            torch.nn.init.normal_(parameter, std=1.5 / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 0.1)
    return model


def tiny_ssa_processor(shortest_edge: int = 48, **kwargs) -> RvosProcessor:
    tokenizer = build_word_tokenizer(WORDS, model_max_length=TEXT_LIMIT)
    size = {"shortest_edge": shortest_edge, "longest_edge": 4 * shortest_edge}
    return RvosProcessor(build_video_processor(size=size, **kwargs), tokenizer)


def tiny_ssa_pipeline(model: SsaForReferringVideoSegmentation | None = None) -> ReferringVideoSegmentationPipeline:
    return ReferringVideoSegmentationPipeline(
        model=model or tiny_ssa(), processor=tiny_ssa_processor(), device="cpu", task="referring-video-segmentation"
    )


def tiny_pipeline(model: ReferFormerForReferringVideoSegmentation | None = None) -> ReferringVideoSegmentationPipeline:
    return ReferringVideoSegmentationPipeline(
        model=model or tiny_model(), processor=tiny_processor(), device="cpu", task="referring-video-segmentation"
    )


def moving_square(num_frames: int = 4, height: int = 40, width: int = 60) -> np.ndarray:
    """A red square that moves right over a grey gradient, `(num_frames, height, width, 3)` uint8."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    frames[:] = np.linspace(40, 160, width, dtype=np.uint8)[None, None, :, None]
    for index, frame in enumerate(frames):
        left = 2 + (3 * index) % (width - 20)
        frame[10:26, left : left + 16] = (220, 30, 30)
    return frames
