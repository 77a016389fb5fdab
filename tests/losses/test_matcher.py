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
import torch

from hf_rvos.losses import PreparedLabels, match_queries
from hf_rvos.losses.mask_losses import mask_dice_loss, mask_focal_loss
from hf_rvos.losses.matcher import class_cost, mask_costs


def prepared_labels(batch_size=2, num_frames=3, height=6, width=8):
    generator = torch.Generator().manual_seed(0)
    return PreparedLabels(
        masks=(torch.rand(batch_size, num_frames, height, width, generator=generator) > 0.5).float(),
        boxes=torch.rand(batch_size, num_frames, 4, generator=generator) / 2 + 0.25,
        classes=torch.zeros(batch_size, num_frames, dtype=torch.long),
        valid_frames=torch.ones(batch_size, num_frames),
    )


def equal_queries(labels, num_queries=4):
    """Predictions that are the same for every query."""
    batch_size, num_frames, height, width = labels.masks.shape
    shape = (batch_size, num_queries, num_frames)
    return {
        "logits": torch.zeros(*shape, 1),
        "pred_boxes": torch.full((*shape, 4), 0.5),
        "pred_masks": torch.zeros(*shape, height, width),
    }


@pytest.mark.parametrize("better", ["logits", "pred_boxes", "pred_masks"])
def test_each_kind_of_prediction_can_decide(better):
    labels = prepared_labels()
    layer_output = equal_queries(labels)
    for sample, query in enumerate((2, 1)):
        layer_output[better][sample, query] = {
            "logits": torch.ones(3, 1),
            "pred_boxes": labels.boxes[sample],
            "pred_masks": labels.masks[sample] - 0.5,
        }[better]
    assert match_queries(layer_output, labels).tolist() == [2, 1]


def test_matching_has_no_gradient():
    labels = prepared_labels()
    layer_output = {key: value.requires_grad_() for key, value in equal_queries(labels).items()}
    assert not match_queries(layer_output, labels).requires_grad


def test_mask_costs_are_the_losses_of_each_query():
    generator = torch.Generator().manual_seed(1)
    labels = prepared_labels()
    mask_logits = torch.randn(2, 5, 3, 6, 8, generator=generator) * 3
    focal, dice = mask_costs(mask_logits, labels.masks, alpha=0.3)
    for query in range(5):
        torch.testing.assert_close(focal[:, query], mask_focal_loss(mask_logits[:, query], labels.masks, alpha=0.3))
        torch.testing.assert_close(1 + dice[:, query], mask_dice_loss(mask_logits[:, query], labels.masks))


def test_class_cost_sees_valid_frames_only():
    logits = torch.randn(2, 4, 3, 1, generator=torch.Generator().manual_seed(0))
    classes, valid_frames = torch.zeros(2, 3, dtype=torch.long), torch.tensor([[1.0, 0, 1], [0, 0, 1]])
    cost = class_cost(logits, classes, valid_frames)
    torch.testing.assert_close(cost[1], class_cost(logits[1:, :, 2:], classes[1:, 2:], torch.ones(1, 1))[0])
    logits[0, :, 1] += 5
    torch.testing.assert_close(class_cost(logits, classes, valid_frames), cost)


def test_class_cost_sees_the_class_of_the_object_only():
    logits = torch.randn(1, 4, 2, 3, generator=torch.Generator().manual_seed(0))
    classes, valid_frames = torch.full((1, 2), 2), torch.ones(1, 2)
    expected = class_cost(logits[..., 2:], torch.zeros_like(classes), valid_frames)
    torch.testing.assert_close(class_cost(logits, classes, valid_frames), expected)


def test_class_cost_of_a_known_probability():
    # Probability 0.5: 0.25 * 0.25 * log 2 - 0.75 * 0.25 * log 2.
    cost = class_cost(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1))
    assert cost.item() == pytest.approx(-0.125 * 0.693147, rel=1e-5)


def test_class_cost_without_valid_frames_is_not_nan():
    cost = class_cost(torch.zeros(1, 2, 3, 1), torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 3))
    assert cost.tolist() == [[0, 0]]
