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
"""Rows and masks of RefCOCO, RefCOCO+ and RefCOCOg."""

import json
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from hf_rvos.data.benchmark_builder import Report
from hf_rvos.data.media import load_clip, load_masks
from hf_rvos.data.refcoco import RefCOCO, read_rows
from tests.data.samples import edit_json
from tests.data.sentence_roots import HEIGHT, WIDTH, write_refcoco


@pytest.fixture
def root(tmp_path):
    write_refcoco(tmp_path)
    return tmp_path


def rows_of(root, split, report=None, name="refcoco", **options):
    return list(read_rows(root, split, report or Report(), name, **options))


def edit_refs(root, edit):
    path = root / "refcoco" / "refs(unc).p"
    refs = pickle.loads(path.read_bytes())
    edit(refs)
    path.write_bytes(pickle.dumps(refs, 0))


def test_rows_are_those_of_the_shared_samples(sample_root):
    root = sample_root("refcoco")
    for key, splits in json.loads((root / "expected.json").read_text()).items():
        name, split_by = key.split("/")
        for split, expected in splits.items():
            rows = rows_of(root, split, name=name, split_by=split_by, include_crowd=True)
            assert len(rows) == len(expected)
            for row, wanted in zip(rows, expected):
                assert row["expression_id"] == str(wanted["sent_id"])
                assert row["video_id"] == str(wanted["image_id"])
                assert row["frames"][0] + ".jpg" == wanted["file_name"]
                assert row["object_ids"] == [wanted["ann_id"]]
                check_content(row, wanted, root)
            kept = [row["expression_id"] for row in rows_of(root, split, name=name, split_by=split_by)]
            assert kept == [str(wanted["sent_id"]) for wanted in expected if not wanted["iscrowd"]]
            if (root / name / f"instances_{name}_{split}.json").exists() and split_by != "google":
                rows = rows_of(root, split, name=name, layout="converted", include_crowd=True)
                assert [row["expression_id"] for row in rows] == [str(k + 1) for k in range(len(expected))]
                for row, wanted in zip(rows, expected):
                    check_content(row, {**wanted, "expression_raw": wanted["expression"]}, root)


def check_content(row, wanted, root):
    assert (row["expression"], row["expression_raw"]) == (wanted["expression"], wanted["expression_raw"])
    mask = load_masks(row, root)
    assert mask.sum() == wanted["mask_area"]
    assert list(mask.shape) == [1, *wanted["size_hw"]] == [1, row["height"], row["width"]]
    ((left, top, right, bottom),) = row["boxes"]
    outside = mask[0].copy()
    outside[int(top) : int(bottom), int(left) : int(right)] = False
    assert not outside.any() and mask.any()


@pytest.mark.parametrize("split", ["train", "testA", "testB"])
def test_a_row_is_a_sentence(tmp_path, split):
    expected = write_refcoco(tmp_path)[split]
    rows = rows_of(tmp_path, split, include_crowd=True)
    assert [(r["expression_id"], r["expression"], r["expression_raw"], int(r["video_id"])) for r in rows] == [
        sample[:4] for sample in expected
    ]
    for row, sample in zip(rows, expected):
        np.testing.assert_array_equal(load_masks(row, tmp_path)[0], sample[5])


def test_a_row_is_a_video_of_one_frame(root):
    row = rows_of(root, "train")[0]
    assert (row["num_frames"], row["media_kind"], row["categories"]) == (1, "image", ["toothbrush"])
    # The name in the references ends in the id of the annotation; that of the image does not.
    assert row["frames"] == ["COCO_train2014_000000000711"]
    assert load_clip(row, root).shape == (1, HEIGHT, WIDTH, 3)


def test_the_box_is_that_of_the_annotation_as_corners(root):
    edit_json(root / "refcoco" / "instances.json", lambda coco: coco["annotations"][1].update(bbox=[1, 2.25, 3, 4]))
    assert [row["boxes"] for row in rows_of(root, "train")] == [[[1, 2.25, 4, 6.25]]] * 2


def test_annotations_may_have_no_boxes(root):
    edit_json(root / "refcoco" / "instances.json", lambda coco: [entry.pop("bbox") for entry in coco["annotations"]])
    report = Report()
    assert [row["boxes"] for row in rows_of(root, "train", report)] == [None] * 2
    assert report.faults == {}


def test_sentences_about_crowds_are_left_out_and_counted(root):
    report = Report()
    assert [row["expression_id"] for row in rows_of(root, "train", report)] == ["0", "1"]
    assert report.counts == {"sentences about crowds": 1}
    assert not report.faults


def test_ids_of_crowds_do_not_overflow_the_column(root, tmp_path):
    builder = RefCOCO(root, cache_dir=tmp_path / "cache", include_crowd=True)
    builder.download_and_prepare()
    assert builder.as_dataset(split="train")[-1]["object_ids"] is None


def test_test_means_all_tests(root):
    assert [row["expression_id"] for row in rows_of(root, "test")] == ["2", "3"]


def write_converted(root):
    """The files for each split that other code makes of the published ones."""
    coco = json.loads((root / "refcoco" / "instances.json").read_text())
    images = {image["id"]: image for image in coco["images"]}
    annotations = {annotation["id"]: annotation for annotation in coco["annotations"]}
    for split, samples in {s: rows_of(root, s) for s in ("train", "testA")}.items():
        made = {"images": [], "annotations": [], "categories": coco["categories"]}
        for number, row in enumerate(samples, 1):
            image, annotation = images[int(row["video_id"])], annotations[row["object_ids"][0]]
            made["images"].append({**image, "id": number, "original_id": image["id"], "caption": row["expression"]})
            made["annotations"].append(
                {**annotation, "id": number, "image_id": number, "original_id": annotation["id"]}
            )
        (root / "refcoco" / f"instances_refcoco_{split}.json").write_text(json.dumps(made))


