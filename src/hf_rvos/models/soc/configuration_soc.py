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

"""SOC model configuration."""

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from hf_rvos.configuration_checks import check_counts, check_dropouts, check_hidden_size
from hf_rvos.configuration_rvos import RvosConfig


@strict
class SocConfig(RvosConfig):
    """Configuration of [`SocModel`] and [`SocForReferringVideoSegmentation`].

    The defaults are the published model with a Video Swin-T backbone.

    Args:
        backbone_config (`dict` or `PreTrainedConfig`, *optional*):
            Visual backbone with four stages at strides 4, 8, 16 and 32. Defaults to Video Swin-T.
        text_config (`dict` or `PreTrainedConfig`, *optional*):
            Text encoder with a pooler. Defaults to the sizes of `roberta-base`.
        hidden_size (`int`, *optional*, defaults to 256):
            Width of the transformer. Must be divisible by 32 and by the numbers of heads.
        num_queries (`int`, *optional*, defaults to 20):
            Object queries per frame, and video queries per clip.
        encoder_layers (`int`, *optional*, defaults to 3):
            Layers of the deformable encoder.
        decoder_layers (`int`, *optional*, defaults to 3):
            Layers of the deformable decoder.
        attention_heads (`int`, *optional*, defaults to 8):
            Heads of the deformable transformer.
        fusion_attention_heads (`int`, *optional*, defaults to 8):
            Heads of both fusion streams.
        encoder_points (`int`, *optional*, defaults to 4):
            Sampling points per head and level in the encoder.
        decoder_points (`int`, *optional*, defaults to 4):
            Sampling points per head and level in the decoder.
        feedforward_size (`int`, *optional*, defaults to 2048):
            Width of the feed-forward blocks of the deformable transformer.
        dropout (`float`, *optional*, defaults to 0.1):
            Dropout of the deformable transformer.
        text_projection_dropout (`float`, *optional*, defaults to 0.1):
            Dropout after the projection of the text features.
        use_language_to_vision (`bool`, *optional*, defaults to `True`):
            Whether the pixels look at the words before the encoder. For ablations.
        use_vision_to_language (`bool`, *optional*, defaults to `True`):
            Whether the words look at the pixels before they guide the contrastive loss. For ablations.
        use_object_cluster (`bool`, *optional*, defaults to `True`):
            Whether video queries gather what the queries of all frames know. For ablations.
        cluster_encoder_layers (`int`, *optional*, defaults to 3):
            Layers in which the queries of all frames look at each other.
        cluster_decoder_layers (`int`, *optional*, defaults to 3):
            Layers in which the video queries look at them.
        cluster_attention_heads (`int`, *optional*, defaults to 8):
            Heads of the object cluster.
        cluster_feedforward_size (`int`, *optional*, defaults to 2048):
            Width of the feed-forward blocks of the object cluster.
        cluster_dropout (`float`, *optional*, defaults to 0.1):
            Dropout of the object cluster.
        mix_videos_in_cluster (`bool`, *optional*, defaults to `False`):
            Whether the object cluster confuses the frames of the clips of a batch, as the published code does when a
            batch has several clips of several frames. Only to reproduce its numbers.
        mask_feature_size (`int`, *optional*, defaults to 8):
            Channels of the mask features.
        dynamic_mask_layers (`int`, *optional*, defaults to 3):
            Layers of the network that each query predicts for its mask.
        dynamic_mask_channels (`int`, *optional*, defaults to 8):
            Channels between those layers.
        num_classes (`int`, *optional*, defaults to 1):
            Classes of the score head; 1 means "referred to or not".
        prediction_layer (`int`, *optional*, defaults to 0):
            Decoder layer that predictions come from in evaluation mode, always together with the object cluster of
            the last layer. The published code and its numbers take the first layer (0); -1 takes the last, which is
            also what predicts in training mode.
        auxiliary_loss (`bool`, *optional*, defaults to `True`):
            Whether every decoder layer is trained on its own predictions.
        use_contrastive_loss (`bool`, *optional*, defaults to `True`):
            Whether the matched video query is drawn to the words that have seen the clip, and the others away.
        class_loss_weight (`float`, *optional*, defaults to 2.0):
            Weight of the focal loss of the scores.
        bbox_loss_weight (`float`, *optional*, defaults to 2.0):
            Weight of the L1 loss of the boxes.
        giou_loss_weight (`float`, *optional*, defaults to 2.0):
            Weight of the generalised IoU loss of the boxes.
        mask_loss_weight (`float`, *optional*, defaults to 2.0):
            Weight of the focal loss of the masks, which takes no part in the matching.
        dice_loss_weight (`float`, *optional*, defaults to 5.0):
            Weight of the dice loss of the masks.
        contrastive_loss_weight (`float`, *optional*, defaults to 1.0):
            Weight of the contrastive loss, which takes no part in the matching.
        score_threshold (`float`, *optional*):
            Score above which a sentence is taken to describe something in the video, see `hf-rvos calibrate`. None if
            there is no such number: every sentence is answered.
    """

    model_type = "soc"
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
    num_queries: int = 20
    encoder_layers: int = 3
    decoder_layers: int = 3
    attention_heads: int = 8
    fusion_attention_heads: int = 8
    encoder_points: int = 4
    decoder_points: int = 4
    feedforward_size: int = 2048
    dropout: float | int = 0.1
    text_projection_dropout: float | int = 0.1
    use_language_to_vision: bool = True
    use_vision_to_language: bool = True
    use_object_cluster: bool = True
    cluster_encoder_layers: int = 3
    cluster_decoder_layers: int = 3
    cluster_attention_heads: int = 8
    cluster_feedforward_size: int = 2048
    cluster_dropout: float | int = 0.1
    mix_videos_in_cluster: bool = False
    mask_feature_size: int = 8
    dynamic_mask_layers: int = 3
    dynamic_mask_channels: int = 8
    num_classes: int = 1
    prediction_layer: int = 0
    auxiliary_loss: bool = True
    use_contrastive_loss: bool = True
    class_loss_weight: float | int = 2.0
    bbox_loss_weight: float | int = 2.0
    giou_loss_weight: float | int = 2.0
    mask_loss_weight: float | int = 2.0
    dice_loss_weight: float | int = 5.0
    contrastive_loss_weight: float | int = 1.0

    def validate_architecture(self):
        super().validate_architecture()
        check_counts(
            self,
            *("hidden_size", "num_queries", "encoder_layers", "decoder_layers", "attention_heads"),
            *("fusion_attention_heads", "encoder_points", "decoder_points", "feedforward_size"),
            *("cluster_encoder_layers", "cluster_decoder_layers", "cluster_attention_heads"),
            *("cluster_feedforward_size", "mask_feature_size", "dynamic_mask_channels", "num_classes"),
        )
        check_counts(self, "dynamic_mask_layers", at_least=2)
        check_dropouts(self, "dropout", "text_projection_dropout", "cluster_dropout")
        check_hidden_size(self, "attention_heads", "fusion_attention_heads", "cluster_attention_heads")
        if not -self.decoder_layers <= self.prediction_layer < self.decoder_layers:
            raise ValueError(
                f"prediction_layer is {self.prediction_layer}, expected one of the {self.decoder_layers} decoder "
                f"layers: {-self.decoder_layers} to {self.decoder_layers - 1}"
            )
