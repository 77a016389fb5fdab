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

import dataclasses
import re

import pytest
import torch

from hf_rvos import (
    AutoModelForReferringVideoSegmentation,
    FastSgMgConfig,
    FastSgMgForReferringVideoSegmentation,
    ReferringVideoSegmentationPipeline,
)
from hf_rvos.models.sgmg import FastSgMgSceneFeatures
from tests.models.sgmg.tiny import TEXT_CONFIG, pad, random_inputs, random_labels, tiny_model
from tests.tiny_segmenter import moving_square, tiny_processor


TOLERANCE = {"logits": 1e-5, "pred_boxes": 1e-6, "pred_masks": 1e-3}


def fast_model(**changes) -> FastSgMgForReferringVideoSegmentation:
    torch.manual_seed(3)
    model = FastSgMgForReferringVideoSegmentation.from_sgmg(tiny_model(), **changes)
    with torch.no_grad():  # the decoupling apart from the fusion that it starts as
        for parameter in model.model.decoupling.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.double().eval()


@pytest.fixture(scope="module")
def model():
    return fast_model()


def rows_of(inputs: dict[str, torch.Tensor], rows: list[int]) -> dict[str, torch.Tensor]:
    """The same clips with some of the expressions."""
    return {name: value if name.startswith("pixel") else value[rows] for name, value in inputs.items()}


def assert_same(found, expected, rows=slice(None)):
    for name, tolerance in TOLERANCE.items():
        torch.testing.assert_close(found[name], expected[name][rows], atol=tolerance, rtol=0)


# What the expressions of a group share


