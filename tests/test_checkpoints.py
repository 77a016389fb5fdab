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

from hf_rvos.checkpoints import embedded_checkpoint, find_checkpoint, list_embedded_checkpoints


@pytest.mark.parametrize("name", list_embedded_checkpoints())
def test_short_name_means_the_embedded_checkpoint(name):
    assert find_checkpoint(name) == str(embedded_checkpoint(name))


def test_a_folder_of_that_name_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "referformer-tiny").mkdir()
    assert find_checkpoint("referformer-tiny") == "referformer-tiny"


def test_other_names_are_left_to_the_hub():
    assert find_checkpoint("somebody/something") == "somebody/something"
