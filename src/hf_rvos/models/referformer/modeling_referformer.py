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

"""ReferFormer: language as queries (Wu et al., CVPR 2022, https://arxiv.org/abs/2201.00487).

The file reads in the order the data flows: features of the video, features of the words, fusion and encoder, decoder,
pixel decoder, heads. Sections refer to the paper. What depends on the video alone is computed once per video and then
gathered for the expressions that refer to it.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
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
from hf_rvos.losses import referring_segmentation_loss
from hf_rvos.modeling_inputs import check_text, check_video_index, check_videos
from hf_rvos.modeling_outputs import ReferringVideoSegmentationOutput
from hf_rvos.models.referformer.configuration_referformer import ReferFormerConfig
from hf_rvos.ops.queries import best_query


NUM_FEATURE_LEVELS = 4  # strides 8, 16, 32 of the backbone and 64
MASK_STRIDE = 4
# Below this, the map of stride 4 has fewer than the 8 rows or columns that the pixel decoder makes one of.
MIN_FRAME_SIZE = 29


@dataclass
class ReferFormerVideoFeatures(ModelOutput):
    """What the model knows of videos before it sees a word. `num_tokens` counts the cells of the four levels.

    Args:
        pixels (`torch.FloatTensor` of shape `(num_videos, num_frames, num_tokens, hidden_size)`):
            Projected features of the levels with strides 8, 16, 32 and 64, one after the other.
        projected_pixels (`torch.FloatTensor` of shape `(num_videos, num_frames, num_tokens, hidden_size)`):
            Queries of the early fusion.
        pixel_positions (`torch.FloatTensor` of shape `(1 or num_videos, 1 or num_frames, num_tokens, hidden_size)`):
            Position codes of the tokens; sizes are 1 without padding.
        pixel_mask (`torch.BoolTensor` of shape `(num_videos, num_frames, num_tokens)`, *optional*):
            True at real tokens. None without padding.
        valid_ratios (`torch.FloatTensor` of shape `(num_videos, num_frames, 4, 2)`, *optional*):
            Share of real columns and rows in each level. None without padding.
        fine_pixels (`torch.FloatTensor` of shape `(num_videos, num_frames, height, width, hidden_size)`):
            Features at stride 4 after they have looked at the clip. In training, the expressions of a video share the
            dropout of this step.
        fine_queries (`torch.FloatTensor` of shape `(num_videos, num_frames, height, width, hidden_size)`):
            Queries with which they look at the words.
        frame_sizes (`torch.FloatTensor` of shape `(num_videos, 2)`):
            Height and width of the frames before padding.
        spatial_shapes (`list[tuple[int, int]]`):
            `(height, width)` of the four levels.
    """

    pixels: torch.FloatTensor | None = None
    projected_pixels: torch.FloatTensor | None = None
    pixel_positions: torch.FloatTensor | None = None
    pixel_mask: torch.BoolTensor | None = None
    valid_ratios: torch.FloatTensor | None = None
    fine_pixels: torch.FloatTensor | None = None
    fine_queries: torch.FloatTensor | None = None
    frame_sizes: torch.FloatTensor | None = None
    spatial_shapes: list[tuple[int, int]] | None = None

    def select(self, video_index: torch.Tensor | None) -> "ReferFormerVideoFeatures":
        """The features of the video of each expression; `video_index` is `(num_expressions,)`, None means as is."""
        if video_index is None:
            return self

        def gather(value):
            return value[video_index] if isinstance(value, torch.Tensor) and value.shape[0] > 1 else value

        num_expressions = video_index.shape[0]
        selected = {name: gather(value) for name, value in self.items()}
        for name in ("pixels", "projected_pixels", "pixel_mask", "valid_ratios", "fine_pixels", "fine_queries"):
            value = selected.get(name)
            if value is not None and value.shape[0] == 1:
                selected[name] = value.expand(num_expressions, *value.shape[1:])
        selected["frame_sizes"] = selected["frame_sizes"].expand(num_expressions, 2)
        return ReferFormerVideoFeatures(**selected)


@dataclass
class ReferFormerTextFeatures(ModelOutput):
    """What the model knows of expressions before it sees a frame.

    Args:
        words (`torch.FloatTensor` of shape `(num_expressions, num_words, hidden_size)`):
            Projected features of all tokens.
        sentence (`torch.FloatTensor` of shape `(num_expressions, hidden_size)`):
            Projected feature of the sentence.
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
class ReferFormerModelOutput(ModelOutput):
    """Queries and pixels of each expression, before the heads. Frames of an expression are folded into the first size.

    Args:
        hidden_states (`tuple[torch.FloatTensor]` of shape `(num_expressions * num_frames, num_queries, hidden_size)`):
            Queries after each decoder layer.
        boxes (`tuple[torch.FloatTensor]` of shape `(num_expressions * num_frames, num_queries, 4)`):
            Box after each decoder layer, cxcywh in units of the unpadded frame.
        initial_reference_points (`torch.FloatTensor` of shape `(1, num_queries, 2)`):
            Where the first decoder layer looks from, (x, y) in units of the unpadded frame.
        encoder_last_hidden_state (`torch.Tensor` of shape `(num_expressions * num_frames, num_tokens, hidden_size)`):
            Encoded pixels of the four levels.
        fine_pixels (`torch.FloatTensor` of shape `(num_expressions * num_frames, hidden_size, height, width)`):
            Output of the pixel decoder at stride 4.
        frame_sizes (`torch.FloatTensor` of shape `(num_expressions, 2)`):
            Height and width of the frames before padding.
        frame_mask (`torch.BoolTensor` of shape `(num_expressions, num_frames)`, *optional*):
            True at frames that have real pixels. None without padding.
    """

    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    boxes: tuple[torch.FloatTensor, ...] | None = None
    initial_reference_points: torch.FloatTensor | None = None
    encoder_last_hidden_state: torch.FloatTensor | None = None
    fine_pixels: torch.FloatTensor | None = None
    frame_sizes: torch.FloatTensor | None = None
    frame_mask: torch.BoolTensor | None = None


