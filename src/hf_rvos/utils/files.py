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
"""Files: names that stay in their folder; output that is either complete or not there, written beside and renamed."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def check_name(name: Any, what: str) -> str:
    """Refuse a name from a file of a stranger that would lead out of the folder when it becomes part of a path.

    Args:
        name: Name of a video, frame or expression; `/` between parts is fine.
        what: What it names and where it was found, for the message.

    Raises:
        ValueError: if it is not a relative path that only goes down.
    """
    if isinstance(name, str) and re.fullmatch(r"[\w-]+", name):
        return name
    if not isinstance(name, str) or re.search(r"[\\\x00-\x1f]|^\w:", name) or {"", ".", ".."} & set(name.split("/")):
        raise ValueError(f"{what}: the name {name!r} leaves the folder that it is looked up in")
    return name


def check_output_file(path: str | os.PathLike, argument: str) -> Path:
    """Make sure, before any work, that a file can be written at `path`; missing folders above it are made.

    Args:
        path: Where the file will be.
        argument: Name of the caller's argument, for the message.

    Raises:
        ValueError: if `path` is a folder, or no file can be made beside it.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{argument}: {str(path)!r} is a folder, expected the name of a file to write")
    _check_writable(path.parent, path, argument)
    return path


def check_output_folder(path: str | os.PathLike, argument: str) -> Path:
    """Make sure, before any work, that a new folder can be made at `path`.

    Args:
        path: Where the folder will be; it must not exist yet, or be empty.
        argument: Name of the caller's argument, for the message.

    Raises:
        ValueError: if `path` is a file or a folder with something in it, or no folder can be made there.
    """
    path = Path(path)
    if path.is_dir() and any(path.iterdir()):
        raise ValueError(f"{argument}: the folder {str(path)!r} is not empty, expected a new or an empty one")
    if path.exists() and not path.is_dir():
        raise ValueError(f"{argument}: {str(path)!r} is a file, expected a new or an empty folder")
    _check_writable(path.absolute().parent, path, argument)
    return path


@contextmanager
def replace_when_done(path: str | os.PathLike) -> Iterator[Path]:
    """Give a name beside `path` to write to, and rename it to `path` when the block ends without an error.

    The name keeps the suffix of `path`, from which writers guess a format. On an error what was written is removed.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():
            path.rmdir()  # only an empty folder gives way
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def _check_writable(folder: Path, path: Path, argument: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{argument}: cannot write to {str(path)!r} ({error.strerror or error})") from error
