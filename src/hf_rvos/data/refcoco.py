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
"""RefCOCO, RefCOCO+ and RefCOCOg: sentences about objects in pictures of COCO, one frame each.

Two forms are read: the published pickle of references with the annotations of COCO, and the JSON files for each split
that the code of several models converts them to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_rvos.data.benchmark_builder import (
    BenchmarkBuilder,
    BenchmarkConfig,
    Report,
    file_stems,
    read_json,
    row,
)
from hf_rvos.data.pickles import load_plain_pickle
from hf_rvos.data.segmentations import box_corners, encode_segmentation
from hf_rvos.utils.files import check_name


HOMEPAGE = "https://github.com/lichengunc/refer"
LAYOUT = """\
train2014/COCO_train2014_<12 digits>.jpg
{refcoco,refcoco+,refcocog}/refs(<split_by>).p
{refcoco,refcoco+,refcocog}/instances.json
or, instead of these two, {refcoco,refcoco+,refcocog}/instances_<set>_<split>.json"""

IMAGES = "train2014"
# The first way to split a set is the usual one.
SPLITS = {
    "refcoco": {"unc": ("train", "val", "testA", "testB"), "google": ("train", "val", "test")},
    "refcoco+": {"unc": ("train", "val", "testA", "testB")},
    "refcocog": {"umd": ("train", "val", "test"), "google": ("train", "val")},
}
LAYOUTS = ("auto", "refs", "converted")


def default_split_by(name: str, split_by: str | None = None) -> str:
    """The way to split a set, the usual one if None.

    Raises:
        ValueError: if the set, or this way to split it, is not published.
    """
    if name not in SPLITS:
        raise ValueError(f"name: got {name!r}, expected one of {', '.join(SPLITS)}")
    if split_by is not None and split_by not in SPLITS[name]:
        raise ValueError(f"split_by: got {split_by!r}, but {name} is split by {' or '.join(SPLITS[name])}")
    return split_by or next(iter(SPLITS[name]))


def split_files(
    root: Path,
    split: str,
    name: str,
    split_by: str | None = None,
    layout: str = "auto",
    include_crowd: bool = False,
) -> list[Path]:
    """Files and folders that rows of a split depend on."""
    folder, refs = root / name, _refs_file(root, name, split_by)
    if _is_converted(refs, layout):
        return [folder / f"instances_{name}_{split}.json", root / IMAGES]
    return [refs, folder / "instances.json", root / IMAGES]


def read_rows(
    root: Path,
    split: str,
    report: Report,
    name: str,
    split_by: str | None = None,
    layout: str = "auto",
    include_crowd: bool = False,
) -> Iterator[dict[str, Any]]:
    """Rows of a split in the order of the references and their sentences.

    `expression_id` is the id of the sentence or, in converted files, which do not have it, the running number there.

    Args:
        root: Folder with `train2014` and a folder for each set.
        split: One of those in `SPLITS`; `"test"` means every split with that in its name.
        report: Counts what is left out.
        name: `"refcoco"`, `"refcoco+"` or `"refcocog"`.
        split_by: Who split the set, see `SPLITS`; the first there if None.
        layout: `"refs"`, `"converted"`, or `"auto"` for the references if they are there.
        include_crowd: Keep sentences about regions with many objects, which training and evaluation leave out.

    Yields:
        One dict for each sentence.

    Raises:
        ValueError: if a file of annotations is missing or cannot be read.
    """
    root, split_by = Path(root), default_split_by(name, split_by)
    refs = _refs_file(root, name, split_by)
    images = file_stems(root / IMAGES)
    if images is None:
        raise ValueError(f"{root} has no folder {IMAGES}. Expected below the root, from {HOMEPAGE}:\n{LAYOUT}")
    if _is_converted(refs, layout):
        targets = _read_converted(root / name / f"instances_{name}_{split}.json")
    else:
        targets = _read_refs(refs, root / name / "instances.json", split)
    for what, image, annotation, category, sentences in targets:
        frame, suffix = _split_name(check_name(image.get("file_name"), f"file_name of {what}"))
        height, width = (_integer(image, key, what) for key in ("height", "width"))
        if frame not in images:
            report.add("missing images", f"{IMAGES}/{frame}{suffix}")
            continue
        if annotation.get("iscrowd") and not include_crowd:
            report.note("sentences about crowds", f"{what}, annotation {annotation['id']}", len(sentences))
            continue
        try:
            code = encode_segmentation(annotation.get("segmentation"), height, width)
        except ValueError as error:
            report.add("unreadable masks", f"{what}, annotation {annotation['id']}: {error}")
            continue
        try:
            boxes = [box_corners(annotation["bbox"], height, width)] if "bbox" in annotation else None
        except ValueError as error:
            report.add("unreadable boxes", f"{what}, annotation {annotation['id']}: {error}")
            continue
        for expression_id, text, raw in sentences:
            if not text.strip():
                report.add("expressions without text", f"{what}, sentence {expression_id}")
                continue
            yield row(
                name,
                str(image["id"]),
                expression_id,
                raw,
                [frame],
                IMAGES,
                expression=text,  # as published: lower case already, without punctuation
                # Ids of crowds do not fit in 32 bits.
                object_ids=[annotation["id"]] if annotation["id"] < 2**31 else None,
                categories=None if category is None else [category],
                media_kind="image",
                mask_kind="rle",
                masks=[code],
                boxes=boxes,
                height=height,
                width=width,
            )


def _refs_file(root: Path, name: str, split_by: str | None) -> Path:
    return root / name / f"refs({default_split_by(name, split_by)}).p"


def _is_converted(refs: Path, layout: str) -> bool:
    if layout not in LAYOUTS:
        raise ValueError(f"layout: got {layout!r}, expected one of {', '.join(LAYOUTS)}")
    return layout == "converted" or (layout == "auto" and not refs.exists())


# What it is, image, annotation, name of the category, and (id, sentence, sentence as it was typed).
Target = tuple[str, dict[str, Any], dict[str, Any], str | None, list[tuple[str, str, str]]]


def _read_refs(refs: Path, instances: Path, split: str) -> Iterator[Target]:
    images, annotations, categories = _read_instances(instances)
    images, annotations = _by_id(images), _by_id(annotations)
    references = load_plain_pickle(refs)
    if not isinstance(references, list):
        raise ValueError(f"{refs} holds a {type(references).__name__}, expected a list of references; get it again")
    for number, reference in enumerate(references):
        what = f"reference {number} of {refs.name}"
        try:
            if not isinstance(reference["split"], str):
                raise TypeError("its split is not text")
            if not _is_in(reference["split"], split):
                continue
            image, annotation = images[reference["image_id"]], annotations[reference["ann_id"]]
            sentences = [(str(item["sent_id"]), item["sent"], item["raw"]) for item in reference["sentences"]]
            if not all(isinstance(text, str) for sentence in sentences for text in sentence):
                raise TypeError("one of its sentences is not text")
            if not all(type(item["sent_id"]) is int for item in reference["sentences"]):
                raise TypeError("the sent_id of one of its sentences is no number")  # it becomes part of paths
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{what} is incomplete ({error}), expected split, image_id, ann_id and sentences, and its image and "
                f"annotation in {instances}"
            ) from error
        yield what, image, annotation, categories.get(annotation.get("category_id")), sentences


def _read_converted(path: Path) -> Iterator[Target]:
    images, annotations, categories = _read_instances(path)
    of_image = {annotation.get("image_id"): annotation for annotation in annotations}
    for image in images:
        what = f"image {image['id']} of {path.name}"
        text, annotation = image.get("caption"), of_image.get(image["id"])
        if annotation is None or not isinstance(text, str):
            raise ValueError(f"{what} has no caption or no annotation, expected one of each; get the file again")
        ids = [_integer(entry, "original_id", what) for entry in (image, annotation)]
        yield (
            what,
            {**image, "id": ids[0]},
            {**annotation, "id": ids[1]},
            categories.get(annotation.get("category_id")),
            [(str(image["id"]), text, text)],
        )


def _read_instances(path: Path) -> tuple[list[dict], list[dict], dict[Any, str]]:
    """Images, annotations and names of the categories of a COCO file."""
    content = read_json(path, "annotations")
    lists = [
        content.get(key) if isinstance(content, dict) else None for key in ("images", "annotations", "categories")
    ]
    if not all(
        isinstance(entries, list)
        and all(isinstance(entry, dict) and type(entry.get("id")) is int for entry in entries)
        for entries in lists
    ):
        raise ValueError(f"{path} must have lists of images, annotations and categories with ids; get it again")
    return lists[0], lists[1], {entry["id"]: entry.get("name") for entry in lists[2]}


def _by_id(entries: list[dict]) -> dict[int, dict]:
    return {entry["id"]: entry for entry in entries}


def _is_in(stored: str, split: str) -> bool:
    """Whether a reference belongs to a split; `testA` also takes those that several tests share (`testAB`)."""
    if split in ("testA", "testB"):
        return stored.startswith("test") and split[-1] in stored[4:]
    return "test" in stored if split == "test" else stored == split


def _integer(entry: dict[str, Any], key: str, what: str) -> int:
    if type(entry.get(key)) is not int or entry[key] < 1:
        raise ValueError(f"{what} has {key} {entry.get(key)!r}, expected a positive number; get the file again")
    return entry[key]


def _split_name(file_name: str) -> tuple[str, str]:
    path = Path(file_name)
    return path.stem, path.suffix


@dataclass
class RefCOCOConfig(BenchmarkConfig):
    """Configuration of [`RefCOCO`]; `name` is the set.

    Args:
        split_by (`str`, *optional*):
            Who split the set: `"unc"` or `"google"` for RefCOCO, `"unc"` for RefCOCO+, `"umd"` or `"google"` for
            RefCOCOg. The first of these if None.
        layout (`str`, *optional*, defaults to `"auto"`):
            `"refs"` for the published references, `"converted"` for `instances_<set>_<split>.json`, `"auto"` for the
            references if they are there.
        include_crowd (`bool`, *optional*, defaults to `False`):
            Keep sentences about regions with many objects, which training and evaluation leave out.
    """

    name: str = "refcoco"
    split_by: str | None = None
    layout: str = "auto"
    include_crowd: bool = False

    def options(self) -> dict[str, Any]:
        """Arguments of `read_rows`."""
        return {"name": self.name, **super().options()}


class RefCOCO(BenchmarkBuilder):
    """RefCOCO, RefCOCO+ and RefCOCOg as videos of one frame.

    Pictures of `val` and `test` of one set are found in `train` of the others: leave them out by `video_id`, the id of
    the picture, if you train on several and evaluate on one.

    Example:
        >>> builder = RefCOCO("data/coco", name="refcocog", split_by="umd")
        >>> builder.download_and_prepare()
        >>> rows = builder.as_dataset(split="val")
    """

    BUILDER_CONFIG_CLASS = RefCOCOConfig
    HOMEPAGE = HOMEPAGE
    LAYOUT = LAYOUT

    def __init__(self, data_dir: Any, cache_dir: Any = None, **options: Any):
        name = options.get("name", "refcoco")
        split_by = default_split_by(name, options.get("split_by"))
        self.SPLITS = SPLITS[name][split_by]
        super().__init__(data_dir, cache_dir=cache_dir, **options)

    split_files = staticmethod(split_files)
    read_rows = staticmethod(read_rows)
