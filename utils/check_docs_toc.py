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
"""Every page of the documentation is in its table of contents, and every name and link on it leads somewhere.

python utils/check_docs_toc.py
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import yaml

import hf_rvos


DOCS = Path(__file__).parents[1] / "docs/source/en"


def listed_pages(sections: list[dict]) -> Iterator[str]:
    for section in sections:
        if "local" in section:
            yield section["local"]
        yield from listed_pages(section.get("sections", []))


def findings() -> Iterator[str]:
    pages = {page.relative_to(DOCS).with_suffix("").as_posix(): page for page in DOCS.rglob("*.md")}
    listed = Counter(listed_pages(yaml.safe_load((DOCS / "_toctree.yml").read_text(encoding="utf-8"))))
    yield from (f"_toctree.yml lists {name} {count} times" for name, count in listed.items() if count > 1)
    yield from (f"_toctree.yml lists {name}, which does not exist" for name in listed if name not in pages)
    yield from (f"{name}.md is not in _toctree.yml" for name in sorted(pages) if name not in listed)
    for name, page in sorted(pages.items()):
        text = page.read_text(encoding="utf-8")
        for block in re.finditer(r"^\[\[autodoc\]\] (\S+)\n((?: {4}- \w+\n)*)", text + "\n", re.M):
            thing = getattr(hf_rvos, block[1], None) if block[1] in hf_rvos.__all__ else None
            if thing is None:
                yield f"{name}.md documents {block[1]}, which hf_rvos does not export"
                continue
            for method in re.findall(r"- (\w+)", block[2]):
                if not hasattr(thing, method):
                    yield f"{name}.md documents {block[1]}.{method}, which does not exist"
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
            if not (page.parent / target).exists() and not (page.parent / f"{target}.md").exists():
                yield f"{name}.md links to {target}, which does not exist"


def main() -> int:
    found = list(findings())
    print("\n".join(found) or "documentation: table of contents, names and links are fine")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
