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

from hf_rvos.utils.errors import bad_input_reported


@pytest.mark.parametrize("error", [ValueError, FileNotFoundError, PermissionError])
def test_bad_input_is_a_message_and_exit_code_2(capsys, error):
    with pytest.raises(SystemExit) as exit, bad_input_reported():
        raise error("what came, what was wanted")
    assert exit.value.code == 2
    assert capsys.readouterr().err == "error: what came, what was wanted\n"


def test_lines_of_a_message_are_kept_with_their_indents(capsys):
    with pytest.raises(SystemExit), bad_input_reported():
        raise ValueError("expected \nroot/\n  train/  \n\n  valid/\n")
    assert capsys.readouterr().err == "error: expected\nroot/\n  train/\n\n  valid/\n"


def test_other_errors_are_not_hidden():
    with pytest.raises(RuntimeError, match="a bug"), bad_input_reported():
        raise RuntimeError("a bug")


def test_kinds_of_errors_may_be_named(capsys):
    with pytest.raises(SystemExit), bad_input_reported((FloatingPointError,)):
        raise FloatingPointError("the loss is nan")
    assert capsys.readouterr().err == "error: the loss is nan\n"
    with pytest.raises(ValueError), bad_input_reported((FloatingPointError,)):
        raise ValueError("a bug")
