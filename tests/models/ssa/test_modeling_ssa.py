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
import copy
import dataclasses
import logging
import math
import re
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.optimize import linear_sum_assignment
from transformers import AutoBackbone
from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoFusionLayer

from hf_rvos import AutoModelForReferringVideoSegmentation
from hf_rvos.layers.attention import MultiHeadAttention
from hf_rvos.models.ssa import (
    SsaForReferringVideoSegmentation,
    SsaFrameFeatures,
    SsaModel,
    SsaModelOutput,
    SsaPredictions,
    SsaSegmentationOutput,
    SsaTextFeatures,
    SsaVideoFeatures,
    SsaVideoQueries,
    text_fusion,
)
from hf_rvos.models.ssa.position_codes import sequence_code
from hf_rvos.models.ssa.sequential_alignment import associate_queries
from hf_rvos.utils.logging import warn_once
from tests.models.loading import in_own_memory
from tests.models.referformer.tiny import VOCAB_SIZE, pad, random_inputs, random_labels
from tests.models.ssa.tiny import TEXT_CONFIG, tiny_config, tiny_model


# The model runs in float64; its logits are of the order of 1, mask logits of the tiny model reach some hundreds.
TOLERANCE = {"class_logits": 1e-6, "pred_masks": 1e-4}
FROZEN = ("model.backbone.", "model.text_encoder.")
# Every further layer is traced like the first; the decoder of frames goes through three scales.
ONE_LAYER_OF_EACH = {"encoder_layers": 1, "decoder_layers": 3, "video_decoder_layers": 1}


def assert_predictions_close(found, expected):
    for name, tolerance in TOLERANCE.items():
        torch.testing.assert_close(found[name], expected[name], atol=tolerance, rtol=0)


def count_calls(module: torch.nn.Module) -> list:
    calls = []
    module.register_forward_hook(lambda module, args, output: calls.append(args))
    return calls


@pytest.fixture(scope="module")
def model() -> SsaForReferringVideoSegmentation:
    return tiny_model()


# Outputs


