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

import pytest
import torch
from safetensors.torch import save_file

from hf_rvos import AutoModelForReferringVideoSegmentation
from hf_rvos.modeling_outputs import ReferringVideoSegmentationOutput
from hf_rvos.models.sgmg import (
    SgMgForReferringVideoSegmentation,
    SgMgModel,
    SgMgModelOutput,
    SgMgTextFeatures,
    SgMgVideoFeatures,
    modeling_sgmg,
)
from hf_rvos.models.sgmg.modeling_sgmg import (
    SgMgSpectrumAugmentation,
    _merge_levels,
    gaussian_filters,
    half_spectrum_filters,
)
from hf_rvos.pipelines import ReferringVideoSegmentationPipeline
from hf_rvos.utils.logging import warn_once
from tests.models.loading import in_own_memory
from tests.models.sgmg.tiny import (
    SINGLE_FRAMES,
    TEXT_CONFIG,
    VOCAB_SIZE,
    pad,
    random_inputs,
    random_labels,
    tiny_config,
    tiny_model,
)
from tests.tiny_segmenter import moving_square, tiny_processor


# The model runs in float64 but keeps its boxes in float32, and mask logits of the tiny model reach 1000.
TOLERANCE = {"logits": 1e-5, "pred_boxes": 1e-6, "pred_masks": 1e-3}


def assert_predictions_close(found, expected):
    for name, tolerance in TOLERANCE.items():
        torch.testing.assert_close(found[name], expected[name], atol=tolerance, rtol=0)


def count_calls(module: torch.nn.Module) -> list:
    calls = []
    module.register_forward_hook(lambda module, args, output: calls.append(args))
    return calls


@pytest.fixture(scope="module")
def model() -> SgMgForReferringVideoSegmentation:
    return tiny_model()


# Outputs


def documented_shapes(output_class: type, sizes: dict[str, int]) -> dict[str, tuple[set[int], ...]]:
    """The shapes that a docstring promises; a size such as "1 or num_videos" leaves a choice."""

    def choices(size: str) -> set[int]:
        return {eval(choice, {}, sizes) for choice in size.split(" or ")}

    pattern = r"^ {8}(\w+) \(`[^`]+` of shape `\((.*?)\)`"
    found = re.findall(pattern, output_class.__doc__, re.MULTILINE)
    return {name: tuple(choices(size) for size in re.split(", ?", shape) if size) for name, shape in found}


def tensors_of(value) -> list[torch.Tensor]:
    return list(value) if isinstance(value, tuple) else list(value.values()) if isinstance(value, dict) else [value]


@pytest.mark.parametrize("padded", [False, True])
def test_documented_shapes_are_the_real_ones(padded):
    model = tiny_model(num_classes=6)
    inputs = random_inputs(2, 3, num_expressions=3) | {"video_index": torch.tensor([1, 0, 1])}
    if padded:
        inputs = pad(inputs, [(3, 132, 130), (3, 120, 136)])
    captured = {}
    hook = model.model.register_forward_hook(lambda module, args, output: captured.update(model=output))
    outputs = model(**inputs, labels=random_labels(3, 3, 120, 130))
    hook.remove()
    best = model(**inputs, queries="best")
    outputs.query_index = best.query_index
    video = model.get_video_features(inputs["pixel_values_videos"], inputs.get("pixel_mask"))
    text = model.get_text_features(inputs["input_ids"], inputs["attention_mask"])
    # Strides 8 to 64 of 132x136: 17x17, 9x9, 5x5 and 3x3.
    sizes = {"num_videos": 2, "num_expressions": 3, "num_queries": 5, "num_frames": 3, "num_classes": 6}
    sizes |= {"hidden_size": 64, "num_words": 7, "num_tokens": 289 + 81 + 25 + 9, "height": 17, "width": 17}
    sizes |= {"mask_height": 132, "mask_width": 136}
    for output in (outputs, captured["model"], video, text):
        documented = documented_shapes(type(output), sizes)
        assert {"logits", "pixels", "words", "hidden_states"} & documented.keys()
        for name, shape in documented.items():
            if output.get(name) is None:
                assert not padded
                assert name in ("pixel_mask", "valid_ratios", "frame_mask")
                continue
            for tensor in tensors_of(output[name]):
                assert len(tensor.shape) == len(shape), name
                assert all(size in choice for size, choice in zip(tensor.shape, shape)), (name, tensor.shape)
    assert best.pred_masks.shape == (3, 1, 3, 132, 136)


@pytest.mark.parametrize(
    "output_class",
    [ReferringVideoSegmentationOutput, SgMgModelOutput, SgMgVideoFeatures, SgMgTextFeatures],
)
def test_every_output_field_is_documented(output_class):
    documented = re.findall(r"^ {8}(\w+) \(`", output_class.__doc__, re.MULTILINE)
    assert documented == [field.name for field in dataclasses.fields(output_class)]


