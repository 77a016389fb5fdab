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
"""What the builders of all benchmarks share: rows are read from a root on disk, cached by content, and reported on.

A benchmark is a plain generator `read_rows(root, split, report, **options)` of rows in the shared schema and a thin
subclass of [`BenchmarkBuilder`] that names its files. What is missing on disk is left out and counted in a [`Report`].
"""

import dataclasses
import hashlib
import json
import logging
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetGenerationError

from hf_rvos.data.schema import FEATURES
from hf_rvos.utils.files import check_name
from hf_rvos.utils.video_io import FRAME_SUFFIXES


logger = logging.getLogger(__name__)

# Text files below this size go into the fingerprint with their content, others with size and time of change.
SMALL_FILE = 1_000_000
TEXT_SUFFIXES = (".json", ".jsonl", ".csv", ".txt")
# Parts of a split that processes and loader workers can share. Each part reads the annotation file again.
NUM_SHARDS = 16
NUM_EXAMPLES = 3


class Report:
    """What was left out while rows were read, and what is worth knowing about those that were not.

    `counts` maps each kind, such as `"missing frames"`, to how many there were, and `examples` to the first few.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}
        self._notes: set[str] = set()

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Count something that is lost, for example `("missing frames", "video/00005", 3)`."""
        self.counts[kind] = self.counts.get(kind, 0) + count
        examples = self.examples.setdefault(kind, [])
        if len(examples) < NUM_EXAMPLES:
            examples.append(example)

    def note(self, kind: str, example: str, count: int = 1) -> None:
        """Count something that is no fault, for example expressions without a target; `strict` accepts it."""
        self.add(kind, example, count)
        self._notes.add(kind)

    @property
    def faults(self) -> dict[str, int]:
        """The counts of what is lost."""
        return {kind: count for kind, count in self.counts.items() if kind not in self._notes}

    def merge(self, other: "Report") -> None:
        """Add what another report counted."""
        for kind, count in other.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count
            self.examples[kind] = [*self.examples.get(kind, []), *other.examples[kind]][:NUM_EXAMPLES]
        self._notes |= other._notes

    def to_json(self) -> str:
        """The report as text for a file; see `from_json`."""
        return json.dumps({"counts": self.counts, "examples": self.examples, "notes": sorted(self._notes)})

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """The report that `to_json` wrote."""
        content, report = json.loads(text), cls()
        report.counts, report.examples = content["counts"], content["examples"]
        report._notes = set(content["notes"])
        return report

    def __str__(self) -> str:
        if not self.counts:
            return "nothing is missing"
        return "; ".join(
            f"{kind}: {count} (such as {', '.join(self.examples[kind])})" for kind, count in self.counts.items()
        )


def clean_expression(text: str) -> str:
    """The form in which expressions are given to models: lower case, one blank between words, none at the ends."""
    return " ".join(text.lower().split())


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        what: What it holds, for the message.

    Raises:
        ValueError: if it is missing, not UTF-8 or not JSON.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file)
    except FileNotFoundError:
        raise ValueError(f"{what}: there is no file {str(path)!r}") from None
    except OSError as error:
        raise ValueError(f"{what}: {str(path)!r} cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{what}: {str(path)!r} is not UTF-8 ({error}); get a complete copy") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{what}: {str(path)!r} is not JSON ({error}); get a complete copy") from None


def read_videos(path: Path, what: str = "expressions") -> dict[str, dict[str, Any]]:
    """The entries of a JSON file of the form `{"videos": {video: {...}}}`, as all newer benchmarks have it.

    Raises:
        ValueError: if the file cannot be read, has another form, or names a video that leads out of the root.
    """
    content = read_json(path, what)
    videos = content.get("videos") if isinstance(content, dict) else None
    if not isinstance(videos, dict) or not all(isinstance(entry, dict) for entry in videos.values()):
        raise ValueError(f"{what}: {str(path)!r} must look like {{'videos': {{'<video>': {{...}}}}}}, and does not")
    for video in videos:
        check_name(video, f"video in {str(path)!r}")
    return videos


