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
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from hf_rvos.metrics import (
    contour_accuracy,
    region_similarity,
    score_expression,
    score_expressions,
    summarize_expressions,
    summarize_temporal_stability,
)
from hf_rvos.metrics.expressions import SCORES, as_masks
from hf_rvos.ops.rle import encode_rle


TOLERANCE = 1e-9
OFFICIAL_NAMES = {
    "j_mean": "J",
    "f_mean": "F",
    "j_and_f": "JF",
    "j_variance": "J_var",
    "j_and_f_variance": "JF_var",
    "t_iou": "tIoU",
    "v_iou": "vIoU",
    "accuracy": "accuracy",
    "robustness": "robustness_fg_is_gt",
    "is_empty": "pred_empty_everywhere",
    "num_frames": "num_frames",
    "j_frames": "J_frames",
    "f_frames": "F_frames",
}


@pytest.fixture(scope="module")
def expressions(fixtures_dir):
    """Recorded expressions: the expected values, and name -> (pred, union of the targets)."""
    expected = json.loads((fixtures_dir / "metrics/expressions.json").read_text())
    with np.load(fixtures_dir / "metrics/expressions.npz") as arrays:
        tracks = {name: (arrays[f"{name}/pred"], arrays[f"{name}/gt"].any(axis=0)) for name in expected["expressions"]}
    return expected, tracks


def track(frames, shift=0, size=(20, 30)):
    """Masks of a square that is present where `frames` is 1."""
    masks = np.zeros((len(frames), *size), dtype=bool)
    masks[:, 5 + shift : 12 + shift, 8:16] = np.array(frames, dtype=bool)[:, None, None]
    return masks


def row(expression_type=None, number=0, **values):
    scores = dict.fromkeys(SCORES, 0.5)
    identity = {"video_id": "v", "expression_id": str(number), "expression_type": expression_type}
    return identity | scores | {"is_empty": False, "has_target": True, "num_frames": 2} | values


def test_expressions_have_the_official_values(expressions):
    expected, tracks = expressions
    for name, (pred, gt) in tracks.items():
        scores, official = score_expression(pred, gt, per_frame=True), expected["expressions"][name]
        for key, theirs in OFFICIAL_NAMES.items():
            assert scores[key] == pytest.approx(official[theirs], abs=TOLERANCE), (name, key)
        assert scores["has_target"] == (official["num_targets"] > 0)


def test_totals_equal_the_official_ones(expressions):
    expected, tracks = expressions
    totals = summarize_expressions([score_expression(*masks) for masks in tracks.values()], "mevis")
    names = OFFICIAL_NAMES | {"n_acc": "N_acc", "t_acc": "T_acc"}
    names |= {"j_variance": "mean_J_variance", "j_and_f_variance": "mean_JF_variance"}
    official = expected["aggregate"]
    checked = {key: theirs for key, theirs in names.items() if theirs in official}
    assert len(checked) == 9
    for key, theirs in checked.items():
        assert totals[key] == pytest.approx(official[theirs], abs=TOLERANCE), key


def test_values_of_frames_are_those_of_the_plain_functions(expressions):
    for pred, gt in expressions[1].values():
        scores = score_expression(pred, gt, per_frame=True)
        assert scores["j_frames"] == region_similarity(pred, gt).tolist()
        assert scores["f_frames"] == contour_accuracy(pred, gt).tolist()


@pytest.mark.parametrize("kind", ["uint8", "tensor", "rle", "rle with None", "bytes"])
def test_form_of_the_masks_does_not_matter(kind):
    pred, gt = track([1, 1, 0, 1], shift=1), track([1, 0, 0, 1])

    def convert(masks):
        if kind == "uint8":
            return masks.astype(np.uint8) * 255
        if kind == "tensor":
            return torch.from_numpy(masks)
        rles = encode_rle(masks)
        if kind == "bytes":
            return [rle | {"counts": rle["counts"].encode()} for rle in rles]
        return [None if kind == "rle with None" and not mask.any() else rle for rle, mask in zip(rles, masks)]

    assert score_expression(convert(pred), convert(gt)) == score_expression(pred, gt)
    assert score_expression(convert(pred), gt) == score_expression(pred, gt)


def test_expression_without_target_and_prediction_needs_no_size():
    scores = score_expression([None] * 3, [None] * 3)
    assert (scores["j_and_f"], scores["is_empty"], scores["has_target"], scores["num_frames"]) == (1, True, False, 3)


