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
"""What models and folders are asked for, and that it is what the pipeline says."""

import os
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from hf_rvos.data import media
from hf_rvos.data.benchmark_builder import Report
from hf_rvos.data.media import load_masks
from hf_rvos.data.mevis import read_rows as read_mevis
from hf_rvos.data.ref_davis17 import read_rows as read_ref_davis17
from hf_rvos.evaluation.prediction import FolderPredictor, ModelPredictor, group_expressions
from hf_rvos.evaluation.protocols import PerExpression, RefDavis
from hf_rvos.pipelines import ReferringVideoSegmentationPipeline
from tests.data import roots
from tests.data.roots import HEIGHT, WIDTH, write_image
from tests.tiny_segmenter import tiny_model, tiny_processor, tiny_ssa, tiny_ssa_processor


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mevis")
    roots.mevis(folder)
    return folder


@pytest.fixture(scope="module")
def rows(root):
    """All expressions of a video of four frames."""
    return list(read_mevis(root, "train", Report()))[:4]


@pytest.fixture
def calls(model):
    """What the model is called with."""
    found = []
    hook = model.register_forward_pre_hook(lambda _, positional, named: found.append(named), with_kwargs=True)
    yield found
    hook.remove()


def tracks(predictor, rows, root):
    """Masks of each row, all clips together."""
    parts = [[clip.track(index)["masks"] for index in range(len(rows))] for clip in predictor.clips(rows, root)]
    return [np.concatenate(of_row) for of_row in zip(*parts)]


def pipeline_of(model, processor):
    return ReferringVideoSegmentationPipeline(
        model=model, processor=processor, task="referring-video-segmentation", device="cpu"
    )


# Models.


@pytest.mark.parametrize("clip_length", [1, 3, 36])
@pytest.mark.parametrize("padding", [{}, {"pad_to_multiple_of": 32}], ids=["plain", "padded"])
def test_masks_are_those_of_the_pipeline(model, root, rows, clip_length, padding):
    processor = tiny_processor(**padding)
    segmenter = pipeline_of(model, processor)
    texts = [row["expression"] for row in rows]
    expected = segmenter(root / rows[0]["media_dir"], text=texts, clip_length=clip_length, threshold=0.4)
    found = tracks(ModelPredictor(model, processor, 0.4, clip_length), rows, root)
    for masks, track in zip(found, expected, strict=True):
        assert np.array_equal(masks, track["masks"].numpy())
    assert any(masks.any() for masks in found)


def test_scores_are_those_of_the_pipeline(model, root, rows):
    processor = tiny_processor()
    segmenter = pipeline_of(model, processor)
    expected = segmenter(root / rows[0]["media_dir"], text=[row["expression"] for row in rows])
    (clip,) = ModelPredictor(model, processor).clips(rows, root)
    assert [clip.track(index)["score"] for index in range(4)] == [track["score"] for track in expected]


@pytest.mark.parametrize("padding", [{}, {"pad_to_multiple_of": 32}], ids=["no", "yes"])
def test_the_size_before_padding_is_known(model, root, rows, calls, padding):
    for clip in ModelPredictor(model, tiny_processor(**padding)).clips(rows, root):
        assert clip.input_size == (48, 64)
        assert clip.track(0)["masks"].shape == (4, HEIGHT, WIDTH)
    assert (calls[0]["pixel_mask"] is None) == (not padding)


def test_sentences_are_encoded_once_for_a_video(model, root, rows, monkeypatch):
    encode, seen = model.get_text_features, []
    monkeypatch.setattr(model, "get_text_features", lambda ids, mask: seen.append(len(ids)) or encode(ids, mask))
    assert len(list(ModelPredictor(model, tiny_processor(), clip_length=1).clips(rows, root))) == 4
    assert seen == [4]


