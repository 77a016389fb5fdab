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
"""The folder of an evaluation: a file for each finished video, so that a killed evaluation goes on where it was."""

import csv
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_rvos.utils.files import check_output_file, replace_when_done


class ResultFolder:
    """Results of the videos of one evaluation.

    `run.json` says of which; `videos/00012.json` holds the results of video 12. Files are complete or not there, so
    that several processes can write and any of them be killed.

    Args:
        folder: Made if it is not there.
        settings: What the numbers depend on.

    Raises:
        ValueError: if the folder holds another evaluation, or cannot be written to.
    """

    def __init__(self, folder: str | os.PathLike, settings: Mapping[str, Any]):
        self.folder = Path(folder)
        path = check_output_file(self.folder / "run.json", "--output")
        settings = json.loads(json.dumps(settings))
        if path.is_file():
            try:
                earlier = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise ValueError(f"{path}: cannot be read ({error}); remove the folder or take another") from None
            changes = [
                f"{key} {earlier.get(key)!r} is now {settings.get(key)!r}"
                for key in {**earlier, **settings}
                if earlier.get(key) != settings.get(key)
            ]
            if changes:
                raise ValueError(
                    f"{self.folder} holds another evaluation: {', '.join(changes)}; remove it or take another --output"
                )
        else:
            with replace_when_done(path) as temporary:
                temporary.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        (self.folder / "videos").mkdir(exist_ok=True)

    def _path(self, number: int) -> Path:
        return self.folder / "videos" / f"{number:05d}.json"

    def has(self, number: int) -> bool:
        """Whether video `number` is finished."""
        return self._path(number).is_file()

    def write(self, number: int, results: Sequence[Mapping[str, Any]]) -> None:
        """Keep the results of the expressions of a video."""
        with replace_when_done(self._path(number)) as temporary:
            temporary.write_text(json.dumps(results), encoding="utf-8")

    def read(self, number: int) -> list[dict[str, Any]]:
        """Results of the expressions of a finished video."""
        return json.loads(self._path(number).read_text(encoding="utf-8"))


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the numbers and texts of results as a table, a line for each expression."""
    columns = {key: None for row in rows for key, value in row.items() if not isinstance(value, (dict, list))}
    with replace_when_done(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(columns), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def versions() -> dict[str, str | None]:
    """Versions of the packages that numbers can depend on, and the git revision if this is a checkout."""
    import torch
    import transformers

    import hf_rvos

    return {
        "hf_rvos": hf_rvos.__version__,
        "revision": _revision(Path(hf_rvos.__file__).parent),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _revision(package: Path) -> str | None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # An installed package may lie in somebody else's checkout.
        if Path(git("rev-parse", "--show-toplevel"), "src", package.name).resolve() != package.resolve():
            return None
        return git("describe", "--always", "--abbrev=12", "--dirty")
    except (OSError, subprocess.CalledProcessError):
        return None