@pytest.mark.parametrize("layout", ["auto", "converted"])
def test_converted_files_give_the_same_rows(root, layout):
    expected = rows_of(root, "train")
    write_converted(root)
    (root / "refcoco" / "refs(unc).p").unlink()
    rows = rows_of(root, "train", layout=layout)
    assert [row["expression_id"] for row in rows] == ["1", "2"]
    same = ("video_id", "expression", "object_ids", "frames", "masks", "boxes", "categories", "height", "width")
    assert [[row[column] for column in same] for row in rows] == [[row[column] for column in same] for row in expected]


def test_splits_of_converted_files_are_those_that_are_there(root, tmp_path):
    write_converted(root)
    builder = RefCOCO(root, cache_dir=tmp_path / "cache", layout="converted")
    assert builder.present_splits == ["train", "testA"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"name": "refcocoo"}, "name: got 'refcocoo', expected one of refcoco, refcoco"),
        ({"split_by": "umd"}, "split_by: got 'umd', but refcoco is split by unc or google"),
        ({"layout": "raw"}, "layout: got 'raw', expected one of auto, refs, converted"),
    ],
)
def test_unknown_options_are_errors(root, options, match):
    with pytest.raises(ValueError, match=match):
        rows_of(root, "train", **options)
    with pytest.raises(ValueError, match=match):
        RefCOCO(root, **options)


def test_the_builder_gives_the_rows(root, tmp_path):
    builder = RefCOCO(root, cache_dir=tmp_path / "cache", name="refcoco", strict=True)
    builder.download_and_prepare()
    assert builder.as_dataset(split="testA").to_list() == rows_of(root, "testA")


def test_a_missing_image_is_skipped_and_counted(root):
    (root / "train2014" / "COCO_train2014_000000000711.jpg").unlink()
    report = Report()
    assert rows_of(root, "train", report) == []
    assert report.faults == {"missing images": 1}


def test_a_missing_folder_of_images_is_an_error_with_the_expected_tree(root):
    (root / "train2014").rename(root / "images")
    with pytest.raises(ValueError, match=r"has no folder train2014(?s:.)*lichengunc(?s:.)*refs\(<split_by>\)\.p"):
        rows_of(root, "train")


@pytest.mark.parametrize(
    "segmentation",
    [
        [],
        None,
        [[1.0, 2.0, 3.0, 4.0]],
        [[1.0, 2.0, 3.0, 4.0, 5.0, float("nan")]],
        [[1.0, 2.0, 1e9, 4.0, 5.0, 6.0]],
        {"size": [HEIGHT, WIDTH], "counts": [5]},
        {"size": [HEIGHT, WIDTH], "counts": "~"},
        {"size": [1, 1], "counts": [1]},
    ],
    ids=str,
)
def test_a_mask_that_cannot_be_is_skipped_and_counted(root, segmentation):
    edit_json(
        root / "refcoco" / "instances.json",
        lambda coco: coco["annotations"][1].update(segmentation=segmentation),
    )
    report = Report()
    assert rows_of(root, "train", report) == []
    assert report.faults == {"unreadable masks": 1}


def test_a_box_that_cannot_be_is_skipped_and_counted(root):
    edit_json(root / "refcoco" / "instances.json", lambda coco: coco["annotations"][1].update(bbox=[0, 0, -5, 5]))
    report = Report()
    assert rows_of(root, "train", report) == []
    assert report.faults == {"unreadable boxes": 1}


def test_references_with_a_class_are_refused(root):
    edit_refs(root, lambda refs: refs.append(OrderedDict(a=1)))
    with pytest.raises(ValueError, match=r"asks for collections\.OrderedDict"):
        rows_of(root, "train")


def test_a_truncated_file_of_references_is_an_error(root):
    path = root / "refcoco" / "refs(unc).p"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"refs\(unc\)\.p is not a complete pickle"):
        rows_of(root, "train")


@pytest.mark.parametrize(
    "edit",
    [
        lambda refs: refs[0].pop("sentences"),
        lambda refs: refs[0].update(ann_id=1),
        lambda refs: refs[0].update(split=None),
        lambda refs: refs[0]["sentences"][0].update(sent=7),
        lambda refs: refs[0]["sentences"][0].update(sent_id="../../0"),
        lambda refs: refs.insert(0, "text"),
    ],
    ids=["no sentences", "no annotation", "no split", "no text", "no number", "no reference"],
)
def test_an_incomplete_reference_is_named(root, edit):
    edit_refs(root, edit)
    with pytest.raises(ValueError, match="reference 0 of refs"):
        rows_of(root, "train")


@pytest.mark.parametrize("content", ["[]", "{", "{}", '{"images": [{}], "annotations": [], "categories": []}'])
def test_annotations_of_another_form_are_an_error(root, content):
    (root / "refcoco" / "instances.json").write_text(content)
    with pytest.raises(ValueError, match="instances.json"):
        rows_of(root, "train")


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "a\\b.jpg", 7])
def test_image_names_that_leave_the_root_are_refused(root, name):
    edit_json(root / "refcoco" / "instances.json", lambda coco: coco["images"][1].update(file_name=name))
    with pytest.raises(ValueError, match="file_name of reference 0"):
        rows_of(root, "train")
