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
"""Comma-separated files of annotations, each line with its number for messages."""

import csv
import os
from collections.abc import Iterator


def read_table(path: str | os.PathLike, titles: list[str] | None, expected: str) -> Iterator[tuple[int, list[str]]]:
    """Read a comma-separated file line by line.

    Args:
        path: The file, in UTF-8.
        titles: What the first line must be; None if the file begins with data.
        expected: What to say to somebody whose file is missing or damaged (the layout, where to get it).

    Yields:
        Number of the line, from 1, and its fields; empty lines are left out.

    Raises:
        ValueError: if the file is missing, is no text, or begins with other titles.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            if titles is not None and (found := next(reader, [])) != titles:
                raise ValueError(
                    f"{path} begins with {','.join(found)[:80]!r}, expected the titles {','.join(titles)}"
                )
            for fields in reader:
                if fields:
                    yield reader.line_num, fields
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"cannot read {path} ({error}). {expected}") from error