class ReferFormerPixelDecoderBlock(GradientCheckpointingLayer):
    """Let the pixels of a clip look at each other over space and time, then at the words (section 3.3).

    `look_around` is the first step and `forward` the second, so that expressions can share what depends on the video
    alone. In training they then share the dropout of the first step too.

    The released code looks at a reduced grid (nearest neighbour down, bilinear up) and adds position codes, layer
    norms and a feed-forward part to the formula of the paper.
    """

    def __init__(self, hidden_size: int, num_heads: int, feedforward_size: int, dropout: float, reduction: int):
        super().__init__()
        self.reduction = reduction
        self.self_attn = MultiHeadAttention(hidden_size, num_heads, dropout)
        self.self_attn_norm = nn.LayerNorm(hidden_size)
        self.text_attn = MultiHeadAttention(hidden_size, num_heads, dropout)
        self.text_attn_norm = nn.LayerNorm(hidden_size)
        self.feed_forward = FeedForward(hidden_size, feedforward_size, dropout)
        self.dropout = nn.Dropout(dropout)

    def look_around(
        self, pixels: torch.Tensor, positions: torch.Tensor, pixel_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            pixels: `(num_clips, num_frames, height, width, hidden_size)`.
            positions: the same, or 1 in place of `num_clips` and `num_frames`.
            pixel_mask: `(num_clips, num_frames, height, width)`, True at real cells, or None.

        Returns:
            Pixels and the queries with which they look at the words, both of the shape of `pixels`.
        """
        pixels = self.self_attn_norm(pixels + self.dropout(self._attend_to_clip(pixels, positions, pixel_mask)))
        return pixels, self.text_attn.q_proj(pixels + positions)

    def forward(
        self,
        pixels: torch.Tensor,
        queries: torch.Tensor,
        words: torch.Tensor,
        word_positions: torch.Tensor,
        word_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """
        Args:
            pixels: `(num_expressions, num_frames, height, width, hidden_size)`, from `look_around`.
            queries: same shape, from `look_around`.
            words: `(num_expressions, num_words, hidden_size)`.
            word_positions: same shape as `words`.
            word_mask: `(num_expressions, num_words)`, True at real words, or None.

        Returns:
            Same shape as `pixels`.
        """
        keys, values = self.text_attn.k_proj(words + word_positions), self.text_attn.v_proj(words)
        attended = self.text_attn.attend(queries.flatten(1, 3), keys, values, word_mask).view_as(pixels)
        return self.feed_forward(self.text_attn_norm(pixels + self.dropout(attended)))

    def _attend_to_clip(
        self, pixels: torch.Tensor, positions: torch.Tensor, pixel_mask: torch.Tensor | None
    ) -> torch.Tensor:
        height, width = pixels.shape[2:4]
        if self.reduction > 1:
            rows = _nearest_index(height, height // self.reduction, pixels.device)
            columns = _nearest_index(width, width // self.reduction, pixels.device)
            pixels = pixels[:, :, rows][:, :, :, columns]
            positions = positions[:, :, rows][:, :, :, columns]
            if pixel_mask is not None:
                pixel_mask = pixel_mask[:, :, rows][:, :, :, columns].flatten(1)
        elif pixel_mask is not None:
            pixel_mask = pixel_mask.flatten(1)
        queries = (pixels + positions).flatten(1, 3)
        attended = self.self_attn(queries, queries, pixels.flatten(1, 3), pixel_mask).view_as(pixels)
        if self.reduction == 1:
            return attended
        maps = attended.flatten(0, 1).permute(0, 3, 1, 2)
        maps = F.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)
        return maps.permute(0, 2, 3, 1).unflatten(0, attended.shape[:2])


def _nearest_index(size: int, reduced_size: int, device: torch.device) -> torch.Tensor:
    """Cells that nearest-neighbour resizing keeps, with its own rounding."""
    cells = torch.arange(size, dtype=torch.float32, device=device)
    return F.interpolate(cells[None, None], size=reduced_size, mode="nearest")[0, 0].long()


class ReferFormerPixelDecoderStage(nn.Module):
    """One level of the cross-modal pyramid: adapt, look at clip and words, add the coarser result, smooth."""

    def __init__(self, config: ReferFormerConfig, in_channels: int, reduction: int):
        super().__init__()
        size = config.hidden_size
        self.adapter = nn.Conv2d(in_channels, size, 1, bias=False)
        self.adapter_norm = nn.GroupNorm(8, size)
        self.block = ReferFormerPixelDecoderBlock(
            size, config.fusion_attention_heads, config.feedforward_size, config.pixel_decoder_dropout, reduction
        )
        self.conv = nn.Conv2d(size, size, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, size)

    def look_around(
        self, feature_map: torch.Tensor, num_frames: int, positions: torch.Tensor, pixel_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Adapt, then see `ReferFormerPixelDecoderBlock.look_around`.

        Args:
            feature_map: `(num_clips * num_frames, in_channels, height, width)`.
            num_frames: Frames of a clip.
            positions: `(1 or num_clips, 1 or num_frames, height, width, hidden_size)`.
            pixel_mask: `(num_clips, num_frames, height, width)`, True at real cells, or None.

        Returns:
            Pixels and queries, both `(num_clips, num_frames, height, width, hidden_size)`.
        """
        maps = self.adapter_norm(self.adapter(feature_map))
        pixels = maps.permute(0, 2, 3, 1).unflatten(0, (-1, num_frames))
        return self.block.look_around(pixels, positions.to(pixels), pixel_mask)

    def forward(
        self, pixels: torch.Tensor, queries: torch.Tensor, coarser: torch.Tensor | None, *words: torch.Tensor | None
    ) -> torch.Tensor:
        """
        Args:
            pixels: `(num_expressions, num_frames, height, width, hidden_size)`, from `look_around`.
            queries: same shape, from `look_around`.
            coarser: `(num_expressions * num_frames, hidden_size, coarse_height, coarse_width)`, or None at the top.
            words: the further inputs of `ReferFormerPixelDecoderBlock`.

        Returns:
            `(num_expressions * num_frames, hidden_size, height, width)`.
        """
        maps = self.block(pixels, queries, *words).flatten(0, 1).permute(0, 3, 1, 2)
        if coarser is not None:
            maps = maps + F.interpolate(coarser, size=maps.shape[-2:], mode="nearest")
        return self.norm(self.conv(maps)).relu()


class ReferFormerPixelDecoder(nn.Module):
    """Cross-modal feature pyramid (section 3.3) from stride 32 up to stride 4; `stages[0]` has stride 4.

    Takes the encoder memory at strides 8, 16 and 32 (not 64) and what `stages[0].look_around` made of the backbone map
    at stride 4.
    """

    def __init__(self, config: ReferFormerConfig, fine_channels: int):
        super().__init__()
        channels = [fine_channels] + [config.hidden_size] * 3
        self.stages = nn.ModuleList(
            ReferFormerPixelDecoderStage(config, in_channels, reduction)
            for in_channels, reduction in zip(channels, (8, 4, 2, 1))
        )

    def forward(
        self,
        memory: torch.Tensor,
        video: ReferFormerVideoFeatures,
        text: ReferFormerTextFeatures,
        word_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """
        Args:
            memory: `(num_expressions * num_frames, num_tokens, hidden_size)` encoded pixels.
            video: features of the video of each expression.
            text: features of the expressions.
            word_mask: `(num_expressions, num_words)`, True at real words, or None.

        Returns:
            `(num_expressions * num_frames, hidden_size, height, width)` at stride 4.
        """
        num_frames = video.fine_pixels.shape[1]
        lengths = [height * width for height, width in video.spatial_shapes]
        memories = memory.split(lengths, dim=1)
        positions = video.pixel_positions.split(lengths, dim=2)
        masks = [None] * len(lengths) if video.pixel_mask is None else video.pixel_mask.split(lengths, dim=2)
        words = (text.words, text.word_positions, word_mask)

        output = None
        for level in (2, 1, 0):
            shape, stage = video.spatial_shapes[level], self.stages[level + 1]
            feature_map = memories[level].transpose(1, 2).unflatten(2, shape)
            mask = None if masks[level] is None else masks[level].unflatten(2, shape)
            seen = stage.look_around(feature_map, num_frames, positions[level].unflatten(2, shape), mask)
            output = stage(*seen, output, *words)
        return self.stages[0](video.fine_pixels, video.fine_queries, output, *words)


class ReferFormerPreTrainedModel(FrozenPartsMixin, KernelGuardMixin, PreTrainedModel):
    """Loading, saving and initialisation of ReferFormer models."""

    config: ReferFormerConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    # Without the blocks of the pixel decoder, half of which is called before their forward.
    _no_split_modules = ["DeformableEncoderLayer", "DeformableDecoderLayer"]
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
        if isinstance(module, ReferFormerPixelDecoderStage):
            init.kaiming_uniform_(module.adapter.weight, a=1)
            init.kaiming_uniform_(module.conv.weight, a=1)
        elif isinstance(module, ReferFormerModel):
            init.normal_(module.level_embedding)
        elif isinstance(module, ReferFormerForReferringVideoSegmentation):
            for head in module.class_heads:
                init.constant_(head.bias, -math.log(99))  # probability 0.01
            init.kaiming_uniform_(module.mask_projection.weight, a=1)
            init.zeros_(module.mask_projection.bias)


class ReferFormerModel(ReferFormerPreTrainedModel):
    """ReferFormer up to the queries and the pixel features, without the heads for scores and masks."""

    def __init__(self, config: ReferFormerConfig):
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
        self.fusion = TextGuidedFusion(size, config.fusion_attention_heads)
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
        self.pixel_decoder = ReferFormerPixelDecoder(config, fine_channels)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.text_encoder.set_input_embeddings(value)

    def freeze_text_encoder(self):
        """Stop training the text encoder, as the fine-tuning recipes do. Its dropout stays active in training mode."""
        self.text_encoder.requires_grad_(False)

    def get_video_features(
        self,
        pixel_values_videos: torch.Tensor,
        pixel_mask: torch.Tensor | None = None,
        annotated_frames: torch.Tensor | None = None,
    ) -> ReferFormerVideoFeatures:
        """Everything that depends on the videos alone.

        Args:
            pixel_values_videos (`torch.FloatTensor` of shape `(num_videos, num_frames, 3, height, width)`):
                Normalised frames.
            pixel_mask (`torch.BoolTensor` of shape `(num_videos, num_frames, height, width)`, *optional*):
                True at real pixels; padding is at the right and at the bottom. None means no padding.
            annotated_frames (`torch.LongTensor`, shape `(num_videos,)` or `(num_videos, num_annotated)`, *optional*):
                The frames of each clip to predict. The backbone sees the whole clip, what follows only these frames.

        Returns:
            [`ReferFormerVideoFeatures`]

        Raises:
            ValueError: if an input has the wrong rank or the sizes do not fit together.
        """
        check_videos(pixel_values_videos, pixel_mask, annotated_frames, MIN_FRAME_SIZE)
        num_videos, num_frames, _, height, width = pixel_values_videos.shape
        feature_maps = extract_frame_features(self.backbone, pixel_values_videos)
        if annotated_frames is not None:
            frames = annotated_frames.view(num_videos, -1)
            feature_maps, pixel_mask = keep_annotated_frames(feature_maps, pixel_mask, frames, num_frames)
            num_frames = frames.shape[1]

        folded = (num_videos, num_frames)
        levels = [projection(fmap) for projection, fmap in zip(self.level_projections, feature_maps[1:])]
        levels.append(self.level_projections[-1](feature_maps[-1]))
        spatial_shapes = [tuple(level.shape[-2:]) for level in levels]
        pixels = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1).unflatten(0, folded)

        shapes = [tuple(feature_maps[0].shape[-2:]), *spatial_shapes]
        if pixel_mask is None:
            masks = None
            frame_sizes = whole_frame_sizes(num_videos, (height, width), pixels.device)
        else:
            masks = resize_pixel_mask(pixel_mask, shapes)
            frame_sizes = unpadded_frame_sizes(pixel_mask)
        positions = level_positions(shapes, masks, self.config.hidden_size, pixels.device)

        fine_pixels, fine_queries = self.pixel_decoder.stages[0].look_around(
            feature_maps[0], num_frames, positions[0], None if masks is None else masks[0]
        )
        return ReferFormerVideoFeatures(
            pixels=pixels,
            projected_pixels=self.fusion.project_pixels(pixels),
            pixel_positions=torch.cat([position.flatten(2, 3) for position in positions[1:]], 2).to(pixels.dtype),
            pixel_mask=None if masks is None else torch.cat([mask.flatten(2) for mask in masks[1:]], dim=2),
            valid_ratios=None if masks is None else valid_ratios_of(masks[1:]),
            fine_pixels=fine_pixels,
            fine_queries=fine_queries,
            frame_sizes=frame_sizes,
            spatial_shapes=spatial_shapes,
        )

    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> ReferFormerTextFeatures:
        """Everything that depends on the expressions alone.

        Args:
            input_ids (`torch.LongTensor` of shape `(num_expressions, num_words)`):
                Tokens of the expressions.
            attention_mask (`torch.LongTensor` of shape `(num_expressions, num_words)`, *optional*):
                1 at real tokens. None means no padding.

        Returns:
            [`ReferFormerTextFeatures`]

        Raises:
            ValueError: if `input_ids` does not have two dimensions or `attention_mask` another shape.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        check_text(input_ids, attention_mask)
        encoded = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask)
        words = self.text_projection(encoded.last_hidden_state)
        return ReferFormerTextFeatures(
            words=words,
            sentence=self.text_projection(encoded.pooler_output),
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
        video_features: ReferFormerVideoFeatures | None = None,
        text_features: ReferFormerTextFeatures | None = None,
        **kwargs,
    ) -> ReferFormerModelOutput:
        """See [`ReferFormerForReferringVideoSegmentation.forward`] for the inputs.

        Returns:
            [`ReferFormerModelOutput`]
        """
        if video_features is None:
            if pixel_values_videos is None:
                raise ValueError("pixel_values_videos is missing: give frames, or video_features of an earlier call.")
            check_videos(pixel_values_videos, pixel_mask, annotated_frames, MIN_FRAME_SIZE)
        if text_features is None and input_ids is None:
            raise ValueError("input_ids is missing: give the tokens of a text, or text_features of an earlier call.")
        # Text first: its encoder looks at values of the mask, for which an accelerator would have to end the backbone.
        if text_features is None:
            text_features = self.get_text_features(input_ids, attention_mask)
        num_expressions = text_features.words.shape[0]
        num_videos = len(pixel_values_videos) if video_features is None else len(video_features.pixels)
        check_video_index(video_index, num_expressions, num_videos)
        if video_features is None:
            video_features = self.get_video_features(pixel_values_videos, pixel_mask, annotated_frames)

        video, text = video_features.select(video_index), text_features
        num_frames = video.pixels.shape[1]
        shapes = video.spatial_shapes

        # The same words for all levels and frames: the tokens of a clip are one sequence.
        fused = self.fusion(
            video.pixels.flatten(1, 2),
            video.projected_pixels.flatten(1, 2),
            text.words,
            text.word_positions,
            text.word_mask,
        )
        memory = fused.view(num_expressions * num_frames, -1, fused.shape[-1])
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

        # Language as queries (section 3.2): in each frame, all of them start as the sentence.
        queries = text.sentence.repeat_interleave(num_frames, dim=0)[:, None].expand(-1, self.config.num_queries, -1)
        hidden_states, boxes, initial_points = self.decoder(queries, memory, shapes, memory_mask, valid_ratios)
        return ReferFormerModelOutput(
            hidden_states=hidden_states,
            boxes=boxes,
            initial_reference_points=initial_points,
            encoder_last_hidden_state=memory,
            fine_pixels=self.pixel_decoder(memory, video, text, text.word_mask),
            frame_sizes=video.frame_sizes,
            frame_mask=None if video.pixel_mask is None else video.pixel_mask[:, :, 0],
        )


class ReferFormerForReferringVideoSegmentation(ReferFormerPreTrainedModel):
    """ReferFormer with the heads that score the queries and draw their masks."""

    def __init__(self, config: ReferFormerConfig):
        super().__init__(config)
        size = config.hidden_size
        self.model = ReferFormerModel(config)
        self.class_heads = nn.ModuleList(nn.Linear(size, config.num_classes) for _ in range(config.decoder_layers))
        self.mask_projection = nn.Conv2d(size, config.mask_feature_size, 3, padding=1)
        self.mask_head = DynamicMaskHead(
            config.mask_feature_size, config.dynamic_mask_channels, config.dynamic_mask_layers, MASK_STRIDE
        )
        self.mask_controller = MLP(size, size, self.mask_head.num_parameters, 3)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.model.set_input_embeddings(value)

    def get_video_features(self, *args, **kwargs) -> ReferFormerVideoFeatures:
        """See [`ReferFormerModel.get_video_features`]."""
        return self.model.get_video_features(*args, **kwargs)

    def get_text_features(self, *args, **kwargs) -> ReferFormerTextFeatures:
        """See [`ReferFormerModel.get_text_features`]."""
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
        video_features: ReferFormerVideoFeatures | None = None,
        text_features: ReferFormerTextFeatures | None = None,
        num_items: dict[str, torch.Tensor] | None = None,
        **kwargs,
    ) -> ReferringVideoSegmentationOutput:
        """Segment, in every frame, the object that each expression refers to.

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
                Whether to return the predictions of earlier decoder layers. None means only if `labels` are given and
                `auxiliary_loss` is set; the loss does not depend on it.
            video_features ([`ReferFormerVideoFeatures`], *optional*):
                Result of `get_video_features`, to be reused for further expressions.
            text_features ([`ReferFormerTextFeatures`], *optional*):
                Result of `get_text_features`, to be reused for further clips.
            num_items (`dict[str, torch.Tensor]`, *optional*):
                What the losses are divided by, as `hf_rvos.losses.count_items` gives it, for a step of several
                batches or processes. None counts what is in `labels`, averaged over processes.
            kwargs:
                `return_dict=False` returns a tuple of the fields that are not None.

        Returns:
            [`ReferringVideoSegmentationOutput`]

        Raises:
            ValueError: if inputs are missing, have the wrong rank or do not fit together, if a side of the frames is
                shorter than 29 pixels, or if `labels` or `output_auxiliary` come with `queries="best"`.
        """
        if queries not in ("all", "best"):
            raise ValueError(f'queries is {queries!r}, expected "all" or "best"')
        if queries == "best" and (labels is not None or output_auxiliary):
            name = "output_auxiliary" if labels is None else "labels"
            raise ValueError(f'{name} needs the masks of all queries: call with queries="all"')
        features = self.model(
            pixel_values_videos,
            pixel_mask,
            input_ids,
            attention_mask,
            video_index,
            annotated_frames,
            video_features,
            text_features,
            return_dict=True,
        )
        num_expressions = features.frame_sizes.shape[0]
        num_frames = features.fine_pixels.shape[0] // num_expressions

        def by_query(per_frame: torch.Tensor) -> torch.Tensor:
            return per_frame.unflatten(0, (num_expressions, num_frames)).transpose(1, 2)  # (E, Q, T, ...)

        logits = by_query(self.class_heads[-1](features.hidden_states[-1]))
        frame_sizes = features.frame_sizes.repeat_interleave(num_frames, dim=0)
        query_index = auxiliary = None
        if queries == "best":
            # The choice needs the scores alone, so masks are drawn for one query.
            query_index = best_query(logits, features.frame_mask)
            frame_index = query_index.repeat_interleave(num_frames)[:, None, None]
            hidden = torch.take_along_dim(features.hidden_states[-1], frame_index, 1)
            centers = torch.take_along_dim(features.boxes[-1], frame_index, 1)[..., :2].detach()
            masks = self.mask_head(
                features.fine_pixels, self.mask_controller(hidden), centers, frame_sizes, self.mask_projection
            )
        else:
            mask_features = self.mask_projection(features.fine_pixels)

            def draw(layer: int) -> torch.Tensor:
                parameters = self.mask_controller(features.hidden_states[layer])
                centers = features.boxes[layer][..., :2].detach()
                return self.mask_head(mask_features, parameters, centers, frame_sizes)

            masks = draw(-1)
            needed_for_loss = labels is not None and self.config.auxiliary_loss
            if output_auxiliary or needed_for_loss:
                auxiliary = [
                    {
                        "logits": by_query(self.class_heads[layer](features.hidden_states[layer])),
                        "pred_boxes": by_query(features.boxes[layer]),
                        "pred_masks": by_query(draw(layer)),
                    }
                    for layer in range(self.config.decoder_layers - 1)
                ]

        if len(features.boxes) > 1:
            references = by_query(features.boxes[-2][..., :2].detach())
        else:
            references = features.initial_reference_points.expand(num_expressions * num_frames, -1, -1)
            references = by_query(references.detach())
        output = ReferringVideoSegmentationOutput(
            logits=logits,
            pred_boxes=by_query(features.boxes[-1]),
            pred_masks=by_query(masks),
            query_index=query_index,
            reference_points=references,
            auxiliary_outputs=None if output_auxiliary is False else auxiliary,
            last_hidden_state=by_query(features.hidden_states[-1]),
        )
        if labels is not None:
            layers = auxiliary if needed_for_loss else []
            final = {"logits": output.logits, "pred_boxes": output.pred_boxes, "pred_masks": output.pred_masks}
            output.loss, output.loss_dict = referring_segmentation_loss(
                [*layers, final],
                labels,
                class_weight=self.config.class_loss_weight,
                l1_weight=self.config.bbox_loss_weight,
                giou_weight=self.config.giou_loss_weight,
                mask_weight=self.config.mask_loss_weight,
                dice_weight=self.config.dice_loss_weight,
                mask_stride=MASK_STRIDE,
                num_items=None if num_items is None else num_items["valid_frames"],
            )
        return output