def read_entry(
    video: str, entry: dict[str, Any], report: Report
) -> tuple[list[tuple[str, str, dict[str, Any]]], list[str]]:
    """Expressions and frames of a video of such a file.

    Args:
        video: Name of the video.
        entry: Its entry, with `expressions` (`{id: {"exp": sentence, ...}}`) and `frames`.
        report: Counts expressions without a sentence, which are left out.

    Returns:
        `(expression_id, sentence, all that the file says about it)` of each expression, and the names of the frames,
        both in the order of the file.

    Raises:
        ValueError: if they have another form, or a name leads out of the root.
    """
    items, frames = entry.get("expressions", {}), entry.get("frames", [])
    if not isinstance(items, dict) or not all(isinstance(item, dict) for item in items.values()):
        raise ValueError(
            f"expressions of video {video!r} must be {{'<id>': {{'exp': '<sentence>', ...}}}}, and are not"
        )
    if not isinstance(frames, list):
        raise ValueError(f"frames of video {video!r} is a {type(frames).__name__}, expected a list of names")
    for name in frames:
        check_name(name, f"frame of video {video!r}")
    expressions = []
    for expression_id, item in items.items():
        check_name(expression_id, f"expression of video {video!r}")
        if isinstance(text := item.get("exp"), str) and text.strip():
            expressions.append((expression_id, text, item))
        else:
            report.add("expressions without text", f"{video}/{expression_id}")
    if not items:
        report.note("videos without expressions", video)
    return expressions, frames


def read_ids(value: Any, what: str) -> list[int] | None:
    """Object or annotation ids, written as a number, as text or as a list of these; None stays None.

    Raises:
        ValueError: if there is something else.
    """
    if value is None:
        return None
    try:
        return [int(number) for number in (value if isinstance(value, list) else [value])]
    except (TypeError, ValueError):
        raise ValueError(f"{what} is {value!r}, expected a number or a list of numbers") from None


def row(
    dataset: str,
    video_id: str,
    expression_id: str,
    expression_raw: str,
    frames: list[str],
    media_dir: str,
    **columns: Any,
) -> dict[str, Any]:
    """A row of the shared schema: folders of frames without masks unless `columns` says otherwise."""
    values = {
        **dict.fromkeys(FEATURES),
        "dataset": dataset,
        "video_id": video_id,
        "expression_id": expression_id,
        "expression": clean_expression(expression_raw),
        "expression_raw": expression_raw,
        "frames": frames,
        "media_dir": media_dir,
        "media_kind": "frames",
        "mask_kind": "none",
        "num_frames": len(frames),
    }
    return values | columns