def documented_shapes(output_class: type, sizes: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """The shapes that a docstring promises."""
    pattern = r"^ {8}(\w+) \(`[^`]+`(?: of shape|, shape|,) `\((.*?)\)`"
    found = re.findall(pattern, output_class.__doc__, re.MULTILINE)
    return {name: tuple(eval(size, {}, sizes) for size in re.split(", ?", shape)) for name, shape in found}


@torch.no_grad()
def test_documented_shapes_are_the_real_ones(model):
    inputs = pad(random_inputs(2, 4, 40, 68, num_expressions=3), [(4, 40, 60), (4, 33, 68)])
    inputs["video_index"] = torch.tensor([1, 0, 1])
    video = model.get_video_features(inputs["pixel_values_videos"], inputs["pixel_mask"])
    text = model.get_text_features(inputs["input_ids"], inputs["attention_mask"])
    frames = model.get_frame_features(video, text, inputs["video_index"], every_layer=True)
    queries = model.get_video_queries(frames.queries, frames.text)
    features = model.model(**inputs, every_layer=True)
    sizes = {"num_videos": 2, "num_expressions": 3, "num_frames": 4, "num_queries": 5, "num_words": 6}
    sizes |= {"channels": 8, "height": 16, "width": 24, "projection_dim": 24, "hidden_size": 64, "mask_size": 24}
    sizes |= {"num_supervised": 3, "P": 5, "E": 3, "T": 4, "N": 5, "L": 3, "S": 3}
    for output in (video, text, frames, queries, features, model._predict_for_loss(features), model(**inputs)):
        documented = documented_shapes(type(output), sizes)
        assert len(documented) >= 2
        for name, shape in documented.items():
            values = output[name] if isinstance(output[name], tuple) else (output[name],)
            for value in values:
                assert tuple(value.shape) == shape, name
    assert (len(frames.layer_queries), len(features.layer_queries), len(features.video_queries)) == (5, 5, 3)
    assert video.padded_size == features.padded_size == (64, 96)
    outputs = model(**inputs)
    assert outputs.logits.shape == (3, 5, 4, 1)
    assert outputs.pred_masks.shape == (3, 5, 4, 16, 24)
    assert outputs.pred_boxes is None


@pytest.mark.parametrize(
    "output_class",
    [
        SsaFrameFeatures,
        SsaModelOutput,
        SsaPredictions,
        SsaSegmentationOutput,
        SsaTextFeatures,
        SsaVideoFeatures,
        SsaVideoQueries,
    ],
)
def test_every_output_field_is_documented(output_class):
    documented = re.findall(r"^ {8}(\w+) \(`", output_class.__doc__, re.MULTILINE)
    inherited = {
        field.name for base in output_class.__mro__[1:] for field in getattr(base, "__dataclass_fields__", {}).values()
    }
    assert documented == [field.name for field in dataclasses.fields(output_class) if field.name not in inherited]


@torch.no_grad()
def test_frames_of_any_size_are_padded_to_the_largest_stride(model):
    for height, width in [(4, 6), (29, 33), (32, 96)]:
        inputs = random_inputs(1, 1, height, width)
        outputs = model(**inputs)
        padded_size = (math.ceil(height / 32) * 32, math.ceil(width / 32) * 32)
        assert outputs.pred_masks.shape[-2:] == (padded_size[0] // 4, padded_size[1] // 4)
        margins = (0, padded_size[1] - width, 0, padded_size[0] - height)
        by_hand = F.pad(inputs["pixel_values_videos"], margins)
        assert_predictions_close(outputs, model(**inputs | {"pixel_values_videos": by_hand}))


@torch.no_grad()
def test_tuple_holds_the_values_of_the_dict(model):
    inputs = random_inputs()
    expected = model(**inputs)
    configured = copy.deepcopy(model)
    configured.config.return_dict = False
    for found in (model(**inputs, return_dict=False), configured(**inputs)):
        assert isinstance(found, tuple)
        assert len(found) == len(expected)
        for one, other in zip(found, expected.to_tuple()):
            assert torch.equal(one, other)
    assert isinstance(model.model(**inputs, return_dict=False), tuple)


@torch.no_grad()
def test_score_of_every_frame_is_the_probability_of_the_clip(model):
    outputs = model(**random_inputs())
    probabilities = outputs.class_logits.softmax(-1)[..., 0]
    torch.testing.assert_close(outputs.logits.sigmoid(), probabilities[:, :, None, None].expand(-1, -1, 3, 1))


@torch.no_grad()
def test_auxiliary_outputs_come_on_request(model):
    assert model(**random_inputs()).auxiliary_outputs is None
    outputs = model(**random_inputs(), output_auxiliary=True)
    assert len(outputs.auxiliary_outputs) == 2
    assert outputs.auxiliary_outputs[0]["pred_masks"].shape == outputs.pred_masks.shape
    assert_predictions_close(outputs, model(**random_inputs()))


# Chosen queries


@torch.no_grad()
def test_best_query_has_the_masks_it_has_among_all(model):
    inputs = random_inputs()
    every, best = model(**inputs), model(**inputs, queries="best")
    assert best.query_index.tolist() == every.class_logits.softmax(-1)[..., 0].argmax(1).tolist()
    assert best.pred_masks.shape == (2, 1, 3, 16, 16)
    for index, query in enumerate(best.query_index):
        torch.testing.assert_close(best.pred_masks[index, 0], every.pred_masks[index, query])


@torch.no_grad()
def test_referred_queries_have_the_masks_they_have_among_all(model):
    inputs = random_inputs()
    every = model(**inputs)
    probabilities = every.class_logits.softmax(-1)[..., 0]
    # Between the second and the third of the first expression, which splits the others somehow.
    threshold = probabilities[0].sort(descending=True).values[1:3].mean().item()
    outputs = model(**inputs, queries="referred", score_threshold=threshold)
    expected = [row.nonzero().flatten().tolist() for row in probabilities > threshold]
    assert len(expected[0]) == 2
    num_kept = max(map(len, expected))
    assert outputs.query_index.tolist() == [row + [-1] * (num_kept - len(row)) for row in expected]
    for index, row in enumerate(expected):
        torch.testing.assert_close(outputs.pred_masks[index, : len(row)], every.pred_masks[index, row])
        assert (outputs.pred_masks[index, len(row) :].sigmoid() < 1e-6).all()


@torch.no_grad()
def test_no_query_may_be_referred_to(model):
    outputs = model(**random_inputs(), queries="referred", score_threshold=0.9999999)
    assert outputs.query_index.shape == (2, 0)
    assert outputs.pred_masks.shape == (2, 0, 3, 16, 16)


@torch.no_grad()
def test_threshold_of_the_configuration_is_the_default():
    low = tiny_model(score_threshold=0.0)(**random_inputs(), queries="referred")
    assert low.query_index.tolist() == [[0, 1, 2, 3, 4]] * 2


def test_referred_queries_need_a_threshold():
    with pytest.raises(ValueError, match="needs a score_threshold: the configuration has none"):
        tiny_model(score_threshold=None)(**random_inputs(), queries="referred")


# Several expressions, several videos, features


@torch.no_grad()
def test_expressions_of_a_video_equal_calls_of_their_own_and_share_the_first_stage(model):
    model = copy.deepcopy(model)
    inputs = random_inputs(1, num_expressions=4)
    stages = count_calls(model.model.backbone)
    together = model(**inputs)
    assert [(len(args[0]), args[1]) for args in stages] == [(3, 0), (12, 1), (12, 2), (12, 3)]
    for index in range(4):
        own = {name: inputs[name][index : index + 1] for name in ("input_ids", "attention_mask")}
        alone = model(inputs["pixel_values_videos"], **own)
        assert_predictions_close({name: together[name][index : index + 1] for name in TOLERANCE}, alone)


@torch.no_grad()
def test_video_index_gives_each_expression_its_video(model):
    inputs = pad(random_inputs(2), [(3, 48, 60), (2, 41, 64)])
    order = torch.tensor([1, 0, 1])
    texts = {name: inputs[name][[0, 1, 0]] for name in ("input_ids", "attention_mask")}
    videos = {name: value for name, value in inputs.items() if name.startswith("pixel")}
    found = model(**videos, **texts, video_index=order)
    expected = model(**{name: value[order] for name, value in videos.items()}, **texts)
    assert_predictions_close(found, expected)


@torch.no_grad()
def test_features_can_be_passed_back(model):
    inputs = pad(random_inputs(), [(3, 48, 60), (2, 41, 64)])
    expected = model(**inputs)
    model = copy.deepcopy(model)
    video = model.get_video_features(inputs["pixel_values_videos"], inputs["pixel_mask"])
    text = model.get_text_features(inputs["input_ids"], inputs["attention_mask"])
    stages, text_calls = count_calls(model.model.backbone), count_calls(model.model.text_encoder.text_model)
    assert_predictions_close(model(video_features=video, text_features=text), expected)
    assert text_calls == []
    assert 0 not in [args[1] for args in stages]


@torch.no_grad()
def test_video_in_pieces_equals_the_video_at_once(model):
    inputs = random_inputs(1, 5, num_expressions=2)
    expected = model(**inputs, queries="best")
    text = model.get_text_features(inputs["input_ids"], inputs["attention_mask"])
    pieces = [
        model.get_frame_features(model.get_video_features(frames), text, inputs["video_index"])
        for frames in inputs["pixel_values_videos"].split(2, dim=1)
    ]
    video = model.get_video_queries(*(torch.cat([piece[name] for piece in pieces], 1) for name in ("queries", "text")))
    torch.testing.assert_close(video.class_logits, expected.class_logits)
    embeddings = video.mask_embeddings[torch.arange(2), expected.query_index][:, None]
    masks = [model.draw_masks(embeddings, piece.mask_features) for piece in pieces]
    torch.testing.assert_close(torch.cat(masks, dim=2), expected.pred_masks)


@torch.no_grad()
def test_frames_for_several_expressions_need_to_know_whose_they_are(model):
    inputs = random_inputs(1, 2, num_expressions=2)
    video = model.get_video_features(inputs["pixel_values_videos"])
    with pytest.raises(ValueError, match="2 expressions for 1 videos. Give video_index"):
        model.get_frame_features(video, model.get_text_features(inputs["input_ids"]))


@pytest.mark.parametrize("frames_at_once", [1, 4])
@torch.no_grad()
def test_answers_do_not_depend_on_how_many_frames_are_read_at_once(model, frames_at_once):
    inputs = random_inputs(2, 3)
    other = copy.deepcopy(model)
    other.model.config.frames_at_once = frames_at_once
    stages = count_calls(other.model.backbone)
    assert_predictions_close(other(**inputs), model(**inputs))
    assert max(len(args[0]) for args in stages) == frames_at_once


# Padding and frames


@torch.no_grad()
def test_a_mask_without_padding_changes_nothing(model):
    inputs = random_inputs()
    assert_predictions_close(model(**pad(inputs, [(3, 48, 64)] * 2)), model(**inputs))


@torch.no_grad()
def test_a_clip_does_not_see_the_others_of_its_batch(model):
    inputs = pad(random_inputs(3), [(3, 40, 64), (2, 48, 50), (1, 33, 35)])
    together = model(**inputs)
    for index in range(3):
        # Alone, but padded to the same size: convolutions and norms see the padding.
        alone = model(**{name: value[index : index + 1] for name, value in inputs.items()})
        assert_predictions_close({name: together[name][index : index + 1] for name in TOLERANCE}, alone)


@pytest.mark.parametrize("queries", ["all", "best", "referred"])
@pytest.mark.parametrize("num_frames", [1, 2, 4])
@torch.no_grad()
def test_empty_frames_after_a_clip_do_not_change_it(model, queries, num_frames):
    inputs = pad(random_inputs(1, 5), [(num_frames, 48, 64)])
    options = {"queries": queries, "score_threshold": 0.1}
    found = model(**inputs, **options)
    short = {"pixel_values_videos": inputs["pixel_values_videos"][:, :num_frames], "pixel_mask": None}
    expected = model(**inputs | short, **options)
    kept = {"class_logits": found.class_logits, "pred_masks": found.pred_masks[:, :, :num_frames]}
    assert_predictions_close(kept, expected)


@torch.no_grad()
def test_padding_of_the_text_does_not_matter(model):
    inputs = random_inputs()
    extra = torch.zeros(2, 4, dtype=torch.long)
    longer = {
        "input_ids": torch.cat((inputs["input_ids"], extra + 1), dim=1),
        "attention_mask": torch.cat((inputs["attention_mask"], extra), dim=1),
    }
    assert_predictions_close(model(**inputs | longer), model(**inputs))


@torch.no_grad()
def test_no_attention_mask_means_no_padding(model):
    inputs = random_inputs()
    ones = torch.ones_like(inputs.pop("attention_mask"))
    assert_predictions_close(model(**inputs), model(**inputs, attention_mask=ones))


@torch.no_grad()
def test_words_beyond_the_limit_count_in_the_sentence_alone(model):
    text = model.get_text_features(random_inputs()["input_ids"])
    assert text.words.shape[1] == model.config.max_text_tokens == 6
    hidden = model.model.text_encoder(random_inputs()["input_ids"]).last_hidden_state
    torch.testing.assert_close(text.sentence, model.model.text_encoder.text_projection(hidden[:, 6]))


@pytest.mark.parametrize("frames", [[1, 3], [[0, 2], [1, 3]]], ids=["one", "several"])
@torch.no_grad()
def test_annotated_frames_equal_these_frames_alone(model, frames):
    inputs, frames = pad(random_inputs(2, 4), [(4, 40, 64), (4, 48, 50)]), torch.tensor(frames)
    rows = frames.view(2, -1)
    alone = {
        name: torch.stack([value[0, rows[0]], value[1, rows[1]]]) for name, value in inputs.items() if "pixel" in name
    }
    assert_predictions_close(model(**inputs, annotated_frames=frames), model(**inputs | alone))


@torch.no_grad()
def test_frames_see_each_other_through_their_queries_alone(model):
    inputs = random_inputs(1, 3)
    changed = inputs["pixel_values_videos"].clone()
    changed[:, 2] += 1
    before, after = (
        model.model(**inputs | {"pixel_values_videos": pixels}) for pixels in (inputs["pixel_values_videos"], changed)
    )
    for name in ("text", "mask_features"):
        torch.testing.assert_close(before[name][:, :2], after[name][:, :2])
    torch.testing.assert_close(before.frame_queries[:, :, :2], after.frame_queries[:, :, :2])
    assert (before.video_queries[-1] - after.video_queries[-1]).abs().max() > 1e-3


# Sequential alignment


@torch.no_grad()
def test_order_of_the_queries_matters_in_the_first_frame_alone(model):
    inputs = random_inputs(1, 4)
    features = model.get_frame_features(
        model.get_video_features(inputs["pixel_values_videos"]), model.get_text_features(inputs["input_ids"])
    )
    expected = model.get_video_queries(features.queries, features.text).class_logits
    order = torch.tensor([3, 0, 4, 1, 2])
    for frame in range(4):
        shuffled = features.queries.clone()
        shuffled[:, frame] = shuffled[:, frame, order]
        difference = (model.get_video_queries(shuffled, features.text).class_logits - expected).abs().max()
        assert difference > 1e-3 if frame == 0 else difference < 1e-9


def test_association_at_once_equals_the_one_from_frame_to_frame():
    torch.manual_seed(0)
    queries = torch.randn(2, 6, 7, 16)
    found = associate_queries(queries)
    for clip, order in zip(queries, found):
        assert order[0].tolist() == list(range(7))
        previous = clip[0]
        for frame, indices in zip(clip[1:], order[1:]):
            cost = 1 - torch.cosine_similarity(previous[:, None], frame[None], dim=-1)
            assert indices.tolist() == linear_sum_assignment(cost.numpy())[1].tolist()
            previous = frame[indices]


def test_association_survives_weights_that_are_no_longer_finite():
    assert associate_queries(torch.full((1, 3, 4, 8), torch.nan)).sort(-1).values.tolist() == [[[0, 1, 2, 3]] * 3]


# Shortcuts


def fusion_layers() -> tuple[text_fusion.SsaTextFusion, GroundingDinoFusionLayer]:
    torch.manual_seed(0)
    own = text_fusion.SsaTextFusion(hidden_size=32, inner_size=40, num_heads=4, dropout=0.0)
    for scale in (own.pixel_scale, own.text_scale):
        torch.nn.init.normal_(scale)
    sizes = {"d_model": 32, "encoder_ffn_dim": 80, "encoder_attention_heads": 8, "layer_norm_eps": 1e-5}
    plain = GroundingDinoFusionLayer(SimpleNamespace(**sizes, fusion_dropout=0.0, fusion_droppath=0.0))
    names = {"pixel_scale": "vision_param", "text_scale": "text_param", "pixel_norm": "layer_norm_vision"}
    names |= {"text_norm": "layer_norm_text", "pixel_proj": "attn.vision_proj", "text_proj": "attn.text_proj"}
    names |= {"pixel_value_proj": "attn.values_vision_proj", "text_value_proj": "attn.values_text_proj"}
    names |= {"pixel_out_proj": "attn.out_vision_proj", "text_out_proj": "attn.out_text_proj"}
    renamed = {}
    for key, value in own.state_dict().items():
        name, *rest = key.split(".")
        renamed[".".join((names[name], *rest))] = value
    plain.load_state_dict(renamed)
    return own.double(), plain.double()


def test_fusion_with_one_token_is_that_of_grounding_dino():
    own, plain = fusion_layers()
    pixels, text = torch.randn(2, 9, 32).double(), torch.randn(2, 1, 32).double()
    found = own(pixels, text)
    (expected_pixels, _), (expected_text, _) = plain(pixels, text)
    torch.testing.assert_close(found[0], expected_pixels)
    torch.testing.assert_close(found[1], expected_text)
    (found[0].square().sum() + found[1].sum()).backward()
    (expected_pixels.square().sum() + expected_text.sum()).backward()
    norms = sorted(parameter.grad.norm().item() for parameter in own.parameters())
    assert norms == pytest.approx(sorted(parameter.grad.norm().item() for parameter in plain.parameters()), abs=1e-9)


def test_attention_to_one_token_drops_weights_as_attention_does(monkeypatch):
    torch.manual_seed(0)
    attention = MultiHeadAttention(16, 4)
    token, queries = torch.randn(2, 1, 16), torch.randn(2, 5, 16)
    value = attention.v_proj(token[:, 0])
    found = text_fusion.attend_to_one_token(value, attention.out_proj, 4, 5, 0.0)
    torch.testing.assert_close(found.expand(-1, 5, -1), attention(queries, token, token))
    kept = (torch.rand(2, 5, 4) > 0.5) * 2.0
    monkeypatch.setattr(text_fusion.F, "dropout", lambda weights, probability: weights * kept)
    found = text_fusion.attend_to_one_token(value, attention.out_proj, 4, 5, 0.5)
    heads = kept[..., None] * value.unflatten(-1, (4, 4))[:, None]
    torch.testing.assert_close(found, attention.out_proj(heads.flatten(2)))


@pytest.mark.parametrize("adapter_type", ["word_sentence", "word"])
@torch.no_grad()
def test_adapter_equals_its_plain_form(adapter_type):
    model = tiny_model(adapter_type=adapter_type)
    inputs = random_inputs(2)
    text = model.get_text_features(inputs["input_ids"], inputs["attention_mask"])
    adapter, maps = model.model.adapters[1], torch.randn(3, 12, 4, 6).double()
    expressions = torch.tensor([0, 1, 1])
    seen = []
    hook = adapter.attention.q_proj.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    found = adapter(maps, text, expressions).flatten(2).transpose(1, 2)
    hook.remove()
    pixels, (query,) = maps.flatten(2).transpose(1, 2), seen
    projected, words = adapter.pixel_proj(pixels), adapter.text_proj(text.words[expressions])
    keys = words + sequence_code(words.shape[1], words.shape[2], words.device)
    words = adapter.attention(query, keys, words, text.word_mask[expressions])
    words = adapter.out_proj(adapter.norm(projected + words))
    bottleneck = adapter.bottleneck(pixels).relu()
    if adapter_type == "word":
        views = [pixels, words, bottleneck]
    else:
        sentence = adapter.text_proj(text.sentence[expressions])[:, None]
        views = [adapter.out_proj(adapter.norm(projected + adapter.attention(query, sentence, sentence)))]
        views += [words, bottleneck + pixels]
    shares = adapter.gate(torch.cat([view.mean(1) for view in views], -1)).softmax(-1)
    expected = sum(share[:, None, None] * view for share, view in zip(shares.unbind(1), views))
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_attention_masks_are_those_of_full_size_masks(model):
    features, seen = {}, []
    decoder = model.model.frame_decoder
    hook = decoder.register_forward_pre_hook(lambda module, args: features.update(pixels=args[0], levels=args[1]))
    hooks = [layer.register_forward_pre_hook(lambda module, args: seen.append(args[4])) for layer in decoder.layers]
    outputs = model.model(**random_inputs(), every_layer=True)
    for entry in (hook, *hooks):
        entry.remove()
    masks_per_layer = decoder.mask_head(torch.stack(outputs.layer_queries[:-1]))
    for index, embeddings in enumerate(masks_per_layer):
        full = embeddings.flatten(0, 1) @ outputs.frame_mask_features.flatten(0, 1).flatten(2)
        full = full.unflatten(-1, outputs.frame_mask_features.shape[-2:])
        small = F.interpolate(full, size=features["pixels"].shapes[index % 3], mode="bilinear", align_corners=False)
        blocked = (small.sigmoid() < 0.5).flatten(2)
        blocked[blocked.all(-1)] = False
        assert torch.equal(seen[index], ~blocked)


def test_inference_equals_the_form_with_gradients(model):
    inputs = pad(random_inputs(), [(3, 40, 64), (2, 48, 50)])
    with torch.no_grad():
        found = model(**inputs)
    assert_predictions_close(found, model(**inputs))


# Frozen towers


def frozen_names(model: SsaForReferringVideoSegmentation) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def test_towers_are_frozen_from_the_start_and_after_loading(model, tmp_path):
    expected = {name for name, _ in model.named_parameters() if name.startswith(FROZEN)}
    model.save_pretrained(tmp_path)
    loaded = SsaForReferringVideoSegmentation.from_pretrained(tmp_path)
    base = SsaModel.from_pretrained(tmp_path)
    assert frozen_names(tiny_model()) == frozen_names(loaded) == expected
    assert {f"model.{name}" for name in frozen_names(base)} == expected


def test_frozen_towers_are_never_in_training_mode():
    backbone = {"model_type": "convnext", "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 2, 1]}
    model = tiny_model(backbone_config=backbone | {"drop_path_rate": 0.9}).train()
    assert model.model.adapters.training
    assert not any(
        module.training for part in (model.model.backbone, model.model.text_encoder) for module in part.modules()
    )
    first, second = (model(**random_inputs()).class_logits for _ in range(2))
    assert torch.equal(first, second)


def test_layers_to_be_sharded_are_called_as_modules(model):
    # A wrapper around a layer acts when it is called, so what is used in another way must not be wrapped.
    calls = set()
    hooks = [
        module.register_forward_hook(lambda module, *_: calls.add(type(module).__name__)) for module in model.modules()
    ]
    with torch.no_grad():
        model(**random_inputs())
    for hook in hooks:
        hook.remove()
    present = {type(module).__name__ for module in model.modules()}
    assert model._no_split_modules & present <= calls
    assert {"ConvNextLayer", "SsaSemanticAdapter", "SsaFrameDecoderLayer"} <= model._no_split_modules


def test_towers_can_be_trained_if_the_configuration_says_so():
    model = tiny_model(freeze_backbone=False, freeze_text_encoder=False).train()
    assert frozen_names(model) == set()
    assert model.model.backbone.training
    model(**random_inputs(), labels=random_labels()).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_backbone_can_be_filled_from_one_that_was_trained_alone(model, tmp_path):
    config = copy.deepcopy(model.config.backbone_config)
    config.out_features = ["stage1", "stage2", "stage3", "stage4"]
    AutoBackbone.from_config(config).save_pretrained(tmp_path)
    loaded, report = type(model.model.backbone).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert all(name.startswith("hidden_states_norms.") for name in report["unexpected_keys"])
    copy.deepcopy(model).float().model.backbone.load_state_dict(loaded.state_dict())


# Saving, loading, initial values


@torch.no_grad()
def test_saved_model_gives_the_same_after_loading(model, tmp_path):
    model.save_pretrained(tmp_path)
    inputs = random_inputs()
    expected = model(**inputs)
    for auto_class in (SsaForReferringVideoSegmentation, AutoModelForReferringVideoSegmentation):
        loaded, report = auto_class.from_pretrained(tmp_path, output_loading_info=True)
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]
        found = in_own_memory(loaded)(**inputs)
        assert all(torch.equal(found[name], expected[name]) for name in TOLERANCE)


@torch.no_grad()
def test_base_model_loads_from_the_whole_one(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded, report = SsaModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    found, expected = in_own_memory(loaded)(**random_inputs()), model.model(**random_inputs())
    assert torch.equal(found.video_queries[-1], expected.video_queries[-1])


def load_without_weights(folder) -> SsaForReferringVideoSegmentation:
    tiny_config().save_pretrained(folder)
    save_file({}, folder / "model.safetensors", metadata={"format": "pt"})
    torch.manual_seed(0)
    return SsaForReferringVideoSegmentation.from_pretrained(folder)


def test_loading_without_weights_is_repeatable_and_finite(tmp_path):
    first, second = load_without_weights(tmp_path), load_without_weights(tmp_path)
    values, others = (dict(one.named_parameters()) | dict(one.named_buffers()) for one in (first, second))
    assert values.keys() == others.keys()
    for name, value in values.items():
        assert value.device.type == "cpu", name
        assert value.isfinite().all(), name
        assert torch.equal(value, others[name]), name


@pytest.mark.parametrize("source", ["new", "loaded without weights"])
def test_initial_values_are_those_of_the_layers_it_is_made_of(source, tmp_path):
    if source == "new":
        torch.manual_seed(0)
        model = SsaForReferringVideoSegmentation(tiny_config())
    else:
        model = load_without_weights(tmp_path)
    base = model.model
    fusion = base.pixel_decoder.fusion_layers[0]
    assert fusion.pixel_scale.unique().tolist() == fusion.text_scale.unique().tolist() == [pytest.approx(1e-4)]
    assert not base.pixel_decoder.encoder_layers[0].self_attn.sampling_offsets.weight.any()
    for layer in (fusion.pixel_proj, base.frame_decoder.layers[0].cross_attn.k_proj, *model.mask_head.layers):
        bound = math.sqrt(6 / sum(layer.weight.shape))  # of Xavier's uniform distribution
        assert 0.9 * bound < layer.weight.abs().max().item() <= bound
        assert not layer.bias.any()
    for tensor in (
        base.pixel_decoder.level_embedding,
        base.frame_decoder.query_positions,
        base.frame_decoder.level_embedding,
        base.video_decoder.query_positions,
        base.video_decoder.track_positions,
    ):
        assert tensor.mean().item() == pytest.approx(0, abs=0.25)
        assert tensor.std().item() == pytest.approx(1, abs=0.2)


def test_weights_in_the_checkpoint_are_kept_and_the_others_initialised(model, tmp_path):
    missing = ("pixel_scale", "level_embedding", "query_positions", "class_head", "mask_head.layers.1")
    state_dict = {name: value for name, value in model.state_dict().items() if not any(m in name for m in missing)}
    model.save_pretrained(tmp_path, state_dict=dict(state_dict))
    loaded, report = SsaForReferringVideoSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    for name, value in loaded.state_dict().items():
        if name in state_dict:
            assert torch.equal(value, state_dict[name]), name
        else:
            assert name in report["missing_keys"]
            assert value.isfinite().all()
            assert not torch.equal(value, model.state_dict()[name]), name


def test_word_embeddings_can_be_resized(model):
    model = copy.deepcopy(model)
    model.resize_token_embeddings(VOCAB_SIZE + 3)
    assert model.get_input_embeddings().weight.shape == (VOCAB_SIZE + 3, 32)
    assert model.model.text_encoder.text_model.embeddings.token_embedding is model.get_input_embeddings()


# Precision, speed, devices


@torch.no_grad()
def test_eager_text_attention_equals_the_fused_one(model):
    eager = tiny_model(text_config=TEXT_CONFIG)
    eager.set_attn_implementation("eager")
    assert eager.model.text_encoder.config._attn_implementation == "eager"
    assert_predictions_close(eager(**random_inputs()), model(**random_inputs()))


@pytest.mark.parametrize("setting", ["weights", "autocast"])
@torch.no_grad()
def test_bfloat16_stays_near_float32(setting):
    # With the small weights of a new model: rounding can turn the masked attention of large ones elsewhere.
    torch.manual_seed(0)
    model = SsaForReferringVideoSegmentation(tiny_config()).eval()
    inputs = pad(random_inputs(), [(3, 40, 64), (2, 48, 50)])
    clips = inputs.pop("pixel_values_videos").float()
    expected = model(clips, **inputs)
    if setting == "weights":
        found = copy.deepcopy(model).bfloat16()(clips.bfloat16(), **inputs)
    else:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model(clips, **inputs)
    assert (found.pred_masks.float() - expected.pred_masks).abs().mean() < 0.1 * expected.pred_masks.abs().mean()
    assert (found.class_logits.float() - expected.class_logits).abs().max() < 0.1 * expected.class_logits.abs().max()


@torch.no_grad()
def test_pixel_decoder_is_not_rounded_by_autocast(model):
    decoder = copy.deepcopy(model).float().model.pixel_decoder
    torch.manual_seed(0)
    maps = [
        torch.randn(1, channels, 64 // stride, 64 // stride)
        for channels, stride in ((8, 4), (12, 8), (16, 16), (20, 32))
    ]
    text = torch.randn(1, 1, 64)
    expected = decoder(maps, text)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = decoder(maps, text)
    assert torch.equal(found.fine_maps, expected.fine_maps)
    assert torch.equal(found.text, expected.text)


@torch.no_grad()
def test_wishing_for_kernels_does_no_harm_on_the_cpu(model, tmp_path, caplog):
    warn_once.cache_clear()
    model.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        loaded = SsaForReferringVideoSegmentation.from_pretrained(tmp_path, use_kernels=True)
        loaded.train()
        loaded.eval()
        loaded.set_use_kernels(True)
    assert sum("kernel" in record.message.lower() for record in caplog.records) <= 1
    assert_predictions_close(loaded(**random_inputs()), model(**random_inputs()))


@pytest.mark.parametrize("queries", ["all", "best"])
@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_nothing_but_the_association_waits_for_values_on_the_device(padded, queries):
    # Tensors on the meta device have no values, so whatever would fetch one fails, but the association, which is told
    # the shape alone there.
    model = tiny_model()
    inputs = random_inputs(1, num_expressions=3)
    if padded:
        inputs = pad(inputs, [(3, 40, 60)])
    inputs = {name: value.to("meta") for name, value in inputs.items()}
    outputs = model.to("meta")(**inputs, queries=queries)
    assert outputs.pred_masks.device.type == "meta"
    assert outputs.pred_masks.shape == (3, 5 if queries == "all" else 1, 3, 16, 16)


@pytest.mark.slow  # tracing takes ten seconds or more
@torch.no_grad()
def test_traced_as_one_graph():
    model, inputs = tiny_model(**ONE_LAYER_OF_EACH), random_inputs(2, 2)
    expected = model(**inputs, queries="best")
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert_predictions_close(compiled(**inputs, queries="best"), expected)


@pytest.mark.slow  # tracing takes ten seconds or more
@torch.no_grad()
def test_exported_program_gives_the_same_and_leaves_the_model_usable():
    from transformers.exporters import DynamoConfig, DynamoExporter

    model, inputs = tiny_model(**ONE_LAYER_OF_EACH), pad(random_inputs(2, 2), [(2, 40, 64), (1, 48, 50)])
    program = DynamoExporter().export(model, inputs, DynamoConfig(dynamic=False))
    assert_predictions_close(program(**inputs), model(**inputs))


# Training


def test_loss_of_padded_clips_of_different_size_and_length_is_finite():
    model = tiny_model().train()
    inputs = pad(random_inputs(2, 4), [(4, 40, 64), (2, 48, 50)])
    labels = [random_labels(1, 4, 40, 64)[0], random_labels(1, 4, 48, 50)[0]]
    labels[1]["masks"][2:] = False
    outputs = model(**inputs, labels=labels)
    outputs.loss.backward()
    assert all(value.isfinite() for value in outputs.loss_dict.values())
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.requires_grad)


def test_gradient_reaches_every_trainable_parameter_and_no_other():
    model = tiny_model().train()
    model(**random_inputs(), labels=random_labels()).loss.backward()
    # A bias that all keys share cancels in the softmax, as does all that precedes the attention to one token.
    cancelled = (
        r"k_proj\.bias$|time_weight\.bias$|fusion_layers\.\d\.pixel_proj\.bias$|frame_decoder.*text_attn\.[qk]_proj"
    )
    for name, parameter in model.named_parameters():
        if name.startswith(FROZEN):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert re.search(cancelled, name) or parameter.grad.abs().max() > 1e-7, name


@pytest.mark.parametrize("freeze_backbone", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(freeze_backbone):
    inputs = pad(random_inputs(), [(3, 40, 64), (2, 48, 50)])
    labels = [random_labels(1, 3, 40, 64)[0], random_labels(1, 3, 48, 50)[0]]
    dropouts = {"adapter_dropout": 0.1, "fusion_dropout": 0.1}
    model = tiny_model(freeze_backbone=freeze_backbone, **dropouts).train()
    checkpointed = copy.deepcopy(model)
    checkpointed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for one in (model, checkpointed):
        torch.manual_seed(0)
        one(**inputs, labels=labels).loss.backward()
    for (name, parameter), other in zip(model.named_parameters(), checkpointed.named_parameters()):
        assert (parameter.grad is None) == (other[1].grad is None), name
        if parameter.grad is not None:
            torch.testing.assert_close(other[1].grad, parameter.grad, msg=name)


def test_gradient_checkpointing_covers_blocks_of_the_frozen_tower_and_adapters():
    def kept_for_backward(model) -> int:
        kept = {}

        def keep(tensor):
            kept[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            features = model.model.get_frame_features(
                model.model.get_video_features(random_inputs()["pixel_values_videos"]),
                model.model.get_text_features(random_inputs()["input_ids"]),
            )
        assert features.queries.requires_grad
        return sum(kept.values())

    model = tiny_model().train()
    plain = kept_for_backward(model)
    model.gradient_checkpointing_enable()
    seen = []
    check = model.model.backbone._gradient_checkpointing_func
    model.model.backbone._gradient_checkpointing_func = lambda block, *args: seen.append(block) or check(block, *args)
    assert kept_for_backward(model) < 0.5 * plain
    assert len(seen) == 4  # all blocks but the one of the first stage, before which nothing is trained
    assert all(adapter.gradient_checkpointing for adapter in model.model.adapters)


def test_what_inference_remembers_serves_training():
    model, inputs = tiny_model(), random_inputs(1, 2, 36, 52)
    with torch.inference_mode():
        model(**inputs)
    model(**inputs, labels=random_labels(1, 2, 36, 52)).loss.backward()
    assert model.model.pixel_decoder.level_embedding.grad.isfinite().all()


# Wrong inputs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_values_videos": torch.zeros(5, 3, 48, 64)}, "pixel_values_videos has 4 dimensions, expected 5"),
        ({"pixel_mask": torch.ones(2, 3, 64, 48)}, r"pixel_mask has shape .*, expected \(2, 3, 48, 64\)"),
        ({"pixel_values_videos": None}, "pixel_values_videos is missing"),
        ({"input_ids": None}, "input_ids is missing"),
        ({"input_ids": torch.zeros(7, dtype=torch.long)}, "input_ids has 1 dimensions, expected 2"),
        ({"attention_mask": torch.ones(2, 6)}, r"attention_mask has shape \(2, 6\), expected that of .*\(2, 7\)"),
        ({"input_ids": torch.ones(2, 21, dtype=torch.long), "attention_mask": None}, "(?i)sequence length"),
        ({"pixel_values_videos": torch.zeros(1, 3, 3, 48, 64)}, "2 expressions for 1 videos. Give video_index"),
        ({"annotated_frames": torch.tensor([0, 3])}, r"annotated_frames is \[0, 3\], expected values from 0 to 2"),
        ({"queries": "top"}, """queries is 'top', expected "all", "best" or "referred\""""),
        ({"queries": "best", "labels": []}, """labels needs the masks of all queries: call with queries="all\""""),
        ({"queries": "referred", "output_auxiliary": True}, "output_auxiliary needs the masks of all queries"),
        ({"labels": random_labels(1)}, "labels has 1 entries, expected 2"),
        ({"labels": random_labels(2, 2)}, r"labels\[0\] has masks of shape \(1, 2, 48, 64\)"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_input_is_named_before_or_instead_of_work(model, change, message):
    with pytest.raises(ValueError, match=message):
        model(**random_inputs() | change)


def test_video_index_is_checked_before_the_backbone_runs(model):
    model = copy.deepcopy(model)
    calls = count_calls(model.model.backbone)
    with pytest.raises(ValueError, match="video_index"):
        model(**random_inputs() | {"video_index": torch.tensor([0, 5])})
    assert calls == []
