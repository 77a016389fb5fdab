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

"""Early fusion of pixels and words by an element-wise product."""

import torch
from torch import nn

from hf_rvos.layers.attention import MultiHeadAttention


class TextGuidedFusion(nn.Module):
    """Let every pixel of a clip look at the words of its expression.

    What the pixels gather from the words is multiplied with them; there is no residual and no norm. One module serves
    all feature levels. ReferFormer section 3.2 says only that the fusion is multiplicative; the released code of
    ReferFormer, SOC and SgMg agrees on this form, with the word positions on the keys alone.

    Args:
        hidden_size (`int`): Width of pixels and words.
        num_heads (`int`): Attention heads.
    """

    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        self.attention = MultiHeadAttention(hidden_size, num_heads)

    def project_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """The part of the fusion that does not depend on the words: compute it once for a video."""
        return self.attention.q_proj(pixels)

    def forward(
        self,
        pixels: torch.Tensor,
        projected_pixels: torch.Tensor,
        words: torch.Tensor,
        word_positions: torch.Tensor,
        word_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """
        Args:
            pixels: `(num_expressions, num_tokens, hidden_size)`.
            projected_pixels: `project_pixels(pixels)`, same shape.
            words: `(num_expressions, num_words, hidden_size)`.
            word_positions: same shape as `words`.
            word_mask: `(num_expressions, num_words)`, True at real words, or None.

        Returns:
            Same shape as `pixels`.
        """
        keys, values = self.attention.k_proj(words + word_positions), self.attention.v_proj(words)
        return pixels * self.attention.attend(projected_pixels, keys, values, word_mask)
