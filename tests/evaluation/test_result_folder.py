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
"""Results on disk: resumable, and never those of another evaluation."""

import csv
import json
import subprocess

import pytest

from hf_rvos.evaluation import result_folder
from hf_rvos.evaluation.result_folder import ResultFolder, versions, write_rows


SETTINGS = {"dataset": "mevis", "threshold": 0.5}


def test_finished_videos_are_found_again(tmp_path):
    ResultFolder(tmp_path, SETTINGS).write(3, [{"j_mean": 0.25}])
    again = ResultFolder(tmp_path, SETTINGS)
    assert again.has(3) and not again.has(2)
    assert again.read(3) == [{"j_mean": 0.25}]


def test_numbers_are_read_as_they_were_written(tmp_path):
    value = 0.1 + 0.2
    results = ResultFolder(tmp_path, SETTINGS)
    results.write(0, [{"j_mean": value}])
    assert results.read(0)[0]["j_mean"] == value


def test_another_evaluation_is_refused_and_kept(tmp_path):
    ResultFolder(tmp_path, SETTINGS).write(0, [])
    with pytest.raises(ValueError, match=r"threshold 0.5 is now 0.4; remove it or take another --output"):
        ResultFolder(tmp_path, SETTINGS | {"threshold": 0.4})
    assert json.loads((tmp_path / "run.json").read_text()) == SETTINGS


def test_a_damaged_folder_is_refused(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        ResultFolder(tmp_path, SETTINGS)


def test_the_table_has_a_line_for_each_expression_and_no_nested_columns(tmp_path):
    write_rows(tmp_path / "rows.csv", [{"id": "0", "j_mean": 1.0, "masks": []}, {"id": "1", "tag": "x, y"}])
    with open(tmp_path / "rows.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines == [{"id": "0", "j_mean": "1.0", "tag": ""}, {"id": "1", "j_mean": "", "tag": "x, y"}]


def test_the_revision_of_another_checkout_is_not_taken(tmp_path):
    package = tmp_path / "project" / "site-packages" / "hf_rvos"
    package.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(tmp_path / "project")], check=True)
    assert result_folder._revision(package) is None


def test_versions_name_the_packages_that_numbers_depend_on():
    assert {"hf_rvos", "torch", "transformers"} <= versions().keys()
