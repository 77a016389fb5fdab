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
import math

import numpy as np
import pytest
import torch

from hf_rvos.metrics import functional
from hf_rvos.metrics.functional import contour_accuracy, region_similarity, sequence_statistics


def unpack(array, frame):
    height, width = frame["height"], frame["width"]
    return np.unpackbits(array)[: height * width].reshape(height, width)


@pytest.fixture(scope="module")
def frames(fixtures_dir):
    """Recorded single frames: name -> (expected values, pred, gt, void or None)."""
    expected = json.loads((fixtures_dir / "metrics/frames_jf.json").read_text())
    with np.load(fixtures_dir / "metrics/frames_jf.npz") as arrays:
        return {
            name: (
                frame,
                *(
                    unpack(arrays[f"{name}/{kind}"], frame) if f"{name}/{kind}" in arrays else None
                    for kind in ("pred", "gt", "void")
                ),
            )
            for name, frame in expected.items()
        }


@pytest.fixture(scope="module")
def statistics(fixtures_dir):
    return json.loads((fixtures_dir / "metrics/statistics.json").read_text())


def discs(num_frames, height, width, radius, shift):
    """A disc that grows and moves right, `shift` pixels ahead of the centre."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack(
        [
            (rows - height / 2 - shift) ** 2 + (columns - width / 2 - 2 * frame - shift) ** 2 < (radius + frame) ** 2
            for frame in range(num_frames)
        ]
    )


def brute_force_contour_accuracy(pred, gt, radius):
    """The definition, pixel by pixel, for one small frame."""

    def contour(mask):
        height, width = mask.shape
        return [
            (y, x)
            for y in range(height)
            for x in range(width)
            if any(
                y + dy < height and x + dx < width and mask[y, x] != mask[y + dy, x + dx]
                for dy, dx in ((0, 1), (1, 0), (1, 1))
            )
        ]

    def share(contour, other):
        found = [any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in other) for y, x in contour]
        return np.mean(found) if contour else 1.0

    pred, gt = contour(pred), contour(gt)
    precision, recall = share(pred, gt), share(gt, pred)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_region_similarity_equals_the_official_values(frames):
    values = {name: region_similarity(pred, gt, void) for name, (_, pred, gt, void) in frames.items()}
    assert values == {name: frame["J"] for name, (frame, *_) in frames.items()}


def test_contour_accuracy_equals_the_official_values(frames):
    values = {name: contour_accuracy(pred, gt, void) for name, (_, pred, gt, void) in frames.items()}
    assert values == pytest.approx({name: frame["F"] for name, (frame, *_) in frames.items()}, abs=1e-12)


def test_contours_equal_the_official_maps(fixtures_dir, frames):
    with np.load(fixtures_dir / "metrics/boundary_maps.npz") as maps:
        for name, packed in maps.items():
            frame, _, gt, _ = frames[name]
            expected = unpack(packed, frame).astype(bool)
            masks, height, width = functional._pack([gt[None] > 0], margin=2)
            if not masks.size:
                assert not expected.any(), name
                continue
            contours = functional._contours(masks, height, width)
            found = np.unpackbits(contours.view(np.uint8), axis=-1, bitorder="little")[0, 0]
            # Cut to the bounding box of the mask and one pixel around it, with the margin behind.
            rows, columns = (np.flatnonzero((gt > 0).any(axis=axis)) for axis in (1, 0))
            top, left = max(rows[0] - 1, 0), max(columns[0] - 1, 0)
            part = expected[top : top + height, left : left + width]
            assert np.array_equal(found[:height, :width], part), name
            assert found.sum() == part.sum() == expected.sum(), name


def test_a_track_gives_the_values_of_its_frames():
    pred, gt = discs(7, 90, 130, 20, shift=3), discs(7, 90, 130, 20, shift=0)
    pred[2] = False
    gt[5] = False
    for metric in (region_similarity, contour_accuracy):
        values = metric(pred, gt)
        assert values.dtype == np.float64
        assert values.tolist() == [metric(p, g) for p, g in zip(pred, gt)]


def test_frames_processed_together_or_alone_have_equal_values(monkeypatch):
    # Large contours that touch the upper and lower edge would reach into the neighbouring frame.
    pred, gt = discs(9, 60, 80, 25, shift=2), discs(9, 60, 80, 29, shift=0)
    together = contour_accuracy(pred, gt, bound=5)
    monkeypatch.setattr(functional, "PIXELS_AT_ONCE", 1)
    assert together.tolist() == contour_accuracy(pred, gt, bound=5).tolist()


@pytest.mark.parametrize("radius", [1, 2, 3.5])
def test_contour_accuracy_follows_the_definition(radius):
    generator = np.random.default_rng(0)
    pred, gt = np.repeat(np.repeat(generator.random((2, 20, 4, 6)) > 0.7, 3, axis=2), 4, axis=3)
    pred[:, :2] = False
    expected = [brute_force_contour_accuracy(p, g, radius) for p, g in zip(pred, gt)]
    assert len(set(expected)) > 10
    assert contour_accuracy(pred, gt, bound=radius).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "size, radius",
    [((480, 854), 8), ((720, 1280), 12), ((240, 320), 4), ((120, 160), 2), ((75, 100), 1), ((128, 192), 2)],
)
def test_tolerance_grows_with_the_frame(size, radius):
    # The contour of a single pixel is two pixels wide: a shift by radius + 2 leaves radius + 1 between the nearest.
    gt, near, far = np.zeros((3, *size), dtype=bool)
    gt[30, 30], near[30, 30 + radius], far[30, 32 + radius] = True, True, True
    assert contour_accuracy(near, gt) == 1
    assert contour_accuracy(far, gt) == 0


def test_full_frame_has_no_contour():
    full, empty = np.ones((1, 20, 30)), np.zeros((1, 20, 30))
    assert contour_accuracy(full, empty).tolist() == [1]
    assert region_similarity(full, empty).tolist() == [0]


def test_void_pixels_do_not_count():
    pred, gt, void = np.zeros((3, 20, 30), dtype=bool)
    gt[5:10, 5:10] = True
    pred[5:10, 5:20] = True
    void[:, 10:] = True
    assert region_similarity(pred, gt, void) == 1
    assert contour_accuracy(pred, gt, void) == 1


@pytest.mark.parametrize("metric", [region_similarity, contour_accuracy])
def test_kind_of_array_does_not_matter(metric):
    pred, gt = discs(3, 40, 60, 10, shift=2), discs(3, 40, 60, 10, shift=0)
    expected = metric(pred, gt).tolist()
    assert metric(torch.from_numpy(pred), torch.from_numpy(gt)).tolist() == expected
    assert metric(pred.astype(np.uint8) * 255, gt.astype(np.float32)).tolist() == expected
    assert metric(np.asfortranarray(pred), gt.transpose(2, 1, 0).copy().transpose(2, 1, 0)).tolist() == expected


@pytest.mark.parametrize("metric", [region_similarity, contour_accuracy])
@pytest.mark.parametrize("pred, gt", [((2, 4, 5), (2, 5, 4)), ((1, 2, 4, 5), (1, 2, 4, 5)), ((0, 4, 5), (0, 4, 5))])
def test_masks_of_wrong_shape_are_refused(metric, pred, gt):
    with pytest.raises(ValueError, match="expected one for all"):
        metric(np.zeros(pred), np.zeros(gt))


def test_statistics_equal_the_official_values(statistics):
    for name, case in statistics.items():
        values = np.array(case["values"], dtype=float)
        expected = {"mean": case["M"], "recall": case["O"], "decay": case["D_int_index"]}
        assert sequence_statistics(values) == pytest.approx(expected, abs=1e-12), name


def test_one_frame_has_no_decay():
    assert sequence_statistics([0.7]) == {"mean": 0.7, "recall": 1.0, "decay": 0.0}


def test_statistics_of_missing_values_are_missing():
    values = sequence_statistics([math.nan] * 5)
    assert math.isnan(values["mean"]) and math.isnan(values["decay"])
    assert values["recall"] == 0


@pytest.mark.parametrize("values", [[], [[0.5, 0.6]], 0.5])
def test_statistics_need_a_list_of_values(values):
    with pytest.raises(ValueError, match="at least one frame"):
        sequence_statistics(values)


def test_official_values_of_sequences(shared_dir):
    expected = json.loads((shared_dir / "parity/metrics/sequences.json").read_text())["semi-supervised"]["sequences"]
    checked = 0
    with np.load(shared_dir / "parity/metrics/sequences.npz") as arrays:
        for name, sequence in expected.items():
            if "error" in sequence:
                continue
            # This protocol has no void pixels and leaves out the first and last frame.
            gt, pred = arrays[f"{name}/gt"][1:-1], arrays[f"{name}/pred"][1:-1]
            for index in range(sequence["num_gt_objects"]):
                for key, metric in (("J", region_similarity), ("F", contour_accuracy)):
                    values = metric(pred == index + 1, gt == index + 1)
                    assert values.tolist() == pytest.approx(sequence[f"{key}_frames"][index], abs=1e-12), name
                    statistics = sequence_statistics(values)
                    assert statistics["mean"] == pytest.approx(sequence[key]["M"][index], abs=1e-12), name
                    assert statistics["recall"] == sequence[key]["R"][index], name
                    if len(values) < 256:
                        assert statistics["decay"] == pytest.approx(sequence[key]["D"][index], abs=1e-12), name
                    checked += 1
    assert checked > 30


def test_official_values_of_real_videos(shared_dir):
    from PIL import Image

    def read(folder, video, frames):
        return np.stack([np.array(Image.open(folder / video / f"{frame}.png")) for frame in frames]) > 0

    expected = json.loads((shared_dir / "parity/metrics/real_davis.json").read_text())["sequences"]
    root = shared_dir / "data/real_davis"
    for video, values in expected.items():
        gt = read(root / "DAVIS/Annotations_2016/480p", video, values["frames"])
        pred = read(root / "osvos_results", video, values["frames"])
        assert region_similarity(pred, gt).tolist() == pytest.approx(values["J"], abs=1e-12)
        assert contour_accuracy(pred, gt).tolist() == pytest.approx(values["F"], abs=1e-12)
