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
"""Errors of commands and scripts, as their users see them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bad_input_reported(kinds: tuple[type[Exception], ...] = (ValueError, OSError)) -> Iterator[None]:
    """End the program with exit code 2 and the message of an error; trees of files in it keep their lines.

    Args:
        kinds: Of errors that are told so; others pass.
    """
    try:
        yield
    except kinds as error:
        lines = f"error: {error}".rstrip().splitlines()
        print(*(line.rstrip() for line in lines), sep="\n", file=sys.stderr)
        raise SystemExit(2) from error
