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

import pytest
import torch
import torch.nn.functional as F
from transformers.modeling_outputs import BackboneOutput

from hf_rvos.backbones import backbone_config
from hf_rvos.models.video_swin import VideoSwinBackbone, VideoSwinConfig
from hf_rvos.models.video_swin.modeling_video_swin import (
    biased_attention,
    drop_path,
    relative_position_index,
    window_layout,
)
from tests.parity.backbone_recording import BackboneRecording


TINY = {"embed_dim": 8, "depths": (2, 2), "num_heads": (1, 2), "window_size": (2, 3, 3), "drop_path_rate": 0.0}
FRAMES_ALONE = {"window_size": (1, 3, 3), "shrink_window": False, "normalize_stages": True}


def tiny_backbone(**overrides) -> VideoSwinBackbone:
    torch.manual_seed(0)
    model = VideoSwinBackbone(VideoSwinConfig(**TINY | overrides))
    with torch.no_grad():
        for parameter in model.parameters():  # the small values of a new model would hide most mistakes
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def random_clips(batch_size=2, num_frames=3, height=40, width=52, seed=1) -> torch.Tensor:
    return torch.randn(batch_size, num_frames, 3, height, width, generator=torch.Generator().manual_seed(seed))


def assert_maps_close(found, expected, atol=1e-5):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=0)


@pytest.mark.parametrize("with_gradient", [False, True], ids=["fused", "with_gradient"])
@pytest.mark.parametrize(
    ("case", "inputs"),
    [
        ("tiny-videoswin", ["padded", "batch2", "inference", "long", "one_valid_frame"]),
        ("tiny-swin", ["padded", "batch2", "inference"]),
    ],
)
def test_feature_maps_equal_those_of_the_released_code(case, inputs, with_gradient, fixtures_dir):
    recording = BackboneRecording(fixtures_dir / "parity/referformer", case)
    sizes = {name: recording.case["backbone_config"][name] for name in ("embed_dim", "depths", "num_heads")}
    backbone = VideoSwinBackbone(backbone_config(recording.case["config"]["backbone"], **sizes)).eval()
    recording.load_weights(backbone)
    for name in inputs:
        with torch.set_grad_enabled(with_gradient):
            recording.check(backbone, name)


@pytest.mark.slow  # fills a full-size checkpoint with 150 million random numbers
@torch.no_grad()
def test_full_size_feature_maps_equal_those_of_the_released_code(shared_dir):
    recording = BackboneRecording(shared_dir / "parity/referformer", "full-videoswin-t")
    backbone = VideoSwinBackbone(backbone_config("video-swin-t")).eval()
    recording.load_weights(backbone)
    recording.check(backbone, "padded")


@pytest.mark.parametrize(
    ("size", "window", "shift"),
    [((4, 9, 6), (2, 3, 3), (1, 1, 1)), ((3, 5, 7), (3, 3, 3), (0, 1, 1)), ((1, 2, 2), (1, 3, 3), (0, 1, 1))],
    ids=["divisible", "padded", "smaller_than_a_window"],
)
def test_window_layout_equals_pad_roll_and_partition(size, window, shift):
    maps = torch.arange(1.0, 1 + 2 * size[0] * size[1] * size[2]).view(2, *size)
    end_padding = [-length % side for length, side in zip(size, window)]
    padded = F.pad(maps, (0, end_padding[2], 0, end_padding[1], 0, end_padding[0]))
    rolled = padded.roll([-step for step in shift], (1, 2, 3))
    for axis, side in enumerate(window):
        rolled = rolled.unflatten(1 + 2 * axis, (-1, side))
    expected = rolled.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, window[0] * window[1] * window[2])

    layout = window_layout(2, size, window, shift, maps.device)
    rows = F.pad(maps.flatten(), (0, 1))
    windows = rows[layout.tokens].view(-1, layout.window_tokens)
    assert sorted(windows.tolist()) == sorted(expected.tolist())
    assert torch.equal(windows.flatten()[layout.slots], maps.flatten())