def file_stems(folder: Path, suffixes: tuple[str, ...] = FRAME_SUFFIXES) -> dict[str, str] | None:
    """Files of some kinds in a folder by their names without suffix, None if there is no such folder.

    Suffixes are lower case, as in all published data: a file `00000.JPG` counts as missing.
    """
    try:
        # Names only: asking about each of a hundred thousand files would take minutes on a network drive.
        parts = [(name, *os.path.splitext(name)) for name in os.listdir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return None
    return {stem: name for name, stem, suffix in parts if suffix in suffixes}


def annotated_positions(folder: Path, frames: list[str]) -> list[int]:
    """Positions of the frames that have a PNG file of their name in a folder."""
    stems = file_stems(folder, (".png",)) or {}
    return [position for position, name in enumerate(frames) if name in stems]


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, none if it is not there."""
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def present_frames(folder: Path, frames: list[str], video: str, report: Report) -> list[int]:
    """Which of the listed frames of a video are there; the folder is listed once.

    Args:
        folder: Where the frames are.
        frames: Names without suffix.
        video: Name of the video, for the report.
        report: Counts the missing ones, or the video if none is there.

    Returns:
        Positions in `frames`, none if the video is to be skipped.
    """
    stems = file_stems(folder)
    present = [position for position, name in enumerate(frames) if name in stems] if stems else []
    if not present:
        report.add("missing videos", video)
    else:
        for name in frames:
            if name not in stems:
                report.add("missing frames", f"{video}/{name}")
    return present


def frame_size(folder: Path, name: str, report: Report) -> tuple[int | None, int | None]:
    """`(height, width)` from the header of a frame, `(None, None)` and a count if it cannot be read."""
    from PIL import Image

    for suffix in FRAME_SUFFIXES:
        try:
            with Image.open(folder / f"{name}{suffix}") as image:
                return image.height, image.width
        except FileNotFoundError:
            continue
        except OSError:
            break
    report.add("unreadable frames", f"{folder.name}/{name}")
    return None, None


@dataclass
class BenchmarkConfig(datasets.BuilderConfig):
    """Configuration of a benchmark; subclasses add the options of its `read_rows`.

    Args:
        fingerprint (`str`, *optional*):
            What annotation files and folders looked like, so that an edited file gives new rows.
        strict (`bool`, *optional*, defaults to `False`):
            Raise an error if anything had to be left out.
        splits (`tuple[str, ...]`, *optional*):
            Splits to build, all that are there if None; nothing is read of the others.
    """

    fingerprint: str | None = None
    strict: bool = False
    splits: tuple[str, ...] | None = None

    def options(self) -> dict[str, Any]:
        """The fields that subclasses added: arguments of `read_rows`."""
        shared = {field.name for field in dataclasses.fields(BenchmarkConfig)}
        return {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name not in shared
        }

    def create_config_id(self, config_kwargs: dict, custom_features: Any = None) -> str:
        # Rows hold no absolute path and do not depend on strictness: a moved root keeps its cached rows.
        kept = {name: value for name, value in config_kwargs.items() if name not in ("data_dir", "strict")}
        return super().create_config_id(kept, custom_features or FEATURES)  # cached rows have these columns


class BenchmarkBuilder(datasets.GeneratorBasedBuilder):
    """Base class: subclasses name files and splits and point to their `read_rows`.

    Args:
        data_dir (`str` or `os.PathLike`):
            Root of the data set, in its published layout.
        cache_dir (`str`, *optional*):
            Where the rows are kept; the cache of `datasets` if None.
        options (`Any`, *optional*):
            Fields of the configuration, such as `strict`.

    Raises:
        ValueError: if the root has none of the splits.
    """

    BUILDER_CONFIG_CLASS = BenchmarkConfig
    VERSION = datasets.Version("1.0.0")  # of the rows; a higher one makes cached rows stale

    # What a subclass sets: splits in the order of the documentation, the page where the data is found, and the
    # expected tree as text.
    SPLITS: tuple[str, ...] = ()
    HOMEPAGE = ""
    LAYOUT = ""
    read_rows: Callable[..., Iterator[dict[str, Any]]]  # staticmethod(root, split, report, **options)

    @staticmethod
    def split_files(root: Path, split: str, **options: Any) -> list[Path]:
        """Files and folders that the rows of a split depend on; the split is there if the first one is.

        Cached rows become stale when a file changes, or when there is something new in a folder or in those directly
        below it; what is further down has to be listed too, see [`subfolders`].
        """
        raise NotImplementedError

    @staticmethod
    def video_ids(root: Path, split: str, **options: Any) -> list[str] | None:
        """Videos of a split if `read_rows` takes a list of them as `videos`; None if it reads the split as a whole."""
        return None

    def __init__(self, data_dir: str | os.PathLike, cache_dir: str | os.PathLike | None = None, **options: Any):
        self.root = Path(data_dir).expanduser()
        builder_options = {name: options.pop(name) for name in ("config_name", "features") if name in options}
        config = self.BUILDER_CONFIG_CLASS(**options)
        files = {split: self.split_files(self.root, split, **config.options()) for split in self.SPLITS}
        self.present_splits = [split for split, paths in files.items() if paths[0].exists()]
        if not self.present_splits:
            raise ValueError(
                f"data_dir: {str(self.root)!r} has no split of {type(self).__name__}. It is expected to look like\n"
                f"{self.LAYOUT}\nwith one or more of the splits {', '.join(self.SPLITS)}. The data is found at "
                f"{self.HOMEPAGE}; what is not public there has to be asked for."
            )
        wanted = (config.splits,) if isinstance(config.splits, str) else config.splits or self.SPLITS
        self.built_splits = [split for split in self.present_splits if split in wanted]
        # All splits are the same rows whether they were named or not.
        options["splits"] = None if self.built_splits == self.present_splits else tuple(self.built_splits)
        paths = [path for split in self.built_splits for path in files[split]]
        options["fingerprint"] = _fingerprint(self.root, paths)
        self._is_preparing = False
        self._streamed = Report()
        cache_dir = None if cache_dir is None else str(cache_dir)
        super().__init__(cache_dir=cache_dir, data_dir=str(self.root), **builder_options, **options)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=type(self).__doc__ or "", homepage=self.HOMEPAGE, features=FEATURES)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        if not self.built_splits:
            raise ValueError(f"splits: none is there; {str(self.root)!r} has {', '.join(self.present_splits)}")
        generators = []
        for split in self.built_splits:
            videos = self.video_ids(self.root, split, **self.config.options())
            # `datasets` divides the first list among processes and workers; a part is a list of videos.
            size = max(1, -(-len(videos or []) // NUM_SHARDS))
            parts = [None] if not videos else [videos[at : at + size] for at in range(0, len(videos), size)]
            generators.append(datasets.SplitGenerator(split, {"split": split, "parts": parts}))
        return generators

    def _generate_examples(self, split: str, parts: list[list[str] | None]) -> Iterator[tuple[str, dict[str, Any]]]:
        report, options = Report(), self.config.options()
        if parts != [None]:
            options["videos"] = [video for part in parts for video in part]
        for number, values in enumerate(self.read_rows(self.root, split, report, **options)):
            yield f"{values['video_id']}/{values['expression_id']}/{number}", values
        if self._is_preparing:  # possibly in another process, so that only a file reaches the builder
            path = Path(self._output_dir, f"report-{split}-{uuid.uuid4().hex}.json")
            path.write_text(report.to_json(), encoding="utf-8")
        else:
            self._streamed.merge(report)
            self._check(report)

    def _prepare_split_single(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        try:
            yield from super()._prepare_split_single(*args, **kwargs)
        except DatasetGenerationError as error:  # says nothing by itself
            if isinstance(error.__cause__, ValueError):
                raise error.__cause__ from None
            raise

    def download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """Read the rows into the cache, or find them there. Nothing is downloaded."""
        self._is_preparing = True
        try:
            super().download_and_prepare(*args, **kwargs)
        finally:
            self._is_preparing = False
        report = self.report
        self._check(report)
        if report.faults:
            logger.warning("%s at %s is incomplete: %s", type(self).__name__, self.root, report)

    @property
    def report(self) -> Report:
        """What was left out when the rows were read, also if that was in an earlier run."""
        report = Report()
        for path in sorted(Path(self._output_dir).glob("report-*.json")):
            report.merge(Report.from_json(path.read_text(encoding="utf-8")))
        return report if report.counts else self._streamed

    def _check(self, report: Report) -> None:
        if self.config.strict and report.faults:
            raise ValueError(
                f"data_dir: {str(self.root)!r} is not complete ({report}). Repair it, or use strict=False to go on "
                "with what is there."
            )


def _fingerprint(root: Path, paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(os.path.relpath(path, root).encode("utf-8", "surrogateescape"))
        if path.is_file():
            status = path.stat()
            small = status.st_size < SMALL_FILE and path.suffix in TEXT_SUFFIXES
            digest.update(path.read_bytes() if small else f"{status.st_size} {status.st_mtime_ns}".encode())
        elif path.is_dir():
            with os.scandir(path) as entries:
                times = sorted((entry.name, entry.stat().st_mtime_ns) for entry in entries if entry.is_dir())
            digest.update(repr([path.stat().st_mtime_ns, *times]).encode("utf-8", "surrogateescape"))
        else:
            digest.update(b"absent")
    return digest.hexdigest()
