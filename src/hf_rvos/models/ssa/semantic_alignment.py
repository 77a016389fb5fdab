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

"""Semantic alignment (paper, section 3.2): a frozen image tower of CLIP, and adapters between its stages."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import ConvNextConfig
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.convnext.modeling_convnext import (
    ConvNextEmbeddings,
    ConvNextEncoder,
    ConvNextPreTrainedModel,
)

from hf_rvos.layers.attention import MultiHeadAttention
from hf_rvos.layers.mlp import MLP
from hf_rvos.models.ssa.outputs_ssa import SsaTextFeatures
from hf_rvos.models.ssa.position_codes import pixel_code, sequence_code
from hf_rvos.models.ssa.text_fusion import attend_to_one_token


class SsaImageTower(ConvNextPreTrainedModel):
    """ConvNeXt whose stages are called one by one, without norms after them. Its weights are those of the backbone."""

    supports_gradient_checkpointing = True
    gradient_checkpointing = False

    def __init__(self, config: ConvNextConfig):
        super().__init__(config)
        self.embeddings = ConvNextEmbeddings(config)
        self.encoder = ConvNextEncoder(config)
        self.post_init()
        self._no_split_modules.discard("ConvNextStage")  # whose forward is never called

    def forward(self, features: torch.Tensor, stage: int) -> torch.Tensor:
        """
        Args:
            features: Normalised frames `(num_frames, 3, height, width)` for stage 0, which the stem precedes, else
                maps of the stage before `(num_frames, channels, height, width)`.
            stage: Which of the four stages.

        Returns:
            `(num_frames, hidden_sizes[stage], height, width)` at stride 4, 8, 16 or 32.
        """
        if stage == 0:
            features = self.embeddings(features)
        for layer in self.encoder.stages[stage].downsampling_layer:
            features = layer(features)
        for block in self.encoder.stages[stage].layers:
            # A frozen tower is never in training mode, but the adapters before a block need gradients through it.
            if self.gradient_checkpointing and features.requires_grad:
                features = self._gradient_checkpointing_func(block, features)
            else:
                features = block(features)
        return features


class SsaSemanticAdapter(GradientCheckpointingLayer):
    """Let the map of a stage know words and sentence before the next stage reads it (paper, section 3.2).

    Three views of the map are mixed, with shares that are chosen for each frame: after attention to the words, after
    attention to the sentence, and after a bottleneck that knows no text. Without the sentence the map itself takes its
    place, and the bottleneck has no residual.

    Args:
        channels (`int`): Width of the map.
        text_size (`int`): Width of words and sentence.
        adapter_size (`int`): Width inside the adapter.
        num_heads (`int`): Heads of the attention.
        dropout (`float`): Dropout of its weights and of its output.
        use_sentence (`bool`): Whether the sentence is looked at.
    """

    def __init__(
        self, channels: int, text_size: int, adapter_size: int, num_heads: int, dropout: float, use_sentence: bool
    ):
        super().__init__()
        self.use_sentence = use_sentence
        self.bottleneck = MLP(channels, adapter_size, channels, 2)
        self.pixel_proj = nn.Linear(channels, adapter_size)
        self.text_proj = nn.Linear(text_size, adapter_size)
        self.attention = MultiHeadAttention(adapter_size, num_heads, dropout)
        self.norm = nn.LayerNorm(adapter_size)
        self.out_proj = nn.Linear(adapter_size, channels)
        self.gate = MLP(3 * channels, adapter_size, 3, 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, feature_maps: torch.Tensor, text: SsaTextFeatures, expressions: torch.Tensor) -> torch.Tensor:
        """
        Args:
            feature_maps: `(num_frames, channels, height, width)` of a stage.
            text: Words and sentences of all expressions.
            expressions: `(num_frames,)`, which of them each frame is read with.

        Returns:
            Same shape as `feature_maps`.
        """
        # Once for an expression, whatever the number of its frames.
        words = self.text_proj(text.words)
        code = sequence_code(words.shape[1], words.shape[2], words.device).to(words.dtype)
        keys, values = self.attention.k_proj(words + code)[expressions], self.attention.v_proj(words)[expressions]
        shape = feature_maps.shape[-2:]
        pixels = feature_maps.permute(0, 2, 3, 1).flatten(1, 2)  # (F, S, channels)
        narrow = self.pixel_proj(pixels)
        code = pixel_code(tuple(shape), narrow.shape[-1], narrow.device).to(narrow.dtype)
        query = self.attention.q_proj(narrow + code)
        attended = self.attention.attend(query, keys, values, text.word_mask[expressions])
        by_words = self.norm(narrow + self.dropout(attended))
        bottleneck = self.bottleneck(pixels).relu()
        if self.use_sentence:
            dropout = self.attention.dropout if self.training else 0.0
            value = self.attention.v_proj(self.text_proj(text.sentence))[expressions]
            attended = attend_to_one_token(
                value, self.attention.out_proj, self.attention.num_heads, pixels.shape[1], dropout
            )
            by_sentence = self.norm(narrow + self.dropout(attended.expand_as(narrow)))
            bottleneck = bottleneck + pixels

        # The mean over the pixels and the projection commute, as do the mixture and the projection.
        first_mean = self.out_proj(by_sentence.mean(1)) if self.use_sentence else pixels.mean(1)
        means = torch.cat((first_mean, self.out_proj(by_words.mean(1)), bottleneck.mean(1)), dim=-1)
        first_share, word_share, bottleneck_share = self.gate(means).softmax(-1)[:, None].split(1, dim=-1)  # (F, 1, 1)
        mixed = bottleneck_share * bottleneck
        if self.use_sentence:
            text_view, text_share = first_share * by_sentence + word_share * by_words, first_share + word_share
        else:
            text_view, text_share = word_share * by_words, word_share
            mixed = mixed + first_share * pixels
        mixed = mixed + F.linear(text_view, self.out_proj.weight) + text_share * self.out_proj.bias
        return mixed.unflatten(1, shape).permute(0, 3, 1, 2)
