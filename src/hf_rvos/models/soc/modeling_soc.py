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

"""SOC: semantic-assisted object cluster (Luo et al., NeurIPS 2023, https://arxiv.org/abs/2305.17011).

The file reads in the order the data flows: features of the video, features of the words, fusion and encoder, decoder,
object cluster, pixel decoder, heads. What depends on the video alone is computed once per video and then gathered for
the expressions that refer to it.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.backbone_utils import load_backbone
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from hf_rvos.backbones import extract_frame_features
from hf_rvos.frozen_parts import FrozenPartsMixin
from hf_rvos.kernels import KernelGuardMixin
from hf_rvos.layers.attention import MultiHeadAttention
from hf_rvos.layers.box_decoder import BoxRefiningDecoder
from hf_rvos.layers.deformable_transformer import DeformableEncoderLayer, FeedForward, encoder_reference_points
from hf_rvos.layers.dynamic_mask_head import DynamicMaskHead
from hf_rvos.layers.frame_geometry import (
    keep_annotated_frames,
    level_positions,
    resize_pixel_mask,
    unpadded_frame_sizes,
    valid_ratios_of,
    whole_frame_sizes,
)
from hf_rvos.layers.initialization import init_shared_layer
from hf_rvos.layers.mlp import MLP
from hf_rvos.layers.position_embedding import word_position_embedding
from hf_rvos.layers.projections import LevelProjection, TextProjection
from hf_rvos.layers.text_fusion import TextGuidedFusion
from hf_rvos.modeling_inputs import check_text, check_video_index, check_videos
from hf_rvos.modeling_outputs import ReferringVideoSegmentationOutput
from hf_rvos.models.soc.configuration_soc import SocConfig
from hf_rvos.models.soc.loss_soc import soc_loss
from hf_rvos.ops.queries import best_query


NUM_FEATURE_LEVELS = 4  # strides 8, 16, 32 of the backbone and 64
COARSE_LEVEL = 2  # stride 32, which guides the contrastive loss
MASK_STRIDE = 4


@dataclass
class SocVideoFeatures(ModelOutput):
    """What the model knows of videos before it sees a word. `num_tokens` counts the cells of the four levels.

    Args:
        pixels (`torch.FloatTensor` of shape `(num_videos, num_frames, num_tokens, hidden_size)`):
            Projected features of the levels with strides 8, 16, 32 and 64, one after the other.
        projected_pixels (`torch.Tensor` of shape `(num_videos, num_frames, num_tokens, hidden_size)`, *optional*):
            Queries with which they look at the words. None without that stream.
        pixel_positions (`torch.FloatTensor` of shape `(1 or num_videos, 1 or num_frames, num_tokens, hidden_size)`):
            Position codes of the tokens; sizes are 1 without padding.
        pixel_mask (`torch.BoolTensor` of shape `(num_videos, num_frames, num_tokens)`, *optional*):
            True at real tokens. None without padding.
        valid_ratios (`torch.FloatTensor` of shape `(num_videos, num_frames, 4, 2)`, *optional*):
            Share of real columns and rows in each level. None without padding.
        fine_pixels (`torch.FloatTensor` of shape `(num_videos, num_frames, hidden_size // 8, height, width)`):
            Features at stride 4, as the pixel decoder takes them.
        frame_sizes (`torch.FloatTensor` of shape `(num_videos, 2)`):
            Height and width of the frames before padding.
        padded_size (`tuple[int, int]`):
            `(height, width)` of the frames with padding.
        spatial_shapes (`list[tuple[int, int]]`):
            `(height, width)` of the four levels.
    """

    pixels: torch.FloatTensor | None = None
    projected_pixels: torch.FloatTensor | None = None
    pixel_positions: torch.FloatTensor | None = None
    pixel_mask: torch.BoolTensor | None = None
    valid_ratios: torch.FloatTensor | None = None
    fine_pixels: torch.FloatTensor | None = None
    frame_sizes: torch.FloatTensor | None = None
    padded_size: tuple[int, int] | None = None
    spatial_shapes: list[tuple[int, int]] | None = None

    def select(self, video_index: torch.Tensor | None) -> "SocVideoFeatures":
        """The features of the video of each expression; `video_index` is `(num_expressions,)`, None means as is."""
        if video_index is None:
            return self

        def gather(name, value):
            if not isinstance(value, torch.Tensor):
                return value
            if value.shape[0] > 1:
                return value[video_index]
            return value if name == "pixel_positions" else value.expand(len(video_index), *value.shape[1:])

        return SocVideoFeatures(**{name: gather(name, value) for name, value in self.items()})


@dataclass
class SocTextFeatures(ModelOutput):
    """What the model knows of expressions before it sees a frame.

    Args:
        words (`torch.FloatTensor` of shape `(num_expressions, num_words, hidden_size)`):
            Projected features of all tokens.
        sentence (`torch.FloatTensor` of shape `(num_expressions, hidden_size)`):
            Projected feature of the sentence; None without object cluster, which alone needs it.
        word_positions (`torch.FloatTensor` of shape `(num_expressions, num_words, hidden_size)`):
            Position codes of the tokens.
        word_mask (`torch.BoolTensor` of shape `(num_expressions, num_words)`):
            True at real tokens.
    """

    words: torch.FloatTensor | None = None
    sentence: torch.FloatTensor | None = None
    word_positions: torch.FloatTensor | None = None
    word_mask: torch.BoolTensor | None = None


@dataclass
class SocModelOutput(ModelOutput):
    """Queries and pixels of each expression, before the heads. Frames of an expression are folded into the first size.

    Args:
        hidden_states (`tuple[torch.FloatTensor]` of shape `(num_expressions * num_frames, num_queries, hidden_size)`):
            Frame queries after each decoder layer.
        boxes (`tuple[torch.FloatTensor]` of shape `(num_expressions * num_frames, num_queries, 4)`):
            Box after each decoder layer, cxcywh in units of the unpadded frame, without what the clip knows.
        initial_reference_points (`torch.FloatTensor` of shape `(1, num_queries, 2)`):
            Where the first decoder layer looks from, (x, y) in units of the unpadded frame.
        video_queries (`tuple[torch.FloatTensor]` of shape `(num_expressions, num_queries, hidden_size)`, *optional*):
            What the object cluster makes of the frame queries of the last decoder layer or, on request, of every one.
            None without object cluster.
        guidance (`torch.FloatTensor` of shape `(num_expressions, hidden_size)`, *optional*):
            Mean of the words after they have looked at the clip, on request.
        encoder_last_hidden_state (`torch.Tensor` of shape `(num_expressions * num_frames, num_tokens, hidden_size)`):
            Encoded pixels of the four levels.
        mask_features (`torch.Tensor` of shape `(num_expressions * num_frames, mask_feature_size, height, width)`):
            Output of the pixel decoder at stride 4.
        frame_sizes (`torch.FloatTensor` of shape `(num_expressions, 2)`):
            Height and width of the frames before padding.
        frame_mask (`torch.BoolTensor` of shape `(num_expressions, num_frames)`, *optional*):
            True at frames that have real pixels. None without padding.
        padded_size (`tuple[int, int]`):
            `(height, width)` of the frames with padding.
    """

    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    boxes: tuple[torch.FloatTensor, ...] | None = None
    initial_reference_points: torch.FloatTensor | None = None
    video_queries: tuple[torch.FloatTensor, ...] | None = None
    guidance: torch.FloatTensor | None = None
    encoder_last_hidden_state: torch.FloatTensor | None = None
    mask_features: torch.FloatTensor | None = None
    frame_sizes: torch.FloatTensor | None = None
    frame_mask: torch.BoolTensor | None = None
    padded_size: tuple[int, int] | None = None


class SocClusterEncoderLayer(GradientCheckpointingLayer):
    """The queries of all frames of a clip look at each other. Nothing says from which frame or query one comes."""

    def __init__(self, hidden_size: int, num_heads: int, feedforward_size: int, dropout: float):
        super().__init__()
        self.self_attn = MultiHeadAttention(hidden_size, num_heads, dropout)
        self.self_attn_norm = nn.LayerNorm(hidden_size)
        self.feed_forward = FeedForward(hidden_size, feedforward_size, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: torch.Tensor, token_mask: torch.Tensor | None) -> torch.Tensor:
        """
        Args:
            tokens: `(num_clips, num_frames * num_queries, hidden_size)`.
            token_mask: `(num_clips, num_frames * num_queries)`, True at queries of real frames, or None.

        Returns:
            Same shape as `tokens`.
        """
        attended = self.self_attn(tokens, tokens, tokens, token_mask)
        return self.feed_forward(self.self_attn_norm(tokens + self.dropout(attended)))


class SocClusterDecoderLayer(GradientCheckpointingLayer):
    """The video queries of a clip look at its frame queries, then at each other."""

    def __init__(self, hidden_size: int, num_heads: int, feedforward_size: int, dropout: float):
        super().__init__()
        self.cross_attn = MultiHeadAttention(hidden_size, num_heads, dropout)
        self.cross_attn_norm = nn.LayerNorm(hidden_size)
        self.self_attn = MultiHeadAttention(hidden_size, num_heads, dropout)
        self.self_attn_norm = nn.LayerNorm(hidden_size)
        self.feed_forward = FeedForward(hidden_size, feedforward_size, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: torch.Tensor,
        positions: torch.Tensor,
        tokens: torch.Tensor,
        token_positions: torch.Tensor,
        token_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """
        Args:
            queries: `(num_clips, num_queries, hidden_size)`.
            positions: `(num_queries, hidden_size)`.
            tokens: `(num_clips, num_frames * num_queries, hidden_size)` encoded frame queries.
            token_positions: `(num_frames * num_queries, hidden_size)`.
            token_mask: `(num_clips, num_frames * num_queries)`, True at queries of real frames, or None.

        Returns:
            Same shape as `queries`.
        """
        attended = self.cross_attn(queries + positions, tokens + token_positions, tokens, token_mask)
        queries = self.cross_attn_norm(queries + self.dropout(attended))
        positioned = queries + positions
        queries = self.self_attn_norm(queries + self.dropout(self.self_attn(positioned, positioned, queries)))
        return self.feed_forward(queries)


class SocObjectCluster(nn.Module):
    """Gather what the queries of all frames know about an object into video queries, which start as the sentence.

    Follows the object-token association of VITA. There is no code for time: frames are told apart by content alone.
    """

    def __init__(self, config: SocConfig):
        super().__init__()
        sizes = (
            config.hidden_size,
            config.cluster_attention_heads,
            config.cluster_feedforward_size,
            config.cluster_dropout,
        )
        self.mix_videos = config.mix_videos_in_cluster
        self.encoder_layers = nn.ModuleList(
            SocClusterEncoderLayer(*sizes) for _ in range(config.cluster_encoder_layers)
        )
        self.frame_query_positions = nn.Parameter(torch.empty(config.num_queries, config.hidden_size))
        self.query_positions = nn.Parameter(torch.empty(config.num_queries, config.hidden_size))
        self.decoder_layers = nn.ModuleList(
            SocClusterDecoderLayer(*sizes) for _ in range(config.cluster_decoder_layers)
        )
        self.norm = nn.LayerNorm(config.hidden_size)

    def forward(
        self, frame_queries: torch.Tensor, sentences: torch.Tensor, frame_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """
        Args:
            frame_queries: `(num_layers, num_expressions, num_frames, num_queries, hidden_size)` of decoder layers.
            sentences: `(num_expressions, hidden_size)`.
            frame_mask: `(num_expressions, num_frames)`, True at frames with real pixels, or None.

        Returns:
            `(num_layers, num_expressions, num_queries, hidden_size)`.
        """
        num_layers, _, num_frames, num_queries, _ = frame_queries.shape
        if self.mix_videos:
            # The released code has frames before videos here, and reshapes where it would have to transpose.
            frame_queries = frame_queries.transpose(1, 2).reshape(frame_queries.shape)
            frame_mask = None if frame_mask is None else frame_mask.t().reshape(frame_mask.shape)
        tokens = frame_queries.flatten(2, 3).flatten(0, 1)  # (L*E, T*Q, C)
        mask = None if frame_mask is None else frame_mask.repeat_interleave(num_queries, 1).repeat(num_layers, 1)
        for layer in self.encoder_layers:
            tokens = layer(tokens, mask)
        token_positions = self.frame_query_positions.repeat(num_frames, 1)
        queries = sentences.repeat(num_layers, 1)[:, None].expand(-1, num_queries, -1)
        for layer in self.decoder_layers:
            queries = layer(queries, self.query_positions, tokens, token_positions, mask)
        return self.norm(queries).unflatten(0, (num_layers, -1))


class SocPixelDecoder(nn.Module):
    """Convolutional pyramid from the encoder memory at stride 32 up to mask features at stride 4.

    Nothing is masked: padded cells take part in convolutions and norms, and released weights assume it.
    """

    def __init__(self, config: SocConfig, fine_channels: int):
        super().__init__()
        size = config.hidden_size
        channels = [size, size, size // 2, size // 4, size // 8, size // 16]
        self.convs = nn.ModuleList(
            nn.Conv2d(ins, outs, 3, padding=1) for ins, outs in zip(channels[:-1], channels[1:])
        )
        # Eight groups, or fewer where a narrow model has fewer channels.
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(8, outs), outs) for outs in channels[1:])
        self.adapters = nn.ModuleList([nn.Conv2d(size, size // 2, 1), nn.Conv2d(size, size // 4, 1)])
        # Sees the video alone, so `SocModel.get_video_features` calls it.
        self.fine_adapter = nn.Conv2d(fine_channels, size // 8, 1)
        self.projection = nn.Conv2d(size // 16, config.mask_feature_size, 3, padding=1)

    def forward(
        self, memory: torch.Tensor, fine_maps: torch.Tensor, spatial_shapes: list[tuple[int, int]]
    ) -> torch.Tensor:
        """
        Args:
            memory: `(num_frames, num_tokens, hidden_size)` encoded pixels of the four levels.
            fine_maps: `(num_frames, hidden_size // 8, height, width)`, from `fine_adapter`.
            spatial_shapes: `(height, width)` of the four levels.

        Returns:
            `(num_frames, mask_feature_size, height, width)` at stride 4.
        """
        lengths = [height * width for height, width in spatial_shapes]
        fine, middle, coarse = (
            tokens.transpose(1, 2).unflatten(2, shape)
            for tokens, shape in zip(memory.split(lengths, dim=1)[:3], spatial_shapes)
        )
        maps = self._smooth(0, coarse)
        for index, finer in enumerate((self.adapters[0](middle), self.adapters[1](fine), fine_maps)):
            maps = self._smooth(index + 1, maps)
            maps = F.interpolate(maps, size=finer.shape[-2:], mode="nearest") + finer
        return self.projection(self._smooth(4, maps))

    def _smooth(self, index: int, maps: torch.Tensor) -> torch.Tensor:
        return self.norms[index](self.convs[index](maps)).relu()


class SocPreTrainedModel(FrozenPartsMixin, KernelGuardMixin, PreTrainedModel):
    """Loading, saving and initialisation of SOC models."""

    config: SocConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = [
        "DeformableEncoderLayer",
        "DeformableDecoderLayer",
        "SocClusterEncoderLayer",
        "SocClusterDecoderLayer",
    ]
    _supports_sdpa = True
    _supports_attention_backend = True

    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False):
        # In classes from outside, transformers passes over modules without tensors of their own, among them the
        # attentions and perceptrons below, because it cannot know that their initialisation spares loaded tensors.
        super()._initialize_weights(module, is_custom_code=False)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Initial values of the released code."""
        super()._init_weights(module)
        init_shared_layer(module)
        if isinstance(module, SocObjectCluster):
            init.normal_(module.frame_query_positions)
            init.normal_(module.query_positions)
        elif isinstance(module, SocPixelDecoder):
            for conv in (*module.convs, *module.adapters, module.fine_adapter, module.projection):
                init.kaiming_uniform_(conv.weight, a=1)
                init.zeros_(conv.bias)
        elif isinstance(module, SocModel):
            init.normal_(module.level_embedding)
        elif isinstance(module, SocForReferringVideoSegmentation):
            for head in module.class_heads:
                init.constant_(head.bias, -math.log(99))  # probability 0.01


