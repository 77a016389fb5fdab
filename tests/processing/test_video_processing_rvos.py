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

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from hf_rvos.modeling_outputs import ReferringVideoSegmentationOutput
from hf_rvos.models.ssa.processing_ssa import build_video_processor
from hf_rvos.processing import RvosVideoProcessor, resized_size


PARITY = "parity/referformer"


def clip(num_frames=2, height=24, width=32, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


def small_processor(**kwargs):
    return RvosVideoProcessor(size={"shortest_edge": 32, "longest_edge": 48}, **kwargs)


def recorded_outputs(fixtures_dir, case, name):
    """The official predictions of one input; queries are turned in front of frames, as in this library."""
    arrays = np.load(fixtures_dir / PARITY / f"{case}.npz")
    shapes = json.loads((fixtures_dir / PARITY / f"{case}.json").read_text())["outputs"][name]
    tensors = {
        key: torch.from_numpy(arrays[f"{name}/{key}"]).reshape(shapes[key]["shape"]).transpose(1, 2)
        for key in ("pred_logits", "pred_boxes", "pred_masks")
    }
    return ReferringVideoSegmentationOutput(
        logits=tensors["pred_logits"], pred_boxes=tensors["pred_boxes"], pred_masks=tensors["pred_masks"]
    )


def expected(fixtures_dir, case, name):
    arrays = np.load(fixtures_dir / PARITY / f"{case}.npz")
    entry = json.loads((fixtures_dir / PARITY / f"{case}.json").read_text())["postprocess"][name]
    return entry, arrays


# Frames in.


def test_frame_sizes_equal_both_published_pipelines(fixtures_dir):
    for entry in json.loads((fixtures_dir / PARITY / "preprocess.json").read_text())["sizes"]:
        assert list(resized_size(*entry["original"], 360)) == entry["inference_script"]
        assert list(resized_size(*entry["original"], 360, 640)) == entry["validation_transform"]


def test_pixels_equal_the_published_pipeline(fixtures_dir):
    rows, columns, channels = np.mgrid[0:240, 0:426, 0:3]
    frame = ((3 * columns + 5 * rows + 40 * channels + columns * rows // 7) % 256).astype(np.uint8)
    inputs = RvosVideoProcessor(size={"shortest_edge": 360})(frame[None], return_tensors="pt")
    reference = json.loads((fixtures_dir / PARITY / "preprocess.json").read_text())["pixel_values"]
    assert list(inputs["pixel_values_videos"].shape[2:]) == reference["shape"]
    values = inputs["pixel_values_videos"].flatten()[:: reference["stride"]][: reference["count"]]
    stored = np.load(fixtures_dir / PARITY / "preprocess.npz")["pixel_values"]
    # The scale and the mean are applied in one step here and in two there.
    np.testing.assert_allclose(values.numpy(), stored, atol=2e-6, rtol=0)


def test_frames_shrink_with_the_filter_of_pil():
    frames = clip(1, 480, 854)
    processor = RvosVideoProcessor(do_normalize=False, do_rescale=False)
    resized = processor(frames, return_tensors="pt")["pixel_values_videos"][0, 0].permute(1, 2, 0).numpy()
    by_pil = np.asarray(Image.fromarray(frames[0]).resize((640, 360), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resized, by_pil)


def test_frame_thinner_than_the_limit_allows_keeps_one_row():
    assert resized_size(1, 2000, 360, 640) == (1, 2000)


def test_clips_of_different_size_and_length_are_padded_and_masked():
    inputs = small_processor()([clip(3, 24, 32), clip(2, 32, 24)], return_tensors="pt")
    assert inputs["pixel_values_videos"].shape == (2, 3, 3, 42, 42)
    assert RvosVideoProcessor.unpadded_sizes(inputs["pixel_mask"]) == [(3, 32, 42), (2, 42, 32)]
    padding = ~inputs["pixel_mask"][:, :, None].expand_as(inputs["pixel_values_videos"])
    assert (inputs["pixel_values_videos"][padding] == 0).all()


def test_clip_in_a_batch_holds_the_pixels_of_the_clip_alone():
    together = small_processor()([clip(2, 24, 32), clip(2, 32, 24)], return_tensors="pt")["pixel_values_videos"]
    alone = small_processor()(clip(2, 24, 32), return_tensors="pt")["pixel_values_videos"]
    torch.testing.assert_close(together[:1, :, :, :32, :42], alone, atol=0, rtol=0)


def test_padding_rounds_up_to_the_multiple():
    inputs = small_processor(pad_to_multiple_of=32)(clip(), return_tensors="pt")
    assert inputs["pixel_values_videos"].shape[-2:] == (32, 64)
    assert small_processor()(clip(), return_tensors="pt")["pixel_values_videos"].shape[-2:] == (32, 42)


def test_clips_of_different_size_without_padding_are_refused():
    with pytest.raises(ValueError, match="do_pad=True"):
        small_processor()([clip(), clip(height=32, width=24)], do_pad=False, return_tensors="pt")


@pytest.mark.parametrize(
    "as_source",
    [
        lambda frames: [Image.fromarray(frame) for frame in frames],
        list,
        torch.from_numpy,
        lambda frames: torch.from_numpy(frames).permute(0, 3, 1, 2),
        lambda frames: [frames],
        lambda frames: frames[None],
        lambda frames: frames.astype(np.float32),
    ],
    ids=["pil", "list", "tensor", "channels_first", "list_of_videos", "batch", "float"],
)
def test_every_form_of_frames_gives_the_same_pixels(as_source):
    frames = clip(height=32, width=48)
    wanted = small_processor()(frames, return_tensors="pt")["pixel_values_videos"]
    got = small_processor()(as_source(frames), return_tensors="pt")["pixel_values_videos"]
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


def test_uniform_sampling_keeps_the_asked_number_of_frames():
    frames = clip(num_frames=8, height=32, width=48)
    sampled = small_processor()(frames, num_frames=4, do_sample_frames=True, return_tensors="pt")
    wanted = small_processor()(frames[::2], return_tensors="pt")
    torch.testing.assert_close(sampled["pixel_values_videos"], wanted["pixel_values_videos"], atol=0, rtol=0)


def test_a_folder_of_frames_is_decoded_and_sampled(tmp_path):
    frames = clip(num_frames=6, height=32, width=48)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{index:05d}.png")
    whole = small_processor()(tmp_path, return_tensors="pt")["pixel_values_videos"]
    torch.testing.assert_close(whole, small_processor()(frames, return_tensors="pt")["pixel_values_videos"])
    sampled = small_processor()(str(tmp_path), num_frames=3, do_sample_frames=True, return_tensors="pt")
    torch.testing.assert_close(sampled["pixel_values_videos"], whole[:, ::2])


@pytest.mark.parametrize(
    "videos, message",
    [
        ([], "videos is empty"),
        (np.zeros((0, 8, 8, 3), np.uint8), "without frames"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)], "different sizes"),
        (np.full((1, 32, 32, 3), np.nan, np.float32), "NaN"),
        (["clip.mp4", np.zeros((1, 8, 8, 3), np.uint8)], "mixes paths and arrays"),
    ],
    ids=["no_video", "no_frame", "sizes", "nan", "mixed"],
)
def test_bad_video_names_the_argument(videos, message):
    with pytest.raises(ValueError, match=f"videos.*{message.removeprefix('videos ')}"):
        small_processor()(videos, return_tensors="pt")


def test_settings_survive_saving(tmp_path):
    processor = small_processor(pad_to_multiple_of=32)
    processor.save_pretrained(tmp_path)
    assert RvosVideoProcessor.from_pretrained(tmp_path).to_dict() == processor.to_dict()


# Masks out. A few pixels whose logit is within rounding of the threshold may differ.


def test_track_equals_the_published_youtube_vos_track(fixtures_dir):
    entry, arrays = expected(fixtures_dir, "tiny-videoswin", "youtube_vos")
    (track,) = small_processor().post_process_referring_video_segmentation(
        recorded_outputs(fixtures_dir, "tiny-videoswin", entry["input"]), target_sizes=[entry["original_size"]]
    )
    assert track["query_index"] == entry["selected_query"]
    assert track["score"] == pytest.approx(max(entry["query_scores"]), abs=1e-6)
    assert track["frame_scores"].mean().item() == pytest.approx(track["score"], abs=1e-6)
    stored = arrays[entry["masks"]].reshape(track["masks"].shape).astype(bool)
    assert (track["masks"].numpy() != stored).sum() <= entry["pixels_with_logit_below_1e-4"]


@pytest.mark.parametrize("case, name", [("tiny-videoswin", "a2d"), ("tiny-resnet", "refcoco")], ids=["a2d", "refcoco"])
def test_detections_equal_the_published_ones(fixtures_dir, case, name):
    entry, arrays = expected(fixtures_dir, case, name)
    inputs = json.loads((fixtures_dir / PARITY / f"{case}.json").read_text())["inputs"][entry["input"]]
    input_sizes = [video["pixel_values"]["shape"][-2:] for video in inputs["videos"]]
    detections = small_processor().post_process_instance_segmentation(
        recorded_outputs(fixtures_dir, case, entry["input"]),
        target_sizes=entry["original_sizes"],
        input_sizes=input_sizes,
    )
    for index, detection in enumerate(detections):
        # A2D results are stored in the order of the queries, RefCOCO results by falling score.
        order = detection["query_indices"].argsort() if name == "a2d" else torch.arange(5)
        np.testing.assert_allclose(detection["scores"][order], entry["scores"][index], atol=1e-6)
        stored = arrays[entry["masks"][index]].reshape(detection["masks"].shape).astype(bool)
        assert (detection["masks"][order].numpy() != stored).sum() <= 5
        if "boxes" in entry:
            np.testing.assert_allclose(detection["boxes"], entry["boxes"][index], atol=1e-3)


def outputs_of(masks, scores):
    """Outputs with `masks` (E, Q, T, h, w) logits and one score a query (E, Q) for all frames."""
    scores = torch.as_tensor(scores)[:, :, None, None].expand(-1, -1, masks.shape[2], 1)
    boxes = torch.tensor([0.5, 0.5, 0.5, 0.25]).expand(*masks.shape[:3], 4)
    return ReferringVideoSegmentationOutput(logits=torch.logit(scores), pred_boxes=boxes, pred_masks=masks)


def test_davis_labels_take_the_surest_object_and_leave_unsure_pixels_empty():
    masks = torch.full((2, 1, 1, 2, 2), -5.0)
    masks[0, 0, 0, 0] = torch.tensor([3.0, 1.0])
    masks[1, 0, 0, :, 1] = torch.tensor([2.0, -0.1])
    (labels,) = small_processor().post_process_davis(outputs_of(masks, [[0.9], [0.9]]), target_size=(2, 2))
    assert labels.dtype == torch.uint8
    assert labels.tolist() == [[[1, 2], [0, 0]]]


def test_davis_groups_are_separate_label_maps():
    masks = torch.stack([torch.full((1, 1, 2, 2), 1.0), torch.full((1, 1, 2, 2), 2.0)])
    outputs = outputs_of(masks, [[0.9], [0.9]])
    maps = small_processor().post_process_davis(outputs, target_size=(2, 2), object_groups=[[0], [1, 0]])
    assert [labels.unique().tolist() for labels in maps] == [[1], [1]]


def test_padded_cells_and_frames_do_not_reach_the_track():
    masks = torch.full((1, 1, 3, 4, 4), 5.0)
    masks[..., :2, :3] = -5.0
    masks[:, :, 2] = 5.0
    (track,) = small_processor().post_process_referring_video_segmentation(
        outputs_of(masks, [[0.9]]), target_sizes=[(20, 30)], input_sizes=[(7, 12)], num_frames=[2]
    )
    assert track["masks"].shape == (2, 20, 30)
    assert not track["masks"].any()


@pytest.mark.parametrize("stride", [1, 2, 8])
def test_mask_stride_tells_how_much_of_the_grid_is_padding(stride):
    masks = torch.full((1, 1, 1, 4, 4), 5.0)
    masks[..., :2, :3] = -5.0
    outputs = outputs_of(masks, [[0.9]])
    outputs.mask_stride = stride
    sizes = {"target_sizes": [(20, 30)], "input_sizes": [(2 * stride, 3 * stride)]}
    (track,) = small_processor().post_process_referring_video_segmentation(outputs, **sizes)
    assert not track["masks"].any()
    for resize_logits in (False, True):
        (detection,) = small_processor().post_process_instance_segmentation(
            outputs, **sizes, resize_logits=resize_logits
        )
        # Logits that are resized before the crop take a little of the padding along.
        assert detection["masks"].float().mean() <= (0 if stride == 1 else 0.5)


def test_boxes_are_pixels_of_the_target_size():
    (track,) = small_processor().post_process_referring_video_segmentation(
        outputs_of(torch.zeros(1, 1, 1, 4, 4), [[0.5]]), target_sizes=[(80, 160)]
    )
    assert track["boxes"].tolist() == [[40.0, 30.0, 120.0, 50.0]]


def test_long_clips_are_enlarged_in_parts_without_seams():
    generator = torch.Generator().manual_seed(0)
    outputs = outputs_of(torch.randn(1, 1, 35, 4, 6, generator=generator), [[0.5]])
    processor = small_processor()
    (whole,) = processor.post_process_referring_video_segmentation(outputs, target_sizes=[(16, 24)])
    outputs.pred_masks = outputs.pred_masks[:, :, 34:]
    (last,) = processor.post_process_referring_video_segmentation(outputs, target_sizes=[(16, 24)])
    assert torch.equal(whole["masks"][34], last["masks"][0])


def test_masks_of_the_best_query_alone_give_the_same_track():
    generator = torch.Generator().manual_seed(0)
    outputs = outputs_of(torch.randn(1, 3, 2, 4, 6, generator=generator), [[0.2, 0.9, 0.4]])
    (from_all,) = small_processor().post_process_referring_video_segmentation(outputs)
    outputs.pred_masks, outputs.query_index = outputs.pred_masks[:, 1:2], torch.tensor([1])
    (from_best,) = small_processor().post_process_referring_video_segmentation(outputs)
    assert torch.equal(from_all["masks"], from_best["masks"])
    assert from_all["query_index"] == from_best["query_index"] == 1
    assert from_all["score"] == from_best["score"]


@pytest.mark.parametrize("threshold, share", [(0.1, 1.0), (0.7, 0.5), (0.9, 0.0)])
def test_threshold_is_a_probability(threshold, share):
    masks = torch.logit(torch.tensor([[0.69, 0.71]])).expand(1, 1, 1, 2, 2)
    (track,) = small_processor().post_process_referring_video_segmentation(outputs_of(masks, [[0.5]]), threshold)
    assert track["masks"].float().mean() == share


@pytest.mark.parametrize("threshold", [-0.1, 0.0, 1.0, float("nan")])
def test_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold is"):
        small_processor().post_process_referring_video_segmentation(
            outputs_of(torch.zeros(1, 1, 1, 2, 2), [[0.5]]), threshold
        )


def test_a_wrong_number_of_target_sizes_is_refused():
    with pytest.raises(ValueError, match="target_sizes has 2 entries for 1 expressions"):
        small_processor().post_process_referring_video_segmentation(
            outputs_of(torch.zeros(1, 1, 1, 2, 2), [[0.5]]), target_sizes=[(4, 4), (4, 4)]
        )


def test_detections_of_several_frames_are_refused():
    with pytest.raises(ValueError, match="annotated_frames"):
        small_processor().post_process_instance_segmentation(
            outputs_of(torch.zeros(1, 2, 3, 2, 2), [[0.5, 0.5]]), target_sizes=[(4, 4)]
        )


@pytest.mark.parametrize(
    "size, options, wanted",
    [
        ((100, 175), (50, None), (50, 88)),
        ((175, 100), (50, None), (88, 50)),
        ((100, 174), (50, None), (50, 87)),
        ((100, 300), (50, 100), (33, 100)),
        ((480, 854), (448, 1333), (448, 797)),
    ],
)
def test_both_sides_are_rounded_half_up_if_asked_for(size, options, wanted):
    assert resized_size(*size, *options, round_half_up=True) == wanted


def test_settings_of_ssa_are_saved(tmp_path):
    build_video_processor(size={"shortest_edge": 50, "longest_edge": 1333}).save_pretrained(tmp_path)
    loaded = RvosVideoProcessor.from_pretrained(tmp_path)
    assert loaded.round_half_up and loaded.enlarge_masks_twice
    inputs = loaded(clip(1, 100, 175), return_tensors="pt")
    assert inputs["pixel_values_videos"].shape[-2:] == (64, 96)
    assert loaded.unpadded_sizes(inputs["pixel_mask"]) == [(1, 50, 88)]
    means = torch.tensor([122.771, 116.746, 104.094])
    grey = loaded(np.full((1, 50, 50, 3), 200, np.uint8), return_tensors="pt")["pixel_values_videos"][0, 0, :, 0, 0]
    torch.testing.assert_close(grey, (200 - means) / torch.tensor([68.501, 66.632, 70.323]))


# Several targets, and none.


def random_outputs(scores, num_frames=2, size=(4, 6), seed=0):
    masks = torch.randn(1, len(scores), num_frames, *size, generator=torch.Generator().manual_seed(seed))
    return outputs_of(masks, [scores])


def tracks_of(outputs, processor=None, **options):
    return (processor or small_processor()).post_process_referring_video_segmentation(outputs, **options)


def test_masks_enlarged_twice_take_padding_along_and_are_cut():
    outputs = random_outputs([0.9])
    (track,) = tracks_of(
        outputs, small_processor(enlarge_masks_twice=True), target_sizes=[(30, 50)], input_sizes=[(13, 21)]
    )
    frames = outputs.pred_masks[0, 0][:, None]
    at_input = F.interpolate(frames, size=(16, 24), mode="bilinear", align_corners=False)[..., :13, :21]
    wanted = F.interpolate(at_input, size=(30, 50), mode="bilinear", align_corners=False)[:, 0] > 0
    assert torch.equal(track["masks"], wanted)
    (once,) = tracks_of(outputs, target_sizes=[(30, 50)], input_sizes=[(13, 21)])
    assert not torch.equal(once["masks"], wanted)


def test_several_targets_are_one_mask_after_they_were_cut():
    outputs = random_outputs([0.9, 0.2, 0.6, 0.5])
    (track,) = tracks_of(outputs, multi_target=True, target_sizes=[(9, 13)])
    alone = [
        tracks_of(random_outputs([0.1] * query + [0.9] + [0.1] * (3 - query)), target_sizes=[(9, 13)])[0]["masks"]
        for query in range(4)
    ]
    assert torch.equal(track["masks"], alone[0] | alone[2])
    assert track["query_indices"] == [0, 2] and track["query_index"] == 0
    assert track["score"] == pytest.approx(0.9)
    (track,) = tracks_of(outputs, multi_target=True, score_threshold=0.1, target_sizes=[(9, 13)])
    assert torch.equal(track["masks"], alone[0] | alone[1] | alone[2] | alone[3])


@pytest.mark.parametrize("multi_target", [True, False])
def test_below_the_threshold_masks_are_empty_and_the_score_is_kept(multi_target):
    (track,) = tracks_of(
        random_outputs([0.3, 0.4]), multi_target=multi_target, score_threshold=0.5, target_sizes=[(9, 13)]
    )
    assert track["masks"].shape == (2, 9, 13) and not track["masks"].any()
    assert not track["boxes"].any() and track["query_indices"] == []
    assert track["score"] == pytest.approx(0.4) and track["query_index"] == 1
    (answered,) = tracks_of(random_outputs([0.3, 0.4]), multi_target=multi_target, score_threshold=0.35)
    assert answered["masks"].any() and answered["query_indices"] == [1]


def test_masks_of_the_queries_referred_to_give_the_same_tracks_as_those_of_all():
    scores = [[0.9, 0.2, 0.6], [0.1, 0.7, 0.3], [0.1, 0.2, 0.3]]
    masks = torch.randn(3, 3, 2, 4, 6, generator=torch.Generator().manual_seed(0))
    outputs = outputs_of(masks, scores)
    from_all = tracks_of(outputs, multi_target=True)
    outputs.query_index = torch.tensor([[0, 2], [1, -1], [-1, -1]])
    outputs.pred_masks = torch.stack([masks[0, [0, 2]], masks[1, [1, 0]], masks[2, [0, 0]]])
    for found, wanted in zip(tracks_of(outputs, multi_target=True), from_all):
        assert torch.equal(found["masks"], wanted["masks"])
        assert found["query_indices"] == wanted["query_indices"] and found["score"] == wanted["score"]
    outputs.pred_masks, outputs.query_index = masks[:, :0], torch.zeros(3, 0, dtype=torch.long)
    assert not any(track["masks"].any() for track in tracks_of(outputs, multi_target=True))


def test_masks_that_are_not_there_are_asked_for():
    outputs = random_outputs([0.9, 0.8])
    outputs.pred_masks, outputs.query_index = outputs.pred_masks[:, :1], torch.tensor([0])
    with pytest.raises(ValueError, match='queries="all" or queries="referred"'):
        tracks_of(outputs, multi_target=True)
    outputs.query_index = torch.tensor([[0]])
    with pytest.raises(ValueError, match="multi_target=True"):
        tracks_of(outputs)


def test_without_predicted_boxes_they_are_around_the_masks():
    masks = torch.full((1, 1, 2, 4, 6), -5.0)
    masks[0, 0, 0, 1:3, 2:5] = 5.0
    outputs = outputs_of(masks, [[0.9]])
    outputs.pred_boxes = None
    (track,) = tracks_of(outputs)
    assert track["boxes"].tolist() == [[2.0, 1.0, 4.0, 2.0], [0.0, 0.0, 0.0, 0.0]]
    outputs.logits, outputs.pred_masks = outputs.logits[:, :, :1], masks[:, :, :1]
    (detection,) = small_processor().post_process_instance_segmentation(outputs, target_sizes=[(4, 6)])
    assert detection["boxes"].shape == (1, 4) and detection["boxes"][0].tolist() == [2.0, 1.0, 4.0, 2.0]


def test_instance_scores_are_those_of_the_pixels_inside():
    masks = torch.full((1, 2, 3, 2, 2), -5.0)
    masks[0, 0, :2] = torch.logit(torch.tensor(0.8))
    (track,) = tracks_of(outputs_of(masks, [[0.9, 0.6]]), multi_target=True, score_instances=True)
    torch.testing.assert_close(track["instance_scores"], torch.tensor([0.9 * 0.8, 0.0]))
    (track,) = tracks_of(outputs_of(masks, [[0.1, 0.2]]), multi_target=True, score_instances=True)
    assert track["instance_scores"].shape == (0,)
