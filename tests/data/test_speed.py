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
import pytest

from hf_rvos.data import speed
from hf_rvos.data.benchmark_builder import Report
from hf_rvos.data.ref_youtube_vos import read_rows


def test_a_made_up_root_has_the_wanted_size_and_lacks_nothing(tmp_path):
    speed.write_root(tmp_path, num_videos=3, num_expressions=7)
    report = Report()
    rows = list(read_rows(tmp_path, "train", report))
    assert report.counts == {}
    assert len(rows) == 7 and len({row["video_id"] for row in rows}) == 3
    assert {(row["num_frames"], row["mask_kind"], row["annotated_frames"] is None) for row in rows} == {
        (speed.FRAMES_OF_VIDEO, "index_png", True)
    }


def test_the_usual_root_is_as_large_as_the_published_one():
    assert (speed.PUBLISHED.videos, speed.PUBLISHED.expressions) == (3471, (12913,))


def test_loading_says_what_it_took(tmp_path):
    speed.write_root(tmp_path / "root", num_videos=2, num_expressions=3)
    measured = speed.load(tmp_path / "root", tmp_path / "cache")
    assert measured["num_rows"] == 3
    assert measured["seconds"] > 0 and measured["cpu_seconds"] > 0
    assert measured["peak_memory_mib"] is None or measured["peak_memory_mib"] >= 0


# Two processes that import torch (about 15 s on idle cores).
@pytest.mark.slow
def test_cold_and_cached_rows_are_as_many():
    measured = speed.compare_loading(num_videos=2, num_expressions=3)
    assert (measured["num_videos"], measured["num_frames"]) == (2, 2 * speed.FRAMES_OF_VIDEO)
    assert measured["cold"]["num_rows"] == measured["cached"]["num_rows"] == 3
