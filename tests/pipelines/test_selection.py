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
from types import SimpleNamespace

import pytest

from hf_rvos import SocConfig
from hf_rvos.pipelines.selection import check_score_threshold, choose_multi_target, choose_score_threshold


SINGLE = SimpleNamespace(model_type="soc", score_threshold=0.2)
MULTI = SimpleNamespace(model_type="ssa", score_threshold=0.6, multi_target=True)


@pytest.mark.parametrize(
    "config, asked, wanted",
    [
        (SINGLE, "auto", False),
        (SINGLE, False, False),
        (MULTI, "auto", True),
        (MULTI, False, False),
        (MULTI, True, True),
    ],
)
def test_the_model_says_what_auto_means(config, asked, wanted):
    assert choose_multi_target(config, asked) is wanted


def test_several_targets_are_refused_by_a_model_for_one():
    with pytest.raises(ValueError, match="multi_target: a model of type 'soc' finds one object for each sentence"):
        choose_multi_target(SINGLE, True)


@pytest.mark.parametrize("value", ["yes", None, 1])
def test_what_is_no_choice_of_targets_is_refused(value):
    with pytest.raises(ValueError, match="multi_target is .*expected True, False or"):
        choose_multi_target(MULTI, value)


@pytest.mark.parametrize(
    "config, multi_target, asked, wanted",
    [
        (SINGLE, False, None, None),
        (SINGLE, False, "auto", 0.2),
        (SINGLE, False, 0.7, 0.7),
        (SocConfig(), False, "auto", None),
        (MULTI, True, None, 0.6),
        (MULTI, True, "auto", 0.6),
        (MULTI, True, 0.3, 0.3),
        (MULTI, False, None, None),
    ],
)
def test_none_is_an_answer_in_any_case_except_for_several_targets(config, multi_target, asked, wanted):
    assert choose_score_threshold(config, asked, multi_target) == wanted


def test_several_targets_need_a_threshold():
    config = SimpleNamespace(model_type="ssa", score_threshold=None, multi_target=True)
    with pytest.raises(ValueError, match="score_threshold: several targets need one"):
        choose_score_threshold(config, None, True)


@pytest.mark.parametrize("value", [-0.1, 1, 1.5, float("nan"), "0.5", True])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(ValueError, match="score_threshold is"):
        check_score_threshold(value)


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_configurations_refuse_it_too(value):
    with pytest.raises(Exception, match="score_threshold is"):
        SocConfig(score_threshold=value)
