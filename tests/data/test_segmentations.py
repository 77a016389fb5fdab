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
"""Masks of COCO files in their three forms, and boxes."""

import numpy as np
import pytest

from hf_rvos.data.segmentations import box_corners, encode_segmentation
from hf_rvos.ops.rle import decode_rle, encode_rle


def random_mask(seed, height=23, width=37):
    rng = np.random.default_rng(seed)
    return np.kron(rng.random((height, width)) > 0.5, np.ones((rng.integers(1, 9), rng.integers(1, 9)), bool))


def runs_of(mask):
    """Lengths of the runs down the columns, the first one of background."""
    pixels = np.concatenate(([0], mask.T.ravel(), [2]))
    ends = np.nonzero(np.diff(pixels))[0]
    return [int(run) for run in np.diff(np.concatenate(([0], ends)))]


@pytest.mark.parametrize("seed", range(5))
def test_compressed_codes_pass_unchanged(seed):
    mask = random_mask(seed)
    code = encode_rle(mask[None])[0]
    assert encode_segmentation(code, *mask.shape) == code


@pytest.mark.parametrize("mask", [random_mask(0), np.zeros((4, 5), bool), np.ones((4, 5), bool)])
def test_lists_of_runs_are_compressed(mask):
    code = encode_segmentation({"size": list(mask.shape), "counts": runs_of(mask)}, *mask.shape)
    np.testing.assert_array_equal(decode_rle([code])[0], mask)


def test_polygons_are_united():
    boxes = [[1, 2, 5, 2, 5, 6, 1, 6], [3.0, 4.0, 9.0, 4.0, 9.0, 8.0, 3.0, 8.0]]
    expected = np.zeros((10, 12), bool)
    expected[2:6, 1:5] = expected[4:8, 3:9] = True
    np.testing.assert_array_equal(decode_rle([encode_segmentation(boxes, 10, 12)])[0], expected)


def test_every_cut_of_a_code_is_an_error():
    mask = random_mask(1)
    counts = encode_rle(mask[None])[0]["counts"]
    for end in range(len(counts)):
        with pytest.raises(ValueError, match="the code"):
            encode_segmentation({"size": list(mask.shape), "counts": counts[:end]}, *mask.shape)


@pytest.mark.parametrize(
    ("segmentation", "match"),
    [
        ("text", "expected polygons or a run-length code"),
        ([], "expected polygons or a run-length code"),
        ([[1, 2, 3, 4]], "expected .* of three or more points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "expected .* of three or more points"),
        ([[1, 2, 3, 4, 5, "6"]], "expected points of a picture of 4x5"),
        ([[1, 2, 3, 4, 5, 1e7]], "expected points of a picture of 4x5"),
        ([[1, 2, 3, 4, 5, float("inf")]], "expected points of a picture of 4x5"),
        ({"counts": [20]}, r"expected \[4, 5\]"),
        ({"size": [5, 4], "counts": [20]}, r"expected \[4, 5\]"),
        ({"size": [4, 5]}, "expected a list of runs or compressed text"),
        ({"size": [4, 5], "counts": [25, -5]}, "expected a list of runs"),
        ({"size": [4, 5], "counts": [20.0]}, "expected a list of runs"),
        ({"size": [4, 5], "counts": [21]}, "describes 21 pixels, expected 20"),
        ({"size": [4, 5], "counts": "é"}, "expected the compressed text"),
        ({"size": [4, 5], "counts": "o" * 50}, "expected the compressed text"),
    ],
)
def test_what_pycocotools_should_not_see_is_an_error(segmentation, match):
    with pytest.raises(ValueError, match=match):
        encode_segmentation(segmentation, 4, 5)


def test_corners_of_a_box_are_left_top_right_bottom():
    assert box_corners([1, 2.5, 3, 4], 10, 10) == [1.0, 2.5, 4.0, 6.5]


@pytest.mark.parametrize(
    "bbox",
    [
        None,
        "1 2 3 4",
        [1, 2, 3],
        [1, 2, 3, "4"],
        [1, 2, -3, 4],
        [1, 2, 3, float("nan")],
        [1, 2, 3, 1e7],
        [[1, 2, 3, 4]],
    ],
    ids=str,
)
def test_what_is_no_box_is_an_error(bbox):
    with pytest.raises(ValueError, match=r"bbox is .*, expected \[left, top, width, height\] in a picture of 4x5"):
        box_corners(bbox, 4, 5)
