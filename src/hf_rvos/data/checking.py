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
"""Is a download complete and sound? Everything that rows would need is looked at, and nothing is built.

Rows come from the reader of each benchmark, so that what is found is what training and evaluation would meet.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from hf_rvos.data.benchmark_builder import Report, file_stems
from hf_rvos.data.facts import FACTS, Facts, Published
from hf_rvos.data.image_files import INDEX_MODES, voc_palette
from hf_rvos.data.loading import DATASETS, load_builder
from hf_rvos.data.media import load_masks
from hf_rvos.utils.video_io import FRAME_SUFFIXES, open_video


# What to do, by the first word of the kind of a problem that readers report.
_ADVICE = {
    "missing": "get these files again and unpack them to the place that the layout says",
    "unreadable": "the copy is damaged: get it again",
    "expressions": "correct the sentence or its entry in the file of annotations",
    "damaged": "the copy is damaged: get it again",
}
_OTHER_ADVICE = "compare the file of annotations with the published one"


@dataclass(frozen=True)
class Problem:
    """Something that was found.

    Args:
        kind: What is wrong.
        where: The file, video or expression, relative to the root.
        advice: What to do about it.
        is_fault: False for what is only worth knowing; every published set has some of it.
        count: How many there are if `where` is the first of several.
    """

    kind: str
    where: str
    advice: str
    is_fault: bool = True
    count: int = 1


@dataclass(frozen=True)
class Counts:
    """Size of a split as it is on disk.

    Args:
        videos: Videos that have expressions, or pictures.
        expressions: Rows.
        objects: Objects that the rows refer to, None if the files do not say.
        published: The same as published.
    """

    videos: int
    expressions: int
    objects: int | None
    published: Published = Published()


@dataclass
class Findings:
    """What [`check_dataset`] found.

    Args:
        name: The data set.
        root: Where it is.
        facts: Where it comes from and under which terms.
        counts: Size of each split, and of `"all"` together.
        problems: Faults and notes in the order in which they were found.
    """

    name: str
    root: str
    facts: Facts
    counts: dict[str, Counts] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no fault was found; notes do not count."""
        return not any(problem.is_fault for problem in self.problems)

    def size_rows(self) -> list[tuple[str, str, str, str]]:
        """Lines of a table: split, videos, expressions and objects, each as `found / published`."""
        rows = []
        for split, counts in self.counts.items():
            published = counts.published
            pairs = (
                (counts.videos, () if published.videos is None else (published.videos,)),
                (counts.expressions, published.expressions),
                (counts.objects, () if published.objects is None else (published.objects,)),
            )
            rows.append((split, *(f"{_number(found)} / {_numbers(known)}" for found, known in pairs)))
        return rows

    def problem_rows(self) -> list[tuple[str, str, str, str]]:
        """Lines of a table: fault or note, kind, where, what to do."""
        return [
            (
                "fault" if problem.is_fault else "note",
                problem.kind,
                problem.where + (f" and {problem.count - 1:,} more" if problem.count > 1 else ""),
                problem.advice,
            )
            for problem in self.problems
        ]

    def to_text(self, limit: int | None = None) -> str:
        """Everything as plain text.

        Args:
            limit: Places to list of each kind of problem; all if None.
        """
        lines = [f"{self.name} at {self.root}"]
        if self.facts.homepage:
            lines.append(f"  home    {self.facts.homepage}")
        lines += [f"  access  {self.facts.access}", f"  terms   {self.facts.terms}", ""]
        titles = ("split", "videos", "expressions", "objects")
        table = [titles, *self.size_rows()]
        widths = [max(len(line[column]) for line in table) for column in range(len(titles))]
        lines += ["  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table]
        lines.append(f"  (found / published; published: {self.facts.source})")
        groups: dict[tuple[bool, str, str], list[tuple[str, int]]] = {}
        for problem, (_, _, where, _) in zip(self.problems, self.problem_rows()):
            group = groups.setdefault((problem.is_fault, problem.kind, problem.advice), [])
            group.append((where, problem.count))
        # Faults first; otherwise in the order in which they were found.
        for (is_fault, kind, advice), places in sorted(groups.items(), key=lambda item: not item[0][0]):
            total = sum(count for _, count in places)
            lines += ["", f"{'FAULT' if is_fault else 'note'}: {kind} ({total:,}): {advice}"]
            lines += [f"  {where}" for where, _ in places[:limit]]
            if limit is not None and len(places) > limit:
                lines.append(f"  ... and {len(places) - limit:,} more places")
        lines += ["", "No fault was found." if self.ok else "The data set is not complete and sound."]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.to_text(limit=10)


def check_dataset(name: str, root: str | os.PathLike, decode: bool = False, **options: Any) -> Findings:
    """Look for everything that is missing, damaged or odd in a download.

    Args:
        name (`str`):
            A data set with files, as for [`load_dataset`].
        root (`str` or `os.PathLike`):
            Its root.
        decode (`bool`, *optional*, defaults to `False`):
            Decode every picture, video and mask. Otherwise headers, sizes and the ends of files are looked at, which
            finds all but rare damage and takes minutes where decoding takes hours.
        options (`Any`, *optional*):
            Options of the data set, such as `split_by` of RefCOCO, and `splits`, names of those to check.

    Returns:
        [`Findings`]: counts beside the published ones, and all problems.

    Raises:
        ValueError: if the name or an option is unknown, or `root` is no folder. What is wrong below the root is a
            problem of the findings.
    """
    if name in DATASETS and name not in FACTS:
        raise ValueError(f"name: {name!r} is drawn and has no files to check")
    root = Path(root).expanduser()
    if name in DATASETS and not root.is_dir():
        raise ValueError(f"root: there is no folder {str(root)!r}")
    findings = Findings(name, str(root), FACTS.get(name, FACTS["custom"]))
    # A builder wants a place for rows, and gets none to keep.
    with tempfile.TemporaryDirectory() as cache:
        try:
            builder = load_builder(name, root, cache, **options)
        except ValueError as error:
            if name not in DATASETS or str(error).partition(":")[0] in options:
                raise  # a mistake of the caller, not of the download
            findings.problems.append(Problem("missing annotations", str(error), _ADVICE["missing"]))
            return findings
        _Checker(findings, root, decode).check(builder)
    return findings


class _FullReport(Report):
    """A report that keeps all examples, with their counts."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[tuple[str, str, int]] = []

    def add(self, kind: str, example: str, count: int = 1) -> None:
        super().add(kind, example, count)
        self.entries.append((kind, example, count))


class _Checker:
    """Looks at every row and, once each, at every file that rows name."""

    def __init__(self, findings: Findings, root: Path, decode: bool):
        self.findings = findings
        self.root = root
        self.decode = decode
        self.facts = findings.facts
        self.seen: set[Any] = set()

    def check(self, builder: Any) -> None:
        options = builder.config.options()
        objects: set[tuple[str, int]] | None = set()
        videos: set[str] = set()
        for split in builder.SPLITS:
            if split in builder.present_splits and split not in builder.built_splits:
                continue  # the caller asked for others
            if split not in builder.present_splits:
                path = builder.split_files(self.root, split, **options)[0]
                self.note("splits that are not there", self.place(path), "get this file if you need the split")
                continue
            report = _FullReport()
            rows = self.rows(builder.read_rows(self.root, split, report, **options), split)
            found_videos, found_objects, num_rows = self.check_split(rows, split)
            for kind, example, count in report.entries:
                advice = _ADVICE.get(kind.split()[0], _OTHER_ADVICE)
                if kind not in report.faults:
                    advice = "nothing to do, if it is no surprise"
                self.add(kind, self.place(example), advice, kind in report.faults, count)
            num_objects = None if found_objects is None else len(found_objects)
            published = self.facts.published.get(split, Published())
            if options.get("split_by") not in (None, "unc", "umd"):
                published = Published()  # the published sizes are those of the usual splits
            self.findings.counts[split] = Counts(len(found_videos), num_rows, num_objects, published)
            videos |= found_videos
            objects = None if objects is None or found_objects is None else objects | found_objects
        self.check_all(builder, videos, objects)

    def check_all(self, builder: Any, videos: set[str], objects: set[tuple[str, int]] | None) -> None:
        counts = self.findings.counts
        complete = len(builder.built_splits) == len(builder.SPLITS)
        if len(counts) > 1 or self.facts.total:
            total = self.facts.total if complete and self.facts.total else Published()
            num_rows = sum(count.expressions for count in counts.values())
            counts["all"] = Counts(len(videos), num_rows, None if objects is None else len(objects), total)

    def rows(self, rows: Iterator[dict[str, Any]], split: str) -> Iterator[dict[str, Any]]:
        """The rows of a reader up to the point where it cannot go on."""
        try:
            yield from rows
        except ValueError as error:
            self.add("unreadable annotations", f"{split}: {error}", _ADVICE["unreadable"])

    def check_split(
        self, rows: Iterable[dict[str, Any]], split: str
    ) -> tuple[set[str], set[tuple[str, int]] | None, int]:
        videos: set[str] = set()
        objects: set[tuple[str, int]] | None = set()
        keys: set[tuple[str, str]] = set()
        sentences: set[tuple] = set()
        num_rows = 0
        for row in rows:
            num_rows += 1
            label = f"{split}: {row['video_id']}/{row['expression_id']}"
            key = (row["video_id"], row["expression_id"])
            if key in keys:
                self.add("expression ids that a video has twice", label, "give each expression of a video its own id")
            keys.add(key)
            same = (row["video_id"], row["expression"], str(row["object_ids"]), str(row["annotated_frames"]))
            if same in sentences:
                self.note("expressions that are repeated", label, "published sets have some; they count twice")
            sentences.add(same)
            if not row["expression"].strip():
                self.add("expressions without text", label, _ADVICE["expressions"])
            videos.add(row["video_id"])
            if row["object_ids"] is None:
                objects = None
            elif objects is not None:
                objects |= {(row["video_id"], number) for number in row["object_ids"]}
            size = self.check_media(row)
            self.check_masks(row, size, label)
        return videos, objects, num_rows

    def check_media(self, row: dict[str, Any]) -> tuple[int, int] | None:
        """Frames of a row, once for each folder or file; `(height, width)` if that is known."""
        expected = None if row["height"] is None else (row["height"], row["width"])
        key = (row["media_dir"], *row["frames"]) if row["media_kind"] == "image" else row["media_dir"]
        if key in self.seen:
            return expected
        self.seen.add(key)
        path = self.root / row["media_dir"]
        if row["media_kind"] == "video":
            self.check_video(path, row, expected)
            return expected
        # Pictures of COCO share a folder of ten thousands: those are looked for one by one.
        names = (file_stems(path) or {}) if row["media_kind"] == "frames" else None
        for frame in row["frames"]:
            found = next((n for n in (frame + s for s in FRAME_SUFFIXES) if (path / n).exists()), None)
            name = found if names is None else names.get(frame)
            if name is None:
                self.add("missing frames", self.place(path / frame), _ADVICE["missing"])
                continue
            size = self.check_image(path / name, "frames", expected)
            expected = expected or size
        extra = sorted(set(names or ()) - set(row["frames"]))
        if extra:
            where = self.place(path / names[extra[0]])
            self.note("frames on disk that no list names", where, "nothing: they are not read", len(extra))
        return expected

    def check_video(self, path: Path, row: dict[str, Any], expected: tuple[int, int] | None) -> None:
        try:
            video = open_video(path)
            num_frames = sum(1 for _ in video) if self.decode else video.num_frames
        except (ValueError, OSError) as error:
            self.add("damaged videos", f"{self.place(path)}: {error}", _ADVICE["damaged"])
            return
        if expected not in (None, (video.height, video.width)):
            where = f"{self.place(path)} is {_size(video.height, video.width)}, its masks {_size(*expected)}"
            self.add("videos of another size than their masks", where, "get videos and masks from one release")
        if num_frames != row["num_frames"]:
            where = f"{self.place(path)} has {num_frames} of {row['num_frames']}"
            self.note("videos with another number of frames than listed", where, "its last frame stands for the rest")

    def check_masks(self, row: dict[str, Any], size: tuple[int, int] | None, label: str) -> None:
        kind = row["mask_kind"]
        if kind in ("index_png", "object_png"):
            self.check_mask_files(row, size)
        elif kind == "rle":
            wrong = next((c["size"] for c in row["masks"] if c is not None and tuple(c["size"]) != size), None)
            if wrong is not None and size is not None:
                where = f"{label}: {_size(*wrong)}, the video is {_size(*size)}"
                self.add("masks of another size than the video", where, _OTHER_ADVICE)
                return
        if (self.decode and kind != "none") or kind == "mat":  # a cut in a .mat file shows only when it is read
            # Frames are looked at one by one: whole rows of long videos do not fit in memory.
            is_empty = True
            positions = range(row["num_frames"]) if row["annotated_frames"] is None else row["annotated_frames"]
            for position in positions:
                try:
                    is_empty &= not load_masks(row, self.root, [position]).any()
                except ValueError as error:
                    if kind in ("h5", "mat", "rle"):  # files of the other kinds are reported one by one
                        self.add("damaged masks", f"{label}: {error}", _ADVICE["damaged"])
                    is_empty = False
            if is_empty and row["object_ids"] != []:
                self.note("expressions whose target is in no frame", label, "nothing, if it is no surprise")

    def check_mask_files(self, row: dict[str, Any], size: tuple[int, int] | None) -> None:
        is_index = row["mask_kind"] == "index_png"
        folder = self.root / row["mask_dir"]
        separate = not is_index and row["object_ids"] is not None
        for part in [folder / str(number) for number in row["object_ids"]] if separate else [folder]:
            if part in self.seen:
                continue
            self.seen.add(part)
            names = file_stems(part, (".png",)) or {}
            positions = range(row["num_frames"]) if row["annotated_frames"] is None else row["annotated_frames"]
            for frame in (row["frames"][position] for position in positions):
                if frame in names:
                    self.check_image(part / names[frame], "masks", size, is_index)
                elif is_index:
                    self.add("missing masks", self.place(part / f"{frame}.png"), _ADVICE["missing"])
            extra = sorted(set(names) - set(row["frames"]))
            if extra:
                where = self.place(part / names[extra[0]])
                self.note("masks on disk that no list names", where, "nothing: they are not read", len(extra))

    def check_image(
        self, path: Path, what: str, expected: tuple[int, int] | None, is_index: bool = False
    ) -> tuple[int, int] | None:
        """Size of a picture or mask, None if it cannot be read."""
        place = self.place(path)
        try:
            with _plain_errors(), Image.open(path) as image:
                mode, size = image.mode, (image.height, image.width)
                # As stored: asking Pillow for the palette would decode the picture.
                palette = image.palette.palette[: len(_FIRST_COLORS)] if is_index and mode == "P" else None
                if self.decode or (image.format == "JPEG" and not _ends_well(path)):
                    image.load()
                elif image.format == "PNG":
                    image.verify()
        except ValueError as error:
            self.add(f"damaged {what}", f"{place} ({error})", _ADVICE["damaged"])
            return None
        if what == "masks" and mode not in INDEX_MODES:
            advice = "get the original PNG files: a conversion to colours has lost the object ids"
            self.add("masks in a mode that has no labels", f"{place} is in mode {mode}", advice)
        if palette is not None and palette != _FIRST_COLORS[: len(palette)]:
            self.note("masks with another palette than that of VOC", place, "nothing: only the indices are read")
        if expected not in (None, size):
            where = f"{place} is {_size(*size)}, the video {_size(*expected)}"
            self.add(f"{what} of another size than the video", where, "get all files of the video from one release")
        return size

    def place(self, path: str | Path) -> str:
        """A path, or a message with paths, relative to the root."""
        return str(path).replace(f"{self.root}{os.sep}", "")

    def add(self, kind: str, where: str, advice: str, is_fault: bool = True, count: int = 1) -> None:
        self.findings.problems.append(Problem(kind, where, advice, is_fault, count))

    def note(self, kind: str, where: str, advice: str, count: int = 1) -> None:
        self.add(kind, where, advice, False, count)


# Background and four objects: a file with fewer objects may have a shorter palette.
_FIRST_COLORS = bytes(voc_palette()[: 3 * 5])


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Everything that Pillow raises for damaged files as a ValueError."""
    try:
        yield
    except UnidentifiedImageError:
        raise ValueError("it is no picture, or its beginning is missing") from None
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _ends_well(path: Path) -> bool:
    """Whether the end of a JPEG file has the mark of an end; some writers add a few bytes behind it."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        return b"\xff\xd9" in file.read()


def _size(height: int, width: int) -> str:
    return f"{height}x{width} (height x width)"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _numbers(values: tuple[int, ...]) -> str:
    return " or ".join(f"{value:,}" for value in values) or "-"
