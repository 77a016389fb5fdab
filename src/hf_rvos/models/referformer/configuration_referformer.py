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

"""ReferFormer model configuration."""

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from hf_rvos.configuration_checks import check_counts, check_dropouts, check_hidden_size
from hf_rvos.configuration_rvos import RvosConfig


@strict
class ReferFormerConfig(RvosConfig):
    """Configuration of [`ReferFormerModel`] and [`ReferFormerForReferringVideoSegmentation`].

    The defaults are the published model with a Video Swin-T backbone.

    Args:
        backbone_config (`dict` or `PreTrainedConfig`, *optional*):
            Visual backbone with four stages at strides 4, 8, 16 and 32. Defaults to Video Swin-T.
        text_config (`dict` or `PreTrainedConfig`, *optional*):
            Text encoder with a pooler. Defaults to the sizes of `roberta-base`.
        hidden_size (`int`, *optional*, defaults to 256):
            Width of the transformer. Must be divisible by 32 and by the numbers of heads.
        num_queries (`int`, *optional*, defaults to 5):
            Object queries per frame.
        encoder_layers (`int`, *optional*, defaults to 4):
            Layers of the deformable encoder.
        decoder_layers (`int`, *optional*, defaults to 4):
            Layers of the deformable decoder.
        attention_heads (`int`, *optional*, defaults to 8):
            Heads of the deformable transformer.
        fusion_attention_heads (`int`, *optional*, defaults to 8):
            Heads of the early fusion and of the pixel decoder.
        encoder_points (`int`, *optional*, defaults to 4):
            Sampling points per head and level in the encoder.
        decoder_points (`int`, *optional*, defaults to 4):
            Sampling points per head and level in the decoder.
        feedforward_size (`int`, *optional*, defaults to 2048):
            Width of the feed-forward blocks of transformer and pixel decoder.
        dropout (`float`, *optional*, defaults to 0.1):
            Dropout of the deformable transformer.
        pixel_decoder_dropout (`float`, *optional*, defaults to 0.1):
            Dropout of the pixel decoder.
        text_projection_dropout (`float`, *optional*, defaults to 0.1):
            Dropout after the projection of the text features.
        mask_feature_size (`int`, *optional*, defaults to 256):
            Channels of the mask features.
        dynamic_mask_layers (`int`, *optional*, defaults to 3):
            Layers of the network that each query predicts for its mask.
        dynamic_mask_channels (`int`, *optional*, defaults to 8):
            Channels between those layers.
        num_classes (`int`, *optional*, defaults to 1):
            Classes of the score head; 1 means "referred to or not".
        auxiliary_loss (`bool`, *optional*, defaults to `True`):
            Whether every decoder layer is trained on its own predictions.
        class_loss_weight (`float`, *optional*, defaults to 2.0):
            Weight of the focal loss of the scores.
        bbox_loss_weight (`float`, *optional*, defaults to 5.0):
            Weight of the L1 loss of the boxes.
        giou_loss_weight (`float`, *optional*, defaults to 2.0):
            Weight of the generalised IoU loss of the boxes.
        mask_loss_weight (`float`, *optional*, defaults to 2.0):
            Weight of the focal loss of the masks.
        dice_loss_weight (`float`, *optional*, defaults to 5.0):
            Weight of the dice loss of the masks.
        score_threshold (`float`, *optional*):
            Score above which a sentence is taken to describe something in the video, see `hf-rvos calibrate`. None if
            there is no such number: every sentence is answered.
    """

    model_type = "referformer"
    sub_configs_defaults = {
        "backbone_config": SubConfigSpec(config_class=AutoConfig, model_type="video_swin"),
        "text_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="roberta",
            init_kwargs={"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
        ),
    }
    attribute_map = {"d_model": "hidden_size"}

    backbone_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    hidden_size: int = 256
    num_queries: int = 5
    encoder_layers: int = 4
    decoder_layers: int = 4
    attention_heads: int = 8
    fusion_attention_heads: int = 8
    encoder_points: int = 4
    decoder_points: int = 4
    feedforward_size: int = 2048
    dropout: float | int = 0.1
    pixel_decoder_dropout: float | int = 0.1
    text_projection_dropout: float | int = 0.1
    mask_feature_size: int = 256
    dynamic_mask_layers: int = 3
    dynamic_mask_channels: int = 8
    num_classes: int = 1
    auxiliary_loss: bool = True
    class_loss_weight: float | int = 2.0
    bbox_loss_weight: float | int = 5.0
    giou_loss_weight: float | int = 2.0
    mask_loss_weight: float | int = 2.0
    dice_loss_weight: float | int = 5.0

    def validate_architecture(self):
        super().validate_architecture()
        check_counts(
            self,
            *("hidden_size", "num_queries", "encoder_layers", "decoder_layers", "attention_heads"),
            *("fusion_attention_heads", "encoder_points", "decoder_points", "feedforward_size", "mask_feature_size"),
            *("dynamic_mask_channels", "num_classes"),
        )
        check_counts(self, "dynamic_mask_layers", at_least=2)
        check_dropouts(self, "dropout", "pixel_decoder_dropout", "text_projection_dropout")
        check_hidden_size(self, "attention_heads", "fusion_attention_heads")
