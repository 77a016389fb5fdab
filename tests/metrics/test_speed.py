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
import numpy as np
import pytest

from hf_rvos.metrics import speed
from hf_rvos.metrics.functional import region_and_contour


def test_plain_algorithm_has_the_same_scores():
    generator = np.random.default_rng(0)
    scores = set()
    for index, side in enumerate(np.tile([1, 3, 6, 10], 10)):
        # Blocks of several sizes, so that contours are near, far, and along the edge of the frame.
        blocks = generator.random((2, 5, 7)) if side == 10 else generator.random((2, 60 // side, 84 // side))
        pred, gt = np.kron(blocks, np.ones((1, side, side))) > 0.9 - 0.02 * index
        bound = (0.008, 0.05, 0.7)[index % 3]  # up to 73 pixels, more than a word has bits
        plain = speed.plain_region_and_contour(pred, gt, bound)
        assert plain == tuple(region_and_contour(pred, gt, bound=bound))
        scores.add(plain)
    assert len(scores) > 25


def test_comparison_says_what_it_measured():
    measured = speed.compare_speed(num_frames=2, size=(48, 64), repeats=2)
    assert measured["largest_difference"] == 0
    assert measured["plain_ms"] > 0 and measured["fast_ms"] > 0
    assert measured["ratio"] == pytest.approx(measured["plain_ms"] / measured["fast_ms"])
    assert {key: measured[key] for key in ("num_frames", "height", "width", "repeats")} == {
        "num_frames": 2,
        "height": 48,
        "width": 64,
        "repeats": 2,
    }