def test_frames_are_read_once_whatever_the_number_of_sentences(model, root, rows, monkeypatch):
    seen, read = [], media.load_clip
    monkeypatch.setattr(media, "load_clip", lambda *inputs: seen.append(list(inputs[2])) or read(*inputs))
    tracks(ModelPredictor(model, tiny_processor(), clip_length=3), rows, root)
    assert seen == [[0, 1, 2], [3]]


def test_frames_alive_do_not_grow_with_the_length_of_the_video(model, root, monkeypatch):
    row = next(read_mevis(root, "train", Report())) | {"frames": ["00000"] * 9, "num_frames": 9}
    clips, alive, read = [], [], media.load_clip

    def load(*inputs):
        alive.append(sum(clip() is not None for clip in clips))
        frames = read(*inputs)
        clips.append(weakref.ref(frames))
        return frames

    monkeypatch.setattr(media, "load_clip", load)
    for clip in ModelPredictor(model, tiny_processor(), clip_length=1).clips([row], root):
        clip.track(0)
    # While one is read, the one before it is predicted, and the caller still holds the last.
    assert len(alive) == 9 and max(alive) <= 2


def test_a_video_that_cannot_be_read_is_an_error_in_the_middle_of_it(model, root, rows):
    broken = [row | {"frames": [*row["frames"][:3], "lost"]} for row in rows]
    clips = ModelPredictor(model, tiny_processor(), clip_length=3).clips(broken, root)
    next(clips)
    with pytest.raises(ValueError, match="there is no frame .*lost"):
        next(clips)


def test_sentences_are_those_of_the_column_that_the_protocol_wants(model, root, rows, monkeypatch):
    rows = [rows[0] | {"expression": "the star", "expression_raw": "the red star"}]
    lengths = []
    encode = model.get_text_features
    monkeypatch.setattr(
        model, "get_text_features", lambda ids, mask: lengths.append(ids.shape[1]) or encode(ids, mask)
    )
    predictor = ModelPredictor(model, tiny_processor())
    for column in ("expression", "expression_raw"):
        predictor.prepare(rows, PerExpression(text_column=column))
        list(predictor.clips(rows, root))
    assert lengths[1] == lengths[0] + 1


@pytest.mark.parametrize(
    "grouping, groups", [("video", None), ("single", [0, 1, 2, 3]), ("one-per-object", [0, 0, 1, 0])]
)
def test_models_are_told_which_sentences_are_asked_together(model, root, rows, calls, grouping, groups):
    rows = [row | {"object_ids": target} for row, target in zip(rows, ([0], [1], [0], []))]
    list(ModelPredictor(model, tiny_processor(), grouping=grouping).clips(rows, root))
    told = calls[0].get("group_index")
    assert (told if told is None else told.tolist()) == groups


def test_the_best_query_is_enough_for_tracks(model, root, rows, calls):
    (clip,) = ModelPredictor(model, tiny_processor()).clips(rows, root)
    assert calls[0]["queries"] == "best"
    assert clip.outputs.pred_masks.shape[1] == 1


def test_a_single_frame_has_the_masks_of_all_queries(model, root, rows, calls):
    clip = ModelPredictor(model, tiny_processor()).annotated_frame(rows, root, [0, 0, 1, 2, 3], 2)
    assert calls[0]["annotated_frames"].tolist() == [2]
    assert calls[0]["pixel_values_videos"].shape[1] == 5
    assert clip.positions == range(1, 2)
    for resize_logits in (False, True):
        detections = clip.detections(1, resize_logits)
        assert detections["masks"].shape == (model.config.num_queries, HEIGHT, WIDTH)
        assert (np.diff(detections["scores"]) <= 0).all()
        left, top, right, bottom = detections["boxes"].T  # of pixels of the frame
        assert (
            len(left) == model.config.num_queries and right.max() > 2 and (left < right).all() and (top < bottom).all()
        )


