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

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import hf_rvos


DOCS = Path(__file__).parents[1] / "docs/source/en"
NAMES = [name for name in hf_rvos.__all__ if not name.startswith("__")]


@pytest.mark.parametrize("name", NAMES)
def test_public_name_exists_and_has_a_docstring(name):
    assert inspect.getdoc(getattr(hf_rvos, name)).strip()


@pytest.mark.parametrize("name", NAMES)
def test_public_name_stands_in_the_documentation(name):
    pages = [page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md")]
    assert any(f"[[autodoc]] {name}\n" in page for page in pages)


def test_public_names_are_listed_by_dir():
    assert set(hf_rvos.__all__) <= set(dir(hf_rvos))


def test_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="NoSuchModel"):
        hf_rvos.NoSuchModel  # noqa: B018


@pytest.fixture(scope="module")
def fresh_import():
    """A new process that imports the package and then names the modules it has loaded."""
    code = "import hf_rvos, json, sys; print(json.dumps(list(sys.modules)))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_import_loads_nothing_that_training_or_decoding_needs(fresh_import):
    heavy = {"av", "cv2", "datasets", "evaluate", "pycocotools", "rich.progress", "timm", "typer"}
    assert heavy & set(json.loads(fresh_import.stdout.splitlines()[-1])) == set()


def test_import_prints_nothing(fresh_import):
    assert len(fresh_import.stdout.splitlines()) == 1
    assert fresh_import.stderr == ""


@pytest.mark.parametrize("name", hf_rvos.list_embedded_checkpoints())
def test_embedded_checkpoint_is_complete_and_small(name):
    files = {file.name: file.stat().st_size for file in hf_rvos.embedded_checkpoint(name).iterdir()}
    assert {"config.json", "model.safetensors", "processor_config.json", "tokenizer.json"} <= files.keys()
    assert sum(files.values()) < 4_200_000


def test_embedded_checkpoints_are_small_together():
    folder = hf_rvos.embedded_checkpoint("referformer-tiny").parent
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 16_000_000


def test_unknown_embedded_checkpoint_lists_the_known_ones():
    with pytest.raises(ValueError, match="referformer-tiny"):
        hf_rvos.embedded_checkpoint("referformer-huge")