class SocModel(SocPreTrainedModel):
    """SOC up to frame queries, video queries and mask features, without the heads for scores and masks."""

    def __init__(self, config: SocConfig):
        super().__init__(config)
        size = config.hidden_size
        self.backbone = load_backbone(config)
        self.text_encoder = AutoModel.from_config(config.text_config)
        self.text_projection = TextProjection(config.text_config.hidden_size, size, config.text_projection_dropout)
        if len(self.backbone.channels) != 4:
            raise ValueError(
                f"backbone_config exports {len(self.backbone.channels)} feature maps, expected 4, with strides 4, 8, "
                "16 and 32. Set its out_features."
            )
        fine_channels, *channels = self.backbone.channels
        self.level_projections = nn.ModuleList(
            [LevelProjection(in_channels, size) for in_channels in channels]
            + [LevelProjection(channels[-1], size, kernel_size=3, stride=2)]
        )
        self.level_embedding = nn.Parameter(torch.empty(NUM_FEATURE_LEVELS, size))
        self.pixel_fusion = self.word_fusion = self.object_cluster = None
        if config.use_language_to_vision:
            self.pixel_fusion = TextGuidedFusion(size, config.fusion_attention_heads)
        if config.use_vision_to_language and config.use_contrastive_loss:
            self.word_fusion = TextGuidedFusion(size, config.fusion_attention_heads)
        self.encoder_layers = nn.ModuleList(
            DeformableEncoderLayer(
                size,
                config.attention_heads,
                NUM_FEATURE_LEVELS,
                config.encoder_points,
                config.feedforward_size,
                config.dropout,
            )
            for _ in range(config.encoder_layers)
        )
        self.decoder = BoxRefiningDecoder(
            size,
            config.num_queries,
            config.decoder_layers,
            config.attention_heads,
            NUM_FEATURE_LEVELS,
            config.decoder_points,
            config.feedforward_size,
            config.dropout,
        )
        if config.use_object_cluster:
            self.object_cluster = SocObjectCluster(config)
        else:
            self.text_encoder.pooler = None  # the cluster alone asks for the sentence
        self.pixel_decoder = SocPixelDecoder(config, fine_channels)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.text_encoder.set_input_embeddings(value)

    def freeze_text_encoder(self):
        """Stop training the text encoder, as most recipes do. Its dropout stays active in training mode."""
        self.text_encoder.requires_grad_(False)

    def get_video_features(
        self,
        pixel_values_videos: torch.Tensor,
        pixel_mask: torch.Tensor | None = None,
        annotated_frames: torch.Tensor | None = None,
    ) -> SocVideoFeatures:
        """Everything that depends on the videos alone.

        Args:
            pixel_values_videos (`torch.FloatTensor` of shape `(num_videos, num_frames, 3, height, width)`):
                Normalised frames.
            pixel_mask (`torch.BoolTensor` of shape `(num_videos, num_frames, height, width)`, *optional*):
                True at real pixels; padding is at the right and at the bottom. None means no padding.
            annotated_frames (`torch.LongTensor`, shape `(num_videos,)` or `(num_videos, num_annotated)`, *optional*):
                The frames of each clip to predict. The backbone sees the whole clip, what follows only these frames.

        Returns:
            [`SocVideoFeatures`]

        Raises:
            ValueError: if an input has the wrong rank or the sizes do not fit together.
        """
        check_videos(pixel_values_videos, pixel_mask, annotated_frames)
        num_videos, num_frames, _, height, width = pixel_values_videos.shape
        feature_maps = extract_frame_features(self.backbone, pixel_values_videos)
        if annotated_frames is not None:
            frames = annotated_frames.view(num_videos, -1)
            feature_maps, pixel_mask = keep_annotated_frames(feature_maps, pixel_mask, frames, num_frames)
            num_frames = frames.shape[1]

        folded = (num_videos, num_frames)
        levels = [projection(fmap) for projection, fmap in zip(self.level_projections, feature_maps[1:])]
        levels.append(self.level_projections[-1](feature_maps[-1]))
        shapes = [tuple(level.shape[-2:]) for level in levels]
        pixels = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1).unflatten(0, folded)
        if pixel_mask is None:
            masks = None
            frame_sizes = whole_frame_sizes(num_videos, (height, width), pixels.device)
        else:
            masks = resize_pixel_mask(pixel_mask, shapes)
            frame_sizes = unpadded_frame_sizes(pixel_mask)
        positions = level_positions(shapes, masks, self.config.hidden_size, pixels.device)
        return SocVideoFeatures(
            pixels=pixels,
            projected_pixels=None if self.pixel_fusion is None else self.pixel_fusion.project_pixels(pixels),
            pixel_positions=torch.cat([position.flatten(2, 3) for position in positions], 2).to(pixels.dtype),
            pixel_mask=None if masks is None else torch.cat([mask.flatten(2) for mask in masks], dim=2),
            valid_ratios=None if masks is None else valid_ratios_of(masks),
            fine_pixels=self.pixel_decoder.fine_adapter(feature_maps[0]).unflatten(0, folded),
            frame_sizes=frame_sizes,
            padded_size=(height, width),
            spatial_shapes=shapes,
        )

    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> SocTextFeatures:
        """Everything that depends on the expressions alone.

        Args:
            input_ids (`torch.LongTensor` of shape `(num_expressions, num_words)`):
                Tokens of the expressions.
            attention_mask (`torch.LongTensor` of shape `(num_expressions, num_words)`, *optional*):
                1 at real tokens. None means no padding.

        Returns:
            [`SocTextFeatures`]

        Raises:
            ValueError: if `input_ids` does not have two dimensions or `attention_mask` another shape.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        check_text(input_ids, attention_mask)
        encoded = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask)
        words = self.text_projection(encoded.last_hidden_state)
        return SocTextFeatures(
            words=words,
            sentence=self.text_projection(encoded.pooler_output) if self.config.use_object_cluster else None,
            word_positions=word_position_embedding(attention_mask, self.config.hidden_size).to(words.dtype),
            word_mask=attention_mask.bool(),
        )

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        pixel_mask: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_index: torch.Tensor | None = None,
        annotated_frames: torch.Tensor | None = None,
        video_features: SocVideoFeatures | None = None,
        text_features: SocTextFeatures | None = None,
        output_guidance: bool = False,
        cluster_every_layer: bool = False,
        **kwargs,
    ) -> SocModelOutput:
        """See [`SocForReferringVideoSegmentation.forward`] for the other inputs.

        `output_guidance` lets the words look at the clip, which only the contrastive loss needs. With
        `cluster_every_layer` every decoder layer gets video queries of its own, which only auxiliary outputs need.

        Returns:
            [`SocModelOutput`]
        """
        if video_features is None:
            if pixel_values_videos is None:
                raise ValueError("pixel_values_videos is missing: give frames, or video_features of an earlier call.")
            check_videos(pixel_values_videos, pixel_mask, annotated_frames)
        if text_features is None and input_ids is None:
            raise ValueError("input_ids is missing: give the tokens of a text, or text_features of an earlier call.")
        # Text first: its encoder looks at values of the mask, for which an accelerator would have to end the backbone.
        text = self.get_text_features(input_ids, attention_mask) if text_features is None else text_features
        num_expressions = text.words.shape[0]
        num_videos = len(pixel_values_videos) if video_features is None else len(video_features.pixels)
        check_video_index(video_index, num_expressions, num_videos)
        if video_features is None:
            video_features = self.get_video_features(pixel_values_videos, pixel_mask, annotated_frames)
        video = video_features.select(video_index)
        num_frames, shapes = video.pixels.shape[1], video.spatial_shapes
        frame_mask = None if video.pixel_mask is None else video.pixel_mask[:, :, 0]

        memory = video.pixels.flatten(0, 1)
        if self.pixel_fusion is not None:
            # The same words for all levels and frames: the tokens of a clip are one sequence.
            fused = self.pixel_fusion(
                video.pixels.flatten(1, 2),
                video.projected_pixels.flatten(1, 2),
                text.words,
                text.word_positions,
                text.word_mask,
            )
            memory = fused.view_as(memory)
        lengths = [height * width for height, width in shapes]
        level_code = torch.cat([code.expand(n, -1) for n, code in zip(lengths, self.level_embedding)])
        positions = video.pixel_positions + level_code
        if video.pixel_mask is not None:
            positions = positions.expand(num_expressions, -1, -1, -1)
        positions = positions.flatten(0, 1)
        memory_mask = None if video.pixel_mask is None else video.pixel_mask.flatten(0, 1)
        valid_ratios = None if video.valid_ratios is None else video.valid_ratios.flatten(0, 1)
        references = encoder_reference_points(shapes, valid_ratios, memory.device)
        for layer in self.encoder_layers:
            memory = layer(memory, positions, references, shapes, memory_mask)

        # Queries start without content: unlike in ReferFormer the pixels alone bring the words.
        queries = memory.new_zeros(len(memory), self.config.num_queries, self.config.hidden_size)
        hidden_states, boxes, initial_points = self.decoder(queries, memory, shapes, memory_mask, valid_ratios)
        video_queries = None
        if self.object_cluster is not None:
            layers = torch.stack(hidden_states if cluster_every_layer else hidden_states[-1:])
            layers = layers.unflatten(1, (num_expressions, num_frames))
            video_queries = tuple(self.object_cluster(layers, text.sentence, frame_mask))
        return SocModelOutput(
            hidden_states=hidden_states,
            boxes=boxes,
            initial_reference_points=initial_points,
            video_queries=video_queries,
            guidance=self._guidance(video, text) if output_guidance else None,
            encoder_last_hidden_state=memory,
            mask_features=self.pixel_decoder(memory, video.fine_pixels.flatten(0, 1), shapes),
            frame_sizes=video.frame_sizes,
            frame_mask=frame_mask,
            padded_size=video.padded_size,
        )

    def _guidance(self, video: SocVideoFeatures, text: SocTextFeatures) -> torch.Tensor:
        """Mean of the words `(num_expressions, hidden_size)` after they have looked at stride 32 of all frames."""
        words = text.words
        if self.word_fusion is not None:
            lengths = [height * width for height, width in video.spatial_shapes]
            pixels = video.pixels.split(lengths, dim=2)[COARSE_LEVEL]
            positions = video.pixel_positions.split(lengths, dim=2)[COARSE_LEVEL].expand_as(pixels)
            mask = None if video.pixel_mask is None else video.pixel_mask.split(lengths, dim=2)[COARSE_LEVEL]
            # The same fusion with the parts exchanged.
            words = self.word_fusion(
                words,
                self.word_fusion.project_pixels(words),
                pixels.flatten(1, 2),
                positions.flatten(1, 2),
                None if mask is None else mask.flatten(1),
            )
        weights = text.word_mask.to(words.dtype)[:, :, None]
        return (words * weights).sum(1) / weights.sum(1)


class SocForReferringVideoSegmentation(SocPreTrainedModel):
    """SOC with the heads that score the queries and draw their masks."""

    def __init__(self, config: SocConfig):
        super().__init__(config)
        size = config.hidden_size
        self.model = SocModel(config)
        self.class_heads = nn.ModuleList(nn.Linear(size, config.num_classes) for _ in range(config.decoder_layers))
        self.mask_head = DynamicMaskHead(
            config.mask_feature_size, config.dynamic_mask_channels, config.dynamic_mask_layers, MASK_STRIDE
        )
        self.mask_controller = MLP(size, size, self.mask_head.num_parameters, 3)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.model.set_input_embeddings(value)

    def get_video_features(self, *args, **kwargs) -> SocVideoFeatures:
        """See [`SocModel.get_video_features`]."""
        return self.model.get_video_features(*args, **kwargs)

    def get_text_features(self, *args, **kwargs) -> SocTextFeatures:
        """See [`SocModel.get_text_features`]."""
        return self.model.get_text_features(*args, **kwargs)

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        pixel_mask: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_index: torch.Tensor | None = None,
        annotated_frames: torch.Tensor | None = None,
        labels: list[dict[str, torch.Tensor]] | None = None,
        queries: str = "all",
        output_auxiliary: bool | None = None,
        video_features: SocVideoFeatures | None = None,
        text_features: SocTextFeatures | None = None,
        num_items: dict[str, torch.Tensor] | None = None,
        **kwargs,
    ) -> ReferringVideoSegmentationOutput:
        """Segment, in every frame, the object that each expression refers to.

        In training mode the predictions are those of the last decoder layer. In evaluation mode they are those of
        `config.prediction_layer`, with the object cluster of the last layer; the loss is the same in both modes.

        Args:
            pixel_values_videos (`torch.Tensor` of shape `(num_videos, num_frames, 3, height, width)`, *optional*):
                Normalised frames. Not needed with `video_features`.
            pixel_mask (`torch.BoolTensor` of shape `(num_videos, num_frames, height, width)`, *optional*):
                True at real pixels; padding is at the right and at the bottom. None means no padding.
            input_ids (`torch.LongTensor` of shape `(num_expressions, num_words)`, *optional*):
                Tokens of the expressions. Not needed with `text_features`.
            attention_mask (`torch.LongTensor` of shape `(num_expressions, num_words)`, *optional*):
                1 at real tokens. None means no padding.
            video_index (`torch.LongTensor` of shape `(num_expressions,)`, *optional*):
                The video that each expression refers to. None means one expression per video, in order.
            annotated_frames (`torch.LongTensor`, shape `(num_videos,)` or `(num_videos, num_annotated)`, *optional*):
                The frames of each clip to predict; outputs and `labels` then have only these.
            labels (`list[dict[str, torch.Tensor]]`, *optional*):
                One dict per expression: `masks` `(num_frames, height, width)` boolean at the size of the unpadded
                frame, `boxes` `(num_frames, 4)` cxcywh in units of that frame (zeros where the object is absent),
                `class_labels` `(num_frames,)` and `valid_frames` `(num_frames,)`, True where the object is present.
            queries (`str`, *optional*, defaults to `"all"`):
                `"all"` draws the masks of all queries, `"best"` only those of the query with the highest mean score.
            output_auxiliary (`bool`, *optional*):
                Whether to return the predictions that the decoder layers before the last are trained on. None means
                only if `labels` are given and `auxiliary_loss` is set; the loss does not depend on it.
            video_features ([`SocVideoFeatures`], *optional*):
                Result of `get_video_features`, to be reused for further expressions.
            text_features ([`SocTextFeatures`], *optional*):
                Result of `get_text_features`, to be reused for further clips.
            num_items (`dict[str, torch.Tensor]`, *optional*):
                What the losses are divided by, as `hf_rvos.losses.count_items` gives it, for a step of several
                batches or processes. None counts what is in `labels`, averaged over processes.
            kwargs:
                `return_dict=False` returns a tuple of the fields that are not None.

        Returns:
            [`ReferringVideoSegmentationOutput`]

        Raises:
            ValueError: if inputs are missing, have the wrong rank or do not fit together, or if `labels` or
                `output_auxiliary` come with `queries="best"`.
        """
        if queries not in ("all", "best"):
            raise ValueError(f'queries is {queries!r}, expected "all" or "best"')
        if queries == "best" and (labels is not None or output_auxiliary):
            name = "output_auxiliary" if labels is None else "labels"
            raise ValueError(f'{name} needs the masks of all queries: call with queries="all"')
        needed_for_loss = labels is not None and self.config.auxiliary_loss
        with_auxiliary = bool(output_auxiliary) or needed_for_loss
        features = self.model(
            pixel_values_videos,
            pixel_mask,
            input_ids,
            attention_mask,
            video_index,
            annotated_frames,
            video_features,
            text_features,
            output_guidance=labels is not None and self.config.use_contrastive_loss,
            cluster_every_layer=with_auxiliary,
            return_dict=True,
        )
        last = self.config.decoder_layers - 1
        layer = last if self.training else self.config.prediction_layer % self.config.decoder_layers
        prediction = self._predict(features, layer, -1, queries)
        output = ReferringVideoSegmentationOutput(**prediction)
        auxiliary = None
        if with_auxiliary:
            auxiliary = [self._predict(features, index, index) for index in range(last)]
        names = ("logits", "pred_boxes", "pred_masks")
        if with_auxiliary and output_auxiliary is not False:
            output.auxiliary_outputs = [{name: earlier[name] for name in names} for earlier in auxiliary]
        if labels is not None:
            final = prediction if layer == last else self._predict(features, last, -1)
            layers = [*(auxiliary if needed_for_loss else ()), final]
            for index, layer_output in enumerate(layers, start=last + 1 - len(layers)):
                layer_output["video_queries"] = self._clip_queries(features, index)
            output.loss, output.loss_dict = soc_loss(
                layers,
                labels,
                features.padded_size,
                features.guidance,
                class_weight=self.config.class_loss_weight,
                l1_weight=self.config.bbox_loss_weight,
                giou_weight=self.config.giou_loss_weight,
                mask_weight=self.config.mask_loss_weight,
                dice_weight=self.config.dice_loss_weight,
                contrastive_weight=self.config.contrastive_loss_weight,
                num_items=num_items,
            )
        return output

    def _predict(
        self, features: SocModelOutput, layer: int, cluster: int, queries: str = "all"
    ) -> dict[str, torch.Tensor]:
        """What the heads make of the frame queries of a decoder layer and the video queries of `cluster`."""
        num_expressions = features.frame_sizes.shape[0]
        num_frames = features.mask_features.shape[0] // num_expressions

        def by_query(per_frame: torch.Tensor) -> torch.Tensor:
            return per_frame.unflatten(0, (num_expressions, num_frames)).transpose(1, 2)  # (E, Q, T, ...)

        hidden = features.hidden_states[layer]
        if features.video_queries is not None:
            hidden = hidden + features.video_queries[cluster].repeat_interleave(num_frames, dim=0)
        if layer:
            references = features.boxes[layer - 1].detach()
        else:
            references = features.initial_reference_points.expand(len(hidden), -1, -1)
        logits = by_query(self.class_heads[layer](hidden))
        # The same heads refine, within the decoder, what a frame knows; where a mask is drawn depends on that alone.
        boxes = self.model.decoder.refine(layer, hidden, references)
        centers = features.boxes[layer][..., :2].detach()
        query_index, drawn = None, hidden
        if queries == "best":
            # The choice needs the scores alone, so masks are drawn for one query.
            query_index = best_query(logits, features.frame_mask)
            frame_index = query_index.repeat_interleave(num_frames)[:, None, None]
            drawn = torch.take_along_dim(hidden, frame_index, 1)
            centers = torch.take_along_dim(centers, frame_index, 1)
        frame_sizes = features.frame_sizes.repeat_interleave(num_frames, dim=0)
        masks = self.mask_head(features.mask_features, self.mask_controller(drawn), centers, frame_sizes)
        return {
            "logits": logits,
            "pred_boxes": by_query(boxes),
            "pred_masks": by_query(masks),
            "query_index": query_index,
            "reference_points": by_query(references[..., :2].detach()),
            "last_hidden_state": by_query(hidden),
        }

    @staticmethod
    def _clip_queries(features: SocModelOutput, layer: int) -> torch.Tensor:
        """Queries `(num_expressions, num_queries, hidden_size)` that the contrastive loss compares.

        Without object cluster, the mean over the frames stands in for the video queries.
        """
        if features.video_queries is not None:
            # Of one layer or of all; the last is always there.
            return features.video_queries[layer - len(features.hidden_states)]
        hidden = features.hidden_states[layer].unflatten(0, (features.frame_sizes.shape[0], -1))
        return hidden.mean(1)