@torch.no_grad()
def test_fusion_of_one_expression_is_that_of_sgmg(model):
    inputs = random_inputs(1, 2, num_expressions=1)
    sgmg = tiny_model().model
    expected = sgmg(**inputs).encoder_last_hidden_state
    scene = model.get_scene_features(
        model.get_video_features(inputs["pixel_values_videos"]),
        model.get_text_features(inputs["input_ids"], inputs["attention_mask"]),
    )
    torch.testing.assert_close(scene.memory[0], expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("weights_at_once", [1, 1 << 22])
def test_fusion_is_the_plain_sum_of_what_each_expression_gives(model, monkeypatch, weights_at_once):
    monkeypatch.setattr("hf_rvos.models.sgmg.modeling_fast_sgmg.WEIGHTS_AT_ONCE", weights_at_once)
    inputs = random_inputs(1, 1, 32, 40, num_expressions=3)
    video = model.get_video_features(inputs["pixel_values_videos"])
    text = model.get_text_features(inputs["input_ids"], inputs["attention_mask"])
    queries = video.projected_pixels.flatten(1, 2)
    attention = model.model.fusion.attention
    expected = sum(
        attention.attend(
            queries,
            attention.k_proj(text.words[row : row + 1] + text.word_positions[row : row + 1]),
            attention.v_proj(text.words[row : row + 1]),
            text.word_mask[row : row + 1],
        )
        for row in range(3)
    )
    found = model.model._gather_words(queries, text.words[None], text.word_positions[None], text.word_mask[None])
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_a_permutation_of_the_expressions_permutes_the_outputs(model):
    inputs = random_inputs(1, 2, num_expressions=3)
    assert_same(model(**rows_of(inputs, [2, 0, 1])), model(**inputs), [2, 0, 1])


@torch.no_grad()
def test_an_absent_expression_changes_nothing(model):
    inputs = random_inputs(1, 2, num_expressions=3)
    inputs["attention_mask"][1] = 0
    found = model(**inputs)
    assert_same({name: found[name][[0, 2]] for name in TOLERANCE}, model(**rows_of(inputs, [0, 2])))
    assert all(found[name].isfinite().all() for name in TOLERANCE)


@torch.no_grad()
def test_a_further_expression_changes_the_others(model):
    inputs = random_inputs(1, 2, num_expressions=2)
    alone, together = model(**rows_of(inputs, [0])), model(**inputs)
    for name in TOLERANCE:
        assert (alone[name][0] - together[name][0]).abs().max() > 100 * TOLERANCE[name], name


@torch.no_grad()
@pytest.mark.parametrize("queries", ["all", "best"])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_chunks_of_expressions_give_the_same_as_all_at_once(model, queries, size):
    inputs = random_inputs(2, 2) | {"video_index": torch.tensor([0, 1, 0])}
    inputs |= {name: inputs[name][[0, 1, 1]] for name in ("input_ids", "attention_mask")}
    options = {"queries": queries, "output_auxiliary": queries == "all"}
    expected = model(**inputs, **options)
    found = model(**inputs, **options, expressions_per_chunk=size)
    assert found.keys() == expected.keys()
    assert_same(found, expected)
    if queries == "all":
        assert_same(found.auxiliary_outputs[0], expected.auxiliary_outputs[0])
    else:
        assert torch.equal(found.query_index, expected.query_index)


# Groups


@torch.no_grad()
def test_videos_of_a_batch_do_not_see_each_other(model):
    inputs = random_inputs(2, 2) | {"video_index": torch.tensor([1, 0, 1])}
    inputs |= {name: inputs[name][[0, 1, 1]] for name in ("input_ids", "attention_mask")}
    together = model(**inputs)
    for video, rows in ((0, [1]), (1, [0, 2])):
        alone = rows_of(inputs, rows)
        alone["pixel_values_videos"] = inputs["pixel_values_videos"][[video]]
        alone["video_index"] = torch.zeros(len(rows), dtype=torch.long)
        assert_same(model(**alone), together, rows)


@torch.no_grad()
def test_groups_of_one_video_are_as_if_each_was_asked_alone(model):
    inputs = random_inputs(1, 2, num_expressions=4)
    together = model(**inputs, group_index=torch.tensor([7, 3, 7, 3]))
    for rows in ([0, 2], [1, 3]):
        assert_same(model(**rows_of(inputs, rows)), together, rows)


@torch.no_grad()
def test_a_padded_clip_in_the_batch_changes_nothing_for_the_other(model):
    inputs = pad(random_inputs(2, 2), [(2, 132, 136), (1, 100, 120)])
    outputs = model(**inputs)
    assert all(outputs[name].isfinite().all() for name in TOLERANCE)
    first = {name: value[:1] for name, value in inputs.items()}
    assert_same(model(**first), outputs, slice(0, 1))


@torch.no_grad()
def test_scene_features_can_be_asked_for_some_of_their_expressions(model):
    inputs = random_inputs(1, 2, num_expressions=3)
    video = model.get_video_features(inputs["pixel_values_videos"])
    text = model.get_text_features(inputs["input_ids"], inputs["attention_mask"])
    scene = model.get_scene_features(video, text, inputs["video_index"])
    found = model(
        video_features=video,
        text_features=type(text)(**{name: value[[2]] for name, value in text.items()}),
        video_index=torch.tensor([0]),
        scene_features=dataclasses.replace(scene, group_rows=scene.group_rows[[2]]),
    )
    assert_same(found, model(**inputs), [2])


def test_group_of_two_videos_is_refused(model):
    with pytest.raises(ValueError, match=r"group 4 of group_index has expressions of the videos \[0, 1\]"):
        model(**random_inputs(), group_index=torch.tensor([4, 4]))


# Decoupling


@torch.no_grad()
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("weights_at_once", [1, 1 << 22])
def test_decoupling_is_attention_of_the_shared_pixels_to_the_words_of_each_expression(
    monkeypatch, residual, weights_at_once
):
    monkeypatch.setattr("hf_rvos.models.sgmg.modeling_fast_sgmg.WEIGHTS_AT_ONCE", weights_at_once)
    decoupling = fast_model(residual_decoupling=residual).model.decoupling
    memory, words = torch.randn(2, 6, 64).double(), torch.randn(2, 3, 5, 64).double()
    positions = torch.randn_like(words)
    word_mask = torch.rand(2, 3, 5) > 0.3
    word_mask[..., 0] = True
    queries = decoupling.attention.q_proj(memory)
    found = decoupling(memory, queries, words, positions, word_mask).unflatten(0, (2, 3))
    for group in range(2):
        for place in range(3):
            pixels, row = memory[group : group + 1], (slice(group, group + 1), place)
            gathered = decoupling.attention(pixels, words[row] + positions[row], words[row], word_mask[row])
            expected = decoupling.norm(pixels + gathered) if residual else pixels * gathered
            torch.testing.assert_close(found[row], expected)


# Training


def test_every_weight_gets_a_gradient(model):
    torch.manual_seed(0)
    model = fast_model().train()
    outputs = model(**random_inputs(1, 2, num_expressions=3), labels=random_labels(3, 2))
    outputs.loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert outputs.loss_dict.keys() >= {"loss_ce", "loss_mask", "loss_mask_low", "loss_mask_low_0"}


def test_training_sees_what_inference_sees(model):
    inputs, labels = random_inputs(1, 2, num_expressions=2), random_labels(2, 2)
    trained = model(**inputs, labels=labels)
    with torch.no_grad():
        assert_same(model(**inputs), trained)


def test_annotated_frames_alone_are_predicted(model):
    with torch.no_grad():
        outputs = model(**random_inputs(1, 3, num_expressions=2), annotated_frames=torch.tensor([1]))
    assert outputs.pred_masks.shape[:3] == (2, 5, 1)


def test_warm_start_takes_over_every_weight_of_sgmg():
    sgmg = tiny_model()
    fast = FastSgMgForReferringVideoSegmentation.from_sgmg(sgmg)
    weights = fast.state_dict()
    assert all(torch.equal(weights[name], value.to(weights[name].dtype)) for name, value in sgmg.state_dict().items())
    for name, value in fast.model.fusion.attention.state_dict().items():
        assert torch.equal(fast.model.decoupling.attention.state_dict()[name], value)
    assert fast.config.model_type == "fast_sgmg"
    assert fast.training


def test_warm_start_refuses_another_shape_of_model():
    with pytest.raises(ValueError, match="config_changes change what weights there are: .*mask_refiner"):
        FastSgMgForReferringVideoSegmentation.from_sgmg(tiny_model(), mask_refinement=False)


# Wrong inputs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expressions_per_chunk": 0}, "expressions_per_chunk is 0, expected at least 1"),
        ({"expressions_per_chunk": 1, "labels": []}, "labels need all expressions at once"),
        ({"expressions_per_chunk": 1, "input_ids": None}, "input_ids is missing"),
        ({"attention_mask": torch.ones(2, 6)}, r"attention_mask has shape \(2, 6\), expected that of"),
        ({"video_index": torch.tensor([0, 2])}, r"video_index is \[0, 2\], expected values from 0 to 1"),
        ({"group_index": torch.tensor([0])}, "group_index has 1 entries, expected one for each of 2 expressions"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_input_is_named(model, change, message):
    with pytest.raises(ValueError, match=message):
        model(**random_inputs() | change)


# Around the model


@torch.no_grad()
def test_saved_model_gives_the_same(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = AutoModelForReferringVideoSegmentation.from_pretrained(tmp_path, dtype=torch.float64)
    assert isinstance(loaded, FastSgMgForReferringVideoSegmentation)
    assert isinstance(loaded.config, FastSgMgConfig)
    inputs = random_inputs(1, 1, num_expressions=2)
    assert_same(loaded(**inputs), model(**inputs))


@torch.no_grad()
def test_half_precision_gives_finite_numbers(model):
    inputs = random_inputs(1, 1, num_expressions=2)
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"].bfloat16()
    outputs = fast_model().bfloat16()(**inputs)
    assert all(outputs[name].isfinite().all() for name in TOLERANCE)


def test_tuple_holds_the_values_of_the_dict(model):
    inputs = random_inputs(1, 1, 32, 40, num_expressions=2)
    with torch.no_grad():
        assert len(model(**inputs, return_dict=False)) == len(model(**inputs))


def test_every_field_of_the_scene_is_documented():
    documented = re.findall(r"^ {8}(\w+) \(`", FastSgMgSceneFeatures.__doc__, re.MULTILINE)
    assert documented == [field.name for field in dataclasses.fields(FastSgMgSceneFeatures)]


@torch.no_grad()
def test_pipeline_puts_all_sentences_of_a_video_together():
    torch.manual_seed(0)
    processor = tiny_processor(48)
    model = FastSgMgForReferringVideoSegmentation.from_sgmg(tiny_model(text_config=TEXT_CONFIG)).float().eval()
    frames = moving_square(num_frames=2, height=48, width=64)
    segmenter = ReferringVideoSegmentationPipeline(
        model=model, processor=processor, device="cpu", task="referring-video-segmentation"
    )
    texts = ["the red square", "the blue circle"]
    tracks = segmenter(frames, text=texts)
    outputs = model(**processor(videos=frames, text=texts, return_tensors="pt"), queries="best")
    expected = processor.post_process_referring_video_segmentation(outputs, target_sizes=[(48, 64)] * 2)
    for track, other in zip(tracks, expected, strict=True):
        assert torch.equal(track["masks"], other["masks"])
