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
import gzip
import json
import math

import numpy as np
import pytest
import torch

from hf_rvos.metrics import score_coco, score_detections, summarize_detections, summarize_gres
from hf_rvos.metrics.detections import AVERAGE_PRECISIONS, as_rle
from hf_rvos.ops.rle import decode_rle, encode_rle


# COCO and the float32 of the official code.
TOLERANCE = 1e-6
OFFICIAL_NAMES = {
    "map": "mAP 0.5:0.95",
    "ap_0.5": "AP 0.5",
    "ap_0.75": "AP 0.75",
    "ap_small": "AP 0.5:0.95 S",
    "ap_medium": "AP 0.5:0.95 M",
    "ap_large": "AP 0.5:0.95 L",
    "overall_iou": "overall_iou",
    "mean_iou": "mean_iou",
    "num_samples": "num_images",
} | {f"precision_at_{limit}": f"P@{limit}" for limit in (0.5, 0.6, 0.7, 0.8, 0.9)}
SETS = ("five_queries", "twenty_queries_ties", "one_query", "exact_thresholds", "refcoco_polygons")


@pytest.fixture(scope="module")
def inputs(fixtures_dir):
    return json.loads(gzip.decompress((fixtures_dir / "metrics/a2d_inputs.json.gz").read_bytes()))


@pytest.fixture(scope="module")
def expected(fixtures_dir):
    return json.loads((fixtures_dir / "metrics/a2d_expected.json").read_text())


def box_mask(*boxes, size=(20, 20)):
    """A mask of some xyxy boxes."""
    mask = np.zeros(size, dtype=bool)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask


FULL, HALF, OTHER, EMPTY = box_mask((0, 0, 10, 10)), box_mask((0, 0, 10, 5)), box_mask((10, 10, 20, 20)), box_mask()


@pytest.mark.parametrize("name", SETS)
def test_totals_equal_the_official_ones(inputs, expected, name):
    totals = summarize_detections(score_coco(inputs[name]["predictions"], inputs[name]["ground_truth"]))
    for key, theirs in OFFICIAL_NAMES.items():
        assert totals[key] == pytest.approx(expected[name][theirs], abs=TOLERANCE), key


@pytest.mark.parametrize("name", SETS)
def test_overlaps_equal_the_official_ones(inputs, expected, name):
    rows = score_coco(inputs[name]["predictions"], inputs[name]["ground_truth"])
    ious = {str(row["image_id"]): row["iou"] for row in rows}
    assert ious == pytest.approx(expected[name]["per_image_iou"], abs=TOLERANCE)
    assert sum(row["num_predictions"] for row in rows) == expected[name]["num_predictions"]


def test_files_and_order_do_not_matter(inputs, tmp_path):
    data = inputs["twenty_queries_ties"]
    for name, content in data.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    totals = summarize_detections(score_coco(tmp_path / "predictions.json", tmp_path / "ground_truth.json"))
    rows = score_coco(data["predictions"], data["ground_truth"])
    shares = json.loads(json.dumps([*rows[1::2], *rows[::2]]))
    assert summarize_detections(shares) == pytest.approx(totals, abs=1e-12)


@pytest.mark.parametrize("kind", ["array", "tensor", "255", "rle", "bytes", "uncompressed"])
def test_form_of_the_masks_does_not_matter(kind):
    def convert(mask):
        if kind == "array":
            return mask
        if kind == "tensor":
            return torch.from_numpy(mask)
        if kind == "255":
            return mask.astype(np.uint8) * 255
        if kind == "uncompressed":
            columns = np.concatenate([[0], mask.T.ravel(), [1 - mask[-1, -1]]]).astype(int)
            changes = np.flatnonzero(np.diff(columns)) + 0
            return {"size": list(mask.shape), "counts": np.diff([0, *changes]).tolist()}
        (rle,) = encode_rle(mask[None])
        return rle | {"counts": rle["counts"].encode()} if kind == "bytes" else rle

    scores = score_detections([convert(HALF), convert(OTHER)], [0.9, 0.8], convert(FULL))
    assert scores == score_detections(np.stack([HALF, OTHER]), np.array([0.9, 0.8]), FULL)
    assert (scores["intersection"], scores["union"], scores["areas"]) == (50, 100, [50, 100])


def test_polygons_are_united():
    polygons = [[2, 2, 12, 2, 12, 12, 2, 12], [8, 8, 18, 8, 18, 18, 8, 18]]
    mask = decode_rle([as_rle(polygons, (20, 20))])[0]
    assert np.array_equal(mask, np.any([decode_rle([as_rle([one], (20, 20))])[0] for one in polygons], axis=0))
    with pytest.raises(ValueError, match="which need size"):
        as_rle(polygons)


