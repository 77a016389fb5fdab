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
import contextlib
import json
import math

import numpy as np
import pytest
import torch

from hf_rvos.losses import (
    check_labels,
    count_valid_frames,
    match_queries,
    prepare_labels,
    referring_segmentation_loss,
)


# Stored with eight digits; other processors sum in another order.
RELATIVE_TOLERANCE = 1e-5

RECORDED = ["batch2", "one_valid_frame"]
WEIGHTS = {"loss_ce": 2, "loss_bbox": 5, "loss_giou": 2, "loss_mask": 2, "loss_dice": 5}


def random_layer(batch_size=2, num_queries=5, num_frames=3, num_classes=1, height=6, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch_size, num_queries, num_frames)
    return {
        "logits": torch.randn(*shape, num_classes, generator=generator),
        "pred_boxes": torch.rand(*shape, 4, generator=generator),
        "pred_masks": torch.randn(*shape, height, width, generator=generator),
    }


def random_labels(batch_size=2, num_frames=3, num_classes=1, height=24, width=32, seed=1):
    generator = torch.Generator().manual_seed(seed)
    labels = []
    for _ in range(batch_size):
        valid_frames = torch.ones(num_frames, dtype=torch.bool)
        valid_frames[1:2] = False
        masks = torch.rand(num_frames, height, width, generator=generator) > 0.5
        labels.append(
            {
                "masks": masks & valid_frames[:, None, None],
                "boxes": torch.rand(num_frames, 4, generator=generator) * valid_frames[:, None],
                "class_labels": torch.randint(num_classes, (1,), generator=generator).expand(num_frames),
                "valid_frames": valid_frames,
            }
        )
    return labels


@pytest.fixture(scope="module")
def recorded(fixtures_dir):
    """Runs of the released training code: case -> (layer outputs, labels, expected values)."""
    folder = fixtures_dir / "parity/referformer"
    training = json.loads((folder / "tiny-videoswin.json").read_text())["training"]
    cases = {}
    with np.load(folder / "tiny-videoswin.npz") as arrays:
        for case in RECORDED:
            layers = [
                {
                    # The released code has frames before queries.
                    "logits": torch.from_numpy(arrays[f"{case}/{prefix}pred_logits"]).transpose(1, 2),
                    "pred_boxes": torch.from_numpy(arrays[f"{case}/{prefix}pred_boxes"]).transpose(1, 2),
                    "pred_masks": torch.from_numpy(arrays[f"{case}/{prefix}pred_masks"]).transpose(1, 2),
                }
                for prefix in ("aux_outputs/0/", "")
            ]
            labels = [
                {
                    "masks": torch.from_numpy(arrays[target["masks"]]),
                    "boxes": torch.tensor(target["boxes"]),
                    "class_labels": torch.tensor(target["labels"]),
                    "valid_frames": torch.tensor(target["valid"], dtype=torch.bool),
                }
                for target in training[case]["targets"]
            ]
            cases[case] = layers, labels, training[case]
    return cases


@pytest.mark.parametrize("case", RECORDED)
def test_matched_queries_equal_those_of_the_released_code(recorded, case):
    layers, labels, expected = recorded[case]
    prepared = prepare_labels(labels, layers[-1]["pred_masks"], num_classes=1)
    for layer, name in zip(layers, ("aux_0", "last")):
        assert match_queries(layer, prepared).tolist() == [query for (query,) in expected["matched_queries"][name]]


@pytest.mark.parametrize("case", RECORDED)
def test_losses_equal_those_of_the_released_code(recorded, case):
    layers, labels, expected = recorded[case]
    loss, loss_dict = referring_segmentation_loss(layers, labels)
    values = {name: value.item() for name, value in loss_dict.items()}
    assert values == pytest.approx(expected["losses"], rel=RELATIVE_TOLERANCE)
    assert loss.item() == pytest.approx(expected["total_loss"], rel=RELATIVE_TOLERANCE)


def test_weights_apply_to_every_layer():
    layers, labels = [random_layer(seed=0), random_layer(seed=2), random_layer(seed=3)], random_labels()
    loss, loss_dict = referring_segmentation_loss(layers, labels)
    assert list(loss_dict) == [name + suffix for suffix in ("", "_0", "_1") for name in WEIGHTS]
    total = sum(WEIGHTS[name.rstrip("_01")] * value.item() for name, value in loss_dict.items())
    assert loss.item() == pytest.approx(total)


def test_layers_are_independent():
    first, second, labels = random_layer(seed=0), random_layer(seed=2), random_labels()
    _, together = referring_segmentation_loss([first, second], labels)
    _, alone = referring_segmentation_loss([first], labels)
    assert [together[f"{name}_0"].item() for name in WEIGHTS] == [alone[name].item() for name in WEIGHTS]


