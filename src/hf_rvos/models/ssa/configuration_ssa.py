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

"""SSA model configuration."""

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from hf_rvos.configuration_checks import check_counts, check_dropouts, check_hidden_size
from hf_rvos.configuration_rvos import RvosConfig


ADAPTER_TYPES = ("word_sentence", "word")


@strict
class SsaConfig(RvosConfig):
    """Configuration of [`SsaModel`] and [`SsaForReferringVideoSegmentation`].

    The defaults are the published model, whose towers are those of OpenCLIP's `convnext_large_d_320`.

    Args:
        backbone_config (`dict` or `PreTrainedConfig`, *optional*):
            Image tower, a ConvNeXt with four stages at strides 4, 8, 16 and 32. Defaults to the large one.
        text_config (`dict` or `PreTrainedConfig`, *optional*):
            Text tower of CLIP. Defaults to the one that was trained together with the image tower.
        hidden_size (`int`, *optional*, defaults to 256):
            Width of the decoders. Must be divisible by 32 and by the number of heads.
        mask_size (`int`, *optional*, defaults to 256):
            Channels of the mask features.
        num_queries (`int`, *optional*, defaults to 20):
            Object queries per frame, and video queries per clip.
        adapter_type (`str`, *optional*, defaults to `"word_sentence"`):
            What the adapters between the stages of the image tower look at: words and sentence, or with `"word"` the
            words alone, as no released model does.
        adapter_size (`int`, *optional*, defaults to 256):
            Width inside the adapters.
        adapter_attention_heads (`int`, *optional*, defaults to 8):
            Heads of the attention to the words.
        adapter_dropout (`float`, *optional*, defaults to 0.1):
            Dropout of the weights and of the output of that attention.
        max_text_tokens (`int`, *optional*, defaults to 40):
            Tokens of an expression that the adapters look at; the sentence feature has seen all.
        text_projection_dropout (`float`, *optional*, defaults to 0.1):
            Dropout of the sentence that the decoders see.
        encoder_layers (`int`, *optional*, defaults to 6):
            Layers of the pixel decoder, each a fusion with the sentence and a deformable attention.
        encoder_points (`int`, *optional*, defaults to 4):
            Sampling points per head and level of the pixel decoder.
        encoder_feedforward_size (`int`, *optional*, defaults to 1024):
            Width of the feed-forward blocks of the pixel decoder, and twice the inner width of its fusions.
        fusion_dropout (`float`, *optional*, defaults to 0.1):
            Dropout of the attention weights of the fusions.
        decoder_layers (`int`, *optional*, defaults to 9):
            Layers of the frame decoder.
        video_decoder_layers (`int`, *optional*, defaults to 6):
            Layers of the video decoder.
        attention_heads (`int`, *optional*, defaults to 8):
            Heads of all three decoders; the fusions have half of them.
        feedforward_size (`int`, *optional*, defaults to 2048):
            Width of the feed-forward blocks of frame and video decoder.
        dropout (`float`, *optional*, defaults to 0.0):
            Dropout of the three decoders.
        frames_at_once (`int`, *optional*, defaults to 18):
            How many frames, counted for every expression, go through the image tower and the frame decoder together
            while no gradient is needed. Answers do not depend on it.
        multi_target (`bool`, *optional*, defaults to `False`):
            Whether an expression may refer to any number of objects, as in MeViS: then all queries above
            `score_threshold` answer together, otherwise the best one answers.
        score_threshold (`float`, *optional*, defaults to 0.5):
            Probability above which a query is one of the objects of a multi-target expression.
        freeze_backbone (`bool`, *optional*, defaults to `True`):
            Whether the image tower is left as it is: no gradients for its weights and always in evaluation mode.
        freeze_text_encoder (`bool`, *optional*, defaults to `True`):
            The same for the text tower.
        num_supervised_frame_layers (`int`, *optional*, defaults to 3):
            Last predictions of the frame decoder from which video queries are made in training.
        auxiliary_loss (`bool`, *optional*, defaults to `True`):
            Whether the predictions before the last of frame and video decoder are trained as well.
        class_loss_weight (`float`, *optional*, defaults to 2.0):
            Weight of the cross entropy of the scores.
        mask_loss_weight (`float`, *optional*, defaults to 5.0):
            Weight of the binary cross entropy of the masks.
        dice_loss_weight (`float`, *optional*, defaults to 5.0):
            Weight of the dice loss of the masks.
        similarity_loss_weight (`float`, *optional*, defaults to 1.0):
            Weight of the loss that draws frame and video queries of one object together. The published configuration
            says 0.5, but the published code does not apply it.
        no_object_weight (`float`, *optional*, defaults to 0.1):
            Weight of the queries without object in the cross entropy of the scores.
        num_points (`int`, *optional*, defaults to 12544):
            Points of a mask at which it is matched and at which its losses are computed.
        oversample_ratio (`float`, *optional*, defaults to 3.0):
            Candidates for each of these points, of which the most uncertain ones are taken.
        importance_ratio (`float`, *optional*, defaults to 0.75):
            Share of the points that is chosen by uncertainty; the others are uniform.
    """

    model_type = "ssa"
    sub_configs_defaults = {
        "backbone_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="convnext",
            init_kwargs={"hidden_sizes": [192, 384, 768, 1536], "depths": [3, 3, 27, 3]},
        ),
        "text_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="clip_text_model",
            init_kwargs={
                "hidden_size": 768,
                "intermediate_size": 3072,
                "projection_dim": 768,
                "num_hidden_layers": 16,
                "num_attention_heads": 12,
                "hidden_act": "gelu",
            },
        ),
    }
    attribute_map = {"d_model": "hidden_size"}

    backbone_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    hidden_size: int = 256
    mask_size: int = 256
    num_queries: int = 20
    adapter_type: str = "word_sentence"
    adapter_size: int = 256
    adapter_attention_heads: int = 8
    adapter_dropout: float | int = 0.1
    max_text_tokens: int = 40
    text_projection_dropout: float | int = 0.1
    encoder_layers: int = 6
    encoder_points: int = 4
    encoder_feedforward_size: int = 1024
    fusion_dropout: float | int = 0.1
    decoder_layers: int = 9
    video_decoder_layers: int = 6
    attention_heads: int = 8
    feedforward_size: int = 2048
    dropout: float | int = 0.0
    frames_at_once: int = 18
    multi_target: bool = False
    score_threshold: float | int | None = 0.5
    freeze_backbone: bool = True
    freeze_text_encoder: bool = True
    num_supervised_frame_layers: int = 3
    auxiliary_loss: bool = True
    class_loss_weight: float | int = 2.0
    mask_loss_weight: float | int = 5.0
    dice_loss_weight: float | int = 5.0
    similarity_loss_weight: float | int = 1.0
    no_object_weight: float | int = 0.1
    num_points: int = 12544
    oversample_ratio: float | int = 3.0
    importance_ratio: float | int = 0.75

    def validate_architecture(self):
        super().validate_architecture()
        check_counts(
            self,
            *("hidden_size", "mask_size", "num_queries", "adapter_size", "adapter_attention_heads"),
            *("max_text_tokens", "encoder_layers", "encoder_points", "encoder_feedforward_size", "decoder_layers"),
            *("video_decoder_layers", "feedforward_size", "frames_at_once", "num_supervised_frame_layers"),
            "num_points",
        )
        check_counts(self, "attention_heads", at_least=2)
        check_dropouts(self, "adapter_dropout", "text_projection_dropout", "fusion_dropout", "dropout")
        check_hidden_size(self, "attention_heads")
        if self.adapter_type not in ADAPTER_TYPES:
            raise ValueError(f"adapter_type is {self.adapter_type!r}, expected one of {ADAPTER_TYPES}")
        for name, divisor in (
            ("adapter_attention_heads", self.adapter_attention_heads),
            ("sine codes of two axes", 4),
        ):
            if self.adapter_size % divisor:
                raise ValueError(f"adapter_size ({self.adapter_size}) must be divisible by {name} ({divisor})")
        if self.encoder_feedforward_size % (2 * (self.attention_heads // 2)):
            raise ValueError(
                f"encoder_feedforward_size ({self.encoder_feedforward_size}) must be divisible by attention_heads "
                f"({self.attention_heads}): the fusions have half of both"
            )
        if self.num_supervised_frame_layers > self.decoder_layers + 1:
            raise ValueError(
                f"num_supervised_frame_layers is {self.num_supervised_frame_layers}, but decoder_layers "
                f"({self.decoder_layers}) make {self.decoder_layers + 1} predictions"
            )
        if not 0 <= self.importance_ratio <= min(1, self.oversample_ratio):
            raise ValueError(
                f"importance_ratio is {self.importance_ratio}, expected a share from 0 to 1 and at most "
                f"oversample_ratio ({self.oversample_ratio}): its points are chosen among those candidates"
            )
        for name, model_type in (("backbone_config", "convnext"), ("text_config", "clip_text_model")):
            found = getattr(self, name).model_type
            if found != model_type:
                raise ValueError(f"{name} has the model_type {found!r}, expected {model_type!r}")
        if len(self.backbone_config.depths) != 4:
            raise ValueError(f"backbone_config has {len(self.backbone_config.depths)} stages, expected 4")