def test_last_of_equal_scores_is_the_best():
    assert score_detections([FULL, OTHER], [0.5, 0.5], FULL)["intersection"] == 0
    assert score_detections([OTHER, FULL], [0.5, 0.5], FULL)["intersection"] == 100
    # COCO takes them as they come: the first is a miss, the second a hit.
    totals = summarize_detections([score_detections([OTHER, FULL], [0.5, 0.5], FULL)])
    assert totals["precision_at_0.9"] == 1
    assert totals["map"] == pytest.approx(0.5)


def test_two_empty_masks_agree():
    scores = score_detections([EMPTY], [1.0], EMPTY)
    assert (scores["iou"], scores["is_empty"], scores["has_target"]) == (1, True, False)


def test_sums_of_pixels_make_the_overall_iou():
    rows = [score_detections([HALF], [1.0], FULL), score_detections([OTHER], [1.0], OTHER)]
    totals = summarize_detections(rows)
    assert totals["overall_iou"] == 150 / 200
    assert totals["mean_iou"] == pytest.approx(0.75, abs=TOLERANCE)


def test_area_of_the_target_can_be_given():
    rows = [score_detections([FULL], [1.0], FULL, gt_area=area) for area in (100, 5000)]
    assert [row["gt_area"] for row in rows] == [100, 5000]
    totals = summarize_detections(rows)
    assert (totals["ap_small"], totals["ap_medium"], totals["ap_large"]) == (pytest.approx(1), pytest.approx(1), -1)


def test_crowds_do_not_count_for_the_average_precision():
    rows = [score_detections([FULL], [0.5], FULL), score_detections([HALF], [0.9], FULL, is_crowd=True)]
    totals = summarize_detections(rows)
    assert totals["map"] == pytest.approx(1)
    assert totals["overall_iou"] == 150 / 200


def test_no_prediction_counts_as_an_empty_one():
    totals = summarize_detections([score_detections([], [], FULL), score_detections([FULL], [1.0], FULL)])
    assert totals["overall_iou"] == totals["precision_at_0.5"] == 0.5
    assert totals["map"] == pytest.approx(51 / 101)
    assert totals["num_without_prediction"] == 1


def test_boxes_are_compared_too():
    # A shift by half of the width leaves a third, which is not more than 0.5.
    boxes = [[0, 0, 10, 10], [5, 0, 15, 10]]
    rows = [score_detections([FULL], [1.0], FULL, boxes=[box], gt_box=(0, 0, 10, 10)) for box in boxes]
    assert (rows[1]["box_intersection"], rows[1]["box_union"]) == (50, 150)
    totals = summarize_detections(rows)
    assert totals["box_precision_at_0.5"] == 0.5
    assert totals["box_overall_iou"] == 150 / 250
    assert totals["box_mean_iou"] == pytest.approx(2 / 3, abs=TOLERANCE)
    assert "box_mean_iou" not in summarize_detections([score_detections([FULL], [1.0], FULL)])


def test_boxes_of_predictions_are_corners_and_those_of_the_truth_sizes():
    ground_truth = {
        "images": [{"id": 7, "height": 20, "width": 20}],
        "annotations": [{"image_id": 7, "segmentation": as_rle(FULL), "area": 100, "bbox": [5, 5, 10, 10]}],
    }
    prediction = {"image_id": 7, "segmentation": as_rle(FULL), "score": 1.0, "bbox": [5, 5, 15, 15]}
    assert score_coco([prediction], ground_truth)[0]["box_iou"] == 1


@pytest.mark.parametrize("box", [[12, 12, 18, 18], [10, 0, 20, 10]])
def test_boxes_apart_do_not_overlap(box):
    scores = score_detections([FULL], [1.0], FULL, boxes=[box], gt_box=(0, 0, 10, 10))
    assert scores["box_intersection"] == 0


def test_gres_counts_expressions_without_target():
    rows = [
        score_detections([HALF], [1.0], FULL),
        score_detections([box_mask((0, 0, 10, 7))], [1.0], FULL),
        score_detections([EMPTY], [1.0], FULL),
        score_detections([EMPTY], [1.0], EMPTY),
        score_detections([OTHER], [1.0], EMPTY),
        score_detections([EMPTY], [1.0], EMPTY),
    ]
    totals = summarize_gres(rows)
    assert totals["g_iou"] == pytest.approx((0.5 + 0.7 + 0 + 1 + 0 + 1) / 6)
    assert totals["c_iou"] == 120 / 400
    # At least 0.7, where the precision of the other sets wants more.
    assert [totals[f"precision_at_{limit}"] for limit in (0.7, 0.8, 0.9)] == [1 / 3, 0, 0]
    assert (totals["n_acc"], totals["t_acc"], totals["num_samples"]) == (2 / 3, 2 / 3, 6)