def test_expressions_are_independent():
    layer, labels = random_layer(batch_size=3), random_labels(batch_size=3)
    _, together = referring_segmentation_loss([layer], labels, num_items=1)
    alone = [
        referring_segmentation_loss(
            [{key: value[i : i + 1] for key, value in layer.items()}], labels[i : i + 1], num_items=1
        )
        for i in range(3)
    ]
    for name in WEIGHTS:
        assert together[name].item() == pytest.approx(sum(loss_dict[name].item() for _, loss_dict in alone), rel=1e-5)


def test_only_the_matched_query_learns_its_mask_and_boxes():
    layer, labels = random_layer(), random_labels()
    query_index = match_queries(layer, prepare_labels(labels, layer["pred_masks"], num_classes=1))
    for value in layer.values():
        value.requires_grad_()
    referring_segmentation_loss([layer], labels)[0].backward()
    matched = torch.nn.functional.one_hot(query_index, 5).bool()
    for key in ("pred_masks", "pred_boxes"):
        assert torch.equal(layer[key].grad.flatten(2).abs().amax(2) > 0, matched), key
    assert (layer["logits"].grad != 0).all()


def test_matched_query_is_positive_only_where_the_object_is():
    layer, labels = random_layer(), random_labels()
    query_index = match_queries(layer, prepare_labels(labels, layer["pred_masks"], num_classes=1))
    layer["logits"].requires_grad_()
    referring_segmentation_loss([layer], labels)[0].backward()
    # A positive pulls its logit up, which is a negative gradient.
    expected = torch.nn.functional.one_hot(query_index, 5).bool()[:, :, None, None].repeat(1, 1, 3, 1)
    expected[:, :, 1] = False
    assert torch.equal(layer["logits"].grad < 0, expected)


def test_class_label_names_the_positive_class():
    layer, labels = random_layer(num_classes=4), random_labels(num_classes=4)
    labels[0]["class_labels"], labels[1]["class_labels"] = torch.tensor([2, 2, 2]), torch.tensor([0, 0, 0])
    layer["logits"].requires_grad_()
    referring_segmentation_loss([layer], labels)[0].backward()
    positives = (layer["logits"].grad < 0).nonzero()
    assert [(sample, frame, name) for sample, _, frame, name in positives.tolist()] == [
        (0, 0, 2),
        (0, 2, 2),
        (1, 0, 0),
        (1, 2, 0),
    ]


def test_single_class_ignores_class_labels():
    layer, labels = random_layer(), random_labels()
    expected = referring_segmentation_loss([layer], labels)[0]
    for label in labels:
        label["class_labels"] = torch.full((3,), 42)
    assert referring_segmentation_loss([layer], labels)[0] == expected


def test_absent_frames_count_in_the_box_losses():
    layer, labels = random_layer(batch_size=1, num_queries=1), random_labels(batch_size=1)
    _, loss_dict = referring_segmentation_loss([layer], labels)
    # Three frames, one of them against a zero box, over two valid frames.
    distance = (layer["pred_boxes"][0, 0] - labels[0]["boxes"]).abs().sum()
    assert loss_dict["loss_bbox"].item() == pytest.approx(distance.item() / 2)


def test_losses_are_divided_by_the_given_number_of_items():
    layer, labels = random_layer(), random_labels()
    loss, _ = referring_segmentation_loss([layer], labels)
    once, _ = referring_segmentation_loss([layer], labels, num_items=1)
    # Two expressions with two valid frames each.
    assert once.item() == pytest.approx(4 * loss.item())


def test_no_valid_frames_count_as_one():
    assert count_valid_frames(torch.zeros(2, 3)) == 1


def test_valid_frames_are_averaged_over_processes(monkeypatch):
    def add_other_process(count):
        count += 4

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", add_other_process)
    assert count_valid_frames(torch.ones(1, 3)) == 3.5


def test_half_precision_predictions_give_a_float32_loss():
    layer = {key: value.bfloat16().requires_grad_() for key, value in random_layer().items()}
    labels = random_labels()
    loss, _ = referring_segmentation_loss([layer], labels)
    expected, _ = referring_segmentation_loss([{key: value.float() for key, value in layer.items()}], labels)
    assert loss.dtype == torch.float32
    assert loss.item() == expected.item()
    loss.backward()
    assert all(value.grad.isfinite().all() for value in layer.values())


