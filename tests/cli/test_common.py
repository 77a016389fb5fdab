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

from hf_rvos.cli.common import (
    Dtype,
    check_device,
    dataset_options,
    load_segmenter,
    refuse_both,
)
from hf_rvos.data.mevis import MeViS
from tests.cli.commands import assert_refused, run


def test_help_names_the_commands():
    result = run("--help")
    assert result.exit_code == 0
    commands = ("segment", "convert", "benchmark", "evaluate", "metrics", "data", "submission")
    assert all(command in result.output for command in commands)


@pytest.mark.parametrize(
    "group, commands", [("data", ("check", "convert-davis", "export")), ("submission", ("check",))]
)
def test_help_names_the_commands_of_a_group(group, commands):
    result = run(group, "--help")
    assert result.exit_code == 0
    assert all(command in result.output for command in commands)


def test_the_tree_that_a_data_set_needs_is_printed_as_a_tree(here):
    result = run("data", "export", "mevis", "output", "--split", "valid", "--data-dir", here)
    assert_refused(result, "has no split of MeViS. It is expected to look like\n", here)
    assert set(MeViS.LAYOUT.splitlines()) <= set(result.stderr.splitlines())


@pytest.mark.parametrize(
    "pairs, options",
    [
        (None, {}),
        (["split_by=google"], {"split_by": "google"}),
        (["seed=3", "strict=true", "other=False"], {"seed": 3, "strict": True, "other": False}),
        (["annotations=a=b.json"], {"annotations": "a=b.json"}),
        (["name="], {"name": ""}),
    ],
    ids=str,
)
def test_options_of_a_data_set_are_numbers_truth_values_and_texts(pairs, options):
    found = dataset_options(pairs)
    assert found == options
    assert [type(value) for value in found.values()] == [type(value) for value in options.values()]


@pytest.mark.parametrize("pairs", [["strict"], ["=1"], ["a=1", "a=2"]], ids=str)
def test_options_that_are_no_pairs_are_refused(pairs):
    with pytest.raises(ValueError, match=f"--option: got '{pairs[-1]}', expected key=value, each key once"):
        dataset_options(pairs)


def test_options_that_exclude_each_other_are_refused():
    refuse_both("--a", 1, "--b", None)
    with pytest.raises(ValueError, match="--b: has no meaning together with --a"):
        refuse_both("--a", 1, "--b", 2)


def test_a_device_that_is_not_there_is_refused():
    check_device("cpu")
    with pytest.raises(ValueError, match="--device: 'toaster' cannot be used here"):
        check_device("toaster")


def test_a_model_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--model: cannot load") as error:
        load_segmenter(str(tmp_path), "cpu", Dtype.auto)
    assert "\n" not in str(error.value)  # whatever the library says


def test_models_are_loaded_ready_for_use(model):
    assert not load_segmenter(str(model), "cpu", Dtype.auto).model.training
