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

"""What SSA hands from step to step.

Frames count for every expression: all but the first stage of the image tower depends on the words.
"""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput

from hf_rvos.modeling_outputs import ReferringVideoSegmentationOutput


@dataclass
class SsaVideoFeatures(ModelOutput):
    """What the model knows of videos before it sees a word: stem and first stage of the image tower.

    Args:
        feature_maps (`torch.FloatTensor` of shape `(num_videos, num_frames, channels, height, width)`):
            Maps at stride 4 of the padded frames.
        frame_mask (`torch.BoolTensor` of shape `(num_videos, num_frames)`, *optional*):
            True at frames that have real pixels; the others are at the end. None means all.
        padded_size (`tuple[int, int]`):
            `(height, width)` of the frames with padding, multiples of 32.
    """

    feature_maps: torch.FloatTensor | None = None
    frame_mask: torch.BoolTensor | None = None
    padded_size: tuple[int, int] | None = None


@dataclass
class SsaTextFeatures(ModelOutput):
    """What the model knows of expressions before it sees a frame.

    Args:
        words (`torch.FloatTensor` of shape `(num_expressions, num_words, projection_dim)`):
            Projected features of the first `max_text_tokens` tokens.
        sentence (`torch.FloatTensor` of shape `(num_expressions, projection_dim)`):
            Projected feature of the last token.
        word_mask (`torch.BoolTensor` of shape `(num_expressions, num_words)`):
            True at real tokens.
    """

    words: torch.FloatTensor | None = None
    sentence: torch.FloatTensor | None = None
    word_mask: torch.BoolTensor | None = None


@dataclass
class SsaFrameFeatures(ModelOutput):
    """Frames after the frame decoder; each knows nothing of the others.

    Args:
        queries (`torch.FloatTensor` of shape `(num_expressions, num_frames, num_queries, hidden_size)`):
            Queries after the last layer of the frame decoder.
        text (`torch.FloatTensor` of shape `(num_expressions, num_frames, 1, hidden_size)`):
            The sentence after it has looked at each frame.
        mask_features (`torch.FloatTensor` of shape `(num_expressions, num_frames, mask_size, height, width)`):
            Features at stride 4 with which video queries draw their masks.
        layer_queries (`tuple[torch.FloatTensor]` of shape `(num_expressions, num_frames, num_queries, hidden_size)`):
            Queries before the first layer and after each layer of the frame decoder, on request.
        frame_mask_features (`torch.FloatTensor`, shape `(num_expressions, num_frames, mask_size, height, width)`):
            Features at stride 4 with which frame queries draw their masks, on request.
    """

    queries: torch.FloatTensor | None = None
    text: torch.FloatTensor | None = None
    mask_features: torch.FloatTensor | None = None
    layer_queries: tuple[torch.FloatTensor, ...] | None = None
    frame_mask_features: torch.FloatTensor | None = None


@dataclass
class SsaVideoQueries(ModelOutput):
    """The objects of whole clips.

    Args:
        class_logits (`torch.FloatTensor` of shape `(num_expressions, num_queries, 2)`):
            Scores of being an object that is referred to (0) and of being none (1), before the softmax.
        mask_embeddings (`torch.FloatTensor` of shape `(num_expressions, num_queries, mask_size)`):
            What draws a mask when it is multiplied with the mask features of a frame.
        hidden_states (`torch.FloatTensor` of shape `(num_expressions, num_queries, hidden_size)`):
            Normalised queries after the last layer of the video decoder.
    """

    class_logits: torch.FloatTensor | None = None
    mask_embeddings: torch.FloatTensor | None = None
    hidden_states: torch.FloatTensor | None = None


