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

"""SgMg: spectrum-guided multi-granularity segmentation (Miao et al., ICCV 2023, https://arxiv.org/abs/2307.13537).

The file reads in the order the data flows: spectrum augmentation and fusion (section 3.2 of the paper), decoder,
patches of mask pixels (3.3), their refinement (3.4). Where paper and released weights differ, the code follows the
weights. What depends on the video alone is computed once per video and then gathered for the expressions that refer to
it.
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
from hf_rvos.layers.box_decoder import BoxRefiningDecoder
from hf_rvos.layers.deformable_transformer import DeformableEncoderLayer, encoder_reference_points
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
from hf_rvos.layers.remembered import remembered
from hf_rvos.layers.text_fusion import TextGuidedFusion
from hf_rvos.losses import match_queries, prepare_labels
from hf_rvos.modeling_inputs import check_text, check_video_index, check_videos
from hf_rvos.modeling_outputs import ReferringVideoSegmentationOutput
from hf_rvos.models.sgmg.configuration_sgmg import SgMgConfig
from hf_rvos.models.sgmg.loss_sgmg import multi_granularity_loss
from hf_rvos.ops.queries import best_query


NUM_FEATURE_LEVELS = 4  # strides 8, 16, 32 of the backbone and 64
PATCH_STRIDE = 8  # pixels of the input for each cell that gets a patch of mask pixels
REFINED_STRIDE = 4  # the same after the refinement

# Cells that spectrum augmentation takes at once during inference.
CELLS_IN_CACHE = 4096  # on CPU
CELLS_ON_ACCELERATOR = 1 << 18


@dataclass
class SgMgVideoFeatures(ModelOutput):
    """What the model knows of videos before it sees a word. `num_tokens` counts the cells of the four levels.

    Args:
        pixels (`torch.FloatTensor` of shape `(num_videos, num_frames, num_tokens, hidden_size)`):
            Features of the levels with strides 8, 16, 32 and 64, one after the other.
        projected_pixels (`torch.FloatTensor` of shape `(num_videos, num_frames, num_tokens, hidden_size)`):
            Queries with which they look at the words.
        pixel_positions (`torch.FloatTensor` of shape `(1 or num_videos, 1 or num_frames, num_tokens, hidden_size)`):
            Position codes of the tokens; sizes are 1 without padding.
        pixel_mask (`torch.BoolTensor` of shape `(num_videos, num_frames, num_tokens)`, *optional*):
            True at real tokens. None without padding.
        valid_ratios (`torch.FloatTensor` of shape `(num_videos, num_frames, 4, 2)`, *optional*):
            Share of real columns and rows in each level. None without padding.
        coarse_guides (`torch.FloatTensor`, shape `(num_videos, num_frames, channels, height, width)`, *optional*):
            What the refinement of masks sees of the frames at stride 8. None without refinement.
        fine_guides (`torch.FloatTensor`, shape `(num_videos, num_frames, channels, height, width)`, *optional*):
            The same at stride 4.
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
    coarse_guides: torch.FloatTensor | None = None
    fine_guides: torch.FloatTensor | None = None
    frame_sizes: torch.FloatTensor | None = None
    spatial_shapes: list[tuple[int, int]] | None = None

    def select(self, video_index: torch.Tensor | None) -> "SgMgVideoFeatures":
        """The features of the video of each expression; `video_index` is `(num_expressions,)`, None means as is."""
        if video_index is None:
            return self
        num_expressions = video_index.shape[0]

        def gather(name, value):
            if not isinstance(value, torch.Tensor):
                return value
            if value.shape[0] > 1:
                return value[video_index]
            # Codes of unpadded frames are the same for all videos and frames, and stay a single one.
            return value if name == "pixel_positions" else value.expand(num_expressions, *value.shape[1:])

        return SgMgVideoFeatures(**{name: gather(name, value) for name, value in self.items()})


