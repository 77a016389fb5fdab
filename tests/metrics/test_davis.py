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
from PIL import Image

from hf_rvos.metrics import (
    evaluate_davis,
    evaluate_ref_davis,
    score_davis_video,
    summarize_davis,
    summarize_ref_davis,
)


# Ratios of integers, computed in another order.
TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def sequences(fixtures_dir):
    """Recorded videos: the expected values by protocol, and name -> (pred, gt)."""
    expected = json.loads((fixtures_dir / "metrics/sequences.json").read_text())
    with np.load(fixtures_dir / "metrics/sequences.npz") as arrays:
        names = {name.split("/")[0] for name in arrays}
        return expected, {name: (arrays[f"{name}/pred"], arrays[f"{name}/gt"]) for name in names}


def squares(num_frames=4, size=(24, 32), ids=(1, 2), shift=0):
    """Index maps of squares side by side that move down."""
    maps = np.zeros((num_frames, *size), dtype=np.uint8)
    for frame, place in np.ndindex(num_frames, len(ids)):
        maps[frame, 4 + frame + shift : 12 + frame + shift, 2 + 10 * place : 10 + 10 * place] = ids[place]
    return maps


def write_maps(folder, videos):
    """Palette PNGs `<video>/<frame>.png`, as results come."""
    for video, maps in videos.items():
        (folder / video).mkdir(parents=True, exist_ok=True)
        for index, labels in enumerate(maps):
            image = Image.fromarray(labels)
            image.putpalette([value for label in range(256) for value in (label, 255 - label, 7)])
            image.save(folder / video / f"{index:05}.png")
    return folder


@pytest.mark.parametrize("protocol", ["unsupervised", "semi-supervised"])
def test_objects_of_a_video_have_the_official_values(sequences, protocol):
    expected, videos = sequences
    for name, values in expected[protocol]["sequences"].items():
        if "error" in values:
            continue
        # The official tables name objects by the rank of the prediction.
        rows = sorted(
            score_davis_video(*videos[name], protocol, per_frame=True), key=lambda row: row["pred_id"] or np.inf
        )
        assert len(rows) == values["num_gt_objects"], name
        for index, row in enumerate(rows):
            for key in "jf":
                official = values[key.upper()]
                frames = values[f"{key.upper()}_frames"][index]
                assert row[f"{key}_frames"] == pytest.approx(frames, abs=TOLERANCE), name
                assert row[f"{key}_mean"] == pytest.approx(official["M"][index], abs=TOLERANCE), name
                assert row[f"{key}_recall"] == pytest.approx(official["R"][index], abs=TOLERANCE), name
                if official["D"][index] is not None:  # the official code cannot do it for long videos
                    assert row[f"{key}_decay"] == pytest.approx(official["D"][index], abs=TOLERANCE), name


@pytest.mark.parametrize("protocol", ["unsupervised", "semi-supervised"])
def test_totals_equal_the_official_ones(sequences, protocol):
    expected, videos = sequences
    official = expected[protocol]["global"]
    rows = [row for name in official["order"] for row in score_davis_video(*videos[name], protocol)]
    totals = summarize_davis(rows)
    for name, key in [("j_and_f", "J&F-Mean"), ("j_mean", "J-Mean"), ("j_recall", "J-Recall"), ("f_mean", "F-Mean")]:
        assert totals[name] == pytest.approx(official[key], abs=TOLERANCE)
    assert totals["num_objects"] == len(rows)
    assert np.isfinite(totals["j_decay"])  # NaN in the official table, because of one long video


def test_more_ids_than_the_official_code_accepts_are_refused(sequences):
    expected, videos = sequences
    refused = [name for name, values in expected["semi-supervised"]["sequences"].items() if "error" in values]
    assert refused
    for name in refused:
        with pytest.raises(ValueError, match="the semi-supervised protocol allows"):
            score_davis_video(*videos[name], "semi-supervised")
    maps = squares()
    maps[-1, 0, 0] = 21
    with pytest.raises(ValueError, match="the unsupervised protocol allows 20"):
        score_davis_video(maps, squares())


