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
"""Annotation files that Python 2 pickled, read without the power to run anything."""

import os
import pickle
from pathlib import Path
from typing import Any


# The largest published file (mask tracks of a training split) has a few hundred MB.
MAX_BYTES = 2 * 1024**3


class _PlainUnpickler(pickle.Unpickler):
    """Knows containers, numbers and text alone: whatever is imported by name is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise _RefusedError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError(f"a persistent object {pid!r}")


class _RefusedError(pickle.UnpicklingError):
    pass


def load_plain_pickle(path: str | os.PathLike) -> Any:
    """Load a pickle that holds nothing but containers, numbers and text.

    A pickle is a program: loading one with `pickle.load` runs what its author wrote. Here every class and function is
    refused by name, before anything of it is imported. Text of Python 2 is read as latin-1.

    Args:
        path: The file; one of more than `MAX_BYTES` is refused unread.

    Raises:
        ValueError: if the file is missing, too large, damaged, or asks for a class or function.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= MAX_BYTES:
                return _PlainUnpickler(file, encoding="latin1").load()
    except _RefusedError as error:
        raise ValueError(
            f"{path} asks for {error}, expected only lists, dicts, numbers and text. A file of annotations needs "
            "nothing else; get it again from its authors."
        ) from None
    except OSError as error:
        raise ValueError(f"cannot read {path} ({error.strerror or error}), expected a pickle") from error
    except Exception as error:  # the unpickler lets through whatever a damaged program runs into
        raise ValueError(
            f"{path} is not a complete pickle ({error or type(error).__name__}); get the file again"
        ) from error
    raise ValueError(f"{path} has {size} bytes, expected at most {MAX_BYTES} for a file of annotations")
