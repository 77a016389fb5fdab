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
import math

import pytest
import torch

from hf_rvos.losses.mask_losses import mask_dice_loss, sigmoid_focal_loss


@pytest.mark.parametrize("logit", [-3.0, 0.0, 0.7, 4.0])
def test_focal_loss_follows_its_definition(logit):
    probability = 1 / (1 + math.exp(-logit))
    losses = sigmoid_focal_loss(torch.tensor([logit, logit]).double(), torch.tensor([1.0, 0.0]).double(), alpha=0.25)
    expected = [
        -0.25 * (1 - probability) ** 2 * math.log(probability),
        -0.75 * probability**2 * math.log(1 - probability),
    ]
    assert losses.tolist() == pytest.approx(expected)


def test_dice_takes_the_clip_as_one_mask():
    masks = torch.zeros(1, 2, 2, 2)
    masks[0, 0] = 1
    mask_logits = torch.full((1, 2, 2, 2), 100.0)
    # Four pixels in common, eight and four in all: 1 - (2 * 4 + 1) / (8 + 4 + 1).
    assert mask_dice_loss(mask_logits, masks).tolist() == pytest.approx([4 / 13])


def test_two_empty_masks_have_no_dice_loss():
    assert mask_dice_loss(torch.full((1, 2, 3, 3), -100.0), torch.zeros(1, 2, 3, 3)).tolist() == [0]