@pytest.mark.parametrize("size", [(8, 8), (33, 70), (133, 150)])
@torch.no_grad()
def test_masks_have_the_size_of_the_frames_rounded_up_to_the_finest_map(model, size):
    outputs = model(**random_inputs(1, 1, *size))
    assert outputs.pred_masks.shape == (1, 5, 1, *(math.ceil(side / 4) * 4 for side in size))
    assert outputs.mask_stride == 1
    assert all(outputs[name].isfinite().all() for name in TOLERANCE)


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
            assert torch.equal(one, other) if torch.is_tensor(one) else one == other
    assert isinstance(model.model(**inputs, return_dict=False), tuple)


@torch.no_grad()
def test_two_calls_give_the_same(model):
    first, second = model(**random_inputs()), model(**random_inputs())
    assert all(torch.equal(first[name], second[name]) for name in TOLERANCE)


@torch.no_grad()
def test_reference_points_are_the_centres_of_the_layer_before(model):
    outputs = model(**random_inputs(), output_auxiliary=True)
    assert torch.equal(outputs.reference_points, outputs.auxiliary_outputs[-1]["pred_boxes"][..., :2])


@torch.no_grad()
def test_reference_points_of_a_single_layer_are_the_initial_ones():
    model = tiny_model(decoder_layers=1)
    decoder = model.model.decoder
    initial = decoder.reference_points(decoder.query_positions).sigmoid()
    outputs = model(**random_inputs())
    torch.testing.assert_close(outputs.reference_points, initial[None, :, None].expand(2, 5, 2, 2).float())


@torch.no_grad()
def test_auxiliary_outputs_come_on_request(model):
    assert model(**random_inputs()).auxiliary_outputs is None
    outputs = model(**random_inputs(), output_auxiliary=True)
    assert len(outputs.auxiliary_outputs) == 1
    for name in TOLERANCE:
        assert outputs.auxiliary_outputs[0][name].shape == outputs[name].shape


# Best query


@torch.no_grad()
def test_best_query_has_the_masks_it_has_among_all(model):
    inputs = random_inputs()
    every, best = model(**inputs), model(**inputs, queries="best")
    assert torch.equal(best.logits, every.logits)
    assert torch.equal(best.pred_boxes, every.pred_boxes)
    for index, query in enumerate(best.query_index):
        torch.testing.assert_close(best.pred_masks[index, 0], every.pred_masks[index, query], atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_best_query_costs_masks_of_one_query_and_one_layer(model):
    model = copy.deepcopy(model)
    controller, refiner = count_calls(model.mask_controller), count_calls(model.mask_refiner)
    scores = [count_calls(head) for head in model.class_heads]
    model(**random_inputs(), queries="best")
    assert [call[0].shape for call in controller] == [(4, 1, 64)]  # 2 clips of 2 frames, 1 query
    assert [call[0].shape for call in refiner] == [(4, 1, 16, 17, 17)]
    assert [len(calls) for calls in scores] == [0, 1]


# What is computed in a shorter way


def plain_augmentation(module, pixels, bump):
    """Section 3.2 as the released code computes it: a convolution for the scale, and the whole complex spectrum."""
    maps = pixels.permute(0, 3, 1, 2)
    pooled = module.scale_conv(maps).mean((-2, -1))
    scale = module.scale_output(module.scale_hidden(pooled).relu()).sigmoid()
    spectrum = torch.fft.fft2(maps) * (1 - scale[:, :, None, None] * bump)
    stacked = torch.cat((spectrum.real, spectrum.imag), 1)
    real, imaginary = module.spectrum_conv2(module.spectrum_conv1(stacked).relu()).chunk(2, 1)
    return (maps + torch.fft.ifft2(torch.complex(real, imaginary)).real).permute(0, 2, 3, 1)


@pytest.mark.parametrize("shape", [(8, 12), (9, 7), (8, 5), (5, 8), (3, 3)])
@pytest.mark.parametrize("training", [False, True])
def test_half_spectrum_and_window_means_equal_the_whole_spectrum_and_the_convolution(shape, training):
    torch.manual_seed(0)
    module = SgMgSpectrumAugmentation(16).double()
    pixels = torch.randn(3, *shape, 16, dtype=torch.float64, requires_grad=training)
    # The resized filter is not symmetric, nor is that of odd sizes.
    shapes = ((17, 24), shape)
    bump = gaussian_filters(shapes, 3.0, pixels.device)[1].double()
    halves = half_spectrum_filters(shapes, 3.0, pixels.device)[1]
    with torch.set_grad_enabled(training):
        found, expected = module(pixels, halves), plain_augmentation(module, pixels, bump)
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-7)
        if training:
            weight = torch.randn_like(found)
            found, expected = (
                torch.autograd.grad((output * weight).sum(), [pixels, *module.parameters()])
                for output in (found, expected)
            )
            for one, other in zip(found, expected):
                torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-6)


