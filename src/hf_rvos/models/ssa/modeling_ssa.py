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

"""SSA: semantic and sequential alignment (Pan et al., CVPR 2025).

Frozen towers of CLIP read frames and words, adapters between the stages of the image tower let it know the words
(`semantic_alignment`), every frame gets queries of its own (`frame_decoder`), and queries that follow an object
through the clip become video queries (`sequential_alignment`). Only the first stage of the image tower is shared by
the expressions of a video, and frames do not see each other before the queries are followed.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPTextModelWithProjection, PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import can_return_tuple

from hf_rvos.frozen_parts import FrozenPartsMixin
from hf_rvos.kernels import KernelGuardMixin
from hf_rvos.layers.initialization import init_shared_layer
from hf_rvos.layers.mlp import MLP
from hf_rvos.layers.projections import TextProjection
from hf_rvos.modeling_inputs import check_text, check_video_index, check_videos
from hf_rvos.models.ssa.configuration_ssa import SsaConfig
from hf_rvos.models.ssa.frame_decoder import SsaFrameDecoder, SsaPixelDecoder
from hf_rvos.models.ssa.loss_ssa import count_targets, ssa_loss
from hf_rvos.models.ssa.outputs_ssa import (
    SsaFrameFeatures,
    SsaModelOutput,
    SsaPredictions,
    SsaSegmentationOutput,
    SsaTextFeatures,
    SsaVideoFeatures,
    SsaVideoQueries,
)
from hf_rvos.models.ssa.semantic_alignment import SsaImageTower, SsaSemanticAdapter
from hf_rvos.models.ssa.sequential_alignment import SsaTrajectoryEncoder, SsaVideoDecoder
from hf_rvos.models.ssa.text_fusion import SsaTextFusion


SIZE_DIVISOR = 32  # the largest stride of the image tower
NO_QUERY = -1
NO_QUERY_LOGIT = -100.0


class SsaPreTrainedModel(FrozenPartsMixin, KernelGuardMixin, PreTrainedModel):
    """Loading, saving and initialisation of SSA models."""

    config: SsaConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = [
        "SsaSemanticAdapter",
        "SsaTextFusion",
        "DeformableEncoderLayer",
        "SsaFrameDecoderLayer",
        "SsaVideoDecoderLayer",
    ]
    _supports_sdpa = True
    _supports_attention_backend = True

    def read_frozen_part(self, name: str, source: str, **download_options: Any) -> dict[str, torch.Tensor]:
        """See [`FrozenPartsMixin.read_frozen_part`]; here a source may also be a CLIP as OpenCLIP publishes it."""
        from hf_rvos.models.ssa.open_clip import read_tower  # the names are known to the conversion, which knows this

        tower = read_tower(name, source, **download_options)
        return super().read_frozen_part(name, source, **download_options) if tower is None else tower

    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False):
        # In classes from outside, transformers passes over modules without tensors of their own, among them the
        # attentions and perceptrons below, because it cannot know that their initialisation spares loaded tensors.
        super()._initialize_weights(module, is_custom_code=False)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Initial values of the layers that the model is made of: those of Mask2Former and Grounding DINO."""
        super()._init_weights(module)
        init_shared_layer(module)
        if isinstance(module, SsaTextFusion):
            for name, child in module.named_children():
                if name.endswith("proj"):
                    init.xavier_uniform_(child.weight)
                    init.zeros_(child.bias)
            init.constant_(module.pixel_scale, 1e-4)
            init.constant_(module.text_scale, 1e-4)
        elif isinstance(module, SsaPixelDecoder):
            init.normal_(module.level_embedding)
            for conv in (module.fine_projection, module.fine_conv):
                init.kaiming_uniform_(conv.weight, a=1)
        elif isinstance(module, SsaFrameDecoder):
            init.normal_(module.query_positions)
            init.normal_(module.level_embedding)
        elif isinstance(module, SsaVideoDecoder):
            init.normal_(module.query_positions)
            init.normal_(module.track_positions)
        elif isinstance(module, SsaModel):
            for conv in (module.frame_mask_projection, module.mask_projection):
                init.kaiming_uniform_(conv.weight, a=1)
                init.zeros_(conv.bias)


