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
import pytest
import yaml


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory):
    """Path of a recipe that trains a very small ReferFormer for four steps."""
    model = {
        "model_type": "referformer",
        "backbone_config": {
            "model_type": "video_swin",
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 2, 2],
            "window_size": [4, 2, 2],
        },
        "text_config": {
            "model_type": "roberta",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
        },
        "hidden_size": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "attention_heads": 2,
        "fusion_attention_heads": 2,
        "feedforward_size": 32,
        "mask_feature_size": 8,
    }
    recipe = {
        "model": model,
        "num_videos": 4,
        "batch_size": 1,
        "clip_lengths": [1, 2],
        "frame_size": [64, 96],
        "num_workers": 0,
        "max_train_steps": 4,
        "logging_steps": 1,
        "checkpointing_minutes": None,
        "evaluation_minutes": None,
        "evaluation_videos": 1,
        "ema_decay": 0.9,
    }
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path