def test_accuracy_of_no_expressions_is_not_a_number():
    assert math.isnan(summarize_gres([score_detections([FULL], [1.0], FULL)])["n_acc"])
    untargeted = summarize_gres([score_detections([EMPTY], [1.0], EMPTY)])
    assert math.isnan(untargeted["t_acc"]) and math.isnan(untargeted["c_iou"]) and untargeted["g_iou"] == 1


def test_images_without_prediction_are_counted_or_empty(inputs):
    data = inputs["one_query"]
    kept = data["predictions"][2:]
    with pytest.raises(ValueError, match="2 of 12 images have no prediction: v_vid000_f_1_i_0, v_vid000_f_11_i_1"):
        score_coco(kept, data["ground_truth"])
    totals = summarize_detections(score_coco(kept, data["ground_truth"], missing="empty"))
    assert (totals["num_samples"], totals["num_without_prediction"]) == (12, 2)


def test_predictions_of_unknown_images_are_refused(inputs):
    data = inputs["one_query"]
    stray = data["predictions"][0] | {"image_id": "v_other_f_1_i_0"}
    with pytest.raises(ValueError, match="1 images that ground_truth has not: v_other_f_1_i_0"):
        score_coco([*data["predictions"], stray], data["ground_truth"])


def test_images_need_one_annotation(inputs):
    data = inputs["one_query"]
    ground_truth = data["ground_truth"] | {"annotations": data["ground_truth"]["annotations"][1:]}
    with pytest.raises(ValueError, match="12 images and 11 annotations"):
        score_coco(data["predictions"], ground_truth)


@pytest.mark.parametrize(
    "masks, scores", [([FULL], [0.5, 0.6]), ([FULL], []), ([FULL], [math.nan]), ([FULL, HALF], [0.1, math.inf])]
)
def test_masks_need_one_score_each(masks, scores):
    with pytest.raises(ValueError, match="one finite score"):
        score_detections(masks, scores, FULL)


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="predict at the size of gt"):
        score_detections([FULL], [1.0], FULL[:, 1:])
    with pytest.raises(ValueError, match=r"expected \(height, width\)"):
        score_detections(FULL[None, None], [1.0], FULL)


@pytest.mark.parametrize("summarize", [summarize_detections, summarize_gres])
def test_rows_are_neither_none_nor_repeated(summarize):
    with pytest.raises(ValueError, match="at least one expression"):
        summarize([])
    scores = score_detections([FULL], [1.0], FULL) | {"image_id": 3}
    with pytest.raises(ValueError, match="1 images are there more than once, the first is 3"):
        summarize([scores, scores])


def test_average_precision_is_that_of_coco(capsys):
    # Against COCO itself on masks, with several predictions of random quality for each of many targets.
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    generator = np.random.default_rng(0)
    ground_truth = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "object"}]}
    predictions = []
    for image in range(30):
        left, top, side = generator.integers(0, [60, 60, 40]) + [0, 0, 8]
        target = as_rle(box_mask((left, top, left + side, top + side), size=(120, 120)))
        ground_truth["images"].append({"id": image, "height": 120, "width": 120})
        ground_truth["annotations"].append(
            {"id": image + 1, "image_id": image, "category_id": 1, "segmentation": target, "iscrowd": image % 11 == 5}
            | {"area": float(side**2), "bbox": [0, 0, 1, 1]}
        )
        for _ in range(image % 4 + 1):
            shift = generator.integers(0, 5, 2)
            moved = box_mask((*(shift + [left, top]), *(shift + [left + side, top + side])), size=(120, 120))
            score = round(float(generator.random()), 1)
            predictions.append({"image_id": image, "category_id": 1, "segmentation": as_rle(moved), "score": score})
    totals = summarize_detections(score_coco(predictions, ground_truth))
    coco = COCO()
    coco.dataset = ground_truth
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(predictions), "segm")
    evaluation.params.useCats = 0
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert [totals[name] for name in AVERAGE_PRECISIONS] == pytest.approx(evaluation.stats[:6].tolist(), abs=1e-12)
    assert 0.1 < totals["map"] < 0.9
    capsys.readouterr()


def test_nothing_is_printed(inputs, capsys):
    summarize_detections(score_coco(inputs["one_query"]["predictions"], inputs["one_query"]["ground_truth"]))
    assert capsys.readouterr().out == ""
