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
"""The repository keeps its own rules: packaging, exports, tests, documentation and imports of every model.

python utils/check_repo.py
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path

from transformers import PreTrainedConfig, PreTrainedModel

import hf_rvos


ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/hf_rvos"


def packaging() -> Iterator[str]:
    """Every file below src is installed: modules as parts of packages, other files as package data."""
    patterns = re.findall(r'"([^"]+)"', re.search(r"package_data=\{(.+?)\}", (ROOT / "setup.py").read_text())[1])
    for path in sorted(SOURCE.rglob("*")):
        if not path.is_file() or "__pycache__" in path.parts:
            continue
        name = path.relative_to(SOURCE).as_posix()
        if path.suffix == ".py":
            if not (path.parent / "__init__.py").exists():
                yield f"src/hf_rvos/{name} lies in a folder without __init__.py and is not installed"
        elif not any(fnmatch(name, pattern) for pattern in patterns):
            yield f"src/hf_rvos/{name} matches no package_data pattern of setup.py and is not installed"


def models() -> Iterator[str]:
    """Every model is exported, tested and documented, and uses every field of its configuration."""
    for folder in sorted(path.parent for path in (SOURCE / "models").glob("*/__init__.py")):
        name = folder.name
        for wanted in (f"tests/models/{name}/test_modeling_{name}.py", f"docs/source/en/model_doc/{name}.md"):
            if not (ROOT / wanted).exists():
                yield f"{wanted} is missing"
        code = "\n".join(path.read_text() for path in folder.glob("*.py") if "configuration_" not in path.name)
        for _, thing in inspect.getmembers(import_module(f"hf_rvos.models.{name}"), inspect.isclass):
            if not thing.__module__.startswith(f"hf_rvos.models.{name}"):
                continue
            is_base = thing.__name__.endswith("PreTrainedModel")
            if issubclass(thing, (PreTrainedConfig, PreTrainedModel)) and not is_base:
                if thing.__name__ not in hf_rvos.__all__:
                    yield f"{thing.__name__} is not exported by hf_rvos"
            if issubclass(thing, PreTrainedConfig):
                for field in thing.__dict__.get("__annotations__", {}):
                    if not re.search(rf"\.{field}\b|\"{field}\"", code) and not field.startswith("_"):
                        yield f"{thing.__name__}.{field} is used nowhere in models/{name}"


def imports() -> Iterator[str]:
    """Models do not know each other, and shared code does not know models."""
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).parts
        own = f"hf_rvos.models.{parts[1]}" if parts[0] == "models" and len(parts) > 2 else None
        if own is None and parts[0] not in ("layers", "losses", "ops"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            if module and module.startswith("hf_rvos.models.") and not (own and module.startswith(own)):
                # A backbone is a part that any model may be built on.
                if not (own and module.startswith("hf_rvos.models.video_swin")):
                    yield f"src/hf_rvos/{'/'.join(parts)}:{node.lineno} imports {module}"


def main() -> int:
    findings = [finding for check in (packaging, models, imports) for finding in check()]
    print("\n".join(findings) or "repository: packaging, models and imports are fine")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
