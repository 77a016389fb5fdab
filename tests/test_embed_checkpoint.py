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

import json
import runpy
import sys
from pathlib import Path

import pytest

from hf_rvos.checkpoints import embedded_checkpoint, find_part


SCRIPT = Path(__file__).parents[1] / "utils/embed_checkpoint.py"


@pytest.fixture(scope="module")
def script() -> dict:
    return runpy.run_path(str(SCRIPT))


def test_embedding_an_embedded_checkpoint_again_gives_the_same_weights(script, tmp_path):
    source = embedded_checkpoint("referformer-tiny")
    script["embed"](source, tmp_path, {"backbone": "video-swin-tiny"})
    for name in ("model.safetensors", "processor_config.json", "tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (source / name).read_bytes()
    saved, expected = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path, source))
    assert saved["frozen_parts"] == expected["frozen_parts"]


def test_embedding_a_part_again_gives_the_same_weights(script, tmp_path):
    source = find_part("video-swin-tiny")
    script["embed"](source, tmp_path, {})
    assert (tmp_path / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()


def test_checkpoint_embedded_as_a_whole_has_no_reference(script, tmp_path):
    script["embed"](embedded_checkpoint("referformer-tiny"), tmp_path, {})
    assert "frozen_parts" not in json.loads((tmp_path / "config.json").read_text())


def test_name_that_is_not_registered_is_refused(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["embed_checkpoint.py", "somewhere", "no-such-name"])
    with pytest.raises(SystemExit):
        script["main"]()
    assert "no-such-name stands neither in _NAMES nor in _PARTS" in capsys.readouterr().err
