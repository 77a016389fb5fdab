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
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from examples import train
from tests.cli.commands import run


ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/source/en/tasks/fine_tune.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|bash|yaml)\n(.+?)^```", PAGE, re.S | re.M)


def run_command(command, monkeypatch):
    program, *arguments = shlex.split(command)
    if program == "accelerate":  # starts the script in a process of its own, which takes longer than the training
        (config, script, options) = arguments[2], arguments[3], arguments[4:]
        assert arguments[:2] == ["launch", "--config_file"] and Path(config).is_file() and Path(script).is_file()
        monkeypatch.setattr(sys, "argv", [script, *options])
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
        train.main()
        return
    assert program == "hf-rvos"
    result = run(*arguments)
    assert result.exit_code == 0, result.output


@pytest.mark.slow  # trains and evaluates three times: half a minute of a core
def test_blocks_of_the_page_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("examples").symlink_to(ROOT / "examples")
    names = {}
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "fine_tune.md", "exec"), names)
        elif language == "yaml":
            assert "max_train_steps: 300\n" in block
            Path("mine.yaml").write_text(block.replace("max_train_steps: 300\n", "max_train_steps: 2\n"))
        else:
            for command in block.strip().split("\n"):
                run_command(command, monkeypatch)
    assert [language for language, _ in BLOCKS].count("bash") == 4
    scores = {
        name: json.loads(Path(f"outputs/{name}/metrics.json").read_text())["j_and_f"] for name in ("before", "after")
    }
    assert scores["before"] != scores["after"]
    assert Path("outputs/overlay.mp4").is_file()
    assert tuple(names["track"]["masks"].shape) == (16, 128, 192)