def test_maps_of_a_group_have_the_ids_of_its_sentences(model, root, rows):
    predictor = ModelPredictor(model, tiny_processor())
    masks = tracks(predictor, rows, root)
    (clip,) = predictor.clips(rows, root)
    maps = list(clip.label_maps([[0, 1], [2]]))
    assert [labels.dtype for labels in maps] == [np.uint8] * 2
    assert np.array_equal(maps[0] > 0, masks[0] | masks[1])
    assert np.array_equal(maps[1] == 1, masks[2])


def test_nothing_needs_gradients(model, root, rows):
    (clip,) = ModelPredictor(model, tiny_processor()).clips(rows, root)
    assert not clip.outputs.pred_masks.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_models_in_bfloat16_are_given_pixels_in_it(root, rows):
    model = tiny_model().to(torch.bfloat16)
    assert tracks(ModelPredictor(model, tiny_processor()), rows, root)[0].shape == (4, HEIGHT, WIDTH)


def test_a_clip_without_frames_is_refused():
    with pytest.raises(ValueError, match="clip_length is 0, expected at least 1 frame"):
        ModelPredictor(SimpleNamespace(), None, clip_length=0)


@pytest.mark.parametrize(
    ("grouping", "groups"),
    [("video", [0, 0, 0, 0, 0]), ("one-per-object", [0, 1, 0, 2, 1]), ("single", [0, 1, 2, 3, 4])],
)
def test_expressions_are_grouped_as_the_protocol_says(grouping, groups):
    assert group_expressions(["dog", "dog", "cat", "dog", "cat"], grouping) == groups


def test_an_unknown_grouping_is_refused_before_any_work():
    with pytest.raises(ValueError, match="grouping is 'all', expected one of video, one-per-object, single"):
        ModelPredictor(SimpleNamespace(), None, grouping="all")


# Folders.


def write_predictions(folder, rows, root, value=255):
    """The truth as a submission; any value but 0 is the object."""
    for row in rows:
        for frame, mask in zip(row["frames"], load_masks(row, root)):
            path = folder / row["video_id"] / row["expression_id"] / f"{frame}.png"
            write_image(path, mask.astype(np.uint8) * value)


@pytest.mark.parametrize("clip_length", [1, 3, 36])
@pytest.mark.parametrize("value", [1, 255])
def test_a_folder_says_what_was_written(root, rows, tmp_path, clip_length, value):
    write_predictions(tmp_path, rows, root, value)
    predictor = FolderPredictor(tmp_path, clip_length=clip_length)
    assert predictor.prepare(rows, PerExpression())["num_missing_masks"] == 0
    for row, masks in zip(rows, tracks(predictor, rows, root)):
        assert masks.dtype == bool and np.array_equal(masks, load_masks(row, root))


def test_the_folder_annotations_of_a_submission_is_found(root, rows, tmp_path):
    write_predictions(tmp_path / "Annotations", rows, root)
    assert FolderPredictor(tmp_path).prepare(rows, PerExpression())["num_missing_masks"] == 0


def test_all_missing_masks_are_counted_in_one_error(root, rows, tmp_path):
    write_predictions(tmp_path, rows[:2], root)
    (tmp_path / "train9/0/00001.png").unlink()
    with pytest.raises(ValueError, match=r"9 of 16 predicted masks are missing: .*train9/0/00001.png, .*"):
        FolderPredictor(tmp_path).prepare(rows, PerExpression())


def test_missing_masks_are_empty_if_asked_for(root, rows, tmp_path):
    write_predictions(tmp_path, rows[:2], root)
    (tmp_path / "train9/0/00001.png").unlink()
    predictor = FolderPredictor(tmp_path, missing="empty")
    assert predictor.prepare(rows, PerExpression())["num_missing_masks"] == 9
    found = tracks(predictor, rows, root)
    assert not found[0][1].any() and not found[2].any()
    assert np.array_equal(found[1], load_masks(rows[1], root))