@dataclass
class SsaModelOutput(ModelOutput):
    """Queries and mask features of each expression, before the heads for scores.

    Args:
        layer_queries (`tuple[torch.FloatTensor]` of shape `(num_expressions, num_frames, num_queries, hidden_size)`):
            Normalised frame queries before the first layer and after each layer of the frame decoder; without
            `every_layer` only those after the last.
        frame_queries (`torch.Tensor`, `(num_supervised, num_expressions, num_frames, num_queries, hidden_size)`):
            Projection of the last of them, from which the video queries are made, in the order of the frame decoder;
            `num_supervised` is 1 without `every_layer`.
        video_queries (`tuple[torch.Tensor]`, shape `(num_supervised, num_expressions, num_queries, hidden_size)`):
            Normalised video queries after each layer of the video decoder; without `every_layer` only the last.
        text (`torch.FloatTensor` of shape `(num_expressions, num_frames, 1, hidden_size)`):
            The sentence after it has looked at each frame.
        frame_mask_features (`torch.FloatTensor`, shape `(num_expressions, num_frames, mask_size, height, width)`):
            Features at stride 4 with which frame queries draw their masks; only with `every_layer`.
        mask_features (`torch.FloatTensor` of shape `(num_expressions, num_frames, mask_size, height, width)`):
            The same for video queries.
        frame_mask (`torch.BoolTensor` of shape `(num_expressions, num_frames)`, *optional*):
            True at real frames. None means all.
        padded_size (`tuple[int, int]`):
            `(height, width)` of the frames with padding.
    """

    layer_queries: tuple[torch.FloatTensor, ...] | None = None
    frame_queries: torch.FloatTensor | None = None
    video_queries: tuple[torch.FloatTensor, ...] | None = None
    text: torch.FloatTensor | None = None
    frame_mask_features: torch.FloatTensor | None = None
    mask_features: torch.FloatTensor | None = None
    frame_mask: torch.BoolTensor | None = None
    padded_size: tuple[int, int] | None = None


@dataclass
class SsaPredictions(ModelOutput):
    """What the losses are computed from. Masks are not drawn: that is a product.

    P is `decoder_layers + 1`, predictions of the frame decoder of which the first comes before its first layer; S is
    `num_supervised_frame_layers`, the last of these; L is `video_decoder_layers`. E expressions, T frames, N queries.

    Args:
        frame_logits (`torch.FloatTensor` of shape `(P, E, T, N, 2)`):
            Scores of the frame queries, referred (0) and no object (1), before the softmax.
        frame_mask_embeddings (`torch.FloatTensor` of shape `(P, E, T, N, mask_size)`):
            What draws their masks with `frame_mask_features`.
        frame_mask_features (`torch.FloatTensor` of shape `(E, T, mask_size, height, width)`):
            At stride 4 of the padded frames.
        video_logits (`torch.FloatTensor` of shape `(L, S, E, N, 2)`):
            Scores of the video queries.
        video_mask_embeddings (`torch.FloatTensor` of shape `(L, S, E, N, mask_size)`):
            What draws their masks with `mask_features`.
        mask_features (`torch.FloatTensor` of shape `(E, T, mask_size, height, width)`):
            At stride 4 of the padded frames.
        frame_similarity (`torch.FloatTensor` of shape `(S, E, T, N, hidden_size)`):
            Frame queries, projected for the similarity loss, in the order in which the frame decoder has them.
        video_similarity (`torch.FloatTensor` of shape `(S, E, N, hidden_size)`):
            Video queries after the last layer, projected for the similarity loss.
    """

    frame_logits: torch.FloatTensor | None = None
    frame_mask_embeddings: torch.FloatTensor | None = None
    frame_mask_features: torch.FloatTensor | None = None
    video_logits: torch.FloatTensor | None = None
    video_mask_embeddings: torch.FloatTensor | None = None
    mask_features: torch.FloatTensor | None = None
    frame_similarity: torch.FloatTensor | None = None
    video_similarity: torch.FloatTensor | None = None


@dataclass
class SsaSegmentationOutput(ReferringVideoSegmentationOutput):
    """Predictions for each expression.

    A video query has one score for the whole clip: `logits` repeats it for every frame, as the difference of its two
    `class_logits`, so that its sigmoid is the probability. SSA predicts no boxes. `query_index` has the shape
    `(num_expressions, num_kept)` with `queries="referred"`, -1 where an expression has fewer.

    Args:
        class_logits (`torch.FloatTensor` of shape `(num_expressions, num_queries, 2)`):
            Scores of being an object that is referred to (0) and of being none (1), before the softmax.
        mask_embeddings (`torch.FloatTensor` of shape `(num_expressions, num_queries, mask_size)`):
            What draws the masks of the queries.
    """

    class_logits: torch.FloatTensor | None = None
    mask_embeddings: torch.FloatTensor | None = None
