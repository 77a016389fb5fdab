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
import pytest
from transformers import AutoTokenizer

from hf_rvos.data.moving_shapes import generate_video, vocabulary
from hf_rvos.processing.word_tokenizer import build_word_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_word_tokenizer(vocabulary())


def test_special_tokens_have_the_ids_of_roberta(tokenizer):
    assert tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>"]) == [0, 1, 2, 3]
    assert tokenizer.pad_token_id == 1


def test_a_word_is_a_token_between_start_and_end(tokenizer):
    assert tokenizer.tokenize("the red star", add_special_tokens=True) == ["<s>", "the", "red", "star", "</s>"]


def test_case_and_punctuation_do_not_matter(tokenizer):
    assert tokenizer("The red star, moving LEFT!") == tokenizer("the red star moving left")


def test_unknown_words_are_unknown(tokenizer):
    assert tokenizer("a zebra")["input_ids"][2] == tokenizer.unk_token_id


def test_batches_are_padded_with_zeros_in_the_attention_mask(tokenizer):
    batch = tokenizer(["the star", "the small red star"], padding=True)
    assert batch["attention_mask"] == [[1, 1, 1, 1, 0, 0], [1] * 6]
    assert batch["input_ids"][0][-2:] == [1, 1]


def test_words_do_not_depend_on_order_or_repetition():
    first, second = build_word_tokenizer(["b", "a", "b"]), build_word_tokenizer(["a", "b"])
    assert first.get_vocab() == second.get_vocab()


def test_loads_again_through_the_auto_class(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("the red star") == tokenizer("the red star")
    assert loaded.model_max_length == 32


@pytest.mark.parametrize("index", range(5))
def test_every_expression_of_moving_shapes_is_known_and_short_enough(tokenizer, index):
    for row in generate_video("test", index).rows:
        ids = tokenizer(row["expression"])["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert len(ids) <= tokenizer.model_max_length