def test_robustness_looks_at_all_objects():
    gt, pred, others = track([1]), track([1], shift=1), np.ones((1, 20, 30), dtype=bool)
    # Eight of the predicted pixels lie outside of the target's 56.
    assert score_expression(pred, gt)["robustness"] == pytest.approx(1 - 8 / 56)
    assert score_expression(pred, gt, objects=others)["robustness"] == pytest.approx(1 - 8 / 600)
    with pytest.raises(ValueError, match="objects has shape"):
        score_expression(pred, gt, objects=others[:, 1:])


def test_one_frame_has_no_variance():
    scores = score_expression(track([1], shift=2), track([1]))
    assert scores["j_mean"] < 1
    assert scores["j_variance"] == scores["j_and_f_variance"] == 0


def test_one_wrong_pixel_of_an_absent_target_costs_its_frame():
    pred, gt = track([1, 0, 0, 0]), track([1, 0, 0, 0])
    pred[2, 10, 10] = True
    assert score_expression(pred, gt, per_frame=True)["j_frames"] == [1, 1, 0, 1]


@pytest.mark.parametrize("pred", [track([1]), track([1, 1], size=(20, 31)), encode_rle(track([1, 1], size=(30, 20)))])
def test_other_shapes_are_refused(pred):
    with pytest.raises(ValueError, match="expected one for all"):
        score_expression(pred, track([1, 1]))


def test_frames_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="expected one size"):
        as_masks([*encode_rle(track([1])), *encode_rle(track([1], size=(20, 31)))])
    with pytest.raises(ValueError, match=r"expected \(num_frames, height, width\)"):
        as_masks(np.zeros((2, 2)))


def write_predictions(folder, predictions):
    for (video, expression), masks in predictions.items():
        target = folder / video / expression
        target.mkdir(parents=True)
        for index, mask in enumerate(masks):
            Image.fromarray(mask.astype(np.uint8) * 255).save(target / f"{5 * index:05}.png")
    return folder


@pytest.fixture
def benchmark():
    """References of three expressions of two videos, and predictions for them."""
    tracks = {
        ("a", "0"): ([1, 1, 0], (20, 30)),
        ("a", "1"): ([0, 0, 0], (20, 30)),
        ("b", "0"): ([1, 1], (24, 20)),
    }
    references, predictions = [], {}
    for (video, expression), (frames, size) in tracks.items():
        references.append(
            {
                "video_id": video,
                "expression_id": expression,
                "expression_type": "0" if expression == "0" else "1",
                "frames": [f"{5 * index:05}" for index in range(len(frames))],
                "masks": track(frames, size=size),
            }
        )
        predictions[video, expression] = track(frames, shift=1, size=size)
    return references, predictions


def test_folders_and_arrays_have_the_same_scores(tmp_path, benchmark):
    references, predictions = benchmark
    rows = score_expressions(predictions, references)
    assert rows == score_expressions(write_predictions(tmp_path, predictions), references)
    assert [(row["video_id"], row["expression_id"], row["expression_type"]) for row in rows] == [
        ("a", "0", "0"),
        ("a", "1", "1"),
        ("b", "0", "0"),
    ]
    for reference, scores in zip(references, rows):
        key = reference["video_id"], reference["expression_id"]
        assert score_expression(predictions[key], reference["masks"]).items() <= scores.items()


def test_references_are_loaded_when_their_turn_comes(benchmark, monkeypatch):
    references, predictions = benchmark
    events = []
    scored = lambda *inputs: events.append("scored") or score_expression(*inputs)  # noqa: E731
    monkeypatch.setattr("hf_rvos.metrics.expressions.score_expression", scored)
    for reference in references:
        masks, name = reference["masks"], f"{reference['video_id']}{reference['expression_id']}"
        reference["masks"] = lambda masks=masks, name=name: events.append(f"load {name}") or masks
    score_expressions(predictions, references)
    assert events == ["load a0", "scored", "load a1", "scored", "load b0", "scored"]


