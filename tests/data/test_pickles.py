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
"""A pickle of annotations can hold text and numbers, and cannot run anything."""

import os
import pickle
from collections import OrderedDict

import pytest

from hf_rvos.data import pickles
from hf_rvos.data.pickles import load_plain_pickle


PLAIN = [{"sent": "left cup", "ids": [1, 2], "box": (0.5, 1.5), "none": None, "yes": True, "raw": b"\xff", "set": {3}}]


class Runs:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


class Persistent(pickle.Pickler):
    def persistent_id(self, value):
        return "somewhere" if value == "left cup" else None


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_containers_numbers_and_text_come_back(tmp_path, protocol):
    plain = PLAIN if protocol >= 4 else [{key: value for key, value in PLAIN[0].items() if key not in ("raw", "set")}]
    (tmp_path / "a.p").write_bytes(pickle.dumps(plain, protocol))
    assert load_plain_pickle(tmp_path / "a.p") == plain


def test_byte_text_of_python_2_is_read_as_latin_1(tmp_path):
    (tmp_path / "a.p").write_bytes(b"(lp0\nS'caf\\xe9'\np1\naI7\na.")
    assert load_plain_pickle(tmp_path / "a.p") == ["café", 7]


def test_a_function_is_refused_by_name_and_not_called(tmp_path):
    marker = tmp_path / "ran"
    (tmp_path / "a.p").write_bytes(pickle.dumps([Runs(str(marker))]))
    with pytest.raises(ValueError, match=r"a\.p asks for (posix|nt)\.mkdir"):
        load_plain_pickle(tmp_path / "a.p")
    assert not marker.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("value", [OrderedDict(a=1), print, ValueError], ids=["dict", "builtin", "class"])
def test_every_class_is_refused(tmp_path, value, protocol):
    (tmp_path / "a.p").write_bytes(pickle.dumps(value, protocol))
    with pytest.raises(ValueError, match="expected only lists, dicts, numbers and text"):
        load_plain_pickle(tmp_path / "a.p")


def test_the_old_way_to_make_an_object_is_refused(tmp_path):
    (tmp_path / "a.p").write_bytes(b"(S'echo hi'\nios\nsystem\n.")
    with pytest.raises(ValueError, match=r"asks for os\.system"):
        load_plain_pickle(tmp_path / "a.p")


def test_objects_kept_elsewhere_are_refused(tmp_path):
    with open(tmp_path / "a.p", "wb") as file:
        Persistent(file).dump(PLAIN)
    with pytest.raises(ValueError, match="asks for a persistent object 'somewhere'"):
        load_plain_pickle(tmp_path / "a.p")


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"]q", pickle.dumps(PLAIN)[:-9]], ids=str)
def test_damaged_files_are_named(tmp_path, content):
    (tmp_path / "a.p").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.p is not a complete pickle"):
        load_plain_pickle(tmp_path / "a.p")


def test_every_cut_of_a_file_is_one_clear_error(tmp_path):
    content = pickle.dumps(PLAIN, 2)
    for end in range(len(content)):
        (tmp_path / "a.p").write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"a\.p is not a complete pickle|a\.p asks for"):
            load_plain_pickle(tmp_path / "a.p")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*b\.p"):
        load_plain_pickle(tmp_path / "b.p")


def test_a_file_of_absurd_size_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "MAX_BYTES", 10)
    (tmp_path / "a.p").write_bytes(pickle.dumps(PLAIN))
    with pytest.raises(ValueError, match="expected at most 10"):
        load_plain_pickle(tmp_path / "a.p")