@torch.no_grad()
def test_frames_in_pieces_equal_frames_at_once(monkeypatch):
    torch.manual_seed(0)
    module, pixels = SgMgSpectrumAugmentation(16), torch.randn(5, 6, 7, 16)
    (filters,) = half_spectrum_filters(((6, 7),), 7.0, pixels.device)
    calls = []
    plain = module.forward_at_once
    monkeypatch.setattr(
        module, "forward_at_once", lambda part, filters: (calls.append(len(part)), plain(part, filters))[1]
    )
    monkeypatch.setattr(modeling_sgmg, "CELLS_IN_CACHE", 2 * 6 * 7)
    torch.testing.assert_close(module(pixels, filters), plain(pixels, filters))
    assert calls == [2, 2, 1]


def test_filters_are_resized_from_level_to_level():
    first, second, third = gaussian_filters(((16, 12), (8, 6), (4, 3)), 7.0, torch.device("cpu"))
    assert first[8, 6] == 1
    assert first[8, 0] == pytest.approx(math.exp(-36 / 98))
    torch.testing.assert_close(second, first.view(8, 2, 6, 2).mean((1, 3)))  # bilinear at half the size
    torch.testing.assert_close(third, second.view(4, 2, 3, 2).mean((1, 3)))


@pytest.mark.parametrize("shapes", [[(23, 40), (12, 20), (6, 10), (3, 5)], [(1, 2), (1, 1), (1, 1), (1, 1)]])
def test_levels_are_merged_as_by_bicubic_interpolation(shapes):
    torch.manual_seed(0)
    memory = torch.randn(2, sum(height * width for height, width in shapes), 3).double()
    levels = memory.split([height * width for height, width in shapes], dim=1)
    maps = [tokens.transpose(1, 2).unflatten(2, shape) for tokens, shape in zip(levels, shapes[:3])]
    expected = sum(
        torch.nn.functional.interpolate(level, size=shapes[0], mode="bicubic", align_corners=False) for level in maps
    )
    torch.testing.assert_close(_merge_levels(memory, shapes), expected)


@torch.no_grad()
def test_guides_made_once_equal_a_convolution_over_logits_and_map(model):
    stage, guide_conv = model.mask_refiner.fine, model.model.guide_convs[1]
    masks, fmap = torch.randn(2, 3, 16, 6, 7).double(), torch.randn(2, 8, 6, 7).double()
    both = torch.nn.Conv2d(16 + 8, 6, 3, padding=1).double()
    both.weight.copy_(torch.cat((stage.mask_conv.weight, guide_conv.weight), 1))
    both.bias.copy_(stage.mask_conv.bias)
    stacked = torch.cat((masks.flatten(0, 1), fmap.repeat_interleave(3, 0)), 1)
    expected = masks + stage.output_conv(both(stacked.relu()).relu()).view_as(masks)
    torch.testing.assert_close(stage(masks, guide_conv(fmap.relu())), expected)


# Parts that can be taken out


@pytest.mark.parametrize(
    ("without", "stride"),
    [
        ({"spectrum_augmentation": False}, 1),
        ({"patch_size": 1}, 4),
        ({"patch_size": 2}, 2),
        ({"mask_refinement": False}, 2),
        ({"patch_size": 1, "mask_refinement": False, "spectrum_augmentation": False}, 8),
    ],
    ids=["spectrum", "patches", "half_patches", "refinement", "all"],
)
def test_parts_of_the_paper_can_be_taken_out(without, stride):
    model, inputs = tiny_model(**without), random_inputs()
    outputs = model.train()(**inputs, labels=random_labels())
    outputs.loss.backward()
    assert ("loss_mask_low" in outputs.loss_dict) == model.config.mask_refinement
    assert all(parameter.grad is not None for parameter in model.parameters())
    with torch.no_grad():
        every, best = model.eval()(**inputs), model(**inputs, queries="best")
    assert every.mask_stride == stride
    config = model.config
    cells = (33, 34) if config.mask_refinement else (17, 17)
    assert every.pred_masks.shape[-2:] == tuple(side * config.patch_size for side in cells)
    for index, query in enumerate(best.query_index):
        torch.testing.assert_close(best.pred_masks[index, 0], every.pred_masks[index, query], atol=1e-3, rtol=1e-4)


# Several expressions, several videos, features