def test_missing_predictions_are_counted_in_one_error_before_any_work(tmp_path, benchmark):
    references, predictions = benchmark
    folder = write_predictions(tmp_path, predictions)
    (folder / "a/0/00005.png").unlink()
    for path in (folder / "b/0").iterdir():
        path.unlink()

    def fail():
        raise AssertionError("masks were read")

    references = [reference | {"masks": fail} for reference in references]
    with pytest.raises(ValueError, match="3 of 8 predicted masks are missing: .*a/0/00005.png"):
        score_expressions(folder, references)
    del predictions["a", "1"]
    with pytest.raises(ValueError, match="1 of 3 predicted masks are missing: a/1"):
        score_expressions(predictions, references)


def test_missing_predictions_can_count_as_empty(tmp_path, benchmark):
    references, predictions = benchmark
    folder = write_predictions(tmp_path, {("a", "0"): predictions["a", "0"]})
    (folder / "a/0/00000.png").unlink()
    rows = score_expressions(folder, references, missing="empty", per_frame=True)
    assert [row["num_missing_frames"] for row in rows] == [1, 3, 2]
    assert rows[0]["j_frames"][0] == 0 < rows[0]["j_frames"][1]
    assert [row["j_mean"] for row in rows[1:]] == [1, 0]
    assert summarize_expressions(rows)["num_missing_frames"] == 6
    assert [row["num_missing_frames"] for row in score_expressions({}, references, missing="empty")] == [3, 3, 2]


def test_size_of_an_expression_without_target_is_that_of_its_prediction(tmp_path, benchmark):
    references, predictions = benchmark
    folder = write_predictions(tmp_path, {("a", "1"): track([0, 1, 0])})
    reference = references[1] | {"masks": [None] * 3}
    (scores,) = score_expressions(folder, [reference], per_frame=True)
    assert scores["j_frames"] == [1, 0, 1]


def test_names_that_leave_the_folder_are_refused(tmp_path, benchmark):
    reference = benchmark[0][0]
    for key in ("video_id", "expression_id"):
        with pytest.raises(ValueError, match="leaves the folder"):
            score_expressions(tmp_path, [reference | {key: "../b"}])


def test_expressions_that_are_there_twice_are_refused(benchmark):
    references, predictions = benchmark
    with pytest.raises(ValueError, match="1 expressions are there more than once"):
        score_expressions(predictions, [*references, references[0]])
    rows = score_expressions(predictions, references)
    with pytest.raises(ValueError, match="must not pad"):
        summarize_expressions([*rows, rows[0]])


def test_rows_of_two_processes_have_the_totals_of_one(benchmark):
    references, predictions = benchmark
    rows = score_expressions(predictions, references)
    shares = [score_expressions(predictions, references[rank::2]) for rank in range(2)]
    gathered = [json.loads(json.dumps(row)) for share in shares for row in share]
    for protocol in ("ref_youtube_vos", "revos"):
        ours, theirs = summarize_expressions(gathered, protocol), summarize_expressions(rows, protocol)
        assert ours["j_and_f"] == pytest.approx(theirs["j_and_f"], abs=1e-12)
        assert ours["types"].keys() == theirs["types"].keys()


def test_types_have_totals_of_their_own():
    rows = [row("static", 0, j_mean=1.0), row("dynamic", 1, j_mean=0.0), row("static", 2, j_mean=0.5)]
    totals = summarize_expressions(rows, "long_rvos")
    assert totals["j_mean"] == 0.5
    assert {name: (total["j_mean"], total["num_expressions"]) for name, total in totals["types"].items()} == {
        "dynamic": (0, 1),
        "static": (0.75, 2),
    }


@pytest.mark.parametrize("protocol, names", [("revos", ("referring", "reasoning")), ("ref_sav", ("long", "short"))])
def test_groups_count_alike_whatever_their_size(protocol, names):
    rows = [row("0", 0, j_mean=1.0), row("0", 1, j_mean=1.0), row("0", 2, j_mean=1.0), row("1", 3, j_mean=0.0)]
    totals = summarize_expressions(rows, protocol)
    assert totals["j_mean"] == 0.5
    assert [totals["types"][name]["j_mean"] for name in names] == [1, 0]


def test_only_revos_rounds_before_it_averages():
    rows = [row("0", 0, j_mean=0.123449), row("0", 1, j_mean=0.123441), row("1", 2, j_mean=0.5)]
    assert summarize_expressions(rows, "revos")["types"]["referring"]["j_mean"] == pytest.approx(0.1234, abs=1e-12)
    assert summarize_expressions(rows, "ref_sav")["types"]["long"]["j_mean"] == pytest.approx(0.123445, abs=1e-12)


