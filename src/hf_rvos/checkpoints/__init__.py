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
"""Checkpoints that come with the package, for use without a network, and what several of them share."""

from pathlib import Path


_NAMES = ("referformer-tiny", "sgmg-tiny", "fast-sgmg-tiny", "soc-tiny", "ssa-tiny")
# Sub-models that are kept once; the checkpoints with them name them as sources of what they leave out.
_PARTS = ("video-swin-tiny", "convnext-tiny")
# The one with the highest J&F on the test split of Moving Shapes.
DEFAULT_CHECKPOINT = "soc-tiny"


def list_embedded_checkpoints() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return list(_NAMES)


def embedded_checkpoint(name: str) -> Path:
    """Folder of a checkpoint that comes with the package, to be given to `from_pretrained`.

    Args:
        name (`str`):
            One of [`list_embedded_checkpoints`].

    Returns:
        `Path`: the folder.

    Raises:
        ValueError: if there is no such checkpoint.

    Example:
        >>> embedded_checkpoint("referformer-tiny").name
        'referformer-tiny'
    """
    if name not in _NAMES:
        raise ValueError(f"name is {name!r}, expected one of the embedded checkpoints: {', '.join(_NAMES)}.")
    return Path(__file__).parent / name


def find_checkpoint(name_or_path: str) -> str:
    """What to give to `from_pretrained` for a short name of an embedded checkpoint, a folder or a hub id.

    Args:
        name_or_path (`str`):
            One of [`list_embedded_checkpoints`], the name of an embedded part of them such as `"video-swin-tiny"`, or
            anything else, which is returned as it is. A folder of that name goes first.

    Returns:
        `str`: a folder or a hub id.
    """
    if name_or_path in (*_NAMES, *_PARTS) and not Path(name_or_path).is_dir():
        return str(Path(__file__).parent / name_or_path)
    return name_or_path


def find_part(name: str) -> Path | None:
    """Folder of a sub-model that embedded checkpoints share, to be given to its `from_pretrained`.

    Args:
        name (`str`):
            Short name, such as `"video-swin-tiny"`.

    Returns:
        `Path`: the folder, or None if there is no such part.
    """
    return Path(__file__).parent / name if name in _PARTS else None


__all__ = ["DEFAULT_CHECKPOINT", "embedded_checkpoint", "find_checkpoint", "find_part", "list_embedded_checkpoints"]