@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_eight_expressions_of_a_video_equal_eight_calls_and_look_at_the_video_once(model, padded):
    model = copy.deepcopy(model)
    inputs = random_inputs(1, num_expressions=8)
    if padded:
        inputs = pad(inputs, [(2, 120, 130)])
    backbone_calls, text_calls = count_calls(model.model.backbone), count_calls(model.model.text_encoder)
    spectra = [count_calls(spectrum) for spectrum in model.model.pixel_spectra]
    guides = [count_calls(conv) for conv in model.model.guide_convs]
    together = model(**inputs)
    assert all(len(calls) == 1 for calls in (backbone_calls, text_calls, *spectra, *guides))
    assert backbone_calls[0][0].shape[0] == 1
    assert all(calls[0][0].shape[0] == 2 for calls in (*spectra, *guides))  # the frames of the video
    for index in range(8):
        own = {name: inputs[name][index : index + 1] for name in ("input_ids", "attention_mask")}
        alone = model(**{name: inputs[name] for name in inputs if name.startswith("pixel")}, **own)
        assert_predictions_close({name: together[name][index : index + 1] for name in TOLERANCE}, alone)


@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_video_index_gives_each_expression_its_video(model, padded):
    inputs = random_inputs(2)
    if padded:
        inputs = pad(inputs, [(2, 132, 130), (2, 120, 136)])
    order = torch.tensor([1, 0, 1])
    texts = {name: inputs[name][[0, 1, 0]] for name in ("input_ids", "attention_mask")}
    videos = {name: value for name, value in inputs.items() if name.startswith("pixel")}
    found = model(**videos, **texts, video_index=order)
    expected = model(**{name: value[order] for name, value in videos.items()}, **texts)
    assert_predictions_close(found, expected)


@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_features_can_be_passed_back(model, padded):
    inputs = random_inputs()
    if padded:
        inputs = pad(inputs, [(2, 132, 130), (2, 120, 136)])
    expected = model(**inputs)
    model = copy.deepcopy(model)
    video = model.get_video_features(inputs["pixel_values_videos"], inputs.get("pixel_mask"))
    text = model.get_text_features(inputs["input_ids"], inputs["attention_mask"])
    backbone_calls, text_calls = count_calls(model.model.backbone), count_calls(model.model.text_encoder)
    assert_predictions_close(model(video_features=video, text_features=text), expected)
    assert backbone_calls == text_calls == []
    texts = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    assert_predictions_close(model(video_features=video, **texts), expected)
    assert len(text_calls) == 1
    assert backbone_calls == []


@torch.no_grad()
def test_text_features_serve_the_next_clip(model):
    inputs = random_inputs()
    text = model.get_text_features(inputs["input_ids"], inputs["attention_mask"])
    next_clip = inputs["pixel_values_videos"].flip(1)
    found = model(pixel_values_videos=next_clip, text_features=text)
    assert_predictions_close(found, model(**inputs | {"pixel_values_videos": next_clip}))


# Padding


@torch.no_grad()
def test_a_mask_without_padding_changes_nothing(model):
    inputs = random_inputs()
    assert_predictions_close(model(**pad(inputs, [(2, 132, 136)] * 2)), model(**inputs))


@torch.no_grad()
def test_a_clip_does_not_see_the_others_of_its_batch(model):
    inputs = pad(random_inputs(3), [(2, 120, 136), (2, 132, 110), (2, 90, 100)])
    together = model(**inputs)
    for index in range(3):
        # Alone, but padded to the same size: group norms, spectra and convolutions see the padding.
        alone = model(**{name: value[index : index + 1] for name, value in inputs.items()})
        assert_predictions_close({name: together[name][index : index + 1] for name in TOLERANCE}, alone)


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


@pytest.mark.parametrize("queries", ["all", "best"])
@torch.no_grad()
def test_empty_frames_after_a_clip_do_not_change_it(queries):
    # With a backbone of single frames: the windows of Video Swin reach into the empty frames.
    model = tiny_model(SINGLE_FRAMES)
    inputs = pad(random_inputs(1, 4), [(2, 120, 130)])
    found = model(**inputs, queries=queries)
    short = {name: inputs[name][:, :2] for name in ("pixel_values_videos", "pixel_mask")}
    expected = model(**inputs | short, queries=queries)
    assert_predictions_close({name: found[name][:, :, :2] for name in TOLERANCE}, expected)
    assert found.query_index == expected.query_index


@torch.no_grad()
def test_clips_of_different_length_give_finite_predictions(model):
    outputs = model(**pad(random_inputs(2, 4), [(4, 132, 136), (1, 120, 130)]))
    assert all(outputs[name].isfinite().all() for name in TOLERANCE)


