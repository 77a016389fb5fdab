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
"""One function for all benchmarks: `load_dataset("ref_youtube_vos", "path/to/root", split="train")`."""

import dataclasses
import difflib
import os
import re
from importlib import import_module
from typing import Any

from hf_rvos.data.moving_shapes.config import SPLIT_SIZES


# Module, builder, and what the name already says about the configuration.
DATASETS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ref_youtube_vos": ("hf_rvos.data.ref_youtube_vos", "RefYouTubeVOS", {}),
    "ref_davis17": ("hf_rvos.data.ref_davis17", "RefDAVIS17", {}),
    "a2d_sentences": ("hf_rvos.data.a2d_sentences", "A2DSentences", {}),
    "jhmdb_sentences": ("hf_rvos.data.jhmdb_sentences", "JHMDBSentences", {}),
    "refcoco": ("hf_rvos.data.refcoco", "RefCOCO", {"name": "refcoco"}),
    "refcoco+": ("hf_rvos.data.refcoco", "RefCOCO", {"name": "refcoco+"}),
    "refcocog": ("hf_rvos.data.refcoco", "RefCOCO", {"name": "refcocog"}),
    "mevis": ("hf_rvos.data.mevis", "MeViS", {}),
    "revos": ("hf_rvos.data.revos", "ReVOS", {}),
    "long_rvos": ("hf_rvos.data.long_rvos", "LongRVOS", {}),
    "moving_shapes": ("hf_rvos.data.moving_shapes.builder", "MovingShapes", {}),
    "custom": ("hf_rvos.data.custom", "Custom", {}),
}
# The benchmarks do not agree on the name of this split.
_SPLIT_ALIASES = {"val": "valid", "valid": "val", "validation": "valid"}


