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

from hf_rvos.losses import prepare_labels
from hf_rvos.models.soc.loss_soc import contrastive_loss, matching_cost, soc_loss
from tests.models.referformer.tiny import random_labels


SIZE = (48, 64)
WEIGHTS = {"class_weight": 2.0, "l1_weight": 2.0, "giou_weight": 2.0, "dice_weight": 5.0}


def predictions(num_classes: int = 1) -> dict[str, torch.Tensor]:
    """Random predictions of one layer for two clips of three frames and five queries."""
    generator = torch.Generator().manual_seed(0)
    return {
        "logits": torch.randn(2, 5, 3, num_classes, generator=generator),
        "pred_boxes": torch.rand(2, 5, 3, 4, generator=generator) * 0.5 + 0.25,
        "pred_masks": torch.randn(2, 5, 3, 12, 16, generator=generator),
        "video_queries": torch.randn(2, 5, 8, generator=generator),
    }


def guidance() -> torch.Tensor:
    return torch.randn(2, 8, generator=torch.Generator().manual_seed(1))


def test_contrastive_loss_is_the_cross_entropy_of_the_similarity_over_the_width():
    queries, words = predictions()["video_queries"], guidance()
    expected = 0.0
    for index, matched in enumerate((3, 1)):
        similarity = [float(query @ words[index]) / 8 for query in queries[index]]
        expected -= similarity[matched] - math.log(sum(map(math.exp, similarity)))
    assert contrastive_loss(queries, words, torch.tensor([3, 1])).item() == pytest.approx(expected / 2, rel=1e-5)


def test_every_frame_counts_in_the_number_to_divide_by():
    # The object of the first expression is absent in the last frame.
    layer, labels = predictions(), random_labels()
    _, once = soc_loss([layer], labels, SIZE, None)
    twice = {name: torch.cat((value, value)) for name, value in layer.items()}
    _, doubled = soc_loss([twice], labels + labels, SIZE, None)
    for name, value in once.items():
        torch.testing.assert_close(doubled[name], value)
    best = torch.zeros(2, dtype=torch.long)
    one_query = {name: value[:, :1] for name, value in layer.items()}
    _, single = soc_loss([one_query], labels, SIZE, None)
    boxes = torch.stack([label["boxes"] for label in labels])
    expected = (one_query["pred_boxes"][torch.arange(2), best] - boxes).abs().sum() / 6
    torch.testing.assert_close(single["loss_bbox"], expected)


def test_dice_is_that_of_each_frame_at_the_size_of_the_input():
    layer = {name: value[:, :1] for name, value in predictions().items()}
    labels = random_labels()
    _, losses = soc_loss([layer], labels, SIZE, None)
    expected = 0.0
    for logits, label in zip(layer["pred_masks"][:, 0], labels):
        large = torch.nn.functional.interpolate(logits[None], size=SIZE, mode="bilinear")[0].sigmoid()
        for probability, mask in zip(large, label["masks"].float()):
            expected += 1 - (2 * (probability * mask).sum() + 1) / (probability.sum() + mask.sum() + 1)
    torch.testing.assert_close(losses["loss_dice"], expected / 6)


def test_neither_focal_mask_loss_nor_guidance_take_part_in_the_matching():
    layer, labels = predictions(), random_labels()
    prepared = prepare_labels(labels, layer["pred_masks"][..., :1, :1].expand(-1, -1, -1, *SIZE), 1, mask_stride=1)
    matched = matching_cost(layer, prepared, **WEIGHTS).argmin(1)
    _, losses = soc_loss([layer], labels, SIZE, guidance(), mask_weight=1e6, contrastive_weight=1e6)
    torch.testing.assert_close(
        losses["loss_contrastive"], contrastive_loss(layer["video_queries"], guidance(), matched)
    )


def test_clips_with_different_numbers_of_visible_frames_are_averaged_on_their_own():
    layer, labels = predictions(), random_labels()
    together = prepare_labels(labels, layer["pred_masks"][..., :1, :1].expand(-1, -1, -1, *SIZE), 1, mask_stride=1)
    costs = matching_cost(layer, together, **WEIGHTS)
    assert [int(label["valid_frames"].sum()) for label in labels] == [2, 3]
    for index in range(2):
        own = {name: value[index : index + 1] for name, value in layer.items()}
        size = own["pred_masks"][..., :1, :1].expand(-1, -1, -1, *SIZE)
        alone = matching_cost(own, prepare_labels(labels[index : index + 1], size, 1, mask_stride=1), **WEIGHTS)
        torch.testing.assert_close(alone[0], costs[index])


def test_class_label_names_the_positive_class():
    layer, labels = predictions(num_classes=3), random_labels()
    for label in labels:
        label["class_labels"][:] = 2
    layer["logits"] = layer["logits"].requires_grad_()
    soc_loss([layer], labels, SIZE, None)[0].backward()
    raised = (layer["logits"].grad < 0).nonzero()
    assert set(raised[:, 3].tolist()) == {2}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_predictions_give_a_float32_loss(dtype):
    layer = {name: value.to(dtype) for name, value in predictions().items()}
    loss, losses = soc_loss([layer, layer], random_labels(), SIZE, guidance().to(dtype))
    assert loss.dtype == torch.float32
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())
    assert {name.removesuffix("_0") for name in losses} == {name for name in losses if not name.endswith("_0")}
