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
import sys

import pytest

from hf_rvos.evaluation import memory
from tests.tiny_segmenter import tiny_model, tiny_pipeline, tiny_processor


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell the memory of a process")
# Of what the pixels of the further videos would take. The video with the most sentences sets the peak, and among more
# videos there is a larger one; what the allocator keeps varies, too. Together that is about 30 MiB of 110.
ALLOWED_SHARE = 0.5


def test_an_evaluation_says_what_it_took():
    measured = memory.evaluate_videos(1)
    assert measured["num_videos"] == 1 and measured["num_expressions"] > 1
    assert measured["pixels_mib"] == (3 + 2 * measured["num_expressions"]) * 16 * 128 * 192 / 2**20
    assert 50 < measured["peak_mib"] < 50_000


# Two processes that import torch and evaluate 40 videos together.
@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_videos(tmp_path):
    segmenter = tiny_pipeline(tiny_model(text_limit=40))
    segmenter.processor = tiny_processor(text_limit=40)
    segmenter.save_pretrained(tmp_path)
    measured = memory.compare_memory(8, str(tmp_path))
    assert (measured["few"]["num_videos"], measured["many"]["num_videos"]) == (8, 32)
    assert measured["pixels_growth_mib"] > 100
    assert measured["peak_growth_mib"] < ALLOWED_SHARE * measured["pixels_growth_mib"]