def test_only_annotated_frames_need_masks(root, rows, tmp_path):
    write_predictions(tmp_path, rows, root)
    (tmp_path / "train9/0/00001.png").unlink()
    annotated = [rows[0] | {"annotated_frames": [0, 2]}, *rows[1:]]
    assert FolderPredictor(tmp_path).prepare(annotated, PerExpression())["num_missing_masks"] == 0


def test_maps_of_objects_are_read_from_the_folder_of_each_pass(tmp_path):
    roots.ref_davis17(tmp_path)
    rows = [row for row in read_ref_davis17(tmp_path / "raw", "valid", Report()) if row["video_id"] == "tiny-boat"]
    maps = np.random.default_rng(0).integers(0, 3, (4, 3, HEIGHT, WIDTH), dtype=np.uint8)
    for annotator, labels in enumerate(maps):
        for frame, image in zip(rows[0]["frames"], labels):
            write_image(tmp_path / f"out/anno_{annotator}/tiny-boat/{frame}.png", image, palette=True)
    predictor = FolderPredictor(tmp_path / "out", clip_length=2)
    assert predictor.prepare(rows, RefDavis())["num_missing_masks"] == 0
    groups = [[index for index, row in enumerate(rows) if row["expression_type"] == str(one)] for one in range(4)]
    parts = [list(clip.label_maps(groups)) for clip in predictor.clips(rows, tmp_path / "raw")]
    for labels, *found in zip(maps, *parts, strict=True):
        assert np.array_equal(np.concatenate(found), labels)


def test_masks_of_another_size_are_refused(root, rows, tmp_path):
    write_predictions(tmp_path, rows, root)
    Image.new("L", (WIDTH + 1, HEIGHT)).save(tmp_path / "train9/0/00001.png")
    with pytest.raises(ValueError, match=r"00001.png' is 24x33 pixels .* expected 24x32"):
        tracks(FolderPredictor(tmp_path), rows, root)


def test_a_single_frame_is_the_mask_of_its_file(root, rows, tmp_path):
    write_predictions(tmp_path, rows, root)
    clip = FolderPredictor(tmp_path).annotated_frame(rows, root, [1, 2, 3], 1)
    detections = clip.detections(1, False)
    assert detections["scores"].tolist() == [1]
    assert np.array_equal(detections["masks"], load_masks(rows[1], root, [2]))


def test_the_size_is_that_of_the_frames_where_rows_do_not_say_it(root, rows, tmp_path):
    unknown = [row | {"height": None, "width": None} for row in rows]
    predictor = FolderPredictor(tmp_path, missing="empty")
    assert tracks(predictor, unknown, root)[0].shape == (4, HEIGHT, WIDTH)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="predictions: there is no folder .*lost', expected one with the masks"):
        FolderPredictor(tmp_path / "lost")


def test_an_unknown_way_with_missing_masks_is_refused(tmp_path):
    with pytest.raises(ValueError, match="missing is 'drop', expected one of error, empty"):
        FolderPredictor(tmp_path, missing="drop")


@pytest.mark.parametrize("column", ["video_id", "expression_id"])
def test_names_that_leave_the_folder_are_refused(rows, tmp_path, column):
    with pytest.raises(ValueError, match="leaves the folder"):
        FolderPredictor(tmp_path, missing="empty").prepare([rows[0] | {column: "../other"}], PerExpression())


def test_masks_that_were_written_anew_are_other_masks(root, rows, tmp_path):
    write_predictions(tmp_path, rows, root)
    before = FolderPredictor(tmp_path).prepare(rows, PerExpression())
    assert FolderPredictor(tmp_path).prepare(rows, PerExpression()) == before
    os.utime(tmp_path / "train9/0/00001.png", (0, 0))
    assert FolderPredictor(tmp_path).prepare(rows, PerExpression())["masks"] != before["masks"]


def test_folders_have_to_be_compared_with_something(rows, tmp_path):
    with pytest.raises(ValueError, match="without masks to compare with"):
        FolderPredictor(tmp_path).prepare(rows, PerExpression(has_truth=False))