@pytest.mark.parametrize(("size", "shift"), [((4, 9, 6), (1, 1, 1)), ((3, 5, 7), (0, 1, 1))])
def test_window_masks_part_tokens_that_were_not_neighbours(size, shift):
    window = (2, 3, 3)
    # Along each dimension the rolled map has three segments; a label says which ones a position is in.
    segments = []
    for length, side, step in zip(size, window, shift):
        total = length + -length % side
        segment = torch.zeros(total, dtype=torch.long)
        if step:
            segment[total - side :] = 1
            segment[total - step :] = 2
        segments.append(segment.roll(step))  # as seen from the map before rolling
    labels = 9 * segments[0][:, None, None] + 3 * segments[1][:, None] + segments[2]
    layout = window_layout(1, size, window, shift, labels.device)

    label_of_row = labels[: size[0], : size[1], : size[2]].flatten()
    start = 0
    for mask, group_size in zip(layout.masks, layout.group_sizes):
        for tokens in layout.tokens.view(-1, layout.window_tokens)[start : start + group_size]:
            real = tokens < len(label_of_row)
            window_labels = label_of_row[tokens[real]]
            parted = window_labels[:, None] != window_labels
            found = torch.zeros_like(parted) if mask is None else mask[real][:, real] == -100
            assert torch.equal(found, parted)
        start += group_size


def test_relative_position_index_counts_time_slowest():
    index = relative_position_index((8, 7, 7))
    query, key = (5, 2, 6), (1, 4, 0)
    flat_query, flat_key = ((t * 7 + y) * 7 + x for t, y, x in (query, key))
    assert index[flat_query, flat_key] == (5 - 1 + 7) * 169 + (2 - 4 + 6) * 13 + (6 - 0 + 6)


def test_attention_with_a_trained_bias_equals_the_fused_kernel():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 5, 2, 6, 4).unbind(0)
    bias = torch.randn(2, 6, 6)
    fused = biased_attention(query, key, value, bias)
    torch.testing.assert_close(biased_attention(query, key, value, bias.requires_grad_()), fused)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (33, 70), (3, 2)], ids=["even", "odd", "below_a_patch"])
