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
"""One function for all data sets: names, options, splits and their aliases."""

import subprocess
import sys
from importlib import import_module

import pytest
from datasets import Dataset, DatasetDict, IterableDataset

from hf_rvos.data import load_dataset
from hf_rvos.data.loading import DATASETS, load_builder, load_with_report
from hf_rvos.data.moving_shapes import builder
from tests.data.roots import mevis, ref_youtube_vos


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("root")
    ref_youtube_vos(folder)
    return folder


@pytest.mark.parametrize("name", DATASETS)
def test_every_name_has_a_builder(name):
    module, class_name, _ = DATASETS[name]
    assert hasattr(import_module(module), class_name)


def test_all_splits_or_one(root, tmp_path):
    splits = load_dataset("ref_youtube_vos", root, cache_dir=tmp_path)
    assert isinstance(splits, DatasetDict) and set(splits) == {"train", "valid", "test"}
    rows = load_dataset("ref_youtube_vos", root, split="train", cache_dir=tmp_path)
    assert isinstance(rows, Dataset) and len(rows) == 3


@pytest.mark.parametrize(("split", "length"), [("val", 12), ("valid", 12), ("val[:2]", 2), ("train+val", 15)])
def test_val_and_valid_are_the_same(root, tmp_path, split, length):
    assert len(load_dataset("ref_youtube_vos", root, split=split, cache_dir=tmp_path)) == length


def test_valid_u_is_not_taken_for_valid(tmp_path):
    mevis(tmp_path / "root")
    rows = load_dataset("mevis", tmp_path / "root", split="valid_u", cache_dir=tmp_path / "cache")
    assert set(rows["video_id"]) == {"valid_u9"}


def test_splits_that_are_not_asked_for_are_not_read(tmp_path):
    mevis(tmp_path / "root")
    (tmp_path / "root/train/mask_dict.json").write_text("{")
    options = {"cache_dir": tmp_path / "cache", "strict": True}
    assert len(load_dataset("mevis", tmp_path / "root", split="valid_u[:2]+val", **options)) == 6
    with pytest.raises(ValueError, match="mask_dict.json' is not JSON"):
        load_dataset("mevis", tmp_path / "root", split="train", **options)


def test_the_report_is_about_the_asked_split_and_survives_in_the_cache(tmp_path):
    mevis(tmp_path / "root")
    (tmp_path / "root/train/JPEGImages/train9/00000.jpg").unlink()
    for _ in range(2):
        rows, report = load_with_report("mevis", tmp_path / "root", "valid_u", cache_dir=tmp_path / "cache")
        assert len(rows) == 4 and report.counts == {"expressions without target": 1}
    _, report = load_with_report("mevis", tmp_path / "root", cache_dir=tmp_path / "cache")
    assert report.faults == {"missing frames": 1}


def test_streaming_reads_without_a_cache(root, tmp_path):
    rows = load_dataset("ref_youtube_vos", root, split="train", streaming=True, cache_dir=tmp_path)
    assert isinstance(rows, IterableDataset) and len(list(rows)) == 3
    assert not list(tmp_path.rglob("*.arrow"))


def test_options_reach_the_builder(root, tmp_path):
    options = {"split": "valid", "cache_dir": tmp_path, "valid_includes_test": True}
    assert set(load_dataset("ref_youtube_vos", root, **options)["video_id"]) == {"aa", "bb", "cc"}


def test_unknown_option_lists_the_known_ones(root):
    with pytest.raises(ValueError, match="valid_include_test: is no option.*valid_includes_test"):
        load_builder("ref_youtube_vos", root, valid_include_test=True)


@pytest.mark.parametrize("name", ["ref-youtube-vos", "Ref_Youtube_VOS", "ref_youtubevos"])
def test_unknown_name_suggests_the_nearest(root, name):
    with pytest.raises(ValueError, match="did you mean 'ref_youtube_vos'"):
        load_dataset(name, root)


def test_unknown_split_lists_those_that_are_there(root, tmp_path):
    with pytest.raises(ValueError, match="'testA' is not there.*train, valid, test"):
        load_dataset("ref_youtube_vos", root, split="testA", cache_dir=tmp_path)


def test_a_root_is_needed():
    with pytest.raises(ValueError, match=r"(?s)data_dir: 'mevis' needs the root.*mask_dict.json"):
        load_dataset("mevis")


def test_moving_shapes_has_no_root_and_says_val(tmp_path):
    options = {"height": 64, "width": 96, "num_frames": 8, "num_videos": 1, "cache_dir": tmp_path, "streaming": True}
    rows = list(load_dataset("moving_shapes", split="valid", strict=True, **options))
    assert {row["dataset"] for row in rows} == {"moving_shapes"}
    with pytest.raises(ValueError, match="has no files"):
        load_dataset("moving_shapes", tmp_path)


@pytest.mark.slow  # imports torch and transformers in a process of its own
def test_importing_the_package_does_not_import_datasets():
    code = "import sys, hf_rvos.data, hf_rvos.data.loading; sys.exit('datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("split", "drawn"), [("valid", {"val"}), ("val[:1]+test", {"val", "test"})])
def test_videos_of_other_splits_are_not_drawn(tmp_path, monkeypatch, split, drawn):
    asked, build = set(), builder.build_rows
    monkeypatch.setattr(builder, "build_rows", lambda split, *rest: asked.add(split) or build(split, *rest))
    load_dataset("moving_shapes", split=split, num_videos=1, cache_dir=tmp_path)
    assert asked == drawn
