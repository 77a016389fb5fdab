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
"""Every source file starts with the licence header, and no file names a place or person that does not belong there.

python utils/check_headers.py
"""

import re
import subprocess
import sys
from pathlib import Path


ROOT = Path(__file__).parents[1]
HEADER = re.compile(
    r"(#!.*\n)?# Copyright 20\d\d The hf_rvos authors\.( All rights reserved\.)?\n#\n"
    r'# Licensed under the Apache License, Version 2\.0 \(the "License"\);\n'
)
# Absolute paths of somebody's machine and promises without an end.
FORBIDDEN = re.compile(r"(?<![\w/.])/(?:home|Users|root|work|tmp|mnt)/\w|\b(?:FIXME|XXX|HACK)\b")
TEXT_SUFFIXES = {".cfg", ".json", ".md", ".py", ".toml", ".txt", ".yaml", ".yml", ""}


def main() -> int:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        names = [str(path.relative_to(ROOT)) for folder in ("src", "tests") for path in (ROOT / folder).rglob("*.py")]
    else:
        names = tracked.stdout.splitlines()
    findings = []
    for name in names:
        path = ROOT / name
        if path.suffix not in TEXT_SUFFIXES or not path.is_file() or path == Path(__file__).resolve():
            continue
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py" and text and not HEADER.match(text):
            findings.append(f"{name}:1: the licence header is missing")
        for number, line in enumerate(text.splitlines(), start=1):
            if found := FORBIDDEN.search(line):
                findings.append(f"{name}:{number}: {found.group()!r} does not belong into the repository")
    print("\n".join(findings) or f"headers: {len(names)} files are fine")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
