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

"""Fast SgMg: several expressions about one clip in one pass (Miao et al., ICCV 2023, section 3.5).

The expressions of a group are fused into the pixels together and the encoder runs once for all of them; attention to
the words of each expression then takes its own pixels out of what they share. Neither code nor weights have been
published. The paper says that there are a fusion of several instances before the encoder and a decoupling before the
segmentation; how the decoupling computes is a choice made here: attention followed by a product, as in the fusion.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from hf_rvos.layers.attention import MultiHeadAttention
from hf_rvos.modeling_outputs import ReferringVideoSegmentationOutput
from hf_rvos.models.sgmg.configuration_fast_sgmg import FastSgMgConfig
from hf_rvos.models.sgmg.modeling_sgmg import (
    SgMgForReferringVideoSegmentation,
    SgMgModel,
    SgMgModelOutput,
    SgMgPreTrainedModel,
    SgMgTextFeatures,
    SgMgVideoFeatures,
)


# Attention weights that fusion and decoupling hold at once during inference.
WEIGHTS_AT_ONCE = 1 << 22


@dataclass
class FastSgMgSceneFeatures(ModelOutput):
    """What the expressions of a group share: the pixels of their clip after fusion and encoder.

    Args:
        memory (`torch.FloatTensor` of shape `(num_groups, num_frames, num_tokens, hidden_size)`):
            Encoded pixels of the four levels.
        projected_memory (`torch.FloatTensor` of shape `(num_groups, num_frames, num_tokens, hidden_size)`):
            Queries with which they look at the words of each expression.
        group_rows (`torch.LongTensor` of shape `(num_expressions,)`):
            The row of each expression in the two.
    """

    memory: torch.FloatTensor | None = None
    projected_memory: torch.FloatTensor | None = None
    group_rows: torch.LongTensor | None = None


@dataclass
class _Groups:
    """Groups side by side, those with fewer expressions filled up.

    Args:
        places: `(num_groups, group_size)` number of the expression in each place.
        is_filled: `(num_groups, group_size)`, False where a place only fills up.
        videos: `(num_groups,)` video of each group.
        rows: `(num_expressions,)` group of each expression.
    """

    places: torch.Tensor
    is_filled: torch.Tensor
    videos: torch.Tensor
    rows: torch.Tensor


def _lay_out_groups(videos: list[int], group_index: list[int] | None, device: torch.device) -> _Groups:
    group_index = videos if group_index is None else group_index
    if len(group_index) != len(videos):
        raise ValueError(
            f"group_index has {len(group_index)} entries, expected one for each of {len(videos)} expressions"
        )
    members: dict[int, list[int]] = {}
    for expression, group in enumerate(group_index):
        members.setdefault(group, []).append(expression)
    for group, expressions in members.items():
        if len(of := sorted({videos[expression] for expression in expressions})) > 1:
            raise ValueError(f"group {group} of group_index has expressions of the videos {of}, expected one video")
    order = {group: row for row, group in enumerate(members)}
    size = max(map(len, members.values()))
    return _Groups(
        places=torch.tensor(
            [places + places[:1] * (size - len(places)) for places in members.values()], device=device
        ),
        is_filled=torch.tensor([[n < len(places) for n in range(size)] for places in members.values()], device=device),
        videos=torch.tensor([videos[places[0]] for places in members.values()], device=device),
        rows=torch.tensor([order[group] for group in group_index], device=device),
    )


def _word_weights(
    attention: MultiHeadAttention, queries: torch.Tensor, keys: torch.Tensor, word_mask: torch.Tensor
) -> torch.Tensor:
    """How much each pixel takes from each word of each expression of its group.

    The pixels of a group are the same for all its expressions, whose words are looked at side by side.

    Args:
        attention: The attention; its dropout is not used.
        queries: `(num_groups, num_tokens, hidden_size)` projected pixels.
        keys: `(num_groups, group_size, num_words, hidden_size)` projected words.
        word_mask: `(num_groups, group_size, num_words)`, True at real words. Without one, all words count.

    Returns:
        `(num_groups, heads, num_tokens, group_size, num_words)`; a sum over the words is 1.
    """
    queries, keys = attention.split_heads(queries), attention.split_heads(keys.flatten(1, 2))
    scores = (queries @ (keys * queries.shape[-1] ** -0.5).transpose(-2, -1)).unflatten(-1, word_mask.shape[1:])
    scores = scores.masked_fill(~word_mask[:, None, None], torch.finfo(scores.dtype).min)
    return scores.softmax(-1)


class FastSgMgDecoupling(nn.Module):
    """Multi-instance decoupling: the pixels of one expression out of those that all expressions of a group share.

    Args:
        hidden_size (`int`): Width of pixels and words.
        num_heads (`int`): Attention heads.
        residual (`bool`): Add what the pixels gather from the words, and normalise, in place of the product.
    """

    def __init__(self, hidden_size: int, num_heads: int, residual: bool):
        super().__init__()
        self.attention = MultiHeadAttention(hidden_size, num_heads)
        self.norm = nn.LayerNorm(hidden_size) if residual else None

    def forward(
        self,
        memory: torch.Tensor,
        projected_memory: torch.Tensor,
        words: torch.Tensor,
        word_positions: torch.Tensor,
        word_mask: torch.Tensor,
    ) -> torch.Tensor:
        """
        Args:
            memory: `(num_groups, num_tokens, hidden_size)` encoded pixels.
            projected_memory: `attention.q_proj(memory)`, same shape.
            words: `(num_groups, group_size, num_words, hidden_size)`.
            word_positions: same shape as `words`.
            word_mask: `(num_groups, group_size, num_words)`, True at real words.

        Returns:
            `(num_groups * group_size, num_tokens, hidden_size)`.
        """
        attention = self.attention
        keys, values = attention.k_proj(words + word_positions), attention.v_proj(words)
        # The output projection is linear: it is applied to the few words in place of the many pixels.
        head_size = values.shape[-1] // attention.num_heads
        projection = attention.out_proj.weight.t().unflatten(0, (-1, head_size))  # (heads, C / heads, C)
        values = torch.einsum("gnlhd,hdc->gnhlc", values.unflatten(-1, (-1, head_size)), projection).flatten(2, 3)

        def decouple(keys: torch.Tensor, values: torch.Tensor, word_mask: torch.Tensor) -> torch.Tensor:
            weights = _word_weights(attention, projected_memory, keys, word_mask)
            gathered = weights.permute(0, 3, 2, 1, 4).flatten(3) @ values + attention.out_proj.bias
            shared = memory[:, None]
            return shared * gathered if self.norm is None else self.norm(shared + gathered)

        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return decouple(keys, values, word_mask).flatten(0, 1)
        # Few expressions at a time, so that the attention weights do not outgrow what is returned.
        per_expression = projected_memory[..., 0].numel() * values.shape[2]
        size = max(1, WEIGHTS_AT_ONCE // per_expression)
        parts = zip(keys.split(size, 1), values.split(size, 1), word_mask.split(size, 1))
        return torch.cat([decouple(*part) for part in parts], dim=1).flatten(0, 1)


class FastSgMgPreTrainedModel(SgMgPreTrainedModel):
    """Loading, saving and initialisation of Fast SgMg models."""

    config: FastSgMgConfig


class FastSgMgModel(FastSgMgPreTrainedModel, SgMgModel):
    """Fast SgMg up to the queries and the merged pixels, without the heads for scores and masks."""

    def __init__(self, config: FastSgMgConfig):
        super().__init__(config)
        self.decoupling = FastSgMgDecoupling(
            config.hidden_size, config.fusion_attention_heads, config.residual_decoupling
        )
        self.post_init()

    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> SgMgTextFeatures:
        """Everything that depends on the expressions alone, see [`SgMgModel.get_text_features`].

        An expression without a real token, which fills up a batch, is absent: the others do not see it.
        """
        if attention_mask is None or attention_mask.shape != input_ids.shape:
            return super().get_text_features(input_ids, attention_mask)
        is_present = attention_mask.any(1, keepdim=True)
        text_features = super().get_text_features(input_ids, attention_mask.where(is_present, 1))
        return replace(text_features, word_mask=text_features.word_mask & is_present)

    def get_scene_features(
        self,
        video_features: SgMgVideoFeatures,
        text_features: SgMgTextFeatures,
        video_index: torch.Tensor | None = None,
        group_index: torch.Tensor | None = None,
    ) -> FastSgMgSceneFeatures:
        """Everything that the expressions of a group share.

        Args:
            video_features ([`SgMgVideoFeatures`]):
                Result of `get_video_features`.
            text_features ([`SgMgTextFeatures`]):
                Result of `get_text_features`, with all expressions of all groups.
            video_index (`torch.LongTensor` of shape `(num_expressions,)`, *optional*):
                The video that each expression refers to. None means one expression per video, in order.
            group_index (`torch.LongTensor` of shape `(num_expressions,)`, *optional*):
                Expressions with the same number are a group. None puts all expressions of a video into one.

        Returns:
            [`FastSgMgSceneFeatures`]

        Raises:
            ValueError: if the expressions of a group refer to different videos.
        """
        num_expressions = len(text_features.words)
        videos = list(range(num_expressions)) if video_index is None else video_index.tolist()
        groups = None if group_index is None else group_index.tolist()
        return self._encode_groups(
            video_features, text_features, _lay_out_groups(videos, groups, text_features.words.device)
        )

    def _encode_groups(
        self, video_features: SgMgVideoFeatures, text_features: SgMgTextFeatures, groups: _Groups
    ) -> FastSgMgSceneFeatures:
        video = video_features.select(groups.videos)
        words, positions, word_mask = (
            values[groups.places]
            for values in (text_features.words, text_features.word_positions, text_features.word_mask)
        )
        word_mask = word_mask & groups.is_filled[..., None]
        pixels = video.pixels.flatten(1, 2)
        gathered = self._gather_words(video.projected_pixels.flatten(1, 2), words, positions, word_mask)
        memory = self.encode((pixels * gathered).view_as(video.pixels), video).view_as(video.pixels)
        return FastSgMgSceneFeatures(memory, self.decoupling.attention.q_proj(memory), groups.rows)

    def _gather_words(
        self, queries: torch.Tensor, words: torch.Tensor, positions: torch.Tensor, word_mask: torch.Tensor
    ) -> torch.Tensor:
        """Multi-instance fusion: the sum of what the pixels gather from the words of each expression.

        The output projection of the attention is linear, so the heads are summed before it.

        Args:
            queries: `(num_groups, num_tokens, hidden_size)` projected pixels.
            words, positions: `(num_groups, group_size, num_words, hidden_size)`.
            word_mask: `(num_groups, group_size, num_words)`, True at real words. Without one, an expression adds
                nothing.

        Returns:
            Same shape as `queries`.
        """
        attention = self.fusion.attention
        is_present = word_mask.any(-1)
        keys = attention.k_proj(words + positions)
        values = attention.split_heads(attention.v_proj(words).flatten(1, 2))

        def gather(queries: torch.Tensor) -> torch.Tensor:
            weights = _word_weights(attention, queries, keys, word_mask)
            # All words of a group side by side: the product with the values is also the sum over the expressions.
            return ((weights * is_present[:, None, None, :, None]).flatten(-2) @ values).transpose(1, 2).flatten(2)

        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            summed = gather(queries)
        else:
            per_token = len(queries) * attention.num_heads * values.shape[2]
            size = max(1, WEIGHTS_AT_ONCE // per_token)
            summed = torch.cat([gather(part) for part in queries.split(size, 1)], dim=1)
        projected = F.linear(summed, attention.out_proj.weight)
        return projected + is_present.sum(1)[:, None, None] * attention.out_proj.bias

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
        group_index: torch.Tensor | None = None,
        scene_features: FastSgMgSceneFeatures | None = None,
        **kwargs,
    ) -> SgMgModelOutput:
        """See [`FastSgMgForReferringVideoSegmentation.forward`] for the inputs.

        Returns:
            [`SgMgModelOutput`]
        """
        # The layout depends on values. They are read before an accelerator has something else to do.
        videos, wanted = (None if index is None else index.tolist() for index in (video_index, group_index))
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
        num_expressions, device = len(text_features.words), text_features.words.device
        if scene_features is None:
            groups = _lay_out_groups(list(range(num_expressions)) if videos is None else videos, wanted, device)
            scene_features = self._encode_groups(video_features, text_features, groups)
        shared = [values.flatten(1, 2) for values in (scene_features.memory, scene_features.projected_memory)]
        text = [text_features.words, text_features.word_positions, text_features.word_mask]
        if len(shared[0]) == 1:  # of one group, the pixels are there once for all expressions
            memory = self.decoupling(*shared, *(values[None] for values in text))
        else:
            rows = scene_features.group_rows
            memory = self.decoupling(*(values[rows] for values in shared), *(values[:, None] for values in text))
        memory = memory.view(-1, *scene_features.memory.shape[2:])
        return self.decode(video_features.select(video_index), memory, text_features.sentence)


class FastSgMgForReferringVideoSegmentation(FastSgMgPreTrainedModel, SgMgForReferringVideoSegmentation):
    """Fast SgMg with the heads that score the queries and draw their masks.

    What it says of an expression depends on the other expressions of its group.
    """

    _model_class = FastSgMgModel

    @classmethod
    def from_sgmg(
        cls, sgmg: SgMgForReferringVideoSegmentation, **config_changes
    ) -> "FastSgMgForReferringVideoSegmentation":
        """Begin with the weights of an SgMg, for training. The decoupling starts as a copy of the fusion.

        Args:
            sgmg ([`SgMgForReferringVideoSegmentation`]):
                A model of any size.
            config_changes:
                Fields of [`FastSgMgConfig`] that differ from those of the SgMg; a dict has those of a part.

        Returns:
            [`FastSgMgForReferringVideoSegmentation`], in training mode.
        """
        fields = sgmg.config.to_dict()
        for name in ("model_type", "architectures", "transformers_version"):
            fields.pop(name, None)
        for name, value in config_changes.items():
            is_part = isinstance(value, dict) and isinstance(fields.get(name), dict)
            fields[name] = fields[name] | value if is_part else value
        model = cls(FastSgMgConfig(**fields))
        weights = sgmg.state_dict()
        prefix = "model.fusion.attention."
        copies = {
            f"model.decoupling.attention.{name.removeprefix(prefix)}": value
            for name, value in weights.items()
            if name.startswith(prefix)
        }
        missing, unexpected = model.load_state_dict(weights | copies, strict=False)
        if unexpected or any(not name.startswith("model.decoupling.norm.") for name in missing):
            raise ValueError(f"config_changes change what weights there are: {', '.join(missing + unexpected)}")
        return model.train()

    def get_scene_features(self, *args, **kwargs) -> FastSgMgSceneFeatures:
        """See [`FastSgMgModel.get_scene_features`]."""
        return self.model.get_scene_features(*args, **kwargs)

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
        group_index: torch.Tensor | None = None,
        scene_features: FastSgMgSceneFeatures | None = None,
        expressions_per_chunk: int | None = None,
        num_items: dict[str, torch.Tensor] | None = None,
        **kwargs,
    ) -> ReferringVideoSegmentationOutput:
        """Segment, in every frame, the objects that expressions refer to, those of a group together.

        Args:
            pixel_values_videos, pixel_mask, annotated_frames, labels, queries, output_auxiliary:
                As in [`SgMgForReferringVideoSegmentation.forward`].
            input_ids (`torch.LongTensor` of shape `(num_expressions, num_words)`, *optional*):
                Tokens of the expressions. Not needed with `text_features`.
            attention_mask (`torch.LongTensor` of shape `(num_expressions, num_words)`, *optional*):
                1 at real tokens. None means no padding. An expression without a real token is absent: it changes
                nothing for the others, and what is predicted for it has no meaning.
            video_index (`torch.LongTensor` of shape `(num_expressions,)`, *optional*):
                The video that each expression refers to. None means one expression per video, in order.
            video_features ([`SgMgVideoFeatures`], *optional*):
                Result of `get_video_features`, to be reused for further groups of expressions.
            text_features ([`SgMgTextFeatures`], *optional*):
                Result of `get_text_features`, to be reused for further clips.
            group_index (`torch.LongTensor` of shape `(num_expressions,)`, *optional*):
                Expressions with the same number are fused into the pixels together; they must refer to one video.
                None puts all expressions of a video together.
            scene_features ([`FastSgMgSceneFeatures`], *optional*):
                Result of `get_scene_features`. The expressions given may then be some of those that it was made of,
                with their `group_rows`; `group_index` is not used.
            expressions_per_chunk (`int`, *optional*):
                Run what comes after the encoder for so many expressions at a time. Results are the same, memory is
                not. None runs it for all at once. Not with `labels`.
            num_items (`dict[str, torch.Tensor]`, *optional*):
                What the losses are divided by, as `hf_rvos.losses.count_items` gives it, for a step of several
                batches or processes. None counts what is in `labels`, averaged over processes.
            kwargs:
                `return_dict=False` returns a tuple of the fields that are not None.

        Returns:
            [`ReferringVideoSegmentationOutput`]

        Raises:
            ValueError: if inputs are missing, have the wrong rank or do not fit together, if a group has expressions
                of several videos, if `labels` or `output_auxiliary` come with `queries="best"`, or `labels` with
                `expressions_per_chunk`.
        """
        inputs = {
            "pixel_values_videos": pixel_values_videos,
            "pixel_mask": pixel_mask,
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "annotated_frames": annotated_frames,
        }
        options = {
            "labels": labels,
            "queries": queries,
            "output_auxiliary": output_auxiliary,
            "num_items": num_items,
        }
        if expressions_per_chunk is None:
            return super().forward(
                **inputs,
                **options,
                video_index=video_index,
                video_features=video_features,
                text_features=text_features,
                group_index=group_index,
                scene_features=scene_features,
                return_dict=True,
            )
        if expressions_per_chunk < 1:
            raise ValueError(f"expressions_per_chunk is {expressions_per_chunk}, expected at least 1")
        if labels is not None:
            raise ValueError("labels need all expressions at once: leave out expressions_per_chunk")
        video_features, text_features = self.model.embed_inputs(
            **inputs, video_index=video_index, video_features=video_features, text_features=text_features
        )
        if scene_features is None:
            scene_features = self.get_scene_features(video_features, text_features, video_index, group_index)
        if video_index is None:
            video_index = torch.arange(len(text_features.words), device=text_features.words.device)
        all_rows = torch.arange(len(video_index), device=video_index.device)
        parts = [
            super(FastSgMgForReferringVideoSegmentation, self).forward(
                **options,
                video_index=video_index[rows],
                video_features=video_features,
                text_features=SgMgTextFeatures(**{name: value[rows] for name, value in text_features.items()}),
                scene_features=replace(scene_features, group_rows=scene_features.group_rows[rows]),
                return_dict=True,
            )
            for rows in all_rows.split(expressions_per_chunk)
        ]
        return _join(parts)


def _join(parts: list[ReferringVideoSegmentationOutput]) -> ReferringVideoSegmentationOutput:
    """Outputs for some expressions each, as if they had gone through the model together."""

    def join(values):
        if isinstance(values[0], torch.Tensor):
            return torch.cat(values)
        if isinstance(values[0], list):
            return [join(entries) for entries in zip(*values)]
        if isinstance(values[0], dict):
            return {name: join([value[name] for value in values]) for name in values[0]}
        return values[0]

    return ReferringVideoSegmentationOutput(**{name: join([part[name] for part in parts]) for name in parts[0]})