def test_rows_name_the_objects_of_the_ground_truth():
    rows = score_davis_video(squares(ids=(2, 1)), squares(ids=(1, 2)))
    assert [(row["object_id"], row["pred_id"]) for row in rows] == [(1, 2), (2, 1)]
    assert [row["j_and_f"] for row in rows] == [1, 1]


def test_matching_by_id_does_not_forgive_swapped_objects():
    swapped = score_davis_video(squares(ids=(2, 1)), squares(ids=(1, 2)), matching="id")
    assert [(row["object_id"], row["pred_id"], row["j_mean"]) for row in swapped] == [(1, 1, 0), (2, 2, 0)]
    right = score_davis_video(squares(ids=(1, 2, 3)), squares(ids=(1, 2)), matching="id")
    assert [row["j_mean"] for row in right] == [1, 1]


def test_void_counts_in_the_semi_supervised_protocol_only():
    gt = squares()
    pred = gt.copy()
    gt[:, 20:] = 255
    pred[:, 20:, :10] = 1
    assert score_davis_video(pred, gt)[0]["j_and_f"] == 1
    assert score_davis_video(pred, gt, "semi-supervised")[0]["j_mean"] < 1


def test_object_that_enters_later_does_not_count():
    gt = squares(ids=(1, 2))
    gt[0][gt[0] == 2] = 0
    assert [row["object_id"] for row in score_davis_video(gt, gt)] == [1]


@pytest.mark.parametrize("num_frames, protocol", [(0, "unsupervised"), (2, "semi-supervised")])
def test_videos_with_too_few_frames_are_refused(num_frames, protocol):
    with pytest.raises(ValueError, match="with at least"):
        score_davis_video(squares(num_frames), squares(num_frames), protocol)


def test_video_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 24, 32\) and \(4, 24, 33\)"):
        score_davis_video(squares(), squares(size=(24, 33)))


@pytest.mark.parametrize("arguments", [{"protocol": "supervised"}, {"matching": "iou"}])
def test_unknown_choices_are_refused(arguments):
    with pytest.raises(ValueError, match="expected one of"):
        score_davis_video(squares(), squares(), **arguments)


def test_no_objects_have_no_total():
    with pytest.raises(ValueError, match="at least one object"):
        summarize_davis([])


def test_folders_and_arrays_have_the_same_scores(tmp_path):
    gt = {"a": squares(), "b": squares(5, size=(20, 40), ids=(1, 2, 3))}
    pred = {"a": squares(shift=1), "b": squares(5, size=(20, 40), ids=(3, 1), shift=2)}
    from_arrays = evaluate_davis(pred, gt)
    from_folders = evaluate_davis(write_maps(tmp_path / "pred", pred), write_maps(tmp_path / "gt", gt))
    assert from_folders == from_arrays
    assert from_arrays["num_videos"] == 2 and from_arrays["num_objects"] == 5
    assert [(row["video_id"], row["object_id"]) for row in from_arrays["objects"]] == [
        *(("a", index) for index in (1, 2)),
        *(("b", index) for index in (1, 2, 3)),
    ]


def test_root_of_davis_gives_its_validation_videos(tmp_path):
    root = tmp_path / "DAVIS"
    write_maps(root / "Annotations_unsupervised/480p", {"a": squares(), "b": squares()})
    write_maps(root / "Annotations/480p", {"a": squares(), "b": squares(ids=(1,))})
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("b\n")
    results = write_maps(tmp_path / "results", {"b": squares(ids=(1,))})
    unsupervised, semi = evaluate_davis(results, root), evaluate_davis(results, root, "semi-supervised")
    assert unsupervised["num_videos"] == semi["num_videos"] == 1
    assert (unsupervised["j_mean"], semi["j_mean"]) == (0.5, 1)


def test_missing_predictions_are_counted_in_one_error(tmp_path):
    gt = write_maps(tmp_path / "gt", {"a": squares(), "b": squares()})
    pred = write_maps(tmp_path / "pred", {"a": squares()})
    (pred / "a/00002.png").unlink()
    with pytest.raises(ValueError, match="5 of 8 predicted masks are missing"):
        evaluate_davis(pred, gt)
    with pytest.raises(ValueError, match="5 of 32 predicted masks are missing"):
        evaluate_ref_davis([gt, gt, gt, pred], gt)
    with pytest.raises(ValueError, match="1 of 2 predicted masks are missing: b"):
        evaluate_davis({"a": squares()}, {"a": squares(), "b": squares()})


