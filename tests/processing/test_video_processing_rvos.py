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
from PIL import Image

from hf_rvos.modeling_outputs import ReferringVideoSegmentationOutput
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