def test_autocast_does_not_change_the_matching():
    labels = random_labels(height=128, width=128)
    layer = random_layer(height=32, width=32)
    for value in layer.values():
        value.zero_()
    # One pixel better than the others, which the eight bits of a bfloat16 sum over the clip cannot tell.
    row, column = labels[0]["masks"][0, 2::4, 2::4].nonzero()[0]
    layer["pred_masks"][:, 4, 0, row, column] = 1
    labels = labels[:1] * 2
    expected, _ = referring_segmentation_loss([layer], labels)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = referring_segmentation_loss([layer], labels)
    assert loss.item() == expected.item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_stay_finite(dtype):
    layer = random_layer()
    layer["logits"] = (layer["logits"] * 1e4).to(dtype).requires_grad_()
    layer["pred_masks"] = (layer["pred_masks"] * 1e4).to(dtype).requires_grad_()
    loss, _ = referring_segmentation_loss([layer], random_labels())
    loss.backward()
    assert loss.isfinite()
    assert layer["logits"].grad.isfinite().all()
    assert layer["pred_masks"].grad.isfinite().all()


def test_clips_of_several_sizes_are_continued_with_background():
    labels = random_labels(height=24, width=32)
    labels[1]["masks"] = torch.ones(3, 13, 19, dtype=torch.uint8)
    masks = prepare_labels(labels, torch.empty(2, 5, 3, 6, 8), num_classes=1).masks
    assert torch.equal(masks[0], labels[0]["masks"][:, 2::4, 2::4].float())
    expected = torch.zeros(6, 8)
    expected[:3, :5] = 1  # rows 2, 6, 10 of 13; columns 2, 6, 10, 14, 18 of 19
    assert torch.equal(masks[1], expected.expand(3, 6, 8))


def test_loss_never_reads_values_on_the_device(monkeypatch):
    """A meta tensor has no values, so reading one on the way, as `.item()` does, is an error."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())  # not for meta tensors
    layer = {key: value.to("meta") for key, value in random_layer(num_classes=4).items()}
    labels = [{key: value.to("meta") for key, value in label.items()} for label in random_labels(num_classes=4)]
    loss, _ = referring_segmentation_loss([layer, layer], labels)
    assert loss.shape == ()


def without(key):
    return lambda labels: labels[1].pop(key)


def replaced(key, value):
    return lambda labels: labels[1].update({key: value})


@pytest.mark.parametrize(
    "change, message",
    [
        (without("valid_frames"), r"labels\[1\] lacks \['valid_frames'\]"),
        (replaced("masks", torch.zeros(2, 24, 32)), r"labels\[1\]\['masks'\] has shape \(2, 24, 32\)"),
        (replaced("masks", torch.zeros(24, 32)), r"labels\[1\]\['masks'\] has shape \(24, 32\)"),
        (replaced("masks", torch.zeros(3, 24, 33)), r"24 x 33 pixels, expected at most 24 x 32"),
        (replaced("boxes", torch.zeros(3, 5)), r"labels\[1\]\['boxes'\] has shape \(3, 5\)"),
        (replaced("class_labels", torch.tensor(0)), r"labels\[1\]\['class_labels'\] has shape \(\)"),
        (replaced("class_labels", torch.tensor([0, 4, 0])), "expected 0 to 3"),
        (replaced("valid_frames", torch.zeros(3, dtype=torch.bool)), r"labels\[1\] has no valid frame"),
        (lambda labels: labels.pop(), "labels has 1 entries, expected 2"),
    ],
)
def test_wrong_labels_are_named(change, message):
    labels = random_labels(num_classes=4)
    change(labels)
    with pytest.raises(ValueError, match=message):
        referring_segmentation_loss([random_layer(num_classes=4)], labels)


def test_labels_that_are_no_tensors_are_named():
    labels = random_labels()
    labels[0]["boxes"] = [[0, 0, 1, 1]] * 3
    with pytest.raises(TypeError, match=r"labels\[0\]\['boxes'\] is a list"):
        check_labels(labels)


def test_masks_of_one_query_are_not_enough():
    layer = random_layer()
    layer["pred_masks"] = layer["pred_masks"][:, :1]
    with pytest.raises(ValueError, match="masks of all queries"):
        referring_segmentation_loss([layer], random_labels())


def test_perfect_prediction_costs_next_to_nothing():
    labels = random_labels()
    layer = random_layer()
    targets = prepare_labels(labels, layer["pred_masks"], num_classes=1)
    layer["logits"] = torch.full_like(layer["logits"], -20)
    for sample, query in enumerate([3, 1]):
        layer["logits"][sample, query, :, 0] = 40 * targets.valid_frames[sample] - 20
        layer["pred_boxes"][sample, query] = targets.boxes[sample]
        layer["pred_masks"][sample, query] = 40 * targets.masks[sample] - 20
    _, loss_dict = referring_segmentation_loss([layer], labels)
    # An empty box has a smoothed GIoU of 0 with itself, so the one absent frame of each clip costs 1.
    assert loss_dict.pop("loss_giou").item() == pytest.approx(2 / 4, abs=1e-3)
    assert all(math.isclose(value.item(), 0, abs_tol=1e-5) for value in loss_dict.values())