class SsaModel(SsaPreTrainedModel):
    """SSA up to frame queries, video queries and mask features, without the heads that score and draw."""

    def __init__(self, config: SsaConfig):
        super().__init__(config)
        size, text_size = config.hidden_size, config.text_config.projection_dim
        self.backbone = SsaImageTower(config.backbone_config)
        self.text_encoder = CLIPTextModelWithProjection(config.text_config)
        self.adapters = nn.ModuleList(
            SsaSemanticAdapter(
                channels,
                text_size,
                config.adapter_size,
                config.adapter_attention_heads,
                config.adapter_dropout,
                use_sentence=config.adapter_type == "word_sentence",
            )
            for channels in config.backbone_config.hidden_sizes
        )
        self.text_projection = TextProjection(text_size, size, config.text_projection_dropout)
        self.pixel_decoder = SsaPixelDecoder(config)
        self.frame_mask_projection = nn.Conv2d(size, config.mask_size, 1)
        self.mask_projection = nn.Conv2d(size, config.mask_size, 1)
        self.frame_decoder = SsaFrameDecoder(config)
        self.trajectory_encoder = SsaTrajectoryEncoder(config)
        self.video_decoder = SsaVideoDecoder(config)
        self.post_init()
        self._hold_frozen_parts()

    def get_input_embeddings(self) -> nn.Module:
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.text_encoder.set_input_embeddings(value)

    def train(self, mode: bool = True) -> "SsaModel":
        """As of any module, but frozen towers stay in evaluation mode."""
        super().train(mode)
        self._hold_frozen_parts()
        return self

    def _hold_frozen_parts(self):
        # Loading makes new parameters and ends with `eval()`, so this is done there as well.
        for part, is_frozen in (
            (self.backbone, self.config.freeze_backbone),
            (self.text_encoder, self.config.freeze_text_encoder),
        ):
            if is_frozen:
                part.requires_grad_(False)
                part.eval()

    def get_video_features(
        self,
        pixel_values_videos: torch.Tensor,
        pixel_mask: torch.Tensor | None = None,
        annotated_frames: torch.Tensor | None = None,
    ) -> SsaVideoFeatures:
        """Everything that depends on the videos alone: stem and first stage of the image tower.

        Args:
            pixel_values_videos (`torch.FloatTensor` of shape `(num_videos, num_frames, 3, height, width)`):
                Normalised frames. They are padded with zeros to multiples of 32 pixels if they are not yet.
            pixel_mask (`torch.BoolTensor` of shape `(num_videos, num_frames, height, width)`, *optional*):
                True at real pixels; padding is at the right and at the bottom, and at the end of shorter videos. The
                network looks at padded pixels, as released weights did, but not at padded frames.
            annotated_frames (`torch.LongTensor`, shape `(num_videos,)` or `(num_videos, num_annotated)`, *optional*):
                The frames of each clip to predict, which the model then sees alone.

        Returns:
            [`SsaVideoFeatures`]

        Raises:
            ValueError: if an input has the wrong rank or the sizes do not fit together.
        """
        check_videos(pixel_values_videos, pixel_mask, annotated_frames)
        num_videos = len(pixel_values_videos)
        if annotated_frames is not None:
            videos = torch.arange(num_videos, device=pixel_values_videos.device)[:, None]
            frames = annotated_frames.view(num_videos, -1)
            pixel_values_videos = pixel_values_videos[videos, frames]
            pixel_mask = None if pixel_mask is None else pixel_mask[videos, frames]
        height, width = pixel_values_videos.shape[-2:]
        margins = (0, -width % SIZE_DIVISOR, 0, -height % SIZE_DIVISOR)
        frames = pixel_values_videos.flatten(0, 1)
        maps = [self.backbone(F.pad(piece, margins), 0) for piece in frames.split(self._rows_at_once(len(frames)))]
        return SsaVideoFeatures(
            feature_maps=torch.cat(maps).unflatten(0, (num_videos, -1)),
            frame_mask=None if pixel_mask is None else pixel_mask[:, :, 0, 0],
            padded_size=(height + margins[3], width + margins[1]),
        )

    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> SsaTextFeatures:
        """Everything that depends on the expressions alone.

        Args:
            input_ids (`torch.LongTensor` of shape `(num_expressions, num_words)`):
                Tokens of the expressions, with padding at the end.
            attention_mask (`torch.LongTensor` of shape `(num_expressions, num_words)`, *optional*):
                1 at real tokens. None means no padding.

        Returns:
            [`SsaTextFeatures`]

        Raises:
            ValueError: if `input_ids` does not have two dimensions, more tokens than the text tower has positions, or
                `attention_mask` another shape.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        check_text(input_ids, attention_mask)
        # A token sees those before it, so padding at the end changes nothing and needs no mask.
        hidden = self.text_encoder.text_model(input_ids).last_hidden_state
        tokens = self.text_encoder.text_projection(hidden)
        last = attention_mask.sum(1, keepdim=True) - 1
        kept = slice(self.config.max_text_tokens)
        return SsaTextFeatures(
            words=tokens[:, kept],
            sentence=tokens.take_along_dim(last[..., None], 1)[:, 0],
            word_mask=attention_mask[:, kept].bool(),
        )

    def get_frame_features(
        self,
        video_features: SsaVideoFeatures,
        text_features: SsaTextFeatures,
        video_index: torch.Tensor | None = None,
        every_layer: bool = False,
    ) -> SsaFrameFeatures:
        """Everything that is known of single frames, so that the pieces of a long video can be given one by one.

        Args:
            video_features ([`SsaVideoFeatures`]):
                Result of `get_video_features`.
            text_features ([`SsaTextFeatures`]):
                Result of `get_text_features`.
            video_index (`torch.LongTensor` of shape `(num_expressions,)`, *optional*):
                The video that each expression refers to. None means one expression per video, in order.
            every_layer (`bool`, *optional*, defaults to `False`):
                Whether to return what only the losses need.

        Returns:
            [`SsaFrameFeatures`]

        Raises:
            ValueError: if `video_index` does not name a video for each expression.
        """
        maps, num_expressions = video_features.feature_maps, len(text_features.words)
        check_video_index(video_index, num_expressions, len(maps))
        num_frames, device = maps.shape[1], maps.device
        # One row for each frame of each expression.
        rows = torch.arange(num_expressions * num_frames, device=device)
        expressions = rows // num_frames
        rows_at_once = self._rows_at_once(len(rows))
        pieces_of_maps = maps.flatten(0, 1).split(rows_at_once)
        if video_index is not None:
            rows = video_index.to(device)[expressions] * num_frames + rows % num_frames
            pieces_of_maps = (maps.flatten(0, 1)[piece] for piece in rows.split(rows_at_once))
        sentences = self.text_projection(text_features.sentence)[:, None]
        pieces = [
            self._read_frames(piece, text_features, sentences, owners, every_layer)
            for piece, owners in zip(pieces_of_maps, expressions.split(rows_at_once))
        ]
        shape = (num_expressions, num_frames)
        layer_queries = [torch.cat(layer).unflatten(0, shape) for layer in zip(*(piece[0] for piece in pieces))]
        text, mask_features, frame_mask_features = (
            None if parts[0] is None else torch.cat(parts).unflatten(0, shape) for parts in list(zip(*pieces))[1:]
        )
        return SsaFrameFeatures(
            queries=layer_queries[-1],
            text=text,
            mask_features=mask_features,
            layer_queries=tuple(layer_queries) if every_layer else None,
            frame_mask_features=frame_mask_features,
        )

    def _rows_at_once(self, num_rows: int) -> int:
        return num_rows if torch.is_grad_enabled() else self.config.frames_at_once

    def _read_frames(
        self,
        maps: torch.Tensor,
        text_features: SsaTextFeatures,
        sentences: torch.Tensor,
        expressions: torch.Tensor,
        every_layer: bool,
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Queries of some frames, their text, mask features and, with `every_layer`, those of the frame queries.

        `maps` `(num_frames, channels, height, width)` come from the first stage of the image tower, `sentences` are
        `(num_expressions, 1, hidden_size)`, `expressions` `(num_frames,)` those with which the frames are read.
        """
        feature_maps = []
        for stage, adapter in enumerate(self.adapters):
            if stage > 0:
                maps = self.backbone(maps, stage)
            maps = adapter(maps, text_features, expressions)
            feature_maps.append(maps)
        pixels = self.pixel_decoder(feature_maps, sentences[expressions])
        with torch.no_grad():
            # Resizing and projecting commute.
            level_mask_features = [
                self.frame_mask_projection(
                    F.interpolate(pixels.fine_maps, size=shape, mode="bilinear", align_corners=False)
                ).flatten(2)
                for shape in pixels.shapes
            ]
        queries = self.frame_decoder(pixels, level_mask_features, every_layer)
        frame_mask_features = self.frame_mask_projection(pixels.fine_maps) if every_layer else None
        return queries, pixels.text, self.mask_projection(pixels.fine_maps), frame_mask_features

    def follow_queries(
        self,
        frame_queries: torch.Tensor,
        text: torch.Tensor,
        frame_mask: torch.Tensor | None = None,
        every_layer: bool = False,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Make video queries of the frame queries of whole clips.

        Args:
            frame_queries (`torch.FloatTensor` of shape `(num_clips, num_frames, num_queries, hidden_size)`):
                Queries after the frame decoder.
            text (`torch.FloatTensor` of shape `(num_clips, num_frames, 1, hidden_size)`):
                The sentence as each frame knows it.
            frame_mask (`torch.BoolTensor` of shape `(num_clips, num_frames)`, *optional*):
                True at real frames, which come first. None means all.
            every_layer (`bool`, *optional*, defaults to `False`):
                Whether to return the queries after each layer.

        Returns:
            The frame queries as they are compared between frames, and the normalised video queries
            `(num_clips, num_queries, hidden_size)` after the last layer or after each one.
        """
        projected = self.trajectory_encoder.input_proj(frame_queries)
        tracks, means = self.trajectory_encoder(projected, frame_mask)
        return projected, self.video_decoder(tracks, means, text.squeeze(2), frame_mask, every_layer)

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        pixel_mask: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_index: torch.Tensor | None = None,
        annotated_frames: torch.Tensor | None = None,
        video_features: SsaVideoFeatures | None = None,
        text_features: SsaTextFeatures | None = None,
        every_layer: bool = False,
        **kwargs,
    ) -> SsaModelOutput:
        """See [`SsaForReferringVideoSegmentation.forward`] for the other inputs.

        `every_layer` asks for the queries of all layers of the frame decoder, and for video queries of all layers of
        the video decoder from each of the last `num_supervised_frame_layers` of the former, as the losses need them.

        Returns:
            [`SsaModelOutput`]
        """
        if video_features is None:
            if pixel_values_videos is None:
                raise ValueError("pixel_values_videos is missing: give frames, or video_features of an earlier call.")
            check_videos(pixel_values_videos, pixel_mask, annotated_frames)
        if text_features is None:
            if input_ids is None:
                raise ValueError(
                    "input_ids is missing: give the tokens of a text, or text_features of an earlier call."
                )
            text_features = self.get_text_features(input_ids, attention_mask)
        num_videos = len(pixel_values_videos if video_features is None else video_features.feature_maps)
        check_video_index(video_index, len(text_features.words), num_videos)
        if video_features is None:
            video_features = self.get_video_features(pixel_values_videos, pixel_mask, annotated_frames)
        frames = self.get_frame_features(video_features, text_features, video_index, every_layer)
        frame_mask = video_features.frame_mask
        if frame_mask is not None and video_index is not None:
            frame_mask = frame_mask[video_index.to(frame_mask.device)]
        if every_layer:
            supervised = torch.stack(frames.layer_queries[-self.config.num_supervised_frame_layers :])
        else:
            supervised = frames.queries[None]
        num_supervised, num_expressions = supervised.shape[:2]
        projected, video_queries = self.follow_queries(
            supervised.flatten(0, 1),
            frames.text.repeat(num_supervised, 1, 1, 1),
            None if frame_mask is None else frame_mask.repeat(num_supervised, 1),
            every_layer,
        )
        clips = (num_supervised, num_expressions)
        return SsaModelOutput(
            layer_queries=frames.layer_queries or (frames.queries,),
            frame_queries=projected.unflatten(0, clips),
            video_queries=tuple(queries.unflatten(0, clips) for queries in video_queries),
            text=frames.text,
            frame_mask_features=frames.frame_mask_features,
            mask_features=frames.mask_features,
            frame_mask=frame_mask,
            padded_size=video_features.padded_size,
        )


class SsaForReferringVideoSegmentation(SsaPreTrainedModel):
    """SSA with the heads that score the queries and draw their masks."""

    def __init__(self, config: SsaConfig):
        super().__init__(config)
        size = config.hidden_size
        self.model = SsaModel(config)
        self.class_head = nn.Linear(size, 2)
        self.mask_head = MLP(size, size, config.mask_size, 3)
        # In training, frame queries are scored and drawn as well, and compared with video queries.
        self.frame_class_head = nn.Linear(size, 2)
        self.frame_similarity_head = nn.Linear(size, size)
        self.video_similarity_head = nn.Linear(size, size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.model.set_input_embeddings(value)

    def get_video_features(self, *args, **kwargs) -> SsaVideoFeatures:
        """See [`SsaModel.get_video_features`]."""
        return self.model.get_video_features(*args, **kwargs)

    def get_text_features(self, *args, **kwargs) -> SsaTextFeatures:
        """See [`SsaModel.get_text_features`]."""
        return self.model.get_text_features(*args, **kwargs)

    def get_frame_features(self, *args, **kwargs) -> SsaFrameFeatures:
        """See [`SsaModel.get_frame_features`]."""
        return self.model.get_frame_features(*args, **kwargs)

    def get_video_queries(
        self, frame_queries: torch.Tensor, text: torch.Tensor, frame_mask: torch.Tensor | None = None
    ) -> SsaVideoQueries:
        """The objects of whole clips, from what `get_frame_features` says of their frames.

        Args:
            frame_queries (`torch.FloatTensor` of shape `(num_expressions, num_frames, num_queries, hidden_size)`):
                Queries of all frames, in order.
            text (`torch.FloatTensor` of shape `(num_expressions, num_frames, 1, hidden_size)`):
                The sentence as each frame knows it.
            frame_mask (`torch.BoolTensor` of shape `(num_expressions, num_frames)`, *optional*):
                True at real frames, which come first. None means all.

        Returns:
            [`SsaVideoQueries`]
        """
        _, (queries,) = self.model.follow_queries(frame_queries, text, frame_mask)
        return self._score(queries)

    @staticmethod
    def draw_masks(mask_embeddings: torch.Tensor, mask_features: torch.Tensor) -> torch.Tensor:
        """Masks of video queries in any of the frames.

        Args:
            mask_embeddings (`torch.FloatTensor` of shape `(num_expressions, num_queries, mask_size)`):
                Of some or all queries that `get_video_queries` gives.
            mask_features (`torch.FloatTensor` of shape `(num_expressions, num_frames, mask_size, height, width)`):
                Of some or all frames, as `get_frame_features` gives them.

        Returns:
            `torch.FloatTensor`: logits `(num_expressions, num_queries, num_frames, height, width)`.
        """
        masks = mask_embeddings[:, None] @ mask_features.flatten(-2)
        return masks.unflatten(-1, mask_features.shape[-2:]).transpose(1, 2)

    def count_items(self, labels: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """What the losses of a batch are divided by: `num_items` of a step, once all its batches share theirs."""
        return count_targets(labels, self.config)

    def _score(self, queries: torch.Tensor) -> SsaVideoQueries:
        return SsaVideoQueries(self.class_head(queries), self.mask_head(queries), queries)

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
        output_auxiliary: bool = False,
        video_features: SsaVideoFeatures | None = None,
        text_features: SsaTextFeatures | None = None,
        num_items: dict[str, torch.Tensor] | None = None,
        score_threshold: float | None = None,
        **kwargs,
    ) -> SsaSegmentationOutput:
        """Segment, in every frame, the objects that each expression refers to.

        Args:
            pixel_values_videos (`torch.Tensor` of shape `(num_videos, num_frames, 3, height, width)`, *optional*):
                Normalised frames, padded with zeros to multiples of 32 pixels if they are not yet. Not needed with
                `video_features`.
            pixel_mask (`torch.BoolTensor` of shape `(num_videos, num_frames, height, width)`, *optional*):
                True at real pixels; padding is at the right and at the bottom, and at the end of shorter videos. The
                network looks at padded pixels, as released weights did, but not at padded frames. None means no
                padding.
            input_ids (`torch.LongTensor` of shape `(num_expressions, num_words)`, *optional*):
                Tokens of the expressions. Not needed with `text_features`.
            attention_mask (`torch.LongTensor` of shape `(num_expressions, num_words)`, *optional*):
                1 at real tokens. None means no padding.
            video_index (`torch.LongTensor` of shape `(num_expressions,)`, *optional*):
                The video that each expression refers to. None means one expression per video, in order.
            annotated_frames (`torch.LongTensor`, shape `(num_videos,)` or `(num_videos, num_annotated)`, *optional*):
                The frames of each clip to predict, which the model then sees alone; outputs and `labels` have only
                these.
            labels (`list[dict[str, torch.Tensor]]`, *optional*):
                One dict per expression: `masks` `(num_frames, height, width)` boolean at the size of the unpadded
                frame, of the one object that is referred to, or `object_masks`
                `(num_objects, num_frames, height, width)`, one for each object, of which there may be none. Other
                entries are not read.
            queries (`str`, *optional*, defaults to `"all"`):
                `"all"` draws the masks of all queries, `"best"` only those of the query with the highest score,
                `"referred"` those of the queries with a probability above `score_threshold`.
            output_auxiliary (`bool`, *optional*, defaults to `False`):
                Whether to return what the layers of the video decoder before the last predict.
            video_features ([`SsaVideoFeatures`], *optional*):
                Result of `get_video_features`, to be reused for further expressions.
            text_features ([`SsaTextFeatures`], *optional*):
                Result of `get_text_features`, to be reused for further clips.
            num_items (`dict[str, torch.Tensor]`, *optional*):
                What the losses are divided by, as `count_items` gives it, for a step of several batches or processes.
                None counts what is in `labels`, averaged over processes.
            score_threshold (`float`, *optional*):
                Probability above which a query is drawn with `queries="referred"`. None means
                `config.score_threshold`.
            kwargs:
                `return_dict=False` returns a tuple of the fields that are not None.

        Returns:
            [`SsaSegmentationOutput`]

        Raises:
            ValueError: if inputs are missing, have the wrong rank or do not fit together, if `labels` or
                `output_auxiliary` come with other queries than `"all"`, or if `"referred"` has no threshold.
        """
        if queries not in ("all", "best", "referred"):
            raise ValueError(f'queries is {queries!r}, expected "all", "best" or "referred"')
        if queries != "all" and (labels is not None or output_auxiliary):
            name = "output_auxiliary" if labels is None else "labels"
            raise ValueError(f'{name} needs the masks of all queries: call with queries="all"')
        score_threshold = self.config.score_threshold if score_threshold is None else score_threshold
        if queries == "referred" and score_threshold is None:
            raise ValueError('queries="referred" needs a score_threshold: the configuration has none')
        features = self.model(
            pixel_values_videos,
            pixel_mask,
            input_ids,
            attention_mask,
            video_index,
            annotated_frames,
            video_features,
            text_features,
            every_layer=labels is not None or output_auxiliary,
            return_dict=True,
        )
        output = self._predict(features, -1, queries, score_threshold)
        if output_auxiliary:
            earlier = [self._predict(features, layer) for layer in range(len(features.video_queries) - 1)]
            output.auxiliary_outputs = [{"logits": layer.logits, "pred_masks": layer.pred_masks} for layer in earlier]
        if labels is not None:
            output.loss, output.loss_dict = ssa_loss(
                self._predict_for_loss(features), labels, features.padded_size, self.config, num_items
            )
        return output

    def _predict(
        self, features: SsaModelOutput, layer: int, queries: str = "all", score_threshold: float | None = None
    ) -> SsaSegmentationOutput:
        """What the heads make of the video queries of a layer."""
        scored = self._score(features.video_queries[layer][-1])
        scores = scored.class_logits[..., 0] - scored.class_logits[..., 1]
        query_index, embeddings = None, scored.mask_embeddings
        if queries == "best":
            query_index = scores.argmax(1)
            embeddings = embeddings.take_along_dim(query_index[:, None, None], 1)
        elif queries == "referred":
            query_index = _queries_above(scores, score_threshold)
            embeddings = embeddings.take_along_dim(query_index.clamp(min=0)[..., None], 1)
        masks = self.draw_masks(embeddings, features.mask_features)
        if queries == "referred":
            masks = masks.masked_fill((query_index < 0)[:, :, None, None, None], NO_QUERY_LOGIT)
        num_frames = features.mask_features.shape[1]
        return SsaSegmentationOutput(
            logits=scores[:, :, None, None].expand(-1, -1, num_frames, -1),
            pred_masks=masks,
            query_index=query_index,
            last_hidden_state=scored.hidden_states[:, :, None].expand(-1, -1, num_frames, -1),
            class_logits=scored.class_logits,
            mask_embeddings=scored.mask_embeddings,
        )

    def _predict_for_loss(self, features: SsaModelOutput) -> SsaPredictions:
        frame_queries, video_queries = torch.stack(features.layer_queries), torch.stack(features.video_queries)
        return SsaPredictions(
            frame_logits=self.frame_class_head(frame_queries),
            frame_mask_embeddings=self.model.frame_decoder.mask_head(frame_queries),
            frame_mask_features=features.frame_mask_features,
            video_logits=self.class_head(video_queries),
            video_mask_embeddings=self.mask_head(video_queries),
            mask_features=features.mask_features,
            frame_similarity=self.frame_similarity_head(features.frame_queries),
            video_similarity=self.video_similarity_head(video_queries[-1]),
        )


def _queries_above(scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Queries whose probability is above a threshold, `(num_expressions, num_kept)` in their order, -1 for none."""
    is_above = scores.float().sigmoid() > threshold
    order = is_above.long().sort(dim=1, descending=True, stable=True).indices
    counts = is_above.sum(1)
    num_kept = int(counts.max())
    places = torch.arange(num_kept, device=scores.device)
    return order[:, :num_kept].masked_fill(places >= counts[:, None], NO_QUERY)
