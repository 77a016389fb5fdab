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

from hf_rvos.models.ssa import SsaConfig, loss_ssa
from hf_rvos.models.ssa.loss_ssa import count_targets, match_objects, similarity_loss, ssa_loss
from hf_rvos.models.ssa.outputs_ssa import SsaPredictions
from hf_rvos.training.progress import share_items
from tests.training.test_progress import processes


SIZE = (48, 64)
NUM_QUERIES = 4


def config(**settings) -> SsaConfig:
    return SsaConfig(num_queries=NUM_QUERIES, num_points=64, num_supervised_frame_layers=2, **settings)


def predictions(num_expressions: int = 2, num_frames: int = 3) -> SsaPredictions:
    """Random predictions: three of frames, the last two of which have video queries, in two layers."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    return SsaPredictions(
        frame_logits=draw(3, num_expressions, num_frames, NUM_QUERIES, 2),
        frame_mask_embeddings=draw(3, num_expressions, num_frames, NUM_QUERIES, 8),
        frame_mask_features=draw(num_expressions, num_frames, 8, 12, 16),
        video_logits=draw(2, 2, num_expressions, NUM_QUERIES, 2),
        video_mask_embeddings=draw(2, 2, num_expressions, NUM_QUERIES, 8),
        mask_features=draw(num_expressions, num_frames, 8, 12, 16),
        frame_similarity=draw(2, num_expressions, num_frames, NUM_QUERIES, 6),
        video_similarity=draw(2, num_expressions, NUM_QUERIES, 6),
    )


# Dimension of the expressions in each field.
EXPRESSIONS = {
    "frame_logits": 1,
    "frame_mask_embeddings": 1,
    "frame_mask_features": 0,
    "video_logits": 2,
    "video_mask_embeddings": 2,
    "mask_features": 0,
    "frame_similarity": 1,
    "video_similarity": 1,
}


def of_expressions(outputs: SsaPredictions, chosen: list[int]) -> SsaPredictions:
    chosen = torch.tensor(chosen)
    return SsaPredictions(**{name: outputs[name].index_select(EXPRESSIONS[name], chosen) for name in EXPRESSIONS})


def label(visible: list[list[int]], size: tuple[int, int] = SIZE) -> dict[str, torch.Tensor]:
    """A rectangle for each object, in the frames where `visible[object][frame]` is 1."""
    masks = torch.zeros(len(visible), 3, *size, dtype=torch.bool)
    for index, frames in enumerate(visible):
        for frame, is_seen in enumerate(frames):
            masks[index, frame, 4 * index : 4 * index + 20, 6 + 5 * frame : 30 + 5 * frame] = bool(is_seen)
    return {"object_masks": masks}


LABELS = [label([[1, 1, 1], [0, 1, 1]]), label([[0, 1, 0]])]


@pytest.fixture
def fixed_points(monkeypatch):
    """The same points at every call, so that masks are compared alike in whatever batch they are."""

    def points(shape, device):
        table = torch.rand(shape[-1], 2, generator=torch.Generator().manual_seed(1))
        return table.expand(*shape, 2)

    monkeypatch.setattr(loss_ssa, "random_points", points)


def gradients(outputs: SsaPredictions, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    return dict(zip(EXPRESSIONS, torch.autograd.grad(loss, [outputs[name] for name in EXPRESSIONS])))


def test_no_object_leaves_the_scores_to_learn():
    outputs = predictions()
    empty = torch.zeros(0, 3, *SIZE, dtype=torch.bool)
    for labels in ([{"object_masks": empty}] * 2, [{"masks": torch.zeros(3, *SIZE, dtype=torch.bool)}] * 2):
        loss, losses = ssa_loss(outputs, labels, SIZE, config())
        assert {name for name, value in losses.items() if value > 0} == {
            *("loss_ce", "loss_ce_0", "loss_ce_1", "loss_vita_ce", "loss_vita_ce_0")
        }
        expected = -outputs.frame_logits.log_softmax(-1)[-1, ..., 1].mean()
        torch.testing.assert_close(losses["loss_ce"], expected)
        # Zeros for the rest, not None: every process has the gradients that the others wait for.
        found = gradients(outputs, loss)
        assert found["frame_mask_embeddings"].abs().max() == 0 < found["frame_logits"].abs().max()


def test_a_label_with_one_mask_is_one_object(fixed_points):
    outputs, cfg = of_expressions(predictions(), [0]), config()
    masks = label([[1, 0, 1]])["object_masks"]
    one, _ = ssa_loss(outputs, [{"masks": masks[0]}], SIZE, cfg)
    assert one == ssa_loss(outputs, [{"object_masks": masks}], SIZE, cfg)[0]


def test_of_more_objects_than_queries_the_best_are_matched():
    cost = np.random.default_rng(0).random((1, 2, NUM_QUERIES, 6))
    cost[..., 3:5] += 10
    queries = match_objects(cost, np.ones((2, 6), bool))
    assert (queries[..., 3:5] == -1).all()
    assert (np.sort(queries[..., [0, 1, 2, 5]]) == np.arange(NUM_QUERIES)).all()


def test_more_objects_than_queries_are_divided_by_all_of_them(fixed_points):
    outputs, labels = of_expressions(predictions(), [0]), [label([[1, 1, 1]] * 6)]
    counts = count_targets(labels, config())
    assert counts["frame_targets"] == 6 * 3 and counts["video_targets"] == 6 * 2
    # All queries are matched, in each frame and in the clip.
    assert counts["frame_class_weight"] == NUM_QUERIES * 3 and counts["video_class_weight"] == NUM_QUERIES * 2
    assert counts["similarity_pairs"] == 2 * (NUM_QUERIES * 3 + NUM_QUERIES) ** 2
    loss, _ = ssa_loss(outputs, labels, SIZE, config())
    assert loss.isfinite()


def test_an_object_has_a_query_in_the_frames_that_show_it_only():
    cost = np.random.default_rng(0).random((2, 3, NUM_QUERIES, 2))
    is_target = np.array([[1, 1], [0, 1], [0, 0]], bool)
    queries = match_objects(cost, is_target)
    assert ((queries >= 0) == is_target).all()
    assert (queries[:, 1, 1] == cost[:, 1, :, 1].argmin(-1)).all()
    assert (queries[:, 0, 0] != queries[:, 0, 1]).all()


def test_frames_are_matched_apart_and_clips_as_one(fixed_points):
    outputs = of_expressions(predictions(), [0])
    with torch.no_grad():
        outputs.frame_logits[...], outputs.video_logits[...] = 0.0, 0.0
    _, losses = ssa_loss(outputs, [label([[1, 1, 1]])], SIZE, config())
    # Three of twelve queries are matched, and one of four.
    torch.testing.assert_close(losses["loss_ce"], torch.tensor(2.0).log())
    torch.testing.assert_close(losses["loss_vita_ce"], torch.tensor(2.0).log())
    (by_frame,) = torch.autograd.grad(losses["loss_ce"], outputs.frame_logits, retain_graph=True)
    assert (by_frame[-1, 0, ..., 0] < 0).sum(-1).tolist() == [1, 1, 1]
    (by_clip,) = torch.autograd.grad(losses["loss_vita_ce"], outputs.video_logits)
    assert (by_clip[-1, :, 0, :, 0] < 0).sum(-1).tolist() == [1, 1]


@pytest.mark.parametrize("labels", [LABELS, [LABELS[1], label([])]], ids=["objects", "one_without"])
@pytest.mark.parametrize("num_processes", [1, 2])
def test_gradients_of_batches_add_up_to_those_of_one(labels, num_processes, fixed_points):
    outputs, cfg = predictions(), config()
    expected = gradients(outputs, ssa_loss(outputs, labels, SIZE, cfg)[0])
    shared = share_items([count_targets([entry], cfg) for entry in labels], processes(num_processes))
    parts = [
        ssa_loss(of_expressions(outputs, [index]), [entry], SIZE, cfg, num_items=shared)[0] / len(labels)
        for index, entry in enumerate(labels)
    ]
    # Every process has seen the same, so their mean is that of one.
    for name, value in gradients(outputs, sum(parts)).items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5)


def test_counts_of_the_labels_are_those_of_the_loss(fixed_points):
    outputs, cfg = predictions(), config()
    alone, _ = ssa_loss(outputs, LABELS, SIZE, cfg)
    counted, _ = ssa_loss(outputs, LABELS, SIZE, cfg, num_items=count_targets(LABELS, cfg))
    torch.testing.assert_close(counted, alone)


def test_a_smaller_clip_of_a_batch_has_the_losses_of_a_padded_one(fixed_points):
    small = label([[1, 1, 1]], size=(30, 50))
    padded = {"object_masks": torch.nn.functional.pad(small["object_masks"], (0, 14, 0, 18))}
    outputs, cfg = predictions(), config()
    assert ssa_loss(outputs, [LABELS[0], small], SIZE, cfg)[0] == ssa_loss(outputs, [LABELS[0], padded], SIZE, cfg)[0]


def test_points_are_where_masks_are_least_decided():
    # Sure on the left half, unsure on the right.
    logits = torch.cat([torch.full((1, 12, 8), 9.0), torch.full((1, 12, 8), 0.1)], -1)
    torch.manual_seed(0)
    points = loss_ssa.uncertain_points(logits, config())
    assert points.shape == (1, 64, 2)
    uncertain, uniform = points[0, :48], points[0, 48:]
    assert (uncertain[:, 0] > 0.4).all() and (uniform[:, 0] < 0.4).any()


def test_points_follow_from_the_seed():
    outputs, cfg = predictions(), config()
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(ssa_loss(outputs, LABELS, SIZE, cfg)[0].item())
    assert losses[0] == losses[1] != losses[2]


def test_similarity_of_one_object_is_pulled_up_and_that_of_two_down():
    frames, clip = predictions(1)["frame_similarity"], predictions(1)["video_similarity"]
    queries = torch.tensor([[[[2, -1], [1, 3], [-1, -1]]]]).expand(2, -1, -1, -1)
    loss = similarity_loss(frames, clip, queries, torch.tensor([[[0, 1]]]).expand(2, -1, -1))
    expected = 0.0
    for layer in range(2):
        vectors = [frames[layer, 0, 0, 2], frames[layer, 0, 1, 1], frames[layer, 0, 1, 3], *clip[layer, 0, :2]]
        objects = [0, 0, 1, 0, 1]
        for one, first in zip(vectors, objects):
            for other, second in zip(vectors, objects):
                sign = 1 if first == second else -1
                expected = expected - torch.nn.functional.logsigmoid(sign * (one @ other))
    torch.testing.assert_close(loss, expected)


def test_without_auxiliary_loss_only_the_last_predictions_count(fixed_points):
    outputs, labels = predictions(), LABELS
    _, every = ssa_loss(outputs, labels, SIZE, config())
    loss, last = ssa_loss(outputs, labels, SIZE, config(auxiliary_loss=False))
    assert last == {name: every[name] for name in every if not name[-1].isdigit()}
    weights = {"ce": 2, "mask": 5, "dice": 5, "similarity": 1}
    torch.testing.assert_close(loss, sum(weights[name.split("_")[-1]] * value for name, value in last.items()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_predictions_give_a_float32_loss(dtype):
    outputs = SsaPredictions(**{name: value.to(dtype) for name, value in predictions().items()})
    loss, losses = ssa_loss(outputs, LABELS, SIZE, config())
    assert loss.dtype == torch.float32
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())


def test_weights_that_are_no_longer_finite_are_left_to_the_loss_to_tell():
    outputs = predictions()
    with torch.no_grad():
        outputs.frame_logits[...] = float("nan")
    assert ssa_loss(outputs, LABELS, SIZE, config())[0].isnan()


def test_labels_that_do_not_fit_are_named():
    outputs = predictions()
    with pytest.raises(ValueError, match="labels has 1 entries, expected 2"):
        ssa_loss(outputs, LABELS[:1], SIZE, config())
    with pytest.raises(ValueError, match=r"labels\[1\] has masks of shape \(1, 3, 48, 65\)"):
        ssa_loss(outputs, [LABELS[0], label([[1, 1, 1]], size=(48, 65))], SIZE, config())
