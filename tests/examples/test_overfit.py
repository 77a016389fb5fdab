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
"""Every architecture can learn one clip by heart, from random weights, with its own losses."""

import pytest
import torch
from transformers import AutoConfig

from hf_rvos.auto import AutoModelForReferringVideoSegmentation
from hf_rvos.data.collate import ClipCollator
from hf_rvos.data.moving_shapes import generate_video, vocabulary
from hf_rvos.data.transforms import resize_clip, training_boxes
from hf_rvos.metrics.functional import contour_accuracy, region_similarity
from hf_rvos.processing import RvosProcessor, RvosVideoProcessor, build_word_tokenizer


VIDEO = 90  # of the train split: "the square that heads left then moves down and then rises", which is a large one
SHARED = {
    "backbone_config": {
        "model_type": "video_swin",
        "embed_dim": 16,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 2, 4, 8],
        "window_size": [4, 4, 4],
        "drop_path_rate": 0.0,
        "initializer_range": 0.1,
    },
    "hidden_size": 32,
    "num_queries": 1,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "attention_heads": 2,
    "fusion_attention_heads": 2,
    "encoder_points": 2,
    "decoder_points": 2,
    "feedforward_size": 64,
    "dropout": 0.0,
    "text_projection_dropout": 0.0,
    "mask_loss_weight": 40.0,
    "dice_loss_weight": 15.0,
}
TEXT = {
    "model_type": "roberta",
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "type_vocab_size": 1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
CLUSTER = {
    "cluster_encoder_layers": 1,
    "cluster_decoder_layers": 1,
    "cluster_attention_heads": 2,
    "cluster_feedforward_size": 64,
    "cluster_dropout": 0.0,
}
# Settings of its own, size of the frames, their positions in the video. Masks of ReferFormer are compared with every
# fourth pixel in training, so where an outline lies between two of them is not learned. In larger frames it matters
# less.
MODELS = {
    "referformer": ({"mask_feature_size": 16, "pixel_decoder_dropout": 0.0}, (224, 336), [0, 15]),
    # Its decoder needs a multiple of 128; the last layer is the one that has learned with the object cluster.
    "soc": ({"hidden_size": 128, "prediction_layer": -1, **CLUSTER}, (96, 144), [0, 5, 10, 15]),
    "sgmg": ({}, (96, 144), [0, 5, 10, 15]),
    "fast_sgmg": ({}, (96, 144), [0, 5, 10, 15]),
    "ssa": ({}, (96, 160), [0, 5, 10, 15]),  # multiples of 32
}
# SSA shares few of these settings.
SSA = {
    "backbone_config": {
        "model_type": "convnext",
        "hidden_sizes": [16, 32, 48, 64],
        "depths": [1, 1, 1, 1],
        "layer_scale_init_value": 1.0,
        "initializer_range": 0.1,
    },
    "hidden_size": 32,
    "mask_size": 32,
    "num_queries": 1,
    "adapter_size": 32,
    "adapter_attention_heads": 2,
    "encoder_layers": 1,
    "encoder_points": 2,
    "encoder_feedforward_size": 64,
    "decoder_layers": 2,
    "video_decoder_layers": 1,
    "attention_heads": 2,
    "feedforward_size": 64,
    "num_points": 1024,
    "freeze_backbone": False,
    "freeze_text_encoder": False,
    **dict.fromkeys(("adapter_dropout", "text_projection_dropout", "fusion_dropout"), 0.0),
}
SSA_TEXT = {
    "model_type": "clip_text_model",
    "hidden_size": 32,
    "projection_dim": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
MAX_STEPS = 120


@pytest.mark.slow  # 11 to 20 s of one core each: 40 to 80 steps of training
@pytest.mark.parametrize("model_type", MODELS)
def test_one_clip_is_learned_by_heart(model_type):
    settings, size, positions = MODELS[model_type]
    tokenizer = build_word_tokenizer(vocabulary(), 32)
    shared, text = (SSA, SSA_TEXT) if model_type == "ssa" else (SHARED, TEXT)
    text_config = text | {"vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    model = AutoModelForReferringVideoSegmentation.from_config(
        AutoConfig.for_model(model_type, **shared | {"text_config": text_config} | settings)
    )
    video = generate_video("train", VIDEO)
    row = next(row for row in video.rows if row["expression"].startswith("the square that heads left"))
    frames = torch.from_numpy(video.frames[positions]).permute(0, 3, 1, 2)
    frames, masks = resize_clip(frames, torch.from_numpy(video.masks(row)[positions])[None], size)
    boxes, valid_frames = training_boxes(masks)
    batch = ClipCollator(tokenizer, pad_to_multiple_of=1)(
        [
            {
                "frames": frames,
                "expressions": [row["expression"]],
                "masks": masks,
                "boxes": boxes,
                "valid_frames": valid_frames,
                "video_id": "one",
            }
        ]
    )
    batch.pop("video_id")
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    processor = RvosProcessor(RvosVideoProcessor(), tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    scores = []
    for step in range(1, MAX_STEPS + 1):
        model.train()(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 20:
            continue
        with torch.no_grad():
            outputs = model.eval()(**inputs, queries="best")
        (track,) = processor.post_process_referring_video_segmentation(outputs, target_sizes=[size])
        predicted, target = track["masks"].numpy(), masks[0].numpy()
        scores.append(50 * (region_similarity(predicted, target) + contour_accuracy(predicted, target)).mean())
        if scores[-1] >= 95:
            return
    pytest.fail(f"J&F after every 20 steps: {[round(float(score), 1) for score in scores]}, expected 95")
