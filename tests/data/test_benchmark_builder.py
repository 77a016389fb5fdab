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
"""What all builders share: reports, names, JSON files, caching by content, strictness, processes and streaming."""

import json
import shutil

import numpy as np
import pytest
from datasets import Features

from hf_rvos.data import benchmark_builder
from hf_rvos.data.benchmark_builder import Report, clean_expression, read_json, read_videos
from hf_rvos.data.custom import Custom
from hf_rvos.data.jhmdb_sentences import JHMDBSentences
from hf_rvos.data.ref_davis17 import RefDAVIS17
from hf_rvos.data.ref_youtube_vos import RefYouTubeVOS
from hf_rvos.data.revos import ReVOS
from hf_rvos.data.schema import FEATURES
from tests.data.roots import ref_davis17, ref_youtube_vos, revos, write_image
from tests.data.samples import edit_json
from tests.data.sentence_roots import write_custom


@pytest.fixture
def root(tmp_path):
    ref_youtube_vos(tmp_path / "root")
    return tmp_path / "root"


def prepared(root, cache_dir, num_proc=None, **options):
    builder = RefYouTubeVOS(root, cache_dir=cache_dir, **options)
    builder.download_and_prepare(num_proc=num_proc)
    return builder


def edit_videos(path, change):
    edit_json(path, lambda content: change(content["videos"]))


def test_expressions_are_lower_case_with_single_blanks():
    assert clean_expression("\tThe  Dog \n on\u00a0TOP ") == "the dog on top"


@pytest.mark.parametrize(
    ("content", "message"), [(None, "there is no file"), (b"\xff\xfe{", "not UTF-8"), (b'{"videos"', "not JSON")]
)
def test_unreadable_json_is_one_clear_error(tmp_path, content, message):
    path = tmp_path / "expressions.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"expressions.*{message}"):
        read_json(path, "expressions")


@pytest.mark.parametrize("content", [[], {"video": {}}, {"videos": []}, {"videos": {"a": []}}])
def test_json_of_another_form_is_refused(tmp_path, content):
    path = tmp_path / "expressions.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="must look like"):
        read_videos(path)


def test_report_counts_and_keeps_the_first_examples():
    report = Report()
    for number in range(5):
        report.add("missing frames", f"video/{number}", count=2)
    assert report.counts == {"missing frames": 10}
    assert report.examples == {"missing frames": ["video/0", "video/1", "video/2"]}
    assert "missing frames: 10" in str(report) and "video/1" in str(report)


def test_notes_are_no_faults():
    report = Report()
    report.note("expressions without target", "a/0")
    report.add("missing videos", "b")
    assert report.faults == {"missing videos": 1}
    assert set(report.counts) == {"expressions without target", "missing videos"}


def test_reports_survive_a_file_and_add_up():
    report = Report()
    report.note("expressions without target", "a/0")
    report.add("missing videos", "b")
    total = Report.from_json(report.to_json())
    total.merge(report)
    assert total.counts == {"expressions without target": 2, "missing videos": 2}
    assert total.examples["missing videos"] == ["b", "b"]
    assert total.faults == {"missing videos": 2}


def test_a_folder_that_is_not_the_root_shows_the_expected_tree_and_the_page(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)meta_expressions/\{train,valid,test\}.*https://youtube-vos.org"):
        RefYouTubeVOS(tmp_path)


def test_only_splits_on_disk_are_built(root, tmp_path):
    shutil.rmtree(root / "meta_expressions/train")
    assert set(prepared(root, tmp_path / "cache").as_dataset()) == {"valid", "test"}


def test_only_splits_that_were_asked_for_are_built(root, tmp_path):
    (root / "meta_expressions/train/meta_expressions.json").write_text("{")
    builder = prepared(root, tmp_path / "cache", splits=("valid", "testA"))
    assert set(builder.as_dataset()) == {"valid"} and builder.present_splits == ["train", "valid", "test"]
    # Of this split the list of another one is needed too.
    assert set(builder.as_dataset("valid")["video_id"]) == {"aa", "bb"}
    with pytest.raises(ValueError, match="splits: none is there; .* has train, valid, test"):
        prepared(root, tmp_path / "cache", splits="testA")


def test_an_edited_file_gives_new_rows(root, tmp_path):
    before = prepared(root, tmp_path / "cache").as_dataset("train")["expression"]
    path = root / "meta_expressions/train/meta_expressions.json"
    edit_videos(path, lambda videos: videos["0011223344"]["expressions"]["0"].update(exp="owl"))
    after = prepared(root, tmp_path / "cache").as_dataset("train")["expression"]
    assert list(before) == ["a dog", "a dog", "cat"] and list(after) == ["a dog", "a dog", "owl"]


def test_frames_that_arrive_later_are_noticed(root, tmp_path):
    path = root / "train/JPEGImages/0011223344/00030.jpg"
    path.rename(root / "kept.jpg")
    assert prepared(root, tmp_path / "cache").report.faults == {"missing frames": 1}
    (root / "kept.jpg").rename(path)
    assert prepared(root, tmp_path / "cache").report.faults == {}


def write_jhmdb(root):
    write_image(root / "Rename_Images/run/v(1)/00001.png", np.zeros((4, 4, 3), np.uint8))
    (root / "puppet_mask/run/v(1)").mkdir(parents=True)
    (root / "puppet_mask/run/v(1)/puppet_mask.mat").write_bytes(b"masks")
    (root / "jhmdb_annotation.txt").write_text("video_id,query\nv(1),a boy\n")
    return JHMDBSentences