def test_missing_predictions_can_count_as_empty(tmp_path):
    gt = write_maps(tmp_path / "gt", {"a": squares(), "b": squares()})
    pred = write_maps(tmp_path / "pred", {"a": squares()})
    (pred / "a/00002.png").unlink()
    totals = evaluate_davis(pred, gt, missing="empty")
    assert totals["num_missing_frames"] == 5
    assert totals["j_mean"] == totals["f_mean"] == pytest.approx(3 / 8)


def test_semi_supervised_results_need_neither_first_nor_last_frame(tmp_path):
    gt = write_maps(tmp_path / "gt", {"a": squares()})
    pred = write_maps(tmp_path / "pred", {"a": squares()})
    (pred / "a/00000.png").unlink()
    (pred / "a/00003.png").unlink()
    assert evaluate_davis(pred, gt, "semi-supervised")["j_and_f"] == 1


def test_videos_that_are_not_there_are_refused(tmp_path):
    gt = write_maps(tmp_path / "gt", {"a": squares()})
    with pytest.raises(ValueError, match="but not these 1: c"):
        evaluate_davis(gt, gt, videos=["a", "c"])
    with pytest.raises(ValueError, match="leaves the folder"):
        evaluate_davis(gt, gt, videos=["../gt/a"])
    with pytest.raises(ValueError, match="there is no folder"):
        evaluate_davis(gt, tmp_path / "nothing")
    with pytest.raises(ValueError, match="as folders or both as arrays"):
        evaluate_davis(gt, {"a": squares()})


def test_ref_davis_is_the_mean_of_its_passes(tmp_path):
    gt = {"a": squares()}
    passes = [{"a": squares(shift=shift)} for shift in range(4)]
    for index, maps in enumerate(passes):
        write_maps(tmp_path / f"anno_{index}", maps)
    totals = evaluate_ref_davis(tmp_path, write_maps(tmp_path / "gt", gt))
    alone = [evaluate_davis(maps, gt) for maps in passes]
    for key in ("j_and_f", "j_mean", "j_recall", "j_decay", "f_mean", "f_recall", "f_decay"):
        assert totals[key] == pytest.approx(np.mean([result[key] for result in alone]), abs=1e-12)
        assert [result[key] for result in totals["passes"]] == [result[key] for result in alone]
    assert (totals["protocol"], totals["matching"]) == ("unsupervised", "official")
    # The rows are enough to come to the totals again.
    assert summarize_ref_davis(totals["objects"]).items() <= totals.items()


def test_ref_davis_has_four_passes():
    maps = {"a": squares()}
    with pytest.raises(ValueError, match="expected the results of the 4 passes"):
        evaluate_ref_davis([maps] * 3, maps)
    rows = [row | {"annotation_pass": index} for index in range(3) for row in score_davis_video(squares(), squares())]
    with pytest.raises(ValueError, match="{0: 2, 1: 2, 2: 2} objects by annotation pass"):
        summarize_ref_davis(rows)


@pytest.mark.parametrize("protocol", ["unsupervised", "semi-supervised"])
def test_official_values_of_a_small_ref_davis(shared_dir, protocol):
    expected = json.loads((shared_dir / "parity/metrics/ref_davis_mini.json").read_text())[protocol]
    root = shared_dir / "data/mini/ref_davis"
    totals = evaluate_ref_davis(root / "results", root / "raw/DAVIS", protocol)
    keys = {"J&F-Mean": "j_and_f"} | {
        f"{name}-{key.title()}": f"{name.lower()}_{key}" for name in "JF" for key in ("mean", "recall", "decay")
    }
    for official, ours in [(expected["mean"], totals), *zip(expected["passes"], totals["passes"])]:
        for theirs, key in keys.items():
            assert ours[key] == pytest.approx(official[theirs], abs=TOLERANCE), key
