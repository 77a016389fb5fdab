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
from hf_rvos.kernels import KernelGuardMixin
from hf_rvos.layers.attention import MultiHeadAttention
from hf_rvos.layers.deformable_attention import DeformableAttention
from hf_rvos.layers.deformable_transformer import (
    DeformableDecoderLayer,
    DeformableEncoderLayer,
    FeedForward,
    encoder_reference_points,
    inverse_sigmoid,
)
from hf_rvos.layers.dynamic_mask_head import DynamicMaskHead
from hf_rvos.layers.mlp import MLP
from hf_rvos.layers.position_embedding import (
    pixel_position_embedding,
    unpadded_pixel_position_embedding,
    word_position_embedding,
)
from hf_rvos.layers.text_fusion import TextGuidedFusion
from hf_rvos.losses import referring_segmentation_loss
from hf_rvos.modeling_outputs import ReferringVideoSegmentationOutput
from hf_rvos.models.referformer.configuration_referformer import ReferFormerConfig


NUM_FEATURE_LEVELS = 4  # strides 8, 16, 32 of the backbone and 64
MASK_STRIDE = 4


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


class ReferFormerTextProjection(nn.Module):
    """Bring words and sentence to the width of the transformer; one module for both."""

    def __init__(self, text_size: int, hidden_size: int, dropout: float):
        super().__init__()
        self.linear = nn.Linear(text_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.norm(self.linear(features)))


class ReferFormerLevelProjection(nn.Module):
    """Bring a feature map of the backbone to the width of the transformer."""

    def __init__(self, in_channels: int, hidden_size: int, kernel_size: int = 1, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, hidden_size, kernel_size, stride, padding=kernel_size // 2)
        self.norm = nn.GroupNorm(32, hidden_size)

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(feature_map))