def write_videos(root):
    write_custom(root)
    entries = [
        {"video": "clips/noise.mp4", "expression": "noise"},
        {"video": "frames/walk", "expression": "box", "mask_dir": "ids/walk", "object_id": 1},
    ]
    (root / "annotations.json").write_text(json.dumps(entries))
    return Custom


def write_revos(root):
    revos(root)
    return ReVOS


def write_davis(root):
    ref_davis17(root)
    for path in (root / "converted").glob("*/*Images"):
        path.rename(root / "kept")
        path.mkdir()
        (root / "kept").rename(path / "480p")
    for path in root.glob("converted/*"):
        path.rename(root / path.name)
    shutil.rmtree(root / "raw")
    return RefDAVIS17


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_jhmdb, "Rename_Images/run/v(1)/00002.png"),
        (write_jhmdb, "puppet_mask/run/v(1)/puppet_mask.mat"),
        (write_videos, "clips/noise.mp4"),
        (write_videos, "frames/walk/frame11.png"),
        (write_videos, "ids/walk/frame11.png"),
        (write_revos, "JPEGImages/part_a/clip_1/00009.jpg"),
        (write_davis, "valid/JPEGImages/480p/tiny-boat/00009.jpg"),
    ],
)
def test_every_file_that_rows_depend_on_makes_them_stale(tmp_path, write, name):
    builder = write(tmp_path / "root")
    before = builder(tmp_path / "root", cache_dir=tmp_path / "cache").config.fingerprint
    assert builder(tmp_path / "root", cache_dir=tmp_path / "cache").config.fingerprint == before
    with open(tmp_path / "root" / name, "ab") as file:
        file.write(b"more")
    assert builder(tmp_path / "root", cache_dir=tmp_path / "cache").config.fingerprint != before


def test_rows_with_other_columns_are_stale(root, tmp_path, monkeypatch):
    before = RefYouTubeVOS(root, cache_dir=tmp_path / "cache").cache_dir
    fewer = Features({name: FEATURES[name] for name in FEATURES if name != "boxes"})
    monkeypatch.setattr(benchmark_builder, "FEATURES", fewer)
    assert RefYouTubeVOS(root, cache_dir=tmp_path / "cache").cache_dir != before


def test_a_moved_root_keeps_its_rows(root, tmp_path):
    first = prepared(root, tmp_path / "cache")
    root.rename(tmp_path / "elsewhere")
    second = RefYouTubeVOS(tmp_path / "elsewhere", cache_dir=tmp_path / "cache")
    assert second.cache_dir == first.cache_dir
    assert str(tmp_path) not in json.dumps(list(first.as_dataset("train")))


def test_the_report_is_there_when_rows_come_from_the_cache(root, tmp_path):
    (root / "train/JPEGImages/0011223344/00030.jpg").unlink()
    prepared(root, tmp_path / "cache")
    again = prepared(root, tmp_path / "cache")
    assert again.report.counts == {"missing frames": 1}
    assert again.report.examples == {"missing frames": ["0011223344/00030"]}


def test_strict_refuses_what_is_incomplete_also_from_the_cache(root, tmp_path):
    (root / "train/JPEGImages/0011223344/00030.jpg").unlink()
    prepared(root, tmp_path / "cache")
    with pytest.raises(ValueError, match=r"not complete.*missing frames: 1.*0011223344/00030"):
        prepared(root, tmp_path / "cache", strict=True)


def test_strict_accepts_what_is_complete(root, tmp_path):
    assert len(prepared(root, tmp_path / "cache", strict=True).as_dataset("train")) == 3


def test_strict_streaming_raises_too(root, tmp_path):
    (root / "train/JPEGImages/0011223344/00030.jpg").unlink()
    with pytest.raises(ValueError, match="missing frames: 1"):
        list(RefYouTubeVOS(root, cache_dir=tmp_path / "cache", strict=True).as_streaming_dataset("train"))


def test_two_processes_give_the_same_rows_and_report(root, tmp_path):
    (root / "train/JPEGImages/0011223344/00030.jpg").unlink()
    (root / "train/JPEGImages/ff00aa11bb/00135.jpg").unlink()
    one, two = prepared(root, tmp_path / "one"), prepared(root, tmp_path / "two", num_proc=2)
    assert len(two.as_dataset("train").cache_files) == 2
    assert list(one.as_dataset("train")) == list(two.as_dataset("train"))
    assert one.report.counts == two.report.counts == {"missing frames": 2}


def test_streaming_gives_the_same_rows_in_shards(root, tmp_path):
    builder = prepared(root, tmp_path / "cache")
    stream = builder.as_streaming_dataset("valid")
    assert stream.num_shards == 2
    assert list(stream) == list(builder.as_dataset("valid"))


def test_an_error_of_the_annotations_is_not_wrapped(root, tmp_path):
    path = root / "meta_expressions/train/meta_expressions.json"
    edit_videos(path, lambda videos: videos["0011223344"]["expressions"]["0"].update(obj_id="one"))
    with pytest.raises(ValueError, match="obj_id of 0011223344/0 is 'one'"):
        prepared(root, tmp_path / "cache")


def test_a_name_that_leaves_the_root_stops_the_build(root, tmp_path):
    path = root / "meta_expressions/train/meta_expressions.json"
    edit_videos(path, lambda videos: videos["0011223344"].update(frames=["../../secret"]))
    with pytest.raises(ValueError, match="secret"):
        prepared(root, tmp_path / "cache")
