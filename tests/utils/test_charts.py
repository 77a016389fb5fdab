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
from PIL import Image

from hf_rvos.utils.charts import save_bar_chart, save_line_chart
from hf_rvos.utils.visualization import PALETTE


@pytest.fixture
def colored_pixels(tmp_path):
    """Draws a chart and counts its pixels of each colour."""

    def call(groups, series):
        save_bar_chart(tmp_path / "chart.png", groups, series, title="title", label="J&F")
        with Image.open(tmp_path / "chart.png") as chart:
            pixels = np.asarray(chart.convert("RGB"))
        return [(pixels == color).all(-1).sum() for color in PALETTE[: len(series)]]

    return call


def test_bars_are_as_high_as_their_numbers(colored_pixels):
    low, high = colored_pixels(["a", "b"], {"first": [20, 30], "second": [60, 90]})
    # Edges and the squares of the legend are the same for both.
    assert high / low == pytest.approx(3, rel=0.1)


def test_bars_of_zero_and_of_a_hundred_fit(colored_pixels):
    assert colored_pixels(["a"], {"first": [0], "second": [100]})[1] > 1000


def test_there_may_be_more_series_than_colours(tmp_path):
    save_bar_chart(tmp_path / "chart.png", ["a"], {str(n): [50] for n in range(len(PALETTE) + 1)}, "title", "J&F")
    assert (tmp_path / "chart.png").stat().st_size > 0


@pytest.fixture
def line_heights(tmp_path):
    """Draws two curves of two points and measures, in pixels, how far the first climbs and the second falls."""

    def call(first, second):
        curves = {"first": ([1, 2], first), "second": ([1, 2], second)}
        save_line_chart(tmp_path / "chart.png", curves, title="title", x_label="step", y_label="loss")
        with Image.open(tmp_path / "chart.png") as chart:
            pixels = np.asarray(chart.convert("RGB"))[:690]  # the legend is below
        found = [np.nonzero((pixels == color).all(-1))[0] for color in PALETTE[:2]]
        return [np.ptp(rows) for rows in found]

    return call


def test_lines_are_as_steep_as_their_numbers(line_heights):
    first, second = line_heights([0.0, 1.0], [2.0, -2.0])  # what is not above 0 cannot be logarithmic
    assert second / first == pytest.approx(4, rel=0.05)


def test_lines_above_zero_are_logarithmic(line_heights):
    first, second = line_heights([1.0, 10.0], [1e5, 1e3])
    assert second / first == pytest.approx(2, rel=0.05)


def test_a_single_point_is_seen(tmp_path):
    save_line_chart(tmp_path / "chart.png", {"loss": ([1], [2.0])}, title="title", x_label="step", y_label="loss")
    with Image.open(tmp_path / "chart.png") as chart:
        pixels = np.asarray(chart.convert("RGB"))[100:600, 200:]
    assert (pixels == PALETTE[0]).all(-1).sum() > 20