class ReferFormerDecoder(nn.Module):
    """Find the object in each frame (section 3.2): queries start from the sentence and refine their boxes."""

    def __init__(self, config: ReferFormerConfig):
        super().__init__()
        size = config.hidden_size
        self.query_positions = nn.Parameter(torch.empty(config.num_queries, size))
        self.reference_points = nn.Linear(size, 2)
        self.layers = nn.ModuleList(
            DeformableDecoderLayer(
                size,
                config.attention_heads,
                NUM_FEATURE_LEVELS,
                config.decoder_points,
                config.feedforward_size,
                config.dropout,
            )
            for _ in range(config.decoder_layers)
        )
        self.box_heads = nn.ModuleList(MLP(size, size, 4, 3) for _ in range(config.decoder_layers))

    def forward(
        self,
        sentences: torch.Tensor,
        memory: torch.Tensor,
        spatial_shapes: list[tuple[int, int]],
        memory_mask: torch.Tensor | None,
        valid_ratios: torch.Tensor | None,
    ) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...], torch.Tensor]:
        """
        Args:
            sentences: `(num_frames, hidden_size)`, the sentence that each frame is searched for.
            memory: `(num_frames, num_tokens, hidden_size)` encoded pixels.
            spatial_shapes: `(height, width)` of each level.
            memory_mask: `(num_frames, num_tokens)`, True at real tokens, or None.
            valid_ratios: `(num_frames, num_levels, 2)` share of real columns and rows, or None.

        Returns:
            Queries after each layer `(num_frames, num_queries, hidden_size)`, boxes after each layer
            `(num_frames, num_queries, 4)` cxcywh, and the initial points `(1, num_queries, 2)`.
        """
        positions = self.query_positions[None]
        queries = sentences[:, None].expand(-1, positions.shape[1], -1)
        initial_points = self.reference_points(positions).float().sigmoid()
        references = initial_points.expand(queries.shape[0], -1, -1)
        hidden_states, boxes = (), ()
        for layer, box_head in zip(self.layers, self.box_heads):
            in_padded_frame = references[:, :, None]
            if valid_ratios is not None:
                in_padded_frame = in_padded_frame * valid_ratios[:, None].repeat(1, 1, 1, references.shape[-1] // 2)
            queries = layer(queries, positions, memory, in_padded_frame, spatial_shapes, memory_mask)
            # A point becomes the centre of the first box, whose size starts from the head alone.
            start = F.pad(inverse_sigmoid(references), (0, 4 - references.shape[-1]))
            box = (box_head(queries).float() + start).sigmoid()
            references = box.detach()
            hidden_states, boxes = (*hidden_states, queries), (*boxes, box)
        return hidden_states, boxes, initial_points


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


class ReferFormerPreTrainedModel(KernelGuardMixin, PreTrainedModel):
    """Loading, saving and initialisation of ReferFormer models."""

    config: ReferFormerConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["DeformableEncoderLayer", "DeformableDecoderLayer", "ReferFormerPixelDecoderBlock"]
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
        if isinstance(module, (MultiHeadAttention, FeedForward, MLP)):
            for child in module.modules():
                if isinstance(child, nn.Linear):
                    init.xavier_uniform_(child.weight)
                    init.zeros_(child.bias)
        elif isinstance(module, DeformableAttention):
            _init_deformable_attention(module)
        elif isinstance(module, ReferFormerLevelProjection):
            init.xavier_uniform_(module.conv.weight)
            init.zeros_(module.conv.bias)
        elif isinstance(module, ReferFormerPixelDecoderStage):
            init.kaiming_uniform_(module.adapter.weight, a=1)
            init.kaiming_uniform_(module.conv.weight, a=1)
        elif isinstance(module, ReferFormerDecoder):
            init.normal_(module.query_positions)
            init.xavier_uniform_(module.reference_points.weight)
            init.zeros_(module.reference_points.bias)
            for head in module.box_heads:
                init.zeros_(head.layers[-1].weight)
                init.zeros_(head.layers[-1].bias)
            first_bias = torch.tensor([0.0, 0.0, -2.0, -2.0])  # boxes start small
            init.copy_(module.box_heads[0].layers[-1].bias, first_bias)
        elif isinstance(module, ReferFormerModel):
            init.normal_(module.level_embedding)
        elif isinstance(module, ReferFormerForReferringVideoSegmentation):
            for head in module.class_heads:
                init.constant_(head.bias, -math.log(99))  # probability 0.01
            init.kaiming_uniform_(module.mask_projection.weight, a=1)
            init.zeros_(module.mask_projection.bias)


def _init_deformable_attention(module: DeformableAttention):
    """Heads look in directions around a circle, points at growing distance (Deformable DETR, appendix A.4)."""
    angles = torch.arange(module.num_heads, dtype=torch.float32) * (2 * math.pi / module.num_heads)
    directions = torch.stack((angles.cos(), angles.sin()), -1)
    directions = directions / directions.abs().amax(-1, keepdim=True)
    steps = torch.arange(1, module.num_points + 1, dtype=torch.float32)
    offsets = directions[:, None, None] * steps[:, None]
    offsets = offsets.expand(module.num_heads, module.num_levels, module.num_points, 2)
    init.zeros_(module.sampling_offsets.weight)
    init.copy_(module.sampling_offsets.bias, offsets.flatten())
    init.zeros_(module.attention_weights.weight)
    init.zeros_(module.attention_weights.bias)
    for projection in (module.value_proj, module.output_proj):
        init.xavier_uniform_(projection.weight)
        init.zeros_(projection.bias)


class ReferFormerModel(ReferFormerPreTrainedModel):
    """ReferFormer up to the queries and the pixel features, without the heads for scores and masks."""

    def __init__(self, config: ReferFormerConfig):
        super().__init__(config)
        size = config.hidden_size
        self.backbone = load_backbone(config)
        self.text_encoder = AutoModel.from_config(config.text_config)
        self.text_projection = ReferFormerTextProjection(
            config.text_config.hidden_size, size, config.text_projection_dropout
        )
        if len(self.backbone.channels) != 4:
            raise ValueError(
                f"backbone_config exports {len(self.backbone.channels)} feature maps, expected 4, with strides 4, 8, "
                "16 and 32. Set its out_features."
            )
        fine_channels, *channels = self.backbone.channels
        self.level_projections = nn.ModuleList(
            [ReferFormerLevelProjection(in_channels, size) for in_channels in channels]
            + [ReferFormerLevelProjection(channels[-1], size, kernel_size=3, stride=2)]
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
        self.decoder = ReferFormerDecoder(config)
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
        _check_videos(pixel_values_videos, pixel_mask, annotated_frames)
        num_videos, num_frames, _, height, width = pixel_values_videos.shape
        feature_maps = extract_frame_features(self.backbone, pixel_values_videos)
        if annotated_frames is not None:
            annotated_frames = annotated_frames.view(num_videos, -1)
            # (num_videos, num_annotated) places among the frames of all videos.
            rows = annotated_frames + num_frames * torch.arange(num_videos, device=annotated_frames.device)[:, None]
            feature_maps = [fmap[rows.flatten()] for fmap in feature_maps]
            pixel_mask = None if pixel_mask is None else pixel_mask.flatten(0, 1)[rows]
            num_frames = annotated_frames.shape[1]

        folded = (num_videos, num_frames)
        levels = [projection(fmap) for projection, fmap in zip(self.level_projections, feature_maps[1:])]
        levels.append(self.level_projections[-1](feature_maps[-1]))
        spatial_shapes = [tuple(level.shape[-2:]) for level in levels]
        pixels = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1).unflatten(0, folded)

        shapes = [tuple(feature_maps[0].shape[-2:]), *spatial_shapes]
        if pixel_mask is None:
            masks = valid_ratios = None
            size = self.config.hidden_size
            positions = [unpadded_pixel_position_embedding(*shape, size, pixels.device)[None] for shape in shapes]
            frame_sizes = torch.stack(
                [pixels.new_full((num_videos,), side, dtype=torch.float32) for side in (height, width)], dim=-1
            )
        else:
            full_mask = pixel_mask.flatten(0, 1)[:, None].float()
            masks = [F.interpolate(full_mask, size=shape, mode="nearest")[:, 0].bool() for shape in shapes]
            positions = [
                pixel_position_embedding(mask, self.config.hidden_size).unflatten(0, folded) for mask in masks
            ]
            valid_ratios = torch.stack(
                [torch.stack((mask[:, 0].float().mean(1), mask[:, :, 0].float().mean(1)), -1) for mask in masks[1:]],
                dim=1,
            ).unflatten(0, folded)
            # Frames without a real pixel, at the end of a shorter clip, must not divide by zero.
            valid_ratios = torch.where(valid_ratios > 0, valid_ratios, 1.0)
            masks = [mask.unflatten(0, folded) for mask in masks]
            first = pixel_mask[:, 0]
            frame_sizes = torch.stack((first[:, :, 0].sum(1), first[:, 0].sum(1)), dim=-1).float()

        fine_pixels, fine_queries = self.pixel_decoder.stages[0].look_around(
            feature_maps[0], num_frames, positions[0], None if masks is None else masks[0]
        )
        return ReferFormerVideoFeatures(
            pixels=pixels,
            projected_pixels=self.fusion.project_pixels(pixels),
            pixel_positions=torch.cat([position.flatten(2, 3) for position in positions[1:]], 2).to(pixels.dtype),
            pixel_mask=None if masks is None else torch.cat([mask.flatten(2) for mask in masks[1:]], dim=2),
            valid_ratios=valid_ratios,
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
        if input_ids.ndim != 2:
            raise ValueError(
                f"input_ids has {input_ids.ndim} dimensions, expected 2: (num_expressions, num_words). A single "
                "expression needs a leading dimension, e.g. input_ids.unsqueeze(0)."
            )
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if attention_mask.shape != input_ids.shape:
            raise ValueError(
                f"attention_mask has shape {tuple(attention_mask.shape)}, expected that of input_ids: "
                f"{tuple(input_ids.shape)}"
            )
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
            _check_videos(pixel_values_videos, pixel_mask, annotated_frames)
        if text_features is None and input_ids is None:
            raise ValueError("input_ids is missing: give the tokens of a text, or text_features of an earlier call.")
        # Text first: its encoder looks at values of the mask, for which an accelerator would have to end the backbone.
        if text_features is None:
            text_features = self.get_text_features(input_ids, attention_mask)
        num_expressions = text_features.words.shape[0]
        num_videos = len(pixel_values_videos) if video_features is None else len(video_features.pixels)
        _check_video_index(video_index, num_expressions, num_videos)
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

        sentences = text.sentence.repeat_interleave(num_frames, dim=0)
        hidden_states, boxes, initial_points = self.decoder(sentences, memory, shapes, memory_mask, valid_ratios)
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
            )
        return output


def best_query(logits: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
    """The query that a clip is answered with: highest score in the mean over the frames, for its best class.

    Args:
        logits: `(num_expressions, num_queries, num_frames, num_classes)`.
        frame_mask: `(num_expressions, num_frames)`, True at frames that count, or None when all do.

    Returns:
        `(num_expressions,)` indices.
    """
    scores = logits.float().sigmoid()
    if frame_mask is None:
        means = scores.mean(2)
    else:
        means = (scores * frame_mask[:, None, :, None]).sum(2) / frame_mask.sum(1)[:, None, None]
    return means.amax(-1).argmax(1)


def _check_video_index(video_index: torch.Tensor | None, num_expressions: int, num_videos: int):
    if video_index is None:
        if num_expressions != num_videos:
            raise ValueError(
                f"There are {num_expressions} expressions for {num_videos} videos. Give video_index, of shape "
                "(num_expressions,), to say which video each expression refers to."
            )
        return
    if video_index.shape != (num_expressions,):
        raise ValueError(f"video_index has shape {tuple(video_index.shape)}, expected ({num_expressions},)")
    _check_range("video_index", video_index, num_videos)


def _check_range(name: str, index: torch.Tensor, size: int):
    """Look at values where that is free: on an accelerator the host would wait for them, and a trace has none."""
    if index.device.type == "cpu" and not torch.compiler.is_compiling() and not ((0 <= index) & (index < size)).all():
        raise ValueError(f"{name} is {index.tolist()}, expected values from 0 to {size - 1}")


def _check_videos(
    pixel_values_videos: torch.Tensor, pixel_mask: torch.Tensor | None, annotated_frames: torch.Tensor | None
):
    if pixel_values_videos.ndim != 5:
        raise ValueError(
            f"pixel_values_videos has {pixel_values_videos.ndim} dimensions, expected 5: (num_videos, num_frames, 3, "
            "height, width). A single clip needs a leading dimension, e.g. clip.unsqueeze(0)."
        )
    num_videos, num_frames, num_channels, height, width = pixel_values_videos.shape
    if num_channels != 3:
        raise ValueError(
            f"pixel_values_videos has shape {tuple(pixel_values_videos.shape)}, expected 3 channels in the third place"
        )
    # Below this, the map of stride 4 has fewer than the 8 rows or columns that the pixel decoder makes one of.
    if min(height, width) < 29:
        raise ValueError(
            f"pixel_values_videos has frames of {height}x{width} pixels, expected at least 29x29: resize the video."
        )
    if pixel_mask is not None and pixel_mask.shape != (num_videos, num_frames, height, width):
        raise ValueError(
            f"pixel_mask has shape {tuple(pixel_mask.shape)}, expected {(num_videos, num_frames, height, width)}: "
            "pixel_values_videos without the channels."
        )
    if annotated_frames is not None:
        if annotated_frames.ndim > 2 or len(annotated_frames) != num_videos:
            raise ValueError(
                f"annotated_frames has shape {tuple(annotated_frames.shape)}, expected ({num_videos},) or "
                f"({num_videos}, num_annotated)"
            )
        _check_range("annotated_frames", annotated_frames, num_frames)