@torch.no_grad()
def test_boxes_and_masks_are_measured_in_the_unpadded_frame(model):
    model = copy.deepcopy(model)
    seen = []
    model.mask_head.register_forward_pre_hook(lambda module, args: seen.append(args[3]))
    model(**pad(random_inputs(), [(2, 120, 136), (2, 132, 110)]))
    assert seen[0].tolist() == [[120, 136]] * 2 + [[132, 110]] * 2


# Frames


@torch.no_grad()
def test_annotated_frame_is_predicted_from_the_whole_clip(model):
    inputs = random_inputs(2, 4)
    frames = torch.tensor([1, 3])
    outputs = model(**inputs, annotated_frames=frames)
    assert outputs.pred_masks.shape == (2, 5, 1, 132, 136)
    changed = inputs["pixel_values_videos"].clone()
    changed[:, 2] += 1
    other = model(**inputs | {"pixel_values_videos": changed}, annotated_frames=frames)
    assert (outputs.logits != other.logits).all()


@pytest.mark.parametrize("frames", [[1, 3], [[0, 2], [1, 3]]], ids=["one", "several"])
@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_annotated_frames_equal_these_frames_alone_with_a_backbone_of_single_frames(padded, frames):
    model = tiny_model(SINGLE_FRAMES)
    inputs, frames = random_inputs(2, 4), torch.tensor(frames)
    if padded:
        inputs = pad(inputs, [(4, 120, 136), (4, 132, 110)])
    rows = frames.view(2, -1)
    alone = {
        name: torch.stack([value[0, rows[0]], value[1, rows[1]]]) for name, value in inputs.items() if "pixel" in name
    }
    found = model(**inputs, annotated_frames=frames)
    assert_predictions_close(found, model(**inputs | alone))


@torch.no_grad()
def test_only_the_backbone_looks_across_time():
    model = tiny_model(SINGLE_FRAMES)
    inputs = random_inputs(1, 3)
    changed = inputs["pixel_values_videos"].clone()
    changed[:, 2] += 1
    before, after = model(**inputs), model(**inputs | {"pixel_values_videos": changed})
    assert_predictions_close(*({name: out[name][:, :, :2] for name in TOLERANCE} for out in (before, after)))
    assert (before.pred_masks[:, :, 2] - after.pred_masks[:, :, 2]).abs().max() > 0.1


# Saving, loading, initial values


@torch.no_grad()
def test_saved_model_gives_the_same_after_loading(model, tmp_path):
    model.save_pretrained(tmp_path)
    inputs = random_inputs()
    expected = model(**inputs)
    for auto_class in (SgMgForReferringVideoSegmentation, AutoModelForReferringVideoSegmentation):
        loaded, report = auto_class.from_pretrained(tmp_path, output_loading_info=True)
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]
        found = in_own_memory(loaded)(**inputs)
        assert all(torch.equal(found[name], expected[name]) for name in TOLERANCE)


