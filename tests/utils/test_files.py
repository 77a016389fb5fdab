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
import pytest

from hf_rvos.utils.files import check_name, check_output_file, check_output_folder, replace_when_done


def test_file_appears_when_the_block_ends(tmp_path):
    with replace_when_done(tmp_path / "result.json") as path:
        path.write_text("{}")
        assert path.suffix == ".json"
        assert not (tmp_path / "result.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_folder_takes_the_place_of_an_empty_one(tmp_path):
    (tmp_path / "masks").mkdir()
    with replace_when_done(tmp_path / "masks") as path:
        path.mkdir()
        (path / "0.png").write_text("a mask")
    assert (tmp_path / "masks" / "0.png").read_text() == "a mask"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_nothing_is_left_after_an_error(tmp_path, folder):
    with pytest.raises(RuntimeError):
        with replace_when_done(tmp_path / "result") as path:
            if folder:
                path.mkdir()
            else:
                path.write_text("half")
            raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_check_leaves_an_older_file_as_it_is(tmp_path):
    (tmp_path / "result.json").write_text("older")
    check_output_file(tmp_path / "result.json", "--json")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["older"]


def test_check_makes_the_folders_above(tmp_path):
    check_output_file(tmp_path / "outputs" / "demo" / "result.json", "--json")
    assert (tmp_path / "outputs" / "demo").is_dir()


@pytest.mark.parametrize("check", [check_output_file, check_output_folder])
def test_place_below_a_file_names_the_argument(tmp_path, check):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="--output: cannot write to .*file"):
        check(tmp_path / "file" / "below", "--output")


def test_folder_in_place_of_a_file_names_the_argument(tmp_path):
    with pytest.raises(ValueError, match="--output: .* is a folder, expected the name of a file"):
        check_output_file(tmp_path, "--output")


def test_file_in_place_of_a_folder_names_the_argument(tmp_path):
    (tmp_path / "masks").write_text("in the way")
    with pytest.raises(ValueError, match="--masks: .* is a file, expected a new or an empty folder"):
        check_output_folder(tmp_path / "masks", "--masks")


def test_folder_with_something_in_it_names_the_argument(tmp_path):
    (tmp_path / "precious.txt").write_text("of the user")
    with pytest.raises(ValueError, match="--masks: .* is not empty"):
        check_output_folder(tmp_path, "--masks")


@pytest.mark.parametrize("name", ["00000", "-aBc_D", "30_(dead-hang)", "part/clip.1", "caf\u00e9", "..a", "a b"])
def test_names_below_the_root_are_accepted(name):
    assert check_name(name, "video") == name


@pytest.mark.parametrize(
    "name", ["..", "../a", "a/../b", "/etc", "a//b", "a/", "", ".", "a\\b", "C:x", "a\0b", 5, None]
)
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(ValueError, match="^video: "):
        check_name(name, "video")