@dataclass
class SgMgTextFeatures(ModelOutput):
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
class SgMgModelOutput(ModelOutput):
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
        merged_memory (`torch.FloatTensor` of shape `(num_expressions * num_frames, hidden_size, height, width)`):
            Sum of the levels with strides 8, 16 and 32, at stride 8.
        coarse_guides (`torch.Tensor`, shape `(num_expressions * num_frames, channels, height, width)`, *optional*):
            What the refinement of masks sees of the frames at stride 8. None without refinement.
        fine_guides (`torch.Tensor`, shape `(num_expressions * num_frames, channels, height, width)`, *optional*):
            The same at stride 4.
        frame_sizes (`torch.FloatTensor` of shape `(num_expressions, 2)`):
            Height and width of the frames before padding.
        frame_mask (`torch.BoolTensor` of shape `(num_expressions, num_frames)`, *optional*):
            True at frames that have real pixels. None without padding.
    """

    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    boxes: tuple[torch.FloatTensor, ...] | None = None
    initial_reference_points: torch.FloatTensor | None = None
    encoder_last_hidden_state: torch.FloatTensor | None = None
    merged_memory: torch.FloatTensor | None = None
    coarse_guides: torch.FloatTensor | None = None
    fine_guides: torch.FloatTensor | None = None
    frame_sizes: torch.FloatTensor | None = None
    frame_mask: torch.BoolTensor | None = None


def gaussian_filters(
    shapes: tuple[tuple[int, int], ...], bandwidth: float, device: torch.device
) -> list[torch.Tensor]:
    """The bump G of each level, `(height, width)` in the order of an unshifted spectrum.

    The released code makes it for the first level, around the middle of the spectrum where the highest frequencies
    are, and resizes that of a level for the next one: never as a new bump, and never in one step from the first.
    For odd sizes it is not the same at a frequency and at its negative.
    """
    height, width = shapes[0]
    y = torch.arange(height, dtype=torch.float32, device=device) - height // 2
    x = torch.arange(width, dtype=torch.float32, device=device) - width // 2
    filters = [torch.exp(-(y[:, None] ** 2 + x**2) / (2 * bandwidth**2))]
    for shape in shapes[1:]:
        coarser = F.interpolate(filters[-1][None, None], size=shape, mode="bilinear", align_corners=False)
        filters.append(coarser[0, 0])
    return filters


@remembered
def half_spectrum_filters(
    shapes: tuple[tuple[int, int], ...], bandwidth: float, device: torch.device
) -> tuple[torch.Tensor, ...]:
    """G of each level at the frequencies k of a half spectrum and at -k, `(2, height, width // 2 + 1, 1)`."""
    filters = gaussian_filters(shapes, bandwidth, device)
    mirrored = [bump.flip(0, 1).roll((1, 1), (0, 1)) for bump in filters]
    halves = [bump.shape[1] // 2 + 1 for bump in filters]
    return tuple(torch.stack(pair)[:, :, :half, None] for *pair, half in zip(filters, mirrored, halves))


class SgMgSpectrumAugmentation(GradientCheckpointingLayer):
    """Change a map in the frequency domain: damp high frequencies, mix channels, add the result (section 3.2).

    The map is real, so the frequencies k and -k hold the same numbers and half of the spectrum is enough. With A and B
    the parts of the first layer for real and imaginary values, g the filter at k and g' at -k, the hidden values there
    are r = ReLU(g (A + B) + b) and r' = ReLU(g' (A - B) + b). Taking the real part of the result means to average the
    output at k with the conjugate at -k: its real part is the second layer of (r + r') / 2, its imaginary part that of
    (r - r') / 2. The bias of the imaginary part cancels.

    Args:
        hidden_size (`int`): Channels of the map.
    """

    def __init__(self, hidden_size: int):
        super().__init__()
        # Called by weight and bias, see `forward`.
        self.scale_conv = nn.Conv2d(hidden_size, hidden_size, 3)
        self.scale_hidden = nn.Linear(hidden_size, hidden_size, bias=False)
        self.scale_output = nn.Linear(hidden_size, 1, bias=False)
        self.spectrum_conv1 = nn.Conv2d(2 * hidden_size, 2 * hidden_size, 1)
        self.spectrum_conv2 = nn.Conv2d(2 * hidden_size, 2 * hidden_size, 1)

    def forward(self, pixels: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
        """
        Args:
            pixels: `(num_frames, height, width, hidden_size)`.
            filters: `(2, height, width // 2 + 1, 1)`, see `half_spectrum_filters`.

        Returns:
            Same shape as `pixels`.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.forward_at_once(pixels, filters)
        num_cells = CELLS_IN_CACHE if pixels.device.type == "cpu" else CELLS_ON_ACCELERATOR
        num_frames = max(1, num_cells // (pixels.shape[1] * pixels.shape[2]))
        return torch.cat([self.forward_at_once(part, filters) for part in pixels.split(num_frames)])

    def forward_at_once(self, pixels: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
        size, (height, width) = pixels.shape[-1], pixels.shape[1:3]
        spectrum_dtype = torch.promote_types(pixels.dtype, torch.float32)
        # The transform divides by the root of the number of cells, so that no frequency overflows half precision. For
        # the same result the biases are divided too.
        shrink = 1 / math.sqrt(height * width)
        spectrum = torch.fft.rfft2(pixels.to(spectrum_dtype), dim=(1, 2), norm="ortho")
        weight, dtype = self.spectrum_conv1.weight.flatten(1), self.spectrum_conv1.weight.dtype
        of_real = F.linear(spectrum.real.to(dtype), weight[:, :size])
        of_imaginary = F.linear(spectrum.imag.to(dtype), weight[:, size:])
        kept, kept_mirrored = (1 - self.scale(pixels)[:, None, None, None] * filters.to(dtype)).unbind(1)
        bias = self.spectrum_conv1.bias * shrink
        hidden = (kept * (of_real + of_imaginary) + bias).relu()
        mirrored = (kept_mirrored * (of_real - of_imaginary) + bias).relu()
        weight, bias = self.spectrum_conv2.weight.flatten(1) / 2, self.spectrum_conv2.bias[:size] * shrink
        changed = torch.complex(
            F.linear(hidden + mirrored, weight[:size], bias).to(spectrum_dtype),
            F.linear(hidden - mirrored, weight[size:]).to(spectrum_dtype),
        )
        return pixels + torch.fft.irfft2(changed, s=(height, width), dim=(1, 2), norm="ortho").to(pixels.dtype)

    def scale(self, pixels: torch.Tensor) -> torch.Tensor:
        """How strongly the filter acts on each frame, `(num_frames, 1)` in (0, 1).

        A convolution without padding and the mean of what it gives are both linear: instead of convolving, its kernel
        is applied to the means of the nine windows that its taps go through. Maps below 3x3, for which the released
        code fails, are continued with zeros.
        """
        dtype = self.scale_conv.weight.dtype
        if min(pixels.shape[1:3]) < 3:
            pixels = F.pad(pixels, (0, 0, 0, max(0, 3 - pixels.shape[2]), 0, max(0, 3 - pixels.shape[1])))
        sums = _window_sums(_window_sums(pixels, 2), 1)  # (N, 3, 3, C)
        means = sums / ((pixels.shape[1] - 2) * (pixels.shape[2] - 2))
        means = means.permute(0, 3, 1, 2).flatten(1).to(dtype)
        pooled = F.linear(means, self.scale_conv.weight.flatten(1), self.scale_conv.bias)
        return self.scale_output(self.scale_hidden(pooled).relu()).sigmoid()


def _window_sums(values: torch.Tensor, dim: int) -> torch.Tensor:
    """Sums along `dim` without the last two, the first and the last, and the first two entries; `dim` becomes 3."""
    first, second, second_last, last = (values.select(dim, index) for index in (0, 1, -2, -1))
    total = values.sum(dim, dtype=torch.promote_types(values.dtype, torch.float32))
    return torch.stack((total - second_last - last, total - first - last, total - first - second), dim)


class SgMgRefinementStage(nn.Module):
    """Correct mask logits with what a backbone map shows, at one resolution.

    The released code runs its first convolution over logits and map side by side. It is linear, so the part of the map
    (`guides`) is computed once per frame and shared by all masks.
    """

    def __init__(self, mask_channels: int, channels: int):
        super().__init__()
        self.mask_conv = nn.Conv2d(mask_channels, channels, 3, padding=1)
        self.output_conv = nn.Conv2d(channels, mask_channels, 3, padding=1)

    def forward(self, masks: torch.Tensor, guides: torch.Tensor) -> torch.Tensor:
        """
        Args:
            masks: `(num_frames, num_queries, mask_channels, height, width)` logits.
            guides: `(num_frames, channels, height, width)`.

        Returns:
            Same shape as `masks`.
        """
        # A ReLU on logits: the released weights expect it.
        seen = self.mask_conv(masks.flatten(0, 1).relu()).unflatten(0, masks.shape[:2])
        hidden = (seen + guides[:, None]).relu()
        return masks + self.output_conv(hidden.flatten(0, 1)).view_as(masks)


class SgMgMaskRefiner(nn.Module):
    """Multi-granularity segmentation optimizer (section 3.4): correct the patches at stride 8, then at stride 4."""

    def __init__(self, mask_channels: int, channels: int):
        super().__init__()
        self.coarse = SgMgRefinementStage(mask_channels, channels)
        self.fine = SgMgRefinementStage(mask_channels, channels)

    def forward(self, masks: torch.Tensor, coarse_guides: torch.Tensor, fine_guides: torch.Tensor) -> torch.Tensor:
        """
        Args:
            masks: `(num_frames, num_queries, mask_channels, coarse_height, coarse_width)` logits.
            coarse_guides: `(num_frames, channels, coarse_height, coarse_width)`.
            fine_guides: `(num_frames, channels, height, width)`.

        Returns:
            `(num_frames, num_queries, mask_channels, height, width)` logits.
        """
        masks = self.coarse(masks, coarse_guides)
        size = fine_guides.shape[-2:]
        enlarged = F.interpolate(masks.flatten(0, 1), size=size, mode="bilinear", align_corners=False)
        return self.fine(enlarged.unflatten(0, masks.shape[:2]), fine_guides)


class SgMgPreTrainedModel(FrozenPartsMixin, KernelGuardMixin, PreTrainedModel):
    """Loading, saving and initialisation of SgMg models."""

    config: SgMgConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["DeformableEncoderLayer", "DeformableDecoderLayer", "SgMgSpectrumAugmentation"]
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
        if isinstance(module, (TextProjection, SgMgSpectrumAugmentation, SgMgRefinementStage)):
            _init_as_torch(module)
        elif isinstance(module, SgMgModel):
            init.normal_(module.level_embedding)
            _init_as_torch(module.guide_convs)
        elif isinstance(module, SgMgForReferringVideoSegmentation):
            for head in module.class_heads:
                init.constant_(head.bias, -math.log(99))  # probability 0.01


def _init_as_torch(module: nn.Module):
    """Uniform between plus and minus one over the root of the number of inputs, as the layers of torch start."""
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            init.uniform_(layer.weight, -bound, bound)
            if layer.bias is not None:
                init.uniform_(layer.bias, -bound, bound)


class SgMgModel(SgMgPreTrainedModel):
    """SgMg up to the queries and the merged pixels, without the heads for scores and masks."""

    def __init__(self, config: SgMgConfig):
        super().__init__(config)
        size = config.hidden_size
        self.backbone = load_backbone(config)
        self.text_encoder = AutoModel.from_config(config.text_config)
        text_sizes = (config.text_config.hidden_size, size, config.text_projection_dropout)
        self.word_projection = TextProjection(*text_sizes)
        self.sentence_projection = TextProjection(*text_sizes)
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
        # Before the fusion and after it; empty without augmentation.
        num_spectra = NUM_FEATURE_LEVELS if config.spectrum_augmentation else 0
        self.pixel_spectra = nn.ModuleList(SgMgSpectrumAugmentation(size) for _ in range(num_spectra))
        self.fused_spectra = nn.ModuleList(SgMgSpectrumAugmentation(size) for _ in range(num_spectra))
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
        # Stride 8 and 4; empty without refinement.
        guide_channels = (channels[0], fine_channels) if config.mask_refinement else ()
        self.guide_convs = nn.ModuleList(
            nn.Conv2d(in_channels, config.refinement_channels, 3, padding=1, bias=False)
            for in_channels in guide_channels
        )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.text_encoder.set_input_embeddings(value)

    def freeze_text_encoder(self):
        """Stop training the text encoder, as the fine-tuning recipes do. Its dropout stays active in training mode."""
        self.text_encoder.requires_grad_(False)

    def augment(self, spectra: nn.ModuleList, tokens: torch.Tensor, shapes: list[tuple[int, int]]) -> torch.Tensor:
        """Change each level in the frequency domain.

        Args:
            spectra: One module for each level, or none.
            tokens: `(num_frames, num_tokens, hidden_size)`, the levels one after the other.
            shapes: `(height, width)` of each level.

        Returns:
            Same shape as `tokens`.
        """
        if not spectra:
            return tokens
        filters = half_spectrum_filters(tuple(shapes), self.config.gaussian_bandwidth, tokens.device)
        levels = tokens.split([height * width for height, width in shapes], dim=1)
        changed = [
            spectrum(level.unflatten(1, shape), bump).flatten(1, 2)
            for spectrum, level, shape, bump in zip(spectra, levels, shapes, filters)
        ]
        return torch.cat(changed, dim=1)

    def get_video_features(
        self,
        pixel_values_videos: torch.Tensor,
        pixel_mask: torch.Tensor | None = None,
        annotated_frames: torch.Tensor | None = None,
    ) -> SgMgVideoFeatures:
        """Everything that depends on the videos alone.

        Args:
            pixel_values_videos (`torch.FloatTensor` of shape `(num_videos, num_frames, 3, height, width)`):
                Normalised frames.
            pixel_mask (`torch.BoolTensor` of shape `(num_videos, num_frames, height, width)`, *optional*):
                True at real pixels; padding is at the right and at the bottom. None means no padding.
            annotated_frames (`torch.LongTensor`, shape `(num_videos,)` or `(num_videos, num_annotated)`, *optional*):
                The frames of each clip to predict. The backbone sees the whole clip, what follows only these frames.

        Returns:
            [`SgMgVideoFeatures`]

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
        spatial_shapes = [tuple(level.shape[-2:]) for level in levels]
        pixels = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
        pixels = self.augment(self.pixel_spectra, pixels, spatial_shapes).unflatten(0, folded)
        guides = [
            conv(fmap.relu()).unflatten(0, folded)
            for conv, fmap in zip(self.guide_convs, (feature_maps[1], feature_maps[0]))
        ]

        if pixel_mask is None:
            masks = None
            frame_sizes = whole_frame_sizes(num_videos, (height, width), pixels.device)
        else:
            masks = resize_pixel_mask(pixel_mask, spatial_shapes)
            frame_sizes = unpadded_frame_sizes(pixel_mask)
        positions = level_positions(spatial_shapes, masks, self.config.hidden_size, pixels.device)
        return SgMgVideoFeatures(
            pixels=pixels,
            projected_pixels=self.fusion.project_pixels(pixels),
            pixel_positions=torch.cat([position.flatten(2, 3) for position in positions], 2).to(pixels.dtype),
            pixel_mask=None if masks is None else torch.cat([mask.flatten(2) for mask in masks], dim=2),
            valid_ratios=None if masks is None else valid_ratios_of(masks),
            coarse_guides=guides[0] if guides else None,
            fine_guides=guides[1] if guides else None,
            frame_sizes=frame_sizes,
            spatial_shapes=spatial_shapes,
        )

    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> SgMgTextFeatures:
        """Everything that depends on the expressions alone.

        Args:
            input_ids (`torch.LongTensor` of shape `(num_expressions, num_words)`):
                Tokens of the expressions.
            attention_mask (`torch.LongTensor` of shape `(num_expressions, num_words)`, *optional*):
                1 at real tokens. None means no padding.

        Returns:
            [`SgMgTextFeatures`]

        Raises:
            ValueError: if `input_ids` does not have two dimensions or `attention_mask` another shape.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        check_text(input_ids, attention_mask)
        encoded = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask)
        words = self.word_projection(encoded.last_hidden_state)
        return SgMgTextFeatures(
            words=words,
            sentence=self.sentence_projection(encoded.pooler_output),
            word_positions=word_position_embedding(attention_mask, self.config.hidden_size).to(words.dtype),
            word_mask=attention_mask.bool(),
        )

    def fuse_and_encode(
        self, video_features: SgMgVideoFeatures, text_features: SgMgTextFeatures, video_index: torch.Tensor | None
    ) -> tuple[SgMgVideoFeatures, torch.Tensor]:
        """Let the pixels look at the words, then at each other.

        Returns:
            The features of the video of each expression, and the encoded pixels
            `(num_expressions * num_frames, num_tokens, hidden_size)`.
        """
        video, text = video_features.select(video_index), text_features
        # The same words for all levels and frames: the tokens of a clip are one sequence.
        fused = self.fusion(
            video.pixels.flatten(1, 2),
            video.projected_pixels.flatten(1, 2),
            text.words,
            text.word_positions,
            text.word_mask,
        )
        return video, self.encode(fused.view_as(video.pixels), video)

    def encode(self, fused: torch.Tensor, video: SgMgVideoFeatures) -> torch.Tensor:
        """Spectrum augmentation and deformable encoder.

        Args:
            fused: `(num_clips, num_frames, num_tokens, hidden_size)`, the levels one after the other.
            video: Features of the video of each clip.

        Returns:
            `(num_clips * num_frames, num_tokens, hidden_size)`.
        """
        shapes = video.spatial_shapes
        memory = self.augment(self.fused_spectra, fused.flatten(0, 1), shapes)
        lengths = [height * width for height, width in shapes]
        level_code = torch.cat([code.expand(n, -1) for n, code in zip(lengths, self.level_embedding)])
        positions = video.pixel_positions + level_code
        if video.pixel_mask is not None:
            positions = positions.expand(len(fused), -1, -1, -1)
        memory_mask, valid_ratios = _fold_frames(video.pixel_mask), _fold_frames(video.valid_ratios)
        references = encoder_reference_points(shapes, valid_ratios, memory.device)
        for layer in self.encoder_layers:
            memory = layer(memory, positions.flatten(0, 1), references, shapes, memory_mask)
        return memory

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        pixel_mask: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_index: torch.Tensor | None = None,
        annotated_frames: torch.Tensor | None = None,
        video_features: SgMgVideoFeatures | None = None,
        text_features: SgMgTextFeatures | None = None,
        **kwargs,
    ) -> SgMgModelOutput:
        """See [`SgMgForReferringVideoSegmentation.forward`] for the inputs.

        Returns:
            [`SgMgModelOutput`]
        """
        video_features, text_features = self.embed_inputs(
            pixel_values_videos,
            pixel_mask,
            input_ids,
            attention_mask,
            video_index,
            annotated_frames,
            video_features,
            text_features,
        )
        video, memory = self.fuse_and_encode(video_features, text_features, video_index)
        return self.decode(video, memory, text_features.sentence)

    def embed_inputs(
        self,
        pixel_values_videos: torch.Tensor | None,
        pixel_mask: torch.Tensor | None,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        video_index: torch.Tensor | None,
        annotated_frames: torch.Tensor | None,
        video_features: SgMgVideoFeatures | None,
        text_features: SgMgTextFeatures | None,
    ) -> tuple[SgMgVideoFeatures, SgMgTextFeatures]:
        """Features of videos and expressions, checked and computed where they are not given."""
        if video_features is None:
            if pixel_values_videos is None:
                raise ValueError("pixel_values_videos is missing: give frames, or video_features of an earlier call.")
            check_videos(pixel_values_videos, pixel_mask, annotated_frames)
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
        return video_features, text_features

    def decode(self, video: SgMgVideoFeatures, memory: torch.Tensor, sentences: torch.Tensor) -> SgMgModelOutput:
        """Look for the object of each expression.

        Args:
            video: Features of the video of each expression.
            memory: `(num_expressions * num_frames, num_tokens, hidden_size)` encoded pixels.
            sentences: `(num_expressions, hidden_size)`.

        Returns:
            [`SgMgModelOutput`]
        """
        memory_mask, valid_ratios = _fold_frames(video.pixel_mask), _fold_frames(video.valid_ratios)
        # In each frame, all queries start as the sentence.
        sentences = sentences.repeat_interleave(video.pixels.shape[1], dim=0)
        queries = sentences[:, None].expand(-1, self.config.num_queries, -1)
        hidden_states, boxes, initial_points = self.decoder(
            queries, memory, video.spatial_shapes, memory_mask, valid_ratios
        )
        return SgMgModelOutput(
            hidden_states=hidden_states,
            boxes=boxes,
            initial_reference_points=initial_points,
            encoder_last_hidden_state=memory,
            merged_memory=_merge_levels(memory, video.spatial_shapes),
            coarse_guides=_fold_frames(video.coarse_guides),
            fine_guides=_fold_frames(video.fine_guides),
            frame_sizes=video.frame_sizes,
            frame_mask=None if video.pixel_mask is None else video.pixel_mask[:, :, 0],
        )


def _fold_frames(values: torch.Tensor | None) -> torch.Tensor | None:
    """`(num_clips, num_frames, ...)` to `(num_clips * num_frames, ...)`."""
    return None if values is None else values.flatten(0, 1)


@remembered
def bicubic_weights(length: int, size: int, device: torch.device) -> torch.Tensor:
    """What `size` resized entries take from `length` entries, `(size, length)` float64."""
    rows = torch.eye(length, dtype=torch.float64, device=device)[None, :, None]
    return F.interpolate(rows, size=(1, size), mode="bicubic", align_corners=False)[0, :, 0].t()


def _merge_levels(memory: torch.Tensor, shapes: list[tuple[int, int]]) -> torch.Tensor:
    """Sum of the levels with strides 8, 16 and 32 at the size of the first; bicubic, as the released code does it.

    Resizing is linear and goes along one side after the other, so it is two matrix products over tokens as they lie.
    """
    (height, width), num_frames = shapes[0], len(memory)
    first, *coarser = memory.split([height * width for height, width in shapes], dim=1)[:3]
    merged = first.unflatten(1, shapes[0])
    for tokens, (rows, columns) in zip(coarser, shapes[1:]):
        along_x = bicubic_weights(columns, width, memory.device).to(memory.dtype)
        along_y = bicubic_weights(rows, height, memory.device).to(memory.dtype)
        wide = along_x.expand(num_frames * rows, -1, -1) @ tokens.reshape(num_frames * rows, columns, -1)
        level = along_y.expand(num_frames, -1, -1) @ wide.view(num_frames, rows, -1)
        merged = merged + level.view(num_frames, height, width, -1)
    return merged.permute(0, 3, 1, 2)


class SgMgForReferringVideoSegmentation(SgMgPreTrainedModel):
    """SgMg with the heads that score the queries and draw their masks."""

    _model_class = SgMgModel

    def __init__(self, config: SgMgConfig):
        super().__init__(config)
        size, patch_area = config.hidden_size, config.patch_size**2
        self.model = self._model_class(config)
        self.class_heads = nn.ModuleList(nn.Linear(size, config.num_classes) for _ in range(config.decoder_layers))
        # Conditional patch kernels: two layers that each query predicts, one output for each mask pixel of a patch.
        self.mask_head = DynamicMaskHead(size, config.kernel_channels, 2, PATCH_STRIDE, patch_area)
        self.mask_controller = MLP(size, size, self.mask_head.num_parameters, 3)
        self.mask_refiner = None
        if config.mask_refinement:
            self.mask_refiner = SgMgMaskRefiner(patch_area, config.refinement_channels)
        self.patch_mask_stride = PATCH_STRIDE // config.patch_size
        self.mask_stride = REFINED_STRIDE // config.patch_size if config.mask_refinement else self.patch_mask_stride
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.model.set_input_embeddings(value)

    def get_video_features(self, *args, **kwargs) -> SgMgVideoFeatures:
        """See [`SgMgModel.get_video_features`]."""
        return self.model.get_video_features(*args, **kwargs)

    def get_text_features(self, *args, **kwargs) -> SgMgTextFeatures:
        """See [`SgMgModel.get_text_features`]."""
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
        video_features: SgMgVideoFeatures | None = None,
        text_features: SgMgTextFeatures | None = None,
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
                Training with `labels` draws those of the query that was matched, as in the released code, and returns
                it as `query_index`.
            output_auxiliary (`bool`, *optional*):
                Whether to return the predictions of earlier decoder layers. None means only if `labels` are given and
                `auxiliary_loss` is set; the loss does not depend on it. With `labels` their masks are those of the
                matched queries.
            video_features ([`SgMgVideoFeatures`], *optional*):
                Result of `get_video_features`, to be reused for further expressions.
            text_features ([`SgMgTextFeatures`], *optional*):
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
            **kwargs,
        )
        final = self._score(features, -1)
        query_index = auxiliary = loss = loss_dict = None
        if labels is not None:
            matched, loss, loss_dict = self._match(features, final, labels, num_items)
            if self.config.auxiliary_loss and output_auxiliary is not False:
                auxiliary = matched[:-1]
        elif output_auxiliary:
            auxiliary = [
                self._score(features, layer) | {"pred_masks": self._draw(features, layer)}
                for layer in range(self.config.decoder_layers - 1)
            ]
        if queries == "best":
            # The choice needs the scores alone, so masks are drawn for one query.
            query_index = best_query(final["logits"], features.frame_mask)
            masks = self._draw(features, -1, query_index)
        elif labels is not None and self.training:
            query_index, masks = matched[-1]["query_index"], matched[-1]["pred_masks"]
        else:
            masks = self._draw(features, -1)

        if len(features.boxes) > 1:
            references = features.boxes[-2][..., :2].detach()
        else:
            references = features.initial_reference_points.detach().expand(len(features.boxes[0]), -1, -1)
        return ReferringVideoSegmentationOutput(
            loss=loss,
            loss_dict=loss_dict,
            **final,
            pred_masks=masks,
            query_index=query_index,
            reference_points=_by_query(references, features),
            auxiliary_outputs=auxiliary,
            last_hidden_state=_by_query(features.hidden_states[-1], features),
            mask_stride=self.mask_stride,
        )

    def _score(self, features: SgMgModelOutput, layer: int) -> dict[str, torch.Tensor]:
        """Logits and boxes of all queries after a decoder layer."""
        return {
            "logits": _by_query(self.class_heads[layer](features.hidden_states[layer]), features),
            "pred_boxes": _by_query(features.boxes[layer], features),
        }

    def _draw_patches(
        self, features: SgMgModelOutput, layer: int, query_index: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Mask logits of all queries or of one `(num_expressions,)`, `(num_frames, queries, patch_area, h, w)`."""
        num_frames = features.merged_memory.shape[0] // features.frame_sizes.shape[0]
        hidden, centers = features.hidden_states[layer], features.boxes[layer][..., :2].detach()
        if query_index is not None:
            frame_index = query_index.repeat_interleave(num_frames)[:, None, None]
            hidden, centers = (torch.take_along_dim(values, frame_index, 1) for values in (hidden, centers))
        frame_sizes = features.frame_sizes.repeat_interleave(num_frames, dim=0)
        patches = self.mask_head(features.merged_memory, self.mask_controller(hidden), centers, frame_sizes)
        return patches.unflatten(1, (hidden.shape[1], -1))

    def _unfold(self, features: SgMgModelOutput, patches: torch.Tensor) -> torch.Tensor:
        """Lay the pixels of patches side by side, `(num_expressions, queries, num_frames, height, width)`."""
        return _by_query(F.pixel_shuffle(patches, self.config.patch_size).squeeze(2), features)

    def _draw(self, features: SgMgModelOutput, layer: int, query_index: torch.Tensor | None = None) -> torch.Tensor:
        """Refined masks of all queries or of one."""
        return self._refine(features, self._draw_patches(features, layer, query_index))

    def _refine(self, features: SgMgModelOutput, patches: torch.Tensor) -> torch.Tensor:
        if self.mask_refiner is not None:
            patches = self.mask_refiner(patches, features.coarse_guides, features.fine_guides)
        return self._unfold(features, patches)

    def _match(
        self,
        features: SgMgModelOutput,
        final: dict[str, torch.Tensor],
        labels: list[dict[str, torch.Tensor]],
        num_items: dict[str, torch.Tensor] | None,
    ) -> tuple[list[dict[str, torch.Tensor]], torch.Tensor, dict[str, torch.Tensor]]:
        """Match a query to each expression in every trained layer by the masks before refinement, and refine its mask.

        Returns:
            For each layer `logits`, `pred_boxes`, `query_index` and `pred_masks` of that query; the loss; its terms.
        """
        config = self.config
        weights = {
            "loss_ce": config.class_loss_weight,
            "loss_bbox": config.bbox_loss_weight,
            "loss_giou": config.giou_loss_weight,
            "loss_mask": config.mask_loss_weight,
            "loss_dice": config.dice_loss_weight,
        }
        device_type = features.merged_memory.device.type
        earlier = range(config.decoder_layers - 1) if config.auxiliary_loss else ()
        scored = [*(self._score(features, layer) for layer in earlier), final]
        prepared, unrefined, matched = None, [], []
        for layer, predictions in zip(range(-len(scored), 0), scored):
            patches = self._draw_patches(features, layer)
            unrefined.append(predictions | {"pred_masks": self._unfold(features, patches)})
            with torch.autocast(device_type, enabled=False):
                if prepared is None:
                    prepared = prepare_labels(
                        labels, unrefined[0]["pred_masks"], config.num_classes, self.patch_mask_stride
                    )
                query_index = match_queries(unrefined[-1], prepared, *weights.values())
            rows = query_index.repeat_interleave(len(patches) // len(query_index))
            patches = patches[torch.arange(len(patches), device=patches.device), rows].unsqueeze(1)
            matched.append(predictions | {"pred_masks": self._refine(features, patches), "query_index": query_index})
        with torch.autocast(device_type, enabled=False):
            refined = refined_labels = None
            if self.mask_refiner is not None:
                refined = [layer["pred_masks"][:, 0] for layer in matched]
                refined_labels = prepare_labels(labels, matched[0]["pred_masks"], config.num_classes, self.mask_stride)
            indices = [layer["query_index"] for layer in matched]
            loss, terms = multi_granularity_loss(
                unrefined,
                indices,
                prepared,
                refined,
                refined_labels,
                weights,
                num_items=None if num_items is None else num_items["valid_frames"],
            )
        return matched, loss, terms


def _by_query(per_frame: torch.Tensor, features: SgMgModelOutput) -> torch.Tensor:
    """`(num_expressions * num_frames, queries, ...)` to `(num_expressions, queries, num_frames, ...)`."""
    return per_frame.unflatten(0, (features.frame_sizes.shape[0], -1)).transpose(1, 2)
