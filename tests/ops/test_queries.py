# Copyright 2026 The hf_rvos authors. All rights reserved.
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
import torch

from hf_rvos.ops.queries import best_query


def test_best_query_is_that_of_the_highest_mean_probability_of_a_class():
    logits = torch.full((1, 3, 2, 2), -4.0)
    logits[0, 0, 0, 0] = 9.0  # one frame only
    logits[0, 1] = torch.tensor([[0.5, -4.0], [0.6, -4.0]])  # 0.62 and 0.65 in both frames
    logits[0, 2] = torch.tensor([[0.5, -4.0], [-4.0, 0.6]])  # different classes
    assert best_query(logits).tolist() == [1]
    assert best_query(logits, torch.tensor([[True, False]])).tolist() == [0]
