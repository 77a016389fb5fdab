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

import functools
import math
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hf_rvos import benchmark
from hf_rvos.benchmark import (
    STAGES,
    Clip,
    Contestant,
    compare,
    measure,
    naive_forward,
    naive_parts,
    run_pass,
    shared_forward,
)
from hf_rvos.layers import deformable_transformer
from hf_rvos.layers.deformable_transformer import FeedForward
from hf_rvos.layers.dynamic_mask_head import DynamicMaskHead
from hf_rvos.models.sgmg import FastSgMgForReferringVideoSegmentation
from hf_rvos.models.sgmg.modeling_sgmg import SgMgSpectrumAugmentation, half_spectrum_filters
from hf_rvos.ops.queries import best_query
from hf_rvos.utils.video_io import VideoWriter, open_video
from tests.models.sgmg import tiny as sgmg
from tests.models.soc import tiny as soc
from tests.models.ssa import tiny as ssa
from tests.tiny_segmenter import moving_square, tiny_model, tiny_processor


TEXTS = ["the red square moving right", "a blue star", "the circle"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    frames = moving_square(num_frames=5)
    with VideoWriter(path, fps=10, size=frames.shape[1:3]) as writer:
        for frame in frames:
            writer.write(frame)
    return Clip(str(path), TEXTS, num_frames=4)


@pytest.fixture
def model():
    return tiny_model()


def inputs_of(clip, model, **options):
    frames = [frame for frame, _ in open_video(clip.video)][: clip.num_frames]
    return benchmark.prepare(model, tiny_processor(**options), clip, np.stack(frames))


@pytest.mark.parametrize("multiple", [1, 32], ids=["unpadded", "padded"])
def test_both_paths_give_the_same_logits_of_the_best_query(clip, model, multiple):
    inputs = inputs_of(clip, model, pad_to_multiple_of=multiple)
    assert (inputs["pixel_mask"] is None) == (multiple == 1)
    with torch.no_grad():
        (shared,) = shared_forward(model, inputs)
        naive = list(naive_forward(model, inputs))
    assert len(naive) == len(TEXTS)
    assert naive[0].pred_masks.shape[1] == 3 and len(naive[0].auxiliary_outputs) == 1
    for index, alone in enumerate(naive):
        best = int(best_query(alone.logits))
        assert best == int(shared.query_index[index])
        # Sums in another order. Mask logits reach thousands here, so differences count in parts of the largest.
        torch.testing.assert_close(shared.logits[index], alone.logits[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(shared.pred_boxes[index], alone.pred_boxes[0], rtol=1e-4, atol=1e-4)
        largest = alone.pred_masks.abs().max()
        torch.testing.assert_close(
            shared.pred_masks[index, 0] / largest, alone.pred_masks[0, best] / largest, rtol=0, atol=1e-4
        )


@torch.no_grad()
def test_stages_of_fast_sgmg_are_known_and_both_paths_give_the_same_tracks(clip):
    fast = FastSgMgForReferringVideoSegmentation.from_sgmg(sgmg.tiny_model(text_config=sgmg.TEXT_CONFIG))
    fast = fast.float().eval()
    shared, naive = (run_pass(path, fast, tiny_processor(), clip) for path in ("shared", "naive"))
    assert len(shared.tracks) == len(naive.tracks) == len(TEXTS)
    for track, other in zip(shared.tracks, naive.tracks):
        assert track["score"] == pytest.approx(other["score"], abs=1e-4)
        assert (track["masks"] != other["masks"]).float().mean() < 1e-3
    assert shared.stages["encoder"] > 0 and shared.stages["decoder"] > 0


@pytest.mark.parametrize("tiny", [soc, ssa], ids=["soc", "ssa"])
def test_stages_of_other_models_are_known_and_both_paths_give_the_same_track(clip, tiny):
    model = tiny.tiny_model()  # in float64: rounding may turn the masked attention of SSA elsewhere
    shared, naive = (run_pass(path, model, tiny_processor(), clip) for path in ("shared", "naive"))
    for index in range(len(TEXTS)):
        assert shared.tracks[index]["score"] == pytest.approx(naive.tracks[index]["score"], abs=1e-4)
        assert (shared.tracks[index]["masks"] != naive.tracks[index]["masks"]).double().mean() < 1e-3
    assert all(shared.stages[stage] > 0 for stage in STAGES)


def test_both_paths_give_the_same_tracks_at_the_size_of_the_video(clip, model):
    shared = run_pass("shared", model, tiny_processor(), clip).tracks
    naive = run_pass("naive", model, tiny_processor(), clip).tracks
    assert len(shared) == len(naive) == len(TEXTS)
    for of_shared, of_naive in zip(shared, naive):
        assert of_shared["masks"].shape == (4, 40, 60)
        # A logit next to the threshold may fall on either side.
        assert (of_shared["masks"] != of_naive["masks"]).float().mean() < 1e-3
        assert of_shared["score"] == pytest.approx(of_naive["score"], abs=1e-5)
    assert any(track["masks"].any() for track in shared)


@pytest.mark.parametrize("path", ["shared", "naive"])
def test_stages_are_positive_and_add_up_to_the_total(clip, model, path):
    result = run_pass(path, model, tiny_processor(), clip)
    assert tuple(result.stages) == STAGES
    assert all(seconds > 0 for seconds in result.stages.values())
    assert sum(seconds for stage, seconds in result.stages.items() if stage != "other") <= result.total
    assert sum(result.stages.values()) == pytest.approx(result.total)


def test_no_module_of_a_stage_runs_inside_another(clip, model, monkeypatch):
    running, nested = [], []

    def watch_module(self, module, stage, hooks):
        def before(module, args):
            nested.extend(running)
            running.append(stage)

        hooks.callback(module.register_forward_pre_hook(before).remove)
        hooks.callback(module.register_forward_hook(lambda *_: running.pop() and None).remove)

    monkeypatch.setattr(benchmark.StageClock, "_watch_module", watch_module)
    for path in ("shared", "naive"):
        run_pass(path, model, tiny_processor(), clip)
    assert not nested and not running


def test_a_pass_leaves_no_hook_behind(clip, model):
    run_pass("shared", model, tiny_processor(), clip)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("part", ["backbone", "fusion.attention.q_proj", "pixel_decoder.stages.0.block.self_attn"])
@pytest.mark.parametrize(("path", "calls"), [("shared", 1), ("naive", 3)])
def test_the_naive_path_sees_the_video_once_for_each_sentence(clip, model, path, calls, part):
    seen = []
    model.model.get_submodule(part).register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    run_pass(path, model, tiny_processor(), clip)
    assert seen == [1] * calls


@pytest.mark.parametrize(("path", "in_pieces"), [("shared", True), ("naive", False)])
def test_the_naive_path_takes_all_rows_of_a_feed_forward_block_at_once(clip, model, monkeypatch, path, in_pieces):
    monkeypatch.setattr(deformable_transformer, "ROWS_IN_CACHE", 100)
    sizes = []
    block = model.model.encoder_layers[0].feed_forward
    block.fc1.register_forward_hook(lambda module, args, output: sizes.append(args[0].shape[:-1].numel()))
    run_pass(path, model, tiny_processor(), clip)
    assert sizes and all((size <= 100) == in_pieces for size in sizes)


def test_the_naive_path_uses_no_fused_attention_and_no_remembered_constant(clip, model, monkeypatch):
    def forbid(module, name):
        original = getattr(module, name)

        @functools.wraps(getattr(original, "__wrapped__", original))
        def refuse(*args, **kwargs):
            raise AssertionError(f"{name} is called")

        monkeypatch.setattr(module, name, refuse)

    for module, name in (*benchmark.REMEMBERED, (F, "scaled_dot_product_attention")):
        forbid(module, name)
    with torch.no_grad():
        assert len(list(naive_forward(model, inputs_of(clip, model)))) == len(TEXTS)


def test_an_error_on_the_naive_path_brings_the_fast_parts_back():
    before = [F.scaled_dot_product_attention, FeedForward.forward, DynamicMaskHead.forward]
    before += [getattr(module, name) for module, name in benchmark.REMEMBERED]
    with pytest.raises(RuntimeError), naive_parts():
        raise RuntimeError
    after = [F.scaled_dot_product_attention, FeedForward.forward, DynamicMaskHead.forward]
    after += [getattr(module, name) for module, name in benchmark.REMEMBERED]
    assert after == before


def test_copying_mask_head_draws_what_the_head_draws():
    torch.manual_seed(0)
    head = DynamicMaskHead(feature_size=6, channels=4, num_layers=3)
    features, sizes = torch.randn(2, 6, 5, 7), torch.tensor([[20.0, 28.0], [17.0, 25.0]])
    parameters, centers = torch.randn(2, 3, head.num_parameters), torch.rand(2, 3, 2)
    copied = benchmark.copying_mask_head(head, features, parameters, centers, sizes)
    torch.testing.assert_close(copied, head(features, parameters, centers, sizes), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("mask", [None, "boolean", "additive", "causal"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_eager_attention_is_attention(mask, scale):
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8)
    masks = {"boolean": torch.tensor([[True, True, False, True, False]]), "additive": torch.randn(4, 5)}
    options = {"attn_mask": masks.get(mask), "is_causal": mask == "causal", "scale": scale}
    expected = F.scaled_dot_product_attention(query, key, value, **options)
    torch.testing.assert_close(benchmark.eager_attention(query, key, value, **options), expected)


def test_measure_tells_the_median_pass_of_each_format_and_path(clip, model):
    measurements = measure(model, tiny_processor(), clip, repeats=3)
    assert [(each.dtype, each.path) for each in measurements] == [
        ("float32", "shared"),
        ("float32", "naive"),
        ("bfloat16", "shared"),
        ("bfloat16", "naive"),
    ]
    for each in measurements:
        assert len(each.totals) == 3 and each.total == sorted(each.totals)[1]
        assert sum(each.stages.values()) == pytest.approx(each.total)
        assert each.frames_per_second == pytest.approx(4 / each.total)
        assert each.sentence_frames_per_second == pytest.approx(12 / each.total)
        assert each.input_size == (48, 72)
        assert each.peak_memory is None or each.peak_memory >= 0


def test_comparison_takes_turns_and_tells_every_model_and_clip(clip, model, monkeypatch):
    one = Clip(clip.video, TEXTS[:1], clip.num_frames)
    calls = []
    monkeypatch.setattr(benchmark, "run_pass", lambda *args: calls.append(args) or run_pass(*args))
    contestants = [
        Contestant("first", model, tiny_processor()),
        Contestant("second", soc.tiny_model().float(), tiny_processor()),
    ]
    results = compare(contestants, [one, clip], repeats=2, dtypes=["float32"])
    assert [(result.name, result.num_sentences) for result in results] == [
        *(("first", 1), ("first", 3), ("second", 1), ("second", 3)),
    ]
    assert results[0].num_parameters == model.num_parameters()
    for result in results:
        assert len(result.measurement.totals) == 2
        assert result.measurement.total == min(result.measurement.totals)
        assert result.measurement.sentence_frames_per_second == pytest.approx(
            result.num_sentences * result.measurement.frames_per_second
        )
    turn = [(args[1].config.model_type, len(args[3].texts)) for args in calls[-4:]]
    assert turn == [("referformer", 1), ("referformer", 3), ("soc", 1), ("soc", 3)]


def test_measuring_does_not_change_the_model(clip, model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure(model, tiny_processor(), clip, repeats=1, dtypes=["bfloat16"], naive=False)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_size_of_the_clip_goes_before_that_of_the_processor(clip, model):
    small = Clip(clip.video, TEXTS, 4, size={"shortest_edge": 32})
    assert run_pass("shared", model, tiny_processor(), small).input_size == (32, 48)


def test_a_model_whose_stages_are_unknown_is_refused(clip, model):
    model.config.model_type = "other"
    with pytest.raises(ValueError, match="model is a 'other', expected one whose stages are known: referformer"):
        measure(model, tiny_processor(), clip)


def test_more_frames_than_the_video_has_are_refused(clip, model):
    with pytest.raises(ValueError, match="num_frames is 6, but the video has only 5 frames"):
        run_pass("shared", model, tiny_processor(), Clip(clip.video, TEXTS, num_frames=6))


def test_peak_memory_counts_what_is_freed_again():
    peak = benchmark.peak_memory(lambda: torch.ones(64 << 20, dtype=torch.uint8).sum(), torch.device("cpu"))
    if peak is None:
        pytest.skip("this system does not tell the peak memory of a process")
    assert peak > 60 << 20


def test_work_is_run_in_another_process():
    assert benchmark.run_apart(os.getpid) != os.getpid()
    assert benchmark.run_apart(math.hypot, 3, 4) == 5


def test_example_video_has_the_wanted_frames_and_size(tmp_path):
    benchmark.write_example_video(tmp_path / "clip.mp4", num_frames=3, height=64, width=96)
    reader = open_video(tmp_path / "clip.mp4")
    assert (reader.height, reader.width) == (64, 96) and reader.num_frames >= 3


def test_example_sentences_never_run_out():
    sentences = benchmark.example_sentences(40)
    assert len(sentences) == 40 and all(sentences) and len(set(sentences)) > 1


@pytest.mark.parametrize(("name", "num_queries"), [("soc", 20), ("sgmg", 5), ("fast_sgmg", 5)])
def test_random_segmenter_can_be_any_model(name, num_queries):
    with torch.device("meta"):
        model, _ = benchmark.random_segmenter(f"{name}:video-swin-t")
    assert (model.config.model_type, model.config.num_queries) == (name, num_queries)


def test_random_segmenter_of_ssa_has_its_own_backbone_and_sizes():
    with torch.device("meta"):
        model, processor = benchmark.random_segmenter("ssa")
    assert sum(parameter.numel() for parameter in model.parameters()) == 395_076_625
    assert processor.video_processor.size["shortest_edge"] == 480


def test_random_segmenter_of_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match="model 'vita' is unknown, expected one of referformer, "):
        benchmark.random_segmenter("vita:video-swin-t")


def test_random_segmenter_has_the_published_sizes():
    with torch.device("meta"):  # no memory for more than a hundred million weights
        model, processor = benchmark.random_segmenter("video-swin-s")
    assert model.config.backbone_config.depths == (2, 2, 18, 2)
    assert model.config.text_config.num_hidden_layers == 12 and model.config.num_queries == 5
    tokens = processor(text=["the red circle"])["input_ids"]
    assert processor.tokenizer.unk_token_id not in tokens[0]


def test_the_machine_is_told_with_versions_and_date():
    told = benchmark.machine(torch.device("cpu"))
    assert told.keys() == {"cpu", "cores", "threads", "device", "torch", "transformers", "hf_rvos", "date"}
    assert told["threads"] == torch.get_num_threads() and told["cpu"] and math.prod(map(int, told["date"].split("-")))


@pytest.mark.parametrize("shape", [(6, 8), (7, 5)])
@torch.no_grad()
def test_whole_spectrum_gives_what_half_of_it_gives(shape):
    torch.manual_seed(0)
    augmentation, pixels = SgMgSpectrumAugmentation(16), torch.randn(2, *shape, 16)
    filters = half_spectrum_filters(((9, 14), shape), 3.0, pixels.device)[1]
    expected = augmentation(pixels, filters)
    with naive_parts():
        torch.testing.assert_close(augmentation(pixels, filters), expected, rtol=1e-4, atol=1e-4)
