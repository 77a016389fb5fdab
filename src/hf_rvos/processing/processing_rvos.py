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
"""Processor of the referring models: a video processor for the clips and a tokenizer for the expressions."""

from typing import TYPE_CHECKING, Any

import torch
from transformers import BatchFeature
from transformers.processing_utils import ProcessorMixin


if TYPE_CHECKING:
    from hf_rvos.modeling_outputs import ReferringVideoSegmentationOutput


class RvosProcessor(ProcessorMixin):
    """Prepares videos and the expressions that refer to something in them.

    Args:
        video_processor ([`RvosVideoProcessor`]):
            Prepares the frames.
        tokenizer ([`PreTrainedTokenizerBase`]):
            Tokenizes the expressions.
    """

    def __init__(self, video_processor, tokenizer, **kwargs):
        super().__init__(video_processor, tokenizer, **kwargs)

    def __call__(
        self, videos: Any = None, text: str | list[str] | list[list[str]] | None = None, **kwargs
    ) -> BatchFeature:
        """Prepare videos, expressions or both.

        Args:
            videos (`str`, `Path`, `list`, `np.ndarray` or `torch.Tensor`, *optional*):
                One video or a list of videos, in the forms that [`RvosVideoProcessor`] takes.
            text (`str`, `list[str]` or `list[list[str]]`, *optional*):
                The expressions: for one video a string or a list of strings; for several videos one string for each,
                or a list of strings for each.
            kwargs:
                Options of the video processor (`size`, `num_frames`, `pad_to_multiple_of`, ...), of the tokenizer
                (`padding`, ...), and `return_tensors`.

        Returns:
            `BatchFeature`: `pixel_values_videos` `(batch_size, num_frames, 3, height, width)` and `pixel_mask`
            `(batch_size, num_frames, height, width)` if there are videos; `input_ids` and `attention_mask`
            `(num_expressions, sequence_length)` if there is text; `video_index` `(num_expressions,)`, the video of
            each expression, if there are both.

        Raises:
            ValueError: if an expression is blank or too long for the tokenizer, or the numbers of videos and
                expressions do not fit.
        """
        if text is None:
            return super().__call__(videos=videos, **kwargs)
        texts, video_index, num_groups = _flatten_texts(text)
        self._check_texts(texts, {**kwargs, **kwargs.get("text_kwargs", {})})
        if "padding" not in kwargs.get("text_kwargs", {}):
            kwargs.setdefault("padding", True)
        inputs = super().__call__(text=texts, videos=videos, **kwargs)
        if videos is None:
            return inputs
        num_videos = len(inputs["pixel_values_videos"])
        if num_videos == 1 and not any(isinstance(entry, (list, tuple)) for entry in text):
            video_index = [0] * len(texts)
        elif num_videos != num_groups:
            raise ValueError(
                f"text has {num_groups} entries for {num_videos} videos; pass one string, or one list of strings, for "
                "each video."
            )
        inputs["video_index"] = video_index
        if kwargs.get("return_tensors") == "pt":
            inputs["video_index"] = torch.tensor(video_index)
        return inputs

    def _check_texts(self, texts: list[str], text_kwargs: dict) -> None:
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(f"text holds a {type(text).__name__}, expected strings such as 'the red circle'.")
            if not text.strip():
                raise ValueError(f"text holds the blank expression {text!r}; pass words that describe an object.")
        if text_kwargs.get("truncation"):
            return
        limit = self.tokenizer.model_max_length
        for text, input_ids in zip(texts, self.tokenizer(texts, verbose=False)["input_ids"]):
            if len(input_ids) > limit:
                raise ValueError(
                    f"text holds an expression of {len(input_ids)} tokens, the limit is {limit}; shorten it or pass "
                    f"truncation=True: {text[:60]!r}..."
                )

    def post_process_referring_video_segmentation(
        self, outputs: "ReferringVideoSegmentationOutput", **kwargs
    ) -> list[dict[str, Any]]:
        """See [`RvosVideoProcessor.post_process_referring_video_segmentation`]."""
        return self.video_processor.post_process_referring_video_segmentation(outputs, **kwargs)

    def post_process_davis(self, outputs: "ReferringVideoSegmentationOutput", **kwargs) -> list[torch.Tensor]:
        """See [`RvosVideoProcessor.post_process_davis`]."""
        return self.video_processor.post_process_davis(outputs, **kwargs)

    def post_process_instance_segmentation(
        self, outputs: "ReferringVideoSegmentationOutput", **kwargs
    ) -> list[dict[str, torch.Tensor]]:
        """See [`RvosVideoProcessor.post_process_instance_segmentation`]."""
        return self.video_processor.post_process_instance_segmentation(outputs, **kwargs)


def _flatten_texts(text: str | list[str] | list[list[str]]) -> tuple[list[str], list[int], int]:
    """All expressions in a row, the entry of `text` each belongs to, and the number of entries."""
    entries = [text] if isinstance(text, str) else list(text)
    groups = [list(entry) if isinstance(entry, (list, tuple)) else [entry] for entry in entries]
    if not groups or not all(groups):
        raise ValueError("text has no expression for at least one video; pass one or more for each.")
    texts = [expression for group in groups for expression in group]
    return texts, [index for index, group in enumerate(groups) for _ in group], len(groups)


__all__ = ["RvosProcessor"]
