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
"""What tests of several builders share: reading with a report, edited files, and the shared miniature data sets."""

import json
import subprocess
import sys

import numpy as np

from hf_rvos.data.benchmark_builder import Report
from hf_rvos.data.media import load_masks
from tests.data.roots import write_json


def read_with_report(read_rows, root, split, **options):
    """Rows of a split, and what was left out."""
    report = Report()
    return list(read_rows(root, split, report, **options)), report


def edit_json(path, change):
    """Let a function change what a JSON file holds."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    write_json(path, content)


def fresh_root(shared_dir, folder, name, seed=7):
    """A miniature data set of another seed than the stored one."""
    script = [sys.executable, shared_dir / "data/make_fixtures.py"]
    subprocess.run([*script, "--out", folder, "--seed", str(seed), "--only", name], check=True, capture_output=True)
    return folder / name


def check_sample(builder, root, path):
    """Compare all splits of a miniature data set with its `expected.json`, and read all masks."""
    expected = json.loads(path.read_text(encoding="utf-8"))
    builder.download_and_prepare()
    splits = builder.as_dataset()
    assert set(splits) == set(expected)
    assert builder.report.faults == {}
    for split, rows in splits.items():
        assert len(rows) == len(expected[split]) > 0
        for row, wanted in zip(rows, expected[split]):
            for column in ("video_id", "expression_id", "expression", "expression_raw", "object_ids"):
                assert row[column] == wanted[column]
            for column in {"type", "type_id"} & set(wanted):
                assert row["expression_type"] == str(wanted[column])
            positions = None
            if "num_video_frames" in wanted:  # a single frame is annotated, and listed by its number
                positions = row["annotated_frames"]
                assert [int(row["frames"][position]) for position in positions] == wanted["frames"]
                assert row["num_frames"] == len(row["frames"]) == wanted["num_video_frames"]
            else:
                assert row["frames"] == wanted["frames"]
            if wanted["mask_areas"] is None:
                assert row["mask_kind"] == "none"
                continue
            masks = load_masks(row, root, positions)
            assert list(masks.shape[1:]) == wanted["size_hw"] == [row["height"], row["width"]]
            assert masks.sum((1, 2)).tolist() == wanted["mask_areas"]
            assert [_box(mask) for mask in masks] == wanted["boxes_xyxy"]


def _box(mask):
    """Inclusive pixels, as the files have it."""
    if not mask.any():
        return [0, 0, 0, 0]
    rows, columns = np.nonzero(mask)
    return [int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())]
