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
import torch

from hf_rvos.layers.text_fusion import TextGuidedFusion


def example() -> tuple[TextGuidedFusion, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    inputs = {
        "pixels": torch.randn(2, 9, 16),
        "words": torch.randn(2, 5, 16),
        "word_positions": torch.randn(2, 5, 16),
        "word_mask": torch.tensor([[True] * 5, [True, True, True, False, False]]),
    }
    return TextGuidedFusion(16, 4), inputs


def fuse(fusion: TextGuidedFusion, pixels: torch.Tensor, **words: torch.Tensor) -> torch.Tensor:
    return fusion(pixels, fusion.project_pixels(pixels), **words)


def test_pixels_are_multiplied_by_what_they_gather():
    fusion, inputs = example()
    keys = inputs["words"] + inputs["word_positions"]
    gathered = fusion.attention(inputs["pixels"], keys, inputs["words"], inputs["word_mask"])
    torch.testing.assert_close(fuse(fusion, **inputs), inputs["pixels"] * gathered)


def test_padded_words_do_not_count():
    fusion, inputs = example()
    expected = fuse(fusion, **inputs)
    for name in ("words", "word_positions"):
        inputs[name] = inputs[name].clone()
        inputs[name][1, 3:] = 100.0
    torch.testing.assert_close(fuse(fusion, **inputs), expected)


def test_pixels_see_words_and_not_each_other():
    fusion, inputs = example()
    one_by_one = [fuse(fusion, **inputs | {"pixels": pixel}) for pixel in inputs["pixels"].split(1, dim=1)]
    torch.testing.assert_close(fuse(fusion, **inputs), torch.cat(one_by_one, dim=1))
