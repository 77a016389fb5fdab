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
"""Answers of models that choose after they have seen all frames of a video, with memory that does not grow with it.

Frames go through such a model in pieces. Of each, some vectors stay, and what masks are drawn with is put aside, up to
limits on the accelerator and in memory, and on disk after them. When the queries are chosen, their masks are drawn
piece by piece.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from transformers import PreTrainedModel

from hf_rvos.modeling_outputs import ReferringVideoSegmentationOutput
from hf_rvos.utils.streams import Spool


def sees_whole_videos(model: PreTrainedModel) -> bool:
    """Whether a model chooses its queries for a whole video rather than for clips of it, as SSA does."""
    return hasattr(model, "get_video_queries")


@torch.inference_mode()
def segment_whole_video(
    model: PreTrainedModel,
    pieces: Iterable[tuple[torch.Tensor, torch.Tensor | None]],
    text_features: Any,
    multi_target: bool = False,
    score_threshold: float | None = None,
) -> Iterator[ReferringVideoSegmentationOutput]:
    """Segment a video, one expression after the other, so that the features of one are kept at a time.

    Args:
        model: One that [`sees_whole_videos`].
        pieces: The video, some frames at a time: normalised frames `(1, num_frames, 3, height, width)`, and
            `(1, num_frames, height, width)` True at real pixels or None without padding.
        text_features: What `model.get_text_features` gives for the expressions.
        multi_target: Whether all queries above `score_threshold` answer, and not the best one.
        score_threshold: Probability above which a query is one of several targets.

    Yields:
        For each expression the outputs for each piece, as the model gives them with `queries="best"` or `"referred"`,
        with what post-processing needs.
    """
    num_expressions = len(text_features["words"])
    device = model.device
    with Spool() as pixels:
        for number in range(num_expressions):
            text = type(text_features)(**{name: part[number : number + 1] for name, part in text_features.items()})
            with Spool() as features:
                frame_queries, sentences = [], []
                for piece in (tuple(pixels[index].values()) for index in range(len(pixels))) if number else pieces:
                    if not number and num_expressions > 1:
                        pixels.append(pixel_values_videos=piece[0], pixel_mask=piece[1])
                    piece = (part if part is None else part.to(device) for part in piece)
                    frames = model.get_frame_features(model.get_video_features(*piece), text)
                    frame_queries.append(frames.queries)
                    sentences.append(frames.text)
                    features.append(mask_features=frames.mask_features)
                    del frames
                video = model.get_video_queries(torch.cat(frame_queries, 1), torch.cat(sentences, 1))
                logits = (video.class_logits[..., 0] - video.class_logits[..., 1]).float()  # (1, Q)
                query_index = logits.argmax(1)
                if multi_target:
                    query_index = (logits[0].sigmoid() > score_threshold).nonzero().mT
                embeddings = video.mask_embeddings[:, query_index.flatten()]
                for index, queries in enumerate(frame_queries):
                    mask_features = features[index]["mask_features"].to(device)
                    yield ReferringVideoSegmentationOutput(
                        logits=logits[:, :, None, None].expand(-1, -1, queries.shape[1], 1),
                        pred_masks=model.draw_masks(embeddings, mask_features),
                        query_index=query_index,
                    )