def load_builder(
    name: str, data_dir: str | os.PathLike | None = None, cache_dir: str | os.PathLike | None = None, **options: Any
) -> Any:
    """Make the builder of a data set, whose `report` says what is missing on disk.

    Args:
        name (`str`):
            One of `DATASETS`.
        data_dir (`str` or `os.PathLike`, *optional*):
            Root of the data set in its published layout; all but `moving_shapes` need one.
        cache_dir (`str` or `os.PathLike`, *optional*):
            Where rows are kept; the cache of `datasets` if None.
        options (`Any`, *optional*):
            Options of the builder, such as `strict=True`.

    Returns:
        `datasets.DatasetBuilder`: the builder; `download_and_prepare()` makes it read the rows.

    Raises:
        ValueError: if the name or an option is unknown, or the root is not one of this data set.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(str(name).lower().replace("-", "_"), DATASETS, 1, 0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"name: there is no data set {name!r}; {hint}Known are {', '.join(DATASETS)}.")
    module, builder_name, fixed = DATASETS[name]
    builder_class = getattr(import_module(module), builder_name)
    # Fields that the builder fills in itself, or that `datasets` has for its own loaders.
    reserved = {"name", "fingerprint", "version", "data_dir", "data_files", "description"}
    known = [field.name for field in dataclasses.fields(builder_class.BUILDER_CONFIG_CLASS)]
    known = [option for option in known if option not in reserved]
    if name == "moving_shapes":
        known.append("config_name")
    for option in options:
        if option not in known:
            raise ValueError(f"{option}: is no option of {name!r}, which has {', '.join(known)}")
    options |= fixed
    if name == "moving_shapes":
        if data_dir is not None:
            raise ValueError(f"data_dir: {str(data_dir)!r} was given, but moving_shapes is drawn and has no files")
        return builder_class(cache_dir=None if cache_dir is None else str(cache_dir), **options)
    if data_dir is None:
        raise ValueError(f"data_dir: {name!r} needs the root of its files, which looks like\n{builder_class.LAYOUT}")
    return builder_class(data_dir, cache_dir=cache_dir, **options)


def load_dataset(
    name: str,
    data_dir: str | os.PathLike | None = None,
    split: str | None = None,
    streaming: bool = False,
    cache_dir: str | os.PathLike | None = None,
    num_proc: int | None = None,
    strict: bool = False,
    **options: Any,
) -> Any:
    """Load the expressions of a benchmark, one row each, in the same columns for all benchmarks.

    Rows hold sentences and names of files; pixels are read when they are asked for, see `hf_rvos.data.media`.

    Args:
        name (`str`):
            One of `DATASETS`.
        data_dir (`str` or `os.PathLike`, *optional*):
            Root of the data set in its published layout; all but `moving_shapes` need one.
        split (`str`, *optional*):
            For example `"train"`, `"train+valid"` or `"valid[:10%]"`; all splits that are there if None. `"val"` and
            `"valid"` are the same.
        streaming (`bool`, *optional*, defaults to `False`):
            Read while iterating, without a cache.
        cache_dir (`str` or `os.PathLike`, *optional*):
            Where rows are kept; the cache of `datasets` if None.
        num_proc (`int`, *optional*):
            Processes that read; one if None.
        strict (`bool`, *optional*, defaults to `False`):
            Raise an error if a part of the data is missing on disk, instead of leaving it out with a warning.
        options (`Any`, *optional*):
            Options of the data set, such as `valid_includes_test=True` of Ref-YouTube-VOS.

    Returns:
        `Dataset` or `DatasetDict`, or their iterable forms if `streaming`.

    Raises:
        ValueError: if a name or an option is unknown, the root is not one of this data set, the split is not there,
            or something is missing and `strict` was asked for.

    Example:
        >>> rows = load_dataset("ref_davis17", "data/ref-davis", split="valid")
        >>> rows = rows.with_transform(RowReader("data/ref-davis"))
    """
    if not streaming:
        return load_with_report(name, data_dir, split, cache_dir, num_proc, strict, **options)[0]
    builder, split = _prepare(name, data_dir, split, cache_dir, strict, options)
    return builder.as_streaming_dataset(split)


def load_with_report(
    name: str,
    data_dir: str | os.PathLike | None = None,
    split: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    num_proc: int | None = None,
    strict: bool = False,
    **options: Any,
) -> tuple[Any, Any]:
    """Load rows as [`load_dataset`] does, and say what is missing on disk.

    Args:
        name, data_dir, split, cache_dir, num_proc, strict, options:
            As for [`load_dataset`].

    Returns:
        `(Dataset, Report)`, or a `DatasetDict` in place of the first if `split` is None. The report is about the
        splits that are named in `split`, also if their rows were read in an earlier run.

    Raises:
        ValueError: as [`load_dataset`].
    """
    from hf_rvos.data.benchmark_builder import Report

    builder, split = _prepare(name, data_dir, split, cache_dir, strict, options)
    builder.download_and_prepare(num_proc=num_proc)
    return builder.as_dataset(split), getattr(builder, "report", Report())


def _prepare(
    name: str,
    data_dir: str | os.PathLike | None,
    split: str | None,
    cache_dir: str | os.PathLike | None,
    strict: bool,
    options: dict[str, Any],
) -> tuple[Any, str | None]:
    """The builder of the splits that are named in `split`, and `split` as it calls them."""
    if strict and name != "moving_shapes":  # nothing of which can be missing
        options["strict"] = True
    if split is not None:  # the others, which may be large or incomplete, are not read
        words = re.findall(r"[^\W\d]\w*", re.sub(r"\[[^\]]*\]", "", str(split)))
        names = {*words, *(_SPLIT_ALIASES[word] for word in words if word in _SPLIT_ALIASES)}
        options.setdefault("splits", tuple(sorted(names)))
    builder = load_builder(name, data_dir, cache_dir, **options)
    return builder, None if split is None else _find_split(str(split), builder, name)


def _find_split(split: str, builder: Any, name: str) -> str:
    """The split as the builder calls it; slices and sums are kept."""
    present = getattr(builder, "present_splits", list(SPLIT_SIZES))
    found = []
    for part in split.split("+"):
        match = re.fullmatch(r"\s*(\w+)\s*(\[.*\])?\s*", part)
        names = [match[1], _SPLIT_ALIASES.get(match[1])] if match else []
        known = next((known for known in names if known in present), None)
        if known is None:
            raise ValueError(f"split: {split!r} is not there; of {name!r} there are {', '.join(present)}")
        found.append(known + (match[2] or ""))
    return "+".join(found)