@torch.no_grad()
def test_base_model_loads_from_the_whole_one(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded, report = SgMgModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    found, expected = in_own_memory(loaded)(**random_inputs()), model.model(**random_inputs())
    assert torch.equal(found.boxes[-1], expected.boxes[-1])


def load_without_weights(folder) -> SgMgForReferringVideoSegmentation:
    tiny_config(hidden_size=128, attention_heads=8).save_pretrained(folder)
    save_file({}, folder / "model.safetensors", metadata={"format": "pt"})
    torch.manual_seed(0)
    return SgMgForReferringVideoSegmentation.from_pretrained(folder)


def test_loading_without_weights_is_repeatable_and_finite(tmp_path):
    first, second = load_without_weights(tmp_path), load_without_weights(tmp_path)
    values, others = dict(first.named_parameters()), dict(second.named_parameters())
    values |= dict(first.named_buffers())
    others |= dict(second.named_buffers())
    assert values.keys() == others.keys()
    for name, value in values.items():
        assert value.device.type == "cpu", name
        assert value.isfinite().all(), name
        assert torch.equal(value, others[name]), name


@pytest.mark.parametrize("source", ["new", "loaded without weights"])
def test_initial_values_are_those_of_the_released_code(source, tmp_path):
    if source == "new":
        torch.manual_seed(0)
        model = SgMgForReferringVideoSegmentation(tiny_config(hidden_size=128, attention_heads=8))
    else:
        model = load_without_weights(tmp_path)
    base, decoder = model.model, model.model.decoder
    for head in model.class_heads:
        torch.testing.assert_close(head.bias.detach().sigmoid(), torch.tensor([0.01]))
    assert decoder.box_heads[0].layers[-1].bias.tolist() == [0, 0, -2, -2]
    assert not base.encoder_layers[0].self_attn.sampling_offsets.weight.any()

    def bound(weight):  # of Xavier's uniform distribution
        fan_in, fan_out = weight[0].numel(), weight.shape[0] * weight[0, 0].numel()
        return math.sqrt(6 / (fan_in + fan_out))

    xavier = [base.fusion.attention.q_proj, base.level_projections[3].conv, decoder.reference_points]
    xavier += [
        base.encoder_layers[0].self_attn.value_proj,
        decoder.layers[-1].cross_attn.output_proj,
        base.encoder_layers[0].feed_forward.fc1,
    ]
    xavier += [decoder.layers[0].self_attn.k_proj, decoder.box_heads[0].layers[0], *model.mask_controller.layers]
    for layer in xavier:
        largest = layer.weight.abs().max().item()
        assert 0.95 * bound(layer.weight) < largest <= bound(layer.weight)
        assert not layer.bias.any()
    spectrum = base.fused_spectra[3]
    uniform = [spectrum.scale_conv, spectrum.scale_hidden, spectrum.spectrum_conv2, base.word_projection.linear]
    for layer in (*uniform, base.guide_convs[1], model.mask_refiner.fine.output_conv):
        largest = layer.weight[0].numel() ** -0.5
        assert 0.95 * largest < layer.weight.abs().max().item() <= largest
        if layer.bias is not None:
            assert 0 < layer.bias.abs().max().item() <= largest
    for tensor in (base.level_embedding, decoder.query_positions):
        assert tensor.mean().item() == pytest.approx(0, abs=0.2)
        assert tensor.std().item() == pytest.approx(1, abs=0.15)


def test_weights_in_the_checkpoint_are_kept_and_the_others_initialised(model, tmp_path):
    missing = (
        "sampling_offsets.bias",
        "level_embedding",
        "query_positions",
        "class_heads",
        "mask_controller.layers.1",
        "scale_conv",
    )
    state_dict = {name: value for name, value in model.state_dict().items() if not any(m in name for m in missing)}
    model.save_pretrained(tmp_path, state_dict=dict(state_dict))
    loaded, report = SgMgForReferringVideoSegmentation.from_pretrained(tmp_path, output_loading_info=True)
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
    assert model.model.text_encoder.embeddings.word_embeddings is model.get_input_embeddings()


# Precision, speed, devices


@torch.no_grad()
def test_eager_text_attention_equals_the_fused_one(model):
    eager = tiny_model(text_config=TEXT_CONFIG)
    eager.set_attn_implementation("eager")
    assert eager.model.text_encoder.config._attn_implementation == "eager"
    assert_predictions_close(eager(**random_inputs()), model(**random_inputs()))


@pytest.mark.parametrize("setting", ["weights", "autocast"])
@pytest.mark.parametrize("queries", ["all", "best"])
@torch.no_grad()
def test_bfloat16_stays_near_float32(model, setting, queries):
    model = copy.deepcopy(model).float()
    inputs = pad(random_inputs(), [(2, 120, 136), (2, 132, 110)])
    clips = inputs.pop("pixel_values_videos").float()
    expected = model(clips, **inputs)
    if setting == "weights":
        found = copy.deepcopy(model).bfloat16()(clips.bfloat16(), **inputs, queries=queries)
    else:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model(clips, **inputs, queries=queries)
    masks = expected.pred_masks
    if queries == "best":
        masks = torch.take_along_dim(masks, found.query_index[:, None, None, None, None], 1)
    # Rounding to 8 bits in each of about 30 layers.
    assert (found.pred_masks.float() - masks).abs().mean() < 0.1 * masks.abs().mean()
    assert (found.pred_boxes.float() - expected.pred_boxes).abs().max() < 0.05
    assert (found.logits.float() - expected.logits).abs().max() < 0.02 * expected.logits.abs().max()


@torch.no_grad()
def test_wishing_for_kernels_does_no_harm_on_the_cpu(model, tmp_path, caplog):
    warn_once.cache_clear()
    model.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        loaded = SgMgForReferringVideoSegmentation.from_pretrained(tmp_path, use_kernels=True)
        loaded.train()
        loaded.eval()
        loaded.set_use_kernels(True)
    assert sum("kernel" in record.message.lower() for record in caplog.records) <= 1
    assert_predictions_close(loaded(**random_inputs()), model(**random_inputs()))


@pytest.mark.parametrize("queries", ["all", "best"])
@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_nothing_waits_for_values_on_the_device(padded, queries):
    # Tensors on the meta device have no values, so whatever would fetch one fails. The text encoder is left out,
    # because the one of transformers looks whether its mask has padding.
    model = tiny_model()
    inputs = random_inputs(1, num_expressions=3)
    if padded:
        inputs = pad(inputs, [(2, 120, 130)])
    text = model.get_text_features(inputs.pop("input_ids"), inputs.pop("attention_mask"))
    text = SgMgTextFeatures(**{name: value.to("meta") for name, value in text.items()})
    inputs = {name: value.to("meta") for name, value in inputs.items()}
    outputs = model.to("meta")(**inputs, text_features=text, queries=queries)
    assert outputs.pred_masks.device.type == "meta"
    assert outputs.pred_masks.shape == (3, 5 if queries == "all" else 1, 2, 132, 136)


@pytest.mark.slow  # tracing takes ten seconds or more
@torch.no_grad()
def test_traced_as_one_graph(model):
    inputs = random_inputs()
    expected = model(**inputs, queries="best")
    video = model.get_video_features(inputs["pixel_values_videos"])
    text = model.get_text_features(inputs["input_ids"], inputs["attention_mask"])
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    found = compiled(video_features=video, text_features=text, queries="best")
    assert_predictions_close(found, expected)


@pytest.mark.slow  # tracing takes ten seconds or more
@torch.no_grad()
def test_exported_program_gives_the_same_and_leaves_the_model_usable():
    from transformers.exporters import DynamoConfig, DynamoExporter

    model, inputs = tiny_model(), pad(random_inputs(), [(2, 120, 136), (2, 132, 110)])
    program = DynamoExporter().export(model, inputs, DynamoConfig(dynamic=False))
    assert_predictions_close(program(**inputs), model(**inputs))


# Training


def test_loss_is_the_weighted_sum_of_its_terms():
    weights = {"class": 3.0, "bbox": 0.5, "giou": 7.0, "mask": 11.0, "dice": 0.25}
    model = tiny_model(**{f"{name}_loss_weight": value for name, value in weights.items()})
    outputs = model(**random_inputs(), labels=random_labels())
    keys = {"class": "loss_ce", "bbox": "loss_bbox", "giou": "loss_giou", "mask": "loss_mask", "dice": "loss_dice"}
    suffixes = {name: ["", "_0"] for name in weights}
    suffixes["mask"] = suffixes["dice"] = ["", "_0", "_low", "_low_0"]
    assert outputs.loss_dict.keys() == {keys[name] + suffix for name in keys for suffix in suffixes[name]}
    expected = sum(
        value * sum(outputs.loss_dict[keys[name] + suffix] for suffix in suffixes[name])
        for name, value in weights.items()
    )
    torch.testing.assert_close(outputs.loss, expected)


def test_auxiliary_loss_can_be_turned_off():
    model = tiny_model(auxiliary_loss=False)
    outputs = model(**random_inputs(), labels=random_labels())
    names = {"loss_ce", "loss_bbox", "loss_giou", "loss_mask", "loss_dice", "loss_mask_low", "loss_dice_low"}
    assert outputs.loss_dict.keys() == names
    assert outputs.auxiliary_outputs is None


def test_what_is_returned_does_not_change_the_loss(model):
    with_outputs = model(**random_inputs(), labels=random_labels())
    without = model(**random_inputs(), labels=random_labels(), output_auxiliary=False)
    assert len(with_outputs.auxiliary_outputs) == 1
    assert without.auxiliary_outputs is None
    assert torch.equal(without.loss, with_outputs.loss)


def test_training_returns_the_mask_of_the_matched_query_and_evaluation_all():
    model, inputs, labels = tiny_model(), random_inputs(), random_labels()
    evaluated, trained = model(**inputs, labels=labels), model.train()(**inputs, labels=labels)
    assert evaluated.query_index is None
    assert evaluated.pred_masks.shape == (2, 5, 2, 132, 136)
    assert trained.pred_masks.shape == (2, 1, 2, 132, 136)
    index = trained.query_index[:, None, None, None, None]
    torch.testing.assert_close(torch.take_along_dim(evaluated.pred_masks, index, 1), trained.pred_masks)
    torch.testing.assert_close(evaluated.loss, trained.loss)


def test_loss_of_padded_clips_of_different_size_and_length_is_finite(model):
    inputs = pad(random_inputs(2, 4), [(4, 120, 136), (2, 132, 110)])
    labels = [random_labels(1, 4, 120, 136)[0], random_labels(1, 4, 132, 110)[0]]
    labels[1]["masks"][2:], labels[1]["boxes"][2:], labels[1]["valid_frames"][2:] = False, 0, False
    outputs = model(**inputs, labels=labels)
    outputs.loss.backward()
    assert all(value.isfinite() for value in outputs.loss_dict.values())
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    model.zero_grad()


def test_gradient_reaches_every_parameter():
    model = tiny_model().train()
    model(**random_inputs(), labels=random_labels()).loss.backward()
    # A bias that all keys share cancels in the softmax, and in the first decoder layer all values are the sentence, so
    # these gradients are rounding.
    cancelled = r"(k_proj|key)\.bias$|decoder\.layers\.0\.self_attn\.[qk]_proj"
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert re.search(cancelled, name) or parameter.grad.abs().max() > 1e-7, name


def test_gradient_checkpointing_gives_the_same_gradients():
    inputs = pad(random_inputs(), [(2, 120, 136), (2, 132, 110)])
    labels = [random_labels(1, 2, 120, 136)[0], random_labels(1, 2, 132, 110)[0]]
    model = tiny_model().train()
    checkpointed = copy.deepcopy(model)
    checkpointed.gradient_checkpointing_enable()
    assert sum(getattr(module, "gradient_checkpointing", False) for module in checkpointed.modules()) > 10
    for one in (model, checkpointed):
        one(**inputs, labels=labels).loss.backward()
    for (name, parameter), other in zip(model.named_parameters(), checkpointed.parameters()):
        torch.testing.assert_close(other.grad, parameter.grad, msg=name)


def test_what_inference_remembers_serves_training():
    model, inputs = tiny_model(), random_inputs(1, 2, 130, 134)
    with torch.inference_mode():
        model(**inputs)
    model(**inputs, labels=random_labels(1, 2, 130, 134)).loss.backward()
    assert model.model.level_embedding.grad.isfinite().all()


def test_frozen_text_encoder_gets_no_gradient_but_keeps_its_dropout():
    model = tiny_model(text_config=TEXT_CONFIG | {"hidden_dropout_prob": 0.5}).train()
    model.model.freeze_text_encoder()
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith("model.text_encoder.")}
    inputs = random_inputs()
    first, second = (model.get_text_features(inputs["input_ids"]).words for _ in range(2))
    assert first.requires_grad  # through the projection, which is trained
    assert not torch.equal(first, second)