@torch.no_grad()
def test_map_sizes_are_rounded_up(height, width):
    output = tiny_backbone()(random_clips(2, 3, height, width))
    assert isinstance(output, BackboneOutput)
    for stride, channels, feature_map in zip((4, 8), (8, 16), output.feature_maps, strict=True):
        assert feature_map.shape == (6, channels, -(-height // stride), -(-width // stride))


@pytest.mark.parametrize("overrides", [{}, FRAMES_ALONE], ids=["clips", "frames"])
@pytest.mark.parametrize("size", [(1, 40, 52), (3, 8, 8), (5, 8, 40)], ids=["one_frame", "small", "flat"])
@torch.no_grad()
def test_clip_alone_equals_the_clip_in_a_batch(size, overrides):
    model, clips = tiny_backbone(**overrides), random_clips(3, *size)
    together = model(clips).feature_maps
    alone = [model(clip[None]).feature_maps for clip in clips]
    assert_maps_close(together, [torch.cat(maps) for maps in zip(*alone)])


@torch.no_grad()
def test_window_of_one_frame_sees_every_frame_alone():
    model, clips = tiny_backbone(**FRAMES_ALONE), random_clips()
    assert_maps_close(model(clips).feature_maps, model(clips.flatten(0, 1)[:, None]).feature_maps)


@torch.no_grad()
def test_window_of_several_frames_lets_frames_see_each_other():
    model, clips = tiny_backbone(), random_clips(1, 4)
    changed = clips.clone()
    changed[:, 1] += 1
    before, after = model(clips).feature_maps[-1], model(changed).feature_maps[-1]
    assert ((before - after).abs().amax((1, 2, 3)) > 1e-3).all()


@torch.no_grad()
def test_stage_norm_changes_exports_but_not_the_next_stage():
    plain, normed = tiny_backbone(), tiny_backbone(normalize_stages=True)
    normed.load_state_dict(plain.state_dict(), strict=False)
    clips = random_clips()
    raw, exported = plain(clips).feature_maps, normed(clips, output_hidden_states=True)
    assert_maps_close(exported.hidden_states[1:], raw, atol=0)
    for stage, feature_map in enumerate(exported.feature_maps):
        expected = getattr(normed, f"norm{stage}")(raw[stage].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        torch.testing.assert_close(feature_map, expected)


@torch.no_grad()
def test_only_requested_stages_are_exported():
    model = tiny_backbone(out_features=["stage2"])
    assert model.channels == [16]
    assert [tuple(maps.shape) for maps in model(random_clips()).feature_maps] == [(6, 16, 5, 7)]


@torch.no_grad()
def test_tuple_form_holds_the_feature_maps():
    model, clips = tiny_backbone(), random_clips()
    (feature_maps,) = model(clips, return_dict=False)
    assert_maps_close(feature_maps, model(clips).feature_maps, atol=0)


@pytest.mark.parametrize("overrides", [{}, FRAMES_ALONE], ids=["clips", "frames"])
@torch.no_grad()
def test_save_and_load_give_the_same_maps(overrides, tmp_path):
    model, clips = tiny_backbone(**overrides), random_clips()
    model.save_pretrained(tmp_path)
    loaded = VideoSwinBackbone.from_pretrained(tmp_path)
    assert loaded.config.to_dict() == model.config.to_dict() | {"_name_or_path": loaded.config._name_or_path}
    assert_maps_close(loaded(clips).feature_maps, model(clips).feature_maps, atol=0)


def test_weights_missing_from_a_checkpoint_are_initialised(tmp_path):
    model = tiny_backbone(window_size=(8, 7, 7))
    state_dict = {name: value for name, value in model.state_dict().items() if "layers.1" not in name}
    model.save_pretrained(tmp_path, state_dict=state_dict)
    loaded = VideoSwinBackbone.from_pretrained(tmp_path)
    attention = loaded.layers[1].blocks[0].attn
    assert attention.relative_position_bias_table.std().item() == pytest.approx(0.02, rel=0.1)
    assert attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert torch.equal(loaded.position_index, relative_position_index((8, 7, 7)))


@pytest.mark.parametrize("overrides", [{}, FRAMES_ALONE], ids=["clips", "frames"])
def test_gradient_reaches_every_parameter_and_checkpointing_does_not_change_it(overrides):
    model = tiny_backbone(**overrides).train()
    checkpointed = copy.deepcopy(model)
    checkpointed.gradient_checkpointing_enable()
    for one in (model, checkpointed):
        sum(maps.square().mean() for maps in one(random_clips(1, 4)).feature_maps).backward()
    for (name, parameter), other in zip(model.named_parameters(), checkpointed.parameters()):
        assert parameter.grad.abs().max() > 1e-7, name
        torch.testing.assert_close(other.grad, parameter.grad, msg=name)


def test_layouts_made_in_inference_mode_serve_training():
    model, clips = tiny_backbone(), random_clips(1, 4, 36, 44)
    with torch.inference_mode():
        model(clips)
    model(clips).feature_maps[0].sum().backward()
    assert model.patch_embed.proj.weight.grad.isfinite().all()


@torch.no_grad()
def test_traced_as_one_graph():
    model, clips = tiny_backbone(depths=(2,), num_heads=(1,)), random_clips()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert_maps_close(compiled(clips).feature_maps, model(clips).feature_maps)


@pytest.mark.parametrize("with_gradient", [False, True])
def test_bfloat16_autocast_stays_near_float32(with_gradient):
    model, clips = tiny_backbone(), random_clips()
    with torch.set_grad_enabled(with_gradient):
        expected = model(clips).feature_maps
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model(clips).feature_maps
    for one, other in zip(found, expected):
        # bfloat16 has 8 bits of mantissa, and four blocks add up their rounding.
        assert (one.float() - other).abs().mean() < 0.02 * other.abs().mean()


def test_drop_path_drops_whole_clips_and_keeps_the_mean():
    torch.manual_seed(0)
    dropped = drop_path(torch.ones(4000, 3, 2), 0.25, training=True)
    values = dropped[:, 0, 0]
    assert torch.equal(dropped, values[:, None, None].expand_as(dropped))
    assert values.unique().tolist() == pytest.approx([0, 4 / 3])
    assert values.mean().item() == pytest.approx(1, abs=0.05)


def test_drop_path_grows_linearly_over_the_blocks():
    model = VideoSwinBackbone(VideoSwinConfig(**TINY | {"drop_path_rate": 0.3}))
    found = [block.drop_path_probability for layer in model.layers for block in layer.blocks]
    assert found == pytest.approx([0.0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("shape", "message"),
    [((3, 3, 16, 16), "has 4 dimensions, expected 5"), ((1, 3, 4, 16, 16), "has 4 channels in dimension 2")],
)
def test_wrong_input_shape_names_the_argument(shape, message):
    with pytest.raises(ValueError, match=f"pixel_values_videos {message}"):
        tiny_backbone()(torch.zeros(shape))
