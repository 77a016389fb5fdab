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

"""SgMg model configuration."""

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from hf_rvos.configuration_checks import check_counts, check_dropouts, check_hidden_size
from hf_rvos.configuration_rvos import RvosConfig


@strict
class SgMgConfig(RvosConfig):
    """Configuration of [`SgMgModel`] and [`SgMgForReferringVideoSegmentation`].

    The defaults are the published model with a Video Swin-T backbone. `spectrum_augmentation=False`, `patch_size=1`
    and `mask_refinement=False` each take out one of the three parts that the paper adds.

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
            Heads of the fusion of pixels and words.
        encoder_points (`int`, *optional*, defaults to 4):
            Sampling points per head and level in the encoder.
        decoder_points (`int`, *optional*, defaults to 4):
            Sampling points per head and level in the decoder.
        feedforward_size (`int`, *optional*, defaults to 2048):
            Width of the feed-forward blocks.
        dropout (`float`, *optional*, defaults to 0.1):
            Dropout of the deformable transformer.
        text_projection_dropout (`float`, *optional*, defaults to 0.1):
            Dropout after the projections of the text features.
        spectrum_augmentation (`bool`, *optional*, defaults to `True`):
            Whether the maps are changed in the frequency domain before and after the fusion with the words.
        gaussian_bandwidth (`float`, *optional*, defaults to 7.0):
            Width of the low-pass filter, in frequencies of the map at stride 8.
        kernel_channels (`int`, *optional*, defaults to 16):
            Channels between the two layers that each query predicts for its mask.
        patch_size (`int`, *optional*, defaults to 4):
            Side of the patch of mask pixels that these layers draw for a cell of stride 8; 1, 2 or 4.
        mask_refinement (`bool`, *optional*, defaults to `True`):
            Whether the patches are corrected with backbone maps of stride 8 and 4.
        refinement_channels (`int`, *optional*, defaults to 16):
            Channels of that correction.
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
            Weight of the focal loss of the masks, before and after the refinement.
        dice_loss_weight (`float`, *optional*, defaults to 5.0):
            Weight of the dice loss of the masks, before and after the refinement.
        score_threshold (`float`, *optional*):
            Score above which a sentence is taken to describe something in the video, see `hf-rvos calibrate`. None if
            there is no such number: every sentence is answered.
    """

    model_type = "sgmg"
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
    text_projection_dropout: float | int = 0.1
    spectrum_augmentation: bool = True
    gaussian_bandwidth: float | int = 7.0
    kernel_channels: int = 16
    patch_size: int = 4
    mask_refinement: bool = True
    refinement_channels: int = 16
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
            *("fusion_attention_heads", "encoder_points", "decoder_points", "feedforward_size", "kernel_channels"),
            *("refinement_channels", "num_classes"),
        )
        if self.gaussian_bandwidth <= 0:
            raise ValueError(f"gaussian_bandwidth is {self.gaussian_bandwidth}, expected more than 0")
        if self.patch_size not in (1, 2, 4):
            raise ValueError(f"patch_size is {self.patch_size}, expected 1, 2 or 4")
        check_dropouts(self, "dropout", "text_projection_dropout")
        check_hidden_size(self, "attention_heads", "fusion_attention_heads")
