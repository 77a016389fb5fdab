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
from types import SimpleNamespace

import pytest
import torch

from hf_rvos.losses import count_items
from hf_rvos.models.sgmg import FastSgMgForReferringVideoSegmentation
from hf_rvos.models.ssa import loss_ssa
from hf_rvos.training.progress import Clock, Window, check_finite, share_items
from hf_rvos.training.recipe import Recipe
from tests.models.referformer import tiny as referformer
from tests.models.referformer.tiny import random_inputs, random_labels
from tests.models.sgmg import tiny as sgmg
from tests.models.soc import tiny as soc
from tests.models.ssa import tiny as ssa


MODELS = {
    "referformer": referformer.tiny_model,
    "soc": soc.tiny_model,
    "sgmg": sgmg.tiny_model,
    "fast_sgmg": lambda: FastSgMgForReferringVideoSegmentation.from_sgmg(sgmg.tiny_model()).double().eval(),
    "ssa": ssa.tiny_model,
}


def processes(number):
    """An accelerator of so many processes that all count the same."""
    return SimpleNamespace(
        num_processes=number,
        device=torch.device("cpu"),
        reduce=lambda value, how: value * (number if how == "sum" else 1),
    )


def clock(**settings):
    return Clock(Recipe(**settings), steps_per_epoch=10, accelerator=processes(1))


def test_the_first_end_that_is_reached_counts():
    assert clock(num_epochs=2).num_steps == 20
    assert clock(num_epochs=2, max_train_steps=7).num_steps == 7
    assert clock(num_epochs=2, max_train_steps=70).num_steps == 20


def test_progress_is_that_of_the_nearest_end():
    by_both = clock(max_train_steps=4, max_train_minutes=1)
    by_both.step, by_both.elapsed = 1, 45
    assert by_both.progress == 0.75
    by_both.step = 4
    assert by_both.progress == 1


def test_epochs_are_passes_through_the_data():
    half = clock(num_epochs=2)
    half.step = 15
    assert half.epoch == 1.5


def test_things_are_due_after_steps_and_epochs():
    running = clock(num_epochs=9)
    due = []
    for running.step in range(1, 41):
        if running.is_due("evaluation", steps=15, epochs=2):
            due.append(running.step)
    assert due == [15, 20, 30, 40]


def test_minutes_to_the_next_time_count_from_the_last_and_not_through_a_pause():
    running = clock(max_train_minutes=100)
    running.elapsed = 120
    assert running.is_due("checkpoint", minutes=2) and not running.is_due("checkpoint", minutes=3)
    running.load_state_dict({"step": 3, "elapsed": 3600})
    assert not running.is_due("checkpoint", minutes=2)
    assert running.state_dict()["elapsed"] == 3600


@pytest.mark.parametrize("name", MODELS)
def test_batches_that_are_accumulated_have_the_gradient_of_one_large_batch(name, monkeypatch):
    model = MODELS[name]()
    # Masks of SSA are compared at random points, which are to be the same in any batch.
    table = torch.rand(9999, 2, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(loss_ssa, "random_points", lambda shape, device: table[: shape[-1]].expand(*shape, 2))
    inputs, labels = random_inputs(num_videos=3), random_labels(4)
    # The second clip has two expressions, so batches differ in all that is counted.
    for key in ("input_ids", "attention_mask"):
        inputs[key] = torch.cat([inputs[key], inputs[key][:1].flip(1)])
    inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])
    inputs["video_index"] = torch.tensor([0, 1, 2, 1])

    def batch(videos):
        rows = [row for row, video in enumerate(inputs["video_index"].tolist()) if video in videos]
        part = {key: inputs[key][rows] for key in ("input_ids", "attention_mask")}
        index = torch.tensor([videos.index(video) for video in inputs["video_index"][rows].tolist()])
        part |= {"pixel_values_videos": inputs["pixel_values_videos"][videos], "video_index": index}
        return part | {"labels": [labels[row] for row in rows]}

    def gradients(parts, num_items):
        model.zero_grad()
        for part in parts:
            (model(**part, num_items=num_items).loss / len(parts)).backward()
        return {key: value.grad for key, value in model.named_parameters() if value.grad is not None}

    expected = gradients([batch([0, 1, 2])], None)
    parts = [batch([0, 1]), batch([2])]
    counts = [getattr(model, "count_items", count_items)(part["labels"]) for part in parts]
    found = gradients(parts, share_items(counts, processes(1)))
    assert found.keys() == expected.keys()
    largest = max(value.abs().max() for value in expected.values())
    naive = gradients(parts, None)
    # Losses are float32. Divided batch by batch, gradients are another altogether.
    assert max((found[key] - value).abs().max() for key, value in expected.items()) < 1e-6 * largest
    assert max((naive[key] - value).abs().max() for key, value in expected.items()) > 1e-2 * largest


def test_items_are_those_of_all_processes_over_the_number_of_batches():
    counts = [{"frames": torch.tensor(3)}, {"frames": torch.tensor(5)}]
    assert share_items(counts, processes(4))["frames"] == 8 * 4 / (2 * 4)


def test_nothing_counts_as_one_item():
    assert share_items([{"frames": torch.tensor(0)}], processes(2))["frames"] == 1 / 2


def test_a_sum_of_weights_may_be_less_than_one():
    counts = [{"weight": torch.tensor(0.1)}, {"weight": torch.tensor(0.3)}]
    assert share_items(counts, processes(1))["weight"].item() == pytest.approx(0.2)


def test_a_window_has_the_means_over_its_own_steps():
    window = Window()
    for loss in (1.0, 2.0, 6.0):
        window.add(loss=torch.tensor(loss / 2), grad_norm=loss)
        window.add(loss=torch.tensor(loss / 2))
        window.num_steps += 1
    assert window.means(processes(1)) == {"loss": 3.0, "grad_norm": 3.0}


@pytest.mark.parametrize("value", [float("nan"), torch.tensor(float("inf"))])
def test_a_number_that_is_none_names_the_clips(value):
    with pytest.raises(FloatingPointError, match="the loss is .* at step 7, clips a/0, b/1; lower"):
        check_finite(value, "loss", 7, ["a/0", "b/1"])