# Models that see whole videos, and sentences that are not in them.


@pytest.fixture(scope="module")
def ssa():
    return tiny_ssa(score_threshold=0.3)


def close(masks, others):
    """Rounding of sums in another order may move a pixel."""
    return masks.shape == others.shape and (masks == others).mean() > 0.999


@pytest.mark.parametrize("multi_target", [False, True], ids=["single", "multi"])
@pytest.mark.parametrize("clip_length", [None, 3])
def test_masks_of_ssa_are_those_of_the_pipeline(ssa, root, rows, clip_length, multi_target):
    processor = tiny_ssa_processor()
    options = {"multi_target": multi_target, "score_threshold": 0.4}
    segmenter = pipeline_of(ssa, processor)
    texts = [row["expression"] for row in rows]
    length = {} if clip_length is None else {"clip_length": clip_length}
    expected = segmenter(root / rows[0]["media_dir"], text=texts, **length, **options)
    predictor = ModelPredictor(ssa, processor, clip_length=clip_length, **options)
    for masks, track in zip(tracks(predictor, rows, root), expected, strict=True):
        assert close(masks, track["masks"].numpy())


def test_pieces_of_a_whole_video_have_the_score_of_all_of_it(ssa, root, rows):
    clips = list(ModelPredictor(ssa, tiny_ssa_processor()).clips(rows, root))
    assert [list(clip.positions) for clip in clips] == [[0, 1, 2], [3]]
    for index in range(len(rows)):
        first, second = (clip.track(index)["score"] for clip in clips)
        assert first == pytest.approx(second, abs=1e-6)


def test_one_object_is_asked_for_where_objects_are_merged(root, rows):
    predictor = ModelPredictor(tiny_ssa(multi_target=True, score_threshold=0.01), tiny_ssa_processor())
    assert predictor.prepare(rows, RefDavis()) == {"multi_target": False, "score_threshold": None}
    for clip in predictor.clips(rows, root):
        assert [labels.shape[1:] for labels in clip.label_maps([[0, 1], [2]])] == [(HEIGHT, WIDTH)] * 2


def test_what_one_protocol_does_without_is_there_for_the_next(rows):
    predictor = ModelPredictor(tiny_ssa(multi_target=True, score_threshold=0.3), tiny_ssa_processor())
    predictor.prepare(rows, RefDavis())
    assert predictor.prepare(rows, PerExpression()) == {"multi_target": True, "score_threshold": 0.3}


def test_a_single_frame_of_ssa_has_all_queries(root, rows):
    predictor = ModelPredictor(tiny_ssa(multi_target=True), tiny_ssa_processor())
    clip = predictor.annotated_frame(rows, root, [2], 0)
    assert clip.detections(0, True)["masks"].shape == (5, HEIGHT, WIDTH)


@pytest.mark.parametrize("clip_length", [1, 36])
def test_the_score_of_the_whole_video_decides_what_is_not_in_it(model, root, rows, clip_length):
    processor = tiny_processor()
    answered = list(ModelPredictor(model, processor, clip_length=clip_length).clips(rows, root))
    scores = np.mean([[clip.track(index)["score"] for clip in answered] for index in range(4)], axis=1)
    threshold = np.sort(scores)[1:3].mean()
    predictor = ModelPredictor(model, processor, clip_length=clip_length, score_threshold=float(threshold))
    found = list(predictor.clips(rows, root))
    assert len(found) == len(answered)
    for clip, before in zip(found, answered):
        for index in range(4):
            track, wanted = clip.track(index), before.track(index)
            assert track["score"] == wanted["score"]
            assert np.array_equal(track["masks"], wanted["masks"] & bool(scores[index] > threshold))


def test_several_targets_are_refused_by_a_model_for_one(model):
    with pytest.raises(ValueError, match="multi_target: a model of type 'referformer'"):
        ModelPredictor(model, None, multi_target=True)
