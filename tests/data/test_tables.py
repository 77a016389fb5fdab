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
"""Comma-separated files of annotations."""

import pytest

from hf_rvos.data.tables import read_table


def test_lines_come_with_their_numbers_and_empty_ones_are_left_out(tmp_path):
    (tmp_path / "a.csv").write_text('a,"b, ""c"""\n\n d,e \n')
    assert list(read_table(tmp_path / "a.csv", None, "")) == [(1, ["a", 'b, "c"']), (3, [" d", "e "])]


def test_a_mark_of_byte_order_and_windows_lines_are_accepted(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfx,y\r\n1,2\r\n")
    assert list(read_table(tmp_path / "a.csv", ["x", "y"], "")) == [(2, ["1", "2"])]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"a,b\n", "begins with 'a,b', expected the titles x,y"),
        (b"", "begins with '', expected the titles x,y"),
        (b"\xff\n", "cannot read .* Get it there"),
        (b'x,y\n"open', "cannot read .* Get it there"),
        (b"x,y\n1\x00,2\n" + b"z" * 200_000, "cannot read .* Get it there"),
    ],
    ids=["other titles", "empty", "no text", "cut in quotes", "field without end"],
)
def test_a_damaged_file_is_an_error(tmp_path, content, match):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=match):
        list(read_table(tmp_path / "a.csv", ["x", "y"], "Get it there."))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*b\.csv"):
        list(read_table(tmp_path / "b.csv", None, ""))