def test_missing_group_has_no_mean():
    totals = summarize_expressions([row("0")], "revos")
    assert math.isnan(totals["j_mean"]) and math.isnan(totals["types"]["reasoning"]["j_mean"])
    assert totals["types"]["referring"]["j_mean"] == 0.5


def test_types_that_a_protocol_does_not_know_are_refused():
    with pytest.raises(ValueError, match=r"the expression types \['2'\], revos has \['0', '1'\]"):
        summarize_expressions([row("2")], "revos")
    with pytest.raises(ValueError, match=r"\['None'\]"):
        summarize_expressions([row(None)], "ref_sav")


def test_final_score_of_mevis_is_the_mean_of_three():
    rows = [
        row(number=0, j_and_f=0.6),
        row(number=1, j_and_f=0.0, is_empty=True),
        row(number=2, j_and_f=1.0, is_empty=True, has_target=False),
        row(number=3, j_and_f=0.0, has_target=False),
        row(number=4, j_and_f=0.9, has_target=False),
    ]
    totals = summarize_expressions(rows, "mevis")
    assert totals["j_and_f"] == 0.5
    assert totals["j_and_f_target"] == 0.3
    assert (totals["n_acc"], totals["t_acc"]) == (1 / 3, 1 / 2)
    assert totals["final"] == pytest.approx((0.5 + 1 / 3 + 1 / 2) / 3)


def test_accuracy_of_no_expressions_is_not_a_number():
    targeted = summarize_expressions([row()], "mevis")
    assert math.isnan(targeted["n_acc"]) and math.isnan(targeted["final"]) and targeted["t_acc"] == 1
    untargeted = summarize_expressions([row(has_target=False)], "mevis")
    assert math.isnan(untargeted["t_acc"]) and math.isnan(untargeted["j_and_f_target"]) and untargeted["n_acc"] == 0


def test_temporal_stability_is_the_mean_variance(expressions):
    expected, tracks = expressions
    totals = summarize_temporal_stability([score_expression(*masks) for masks in tracks.values()])
    assert totals["j_variance"] == pytest.approx(expected["aggregate"]["mean_J_variance"], abs=TOLERANCE)
    assert totals["j_and_f_variance"] == pytest.approx(expected["aggregate"]["mean_JF_variance"], abs=TOLERANCE)


@pytest.mark.parametrize("summarize", [summarize_expressions, summarize_temporal_stability])
def test_no_expressions_have_no_total(summarize):
    with pytest.raises(ValueError, match="at least one expression"):
        summarize([])


def test_unknown_choices_are_refused(benchmark):
    references, predictions = benchmark
    with pytest.raises(ValueError, match="expected one of ref_youtube_vos"):
        summarize_expressions([row()], "youtube")
    with pytest.raises(ValueError, match="expected one of error, empty"):
        score_expressions(predictions, references, missing="drop")


def test_official_values_of_a_small_mevis(shared_dir):
    expected = json.loads((shared_dir / "parity/metrics/mevis_mini.json").read_text())
    root = shared_dir / "data/mini/mevis"
    videos = json.loads((root / "valid_u/meta_expressions.json").read_text())["videos"]
    tracks = json.loads((root / "valid_u/mask_dict.json").read_text())

    def union(numbers, num_frames):
        if not numbers:
            return [None] * num_frames
        return np.any([as_masks(tracks[str(number)], num_frames) for number in numbers], axis=0)

    references = [
        {
            "video_id": video,
            "expression_id": name,
            "frames": values["frames"],
            "masks": functools.partial(union, expression["anno_id"], len(values["frames"])),
        }
        for video, values in videos.items()
        for name, expression in values["expressions"].items()
    ]
    rows = score_expressions(root / "predictions/valid_u", references)
    for scores in rows:
        official = expected["per_expression"][f"{scores['video_id']}_{scores['expression_id']}"]
        assert scores["j_mean"] == pytest.approx(official["J"], abs=TOLERANCE)
        assert scores["f_mean"] == pytest.approx(official["F"], abs=TOLERANCE)
    totals = summarize_expressions(rows, "mevis")
    assert len(rows) == len(expected["per_expression"])
    for key, theirs in (("j_mean", "J"), ("f_mean", "F"), ("j_and_f", "J&F")):
        assert totals[key] == pytest.approx(expected[theirs], abs=TOLERANCE)
