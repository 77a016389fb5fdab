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

import numpy as np
import pytest
import torch

from hf_rvos.processing import RvosProcessor, RvosVideoProcessor, build_word_tokenizer


@pytest.fixture(scope="module")
def processor():
    tokenizer = build_word_tokenizer("the red blue circle star moving left".split(), model_max_length=8)
    return RvosProcessor(RvosVideoProcessor(size={"shortest_edge": 16}), tokenizer)


def clip(num_frames=2, height=16, width=24):
    return np.zeros((num_frames, height, width, 3), np.uint8)


def test_one_video_with_one_text(processor):
    inputs = processor(videos=clip(), text="the red circle", return_tensors="pt")
    assert inputs["pixel_values_videos"].shape == (1, 2, 3, 16, 24)
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (1, 5)
    assert inputs["video_index"].tolist() == [0]


def test_one_video_with_several_texts_appears_once(processor):
    inputs = processor(videos=clip(), text=["the red circle", "the star"], return_tensors="pt")
    assert len(inputs["pixel_values_videos"]) == 1
    assert inputs["video_index"].tolist() == [0, 0]


def test_several_videos_take_one_text_each(processor):
    inputs = processor(videos=[clip(), clip(3)], text=["the star", "the red circle"], return_tensors="pt")
    assert inputs["video_index"].tolist() == [0, 1]


def test_lists_of_texts_belong_to_their_videos(processor):
    texts = [["the star"], ["the red circle", "the blue star"]]
    inputs = processor(videos=[clip(), clip()], text=texts, return_tensors="pt")
    assert inputs["video_index"].tolist() == [0, 1, 1]
    inputs = processor(videos=[clip()], text=texts[1:], return_tensors="pt")
    assert inputs["video_index"].tolist() == [0, 0]


def test_shorter_texts_are_padded_and_masked(processor):
    inputs = processor(text=["the star", "the red circle moving"], return_tensors="pt")
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]
    assert set(inputs) == {"input_ids", "attention_mask"}


def test_videos_alone_give_no_text_inputs(processor):
    assert set(processor(videos=clip(), return_tensors="pt")) == {"pixel_values_videos", "pixel_mask"}


def test_padding_can_be_chosen_flat_or_grouped(processor):
    flat = processor(text="the star", padding="max_length", max_length=7, return_tensors="pt")
    grouped = processor(text="the star", text_kwargs={"padding": "max_length", "max_length": 7}, return_tensors="pt")
    assert flat["input_ids"].shape == grouped["input_ids"].shape == (1, 7)


def test_options_of_the_video_processor_pass_through(processor):
    inputs = processor(videos=clip(), text="the star", pad_to_multiple_of=32, return_tensors="pt")
    assert inputs["pixel_values_videos"].shape[-2:] == (32, 32)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "blank"),
        (["the star", "  \n"], "blank"),
        ([], "no expression"),
        ([["the star"], []], "no expression"),
        ([3], "int"),
        ("the red circle moving left the red circle", "limit is 8"),
    ],
    ids=["empty", "blanks", "no_text", "video_without_text", "number", "too_long"],
)
def test_bad_text_names_the_argument(processor, text, message):
    with pytest.raises(ValueError, match=f"text.*{message}"):
        processor(videos=clip(), text=text, return_tensors="pt")


def test_text_may_be_cut_when_asked_for(processor):
    inputs = processor(text="the red circle moving left the red circle", truncation=True, return_tensors="pt")
    assert inputs["input_ids"].shape == (1, 8)


@pytest.mark.parametrize("text", ["the star", ["the star"] * 3, [["the star"]]], ids=["one", "three", "nested"])
def test_texts_that_do_not_fit_the_videos_are_refused(processor, text):
    with pytest.raises(ValueError, match="for 2 videos"):
        processor(videos=[clip(), clip()], text=text, return_tensors="pt")


def test_processor_survives_saving(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = RvosProcessor.from_pretrained(tmp_path)
    inputs = {"videos": clip(), "text": ["the star"], "return_tensors": "pt"}
    before, after = processor(**inputs), loaded(**inputs)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert loaded.tokenizer.model_max_length == 8