# Wrong inputs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_values_videos": torch.zeros(5, 3, 132, 136)}, "pixel_values_videos has 4 dimensions, expected 5"),
        ({"pixel_mask": torch.ones(2, 2, 136, 132)}, r"pixel_mask has shape .*, expected \(2, 2, 132, 136\)"),
        ({"pixel_values_videos": None}, "pixel_values_videos is missing"),
        ({"input_ids": None}, "input_ids is missing"),
        ({"input_ids": torch.zeros(7, dtype=torch.long)}, "input_ids has 1 dimensions, expected 2"),
        ({"attention_mask": torch.ones(2, 6)}, r"attention_mask has shape \(2, 6\), expected that of .*\(2, 7\)"),
        ({"pixel_values_videos": torch.zeros(1, 2, 3, 132, 136)}, "2 expressions for 1 videos. Give video_index"),
        ({"annotated_frames": torch.tensor([0, 2])}, r"annotated_frames is \[0, 2\], expected values from 0 to 1"),
        ({"queries": "top"}, """queries is 'top', expected "all" or "best\""""),
        ({"queries": "best", "labels": []}, """labels needs the masks of all queries: call with queries="all\""""),
        ({"queries": "best", "output_auxiliary": True}, "output_auxiliary needs the masks of all queries"),
        ({"labels": random_labels(1)}, "labels has 1 entries, expected 2"),
        ({"labels": random_labels(2, 3)}, r"labels\[0\]\['masks'\] has shape \(3, 132, 136\)"),
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


