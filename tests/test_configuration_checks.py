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

from types import SimpleNamespace

import pytest

from hf_rvos.configuration_checks import check_counts, check_dropouts, check_hidden_size


def test_first_count_that_is_too_small_is_named():
    config = SimpleNamespace(layers=1, heads=0, points=-1)
    check_counts(config, "layers")
    with pytest.raises(ValueError, match="heads is 0, expected at least 1"):
        check_counts(config, "layers", "heads", "points")
    with pytest.raises(ValueError, match="layers is 1, expected at least 2"):
        check_counts(config, "layers", at_least=2)


@pytest.mark.parametrize("dropout", [-0.1, 1, 1.5])
def test_dropout_that_is_no_probability_or_leaves_nothing_is_named(dropout):
    config = SimpleNamespace(none=0, some=0.9, wrong=dropout)
    check_dropouts(config, "none", "some")
    with pytest.raises(ValueError, match=f"wrong is {dropout}, expected a probability below 1"):
        check_dropouts(config, "none", "wrong")


@pytest.mark.parametrize(
    ("hidden_size", "message"),
    [
        (64, r"hidden_size \(64\) must be divisible by many_heads \(96\)"),
        (48, r"hidden_size \(48\) must be divisible by the groups of a normalisation \(32\)"),
    ],
)
def test_divisor_that_does_not_fit_is_named(hidden_size, message):
    check_hidden_size(SimpleNamespace(hidden_size=96, heads=3, many_heads=96), "heads", "many_heads")
    config = SimpleNamespace(hidden_size=hidden_size, heads=4, many_heads=96)
    with pytest.raises(ValueError, match=message):
        check_hidden_size(config, *(("heads", "many_heads") if hidden_size == 64 else ("heads",)))