def test_backbone_with_too_few_maps_is_refused():
    with pytest.raises(ValueError, match="exports 3 feature maps, expected 4"):
        tiny_model({"out_features": ["stage2", "stage3", "stage4"]})


def test_labels_without_an_object_in_any_frame_are_refused(model):
    labels = random_labels()
    labels[1]["valid_frames"][:] = False
    with pytest.raises(ValueError, match=r"labels\[1\] has no valid frame"):
        model(**random_inputs(), labels=labels)


# Around the model


@torch.no_grad()
def test_pipeline_gives_the_masks_of_post_processing():
    processor = tiny_processor(130, pad_to_multiple_of=16)
    model = tiny_model(text_config=TEXT_CONFIG).float()
    frames = moving_square(num_frames=2, height=140, width=170)
    segmenter = ReferringVideoSegmentationPipeline(
        model=model, processor=processor, device="cpu", task="referring-video-segmentation"
    )
    (track,) = segmenter(frames, text=["the red square"])
    inputs = processor(videos=frames, text=["the red square"], return_tensors="pt")
    assert inputs["pixel_values_videos"].shape[-2:] == (144, 160)
    outputs = model(**inputs, queries="best")
    assert outputs.pred_masks.shape[-2:] == (144, 160)
    (expected,) = processor.post_process_referring_video_segmentation(
        outputs, target_sizes=[(140, 170)], input_sizes=[(130, 157)]
    )
    assert torch.equal(track["masks"], expected["masks"])
    assert 0 < track["masks"].float().mean() < 1
