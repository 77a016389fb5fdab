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
"""Rows and masks of JHMDB-Sentences."""

import json
import shutil

import numpy as np
import pytest

from hf_rvos.data.benchmark_builder import Report
from hf_rvos.data.jhmdb_sentences import JHMDBSentences, puppet_mask_shape, read_puppet_mask, read_rows
from hf_rvos.data.media import load_clip, load_masks
from tests.data.samples import check_sample
from tests.data.sentence_roots import HEIGHT, WIDTH, blob, write_jhmdb, write_mat


SAMPLES = "jhmdb_sentences_samples_metadata.json"
MASKS = np.stack([blob(np.random.default_rng(seed)) for seed in range(3)])


@pytest.fixture
def root(tmp_path):
    write_jhmdb(tmp_path)
    return tmp_path


def rows_of(root, report=None, **options):
    return list(read_rows(root, "test", report or Report(), **options))


def samples_of(rows):
    return [(row["video_id"], int(row["frames"][row["annotated_frames"][0]])) for row in rows]


def test_rows_are_those_of_the_shared_samples(sample_root, tmp_path):
    root = sample_root("jhmdb_sentences")
    check_sample(JHMDBSentences(root, cache_dir=tmp_path / "cache"), root, root / "expected.json")


def test_rows_are_the_given_samples_in_their_order(tmp_path):
    expected = write_jhmdb(tmp_path)
    rows = rows_of(tmp_path)
    assert samples_of(rows) == [sample[:2] for sample in expected]
    for row, (_, _, sentence, mask, num_frames) in zip(rows, expected):
        assert (row["expression_raw"], row["num_frames"]) == (sentence, num_frames)
        np.testing.assert_array_equal(load_masks(row, tmp_path, row["annotated_frames"])[0], mask)


def test_frames_without_mask_are_cut(root):
    row = rows_of(root)[0]
    assert row["frames"] == ["00001", "00002", "00003", "00004", "00005"]
    assert load_clip(row, root, [4]).shape == (1, HEIGHT, WIDTH, 3)


def test_another_list_of_samples_can_be_given(root, tmp_path):
    samples = json.loads((root / SAMPLES).read_text())
    (tmp_path / "mine.json").write_text(json.dumps(samples[3:5]))
    assert samples_of(rows_of(root, samples_file=tmp_path / "mine.json")) == [("other", 1), ("other", 2)]


def test_without_a_list_frames_are_drawn_and_it_is_said(root):
    (root / SAMPLES).unlink()
    report = Report()
    rows = rows_of(root, report)
    assert [row["video_id"] for row in rows] == ["a_(very)_[odd]_name"] * 3 + ["other"] * 3
    assert len(set(samples_of(rows))) == 6
    assert report.counts == {f"frames drawn with seed 0 for want of {SAMPLES}": 6}
    assert not report.faults


def test_drawn_frames_depend_on_the_seed_alone(root):
    (root / SAMPLES).unlink()
    drawn = [samples_of(rows_of(root, seed=seed)) for seed in range(5)]
    assert drawn[0] == samples_of(rows_of(root, seed=0))
    assert len({tuple(samples) for samples in drawn}) > 1


def test_a_missing_video_does_not_change_what_is_drawn_of_others(root):
    (root / SAMPLES).unlink()
    before = samples_of(rows_of(root))
    shutil.rmtree(root / "Rename_Images" / "jump")
    report = Report()
    assert samples_of(rows_of(root, report)) == before[3:]
    assert report.faults == {"missing videos": 1}


def test_a_missing_picture_is_counted(root):
    (root / "Rename_Images" / "run" / "other" / "00002.png").unlink()
    report = Report()
    rows = rows_of(root, report)
    assert samples_of(rows)[3:] == [("other", 1), ("other", 4)]
    assert report.faults == {"missing frames": 1}
    expected = read_puppet_mask(root / "puppet_mask" / "run" / "other" / "puppet_mask.mat", 3)
    np.testing.assert_array_equal(load_masks(rows[-1], root, rows[-1]["annotated_frames"])[0], expected)


@pytest.mark.parametrize("size", [None, 0, 100, 150])
def test_a_missing_or_damaged_mask_file_is_counted(root, size):
    path = root / "puppet_mask" / "run" / "other" / "puppet_mask.mat"
    content = path.read_bytes()
    path.unlink()
    if size is not None:
        path.write_bytes(content[:size])
    report = Report()
    assert {row["video_id"] for row in rows_of(root, report)} == {"a_(very)_[odd]_name"}
    assert report.faults == {"unreadable masks": 1}


@pytest.mark.parametrize("name", ["Rename_Images", "puppet_mask"])
def test_a_missing_folder_is_an_error_with_the_expected_tree(root, name):
    shutil.rmtree(root / name)
    with pytest.raises(ValueError, match=rf"has no folder {name}(?s:.)*kgavrilyuk(?s:.)*jhmdb_annotation.txt"):
        rows_of(root)


GOOD = ["other", "x/run/other/00001.png", "x/run/other/puppet_mask.mat", 4, "a boy"]


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[[]]",
        "[",
        json.dumps([GOOD[:4]]),
        json.dumps([["../other", *GOOD[1:]]]),
        json.dumps([["..", "x/run/../00001.png", "x/run/../puppet_mask.mat", 4, "a boy"]]),
        json.dumps([[GOOD[0], "x/../other/00001.png", "x/../other/puppet_mask.mat", 4, "a boy"]]),
        json.dumps([[GOOD[0], "run/other/a.png", *GOOD[2:]]]),
        json.dumps([[*GOOD[:2], "x/run/another/puppet_mask.mat", *GOOD[3:]]]),
    ],
)
def test_a_list_of_samples_of_another_form_is_an_error(root, content):
    (root / SAMPLES).write_text(content)
    with pytest.raises(ValueError, match=SAMPLES):
        rows_of(root)


def test_a_name_in_the_table_that_leaves_the_root_is_refused(root):
    (root / SAMPLES).unlink()
    (root / "jhmdb_annotation.txt").write_text("video_id,query\n../other,a boy\n")
    with pytest.raises(ValueError, match=r"line 2 of jhmdb_annotation\.txt"):
        rows_of(root)


def test_the_builder_gives_the_rows(root, tmp_path):
    builder = JHMDBSentences(root, cache_dir=tmp_path / "cache", strict=True)
    builder.download_and_prepare()
    assert builder.as_dataset(split="test").to_list() == rows_of(root)


def test_the_table_of_sentences_is_not_needed_beside_a_list_of_samples(root, tmp_path):
    (root / "jhmdb_annotation.txt").unlink()
    assert JHMDBSentences(root, cache_dir=tmp_path / "cache").present_splits == ["test"]


def test_a_given_list_of_samples_must_be_there(root, tmp_path):
    with pytest.raises(ValueError, match=r"samples_file: there is no file .*mine\.json"):
        JHMDBSentences(root, cache_dir=tmp_path / "cache", samples_file=str(tmp_path / "mine.json"))


@pytest.mark.parametrize("compressed", [False, True])
def test_masks_are_read_by_index(tmp_path, compressed):
    write_mat(tmp_path / "a.mat", MASKS, do_compression=compressed)
    assert puppet_mask_shape(tmp_path / "a.mat") == (HEIGHT, WIDTH, 3)
    for index in range(3):
        np.testing.assert_array_equal(read_puppet_mask(tmp_path / "a.mat", index), MASKS[index])


def test_a_file_that_changed_is_read_again(tmp_path):
    write_mat(tmp_path / "a.mat", MASKS)
    read_puppet_mask(tmp_path / "a.mat", 0)
    write_mat(tmp_path / "a.mat", MASKS[::-1])
    np.testing.assert_array_equal(read_puppet_mask(tmp_path / "a.mat", 0), MASKS[2])


def test_a_single_mask_that_lost_its_axis_is_read(tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "a.mat", {"part_mask": MASKS[0].astype(np.uint8)})
    np.testing.assert_array_equal(read_puppet_mask(tmp_path / "a.mat", 0), MASKS[0])


@pytest.mark.parametrize("index", [-1, 3])
def test_a_mask_that_is_not_there_is_an_error(tmp_path, index):
    write_mat(tmp_path / "a.mat", MASKS)
    with pytest.raises(ValueError, match=f"has 3 masks, so there is none with index {index}"):
        read_puppet_mask(tmp_path / "a.mat", index)


def test_a_missing_mask_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*b\.mat"):
        read_puppet_mask(tmp_path / "b.mat", 0)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("share", [0, 0.05, 0.3, 0.6, 0.95])
def test_a_truncated_mask_file_is_an_error(tmp_path, compressed, share):
    write_mat(tmp_path / "a.mat", MASKS, do_compression=compressed)
    content = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"a\.mat (is damaged|has the arrays)"):
        read_puppet_mask(tmp_path / "a.mat", 0)


@pytest.mark.parametrize(
    "arrays",
    [{}, {"other": MASKS}, {"part_mask": "text"}, {"part_mask": np.zeros((2, 3, 4, 5))}, {"part_mask": {"a": 1}}],
    ids=["empty", "other name", "text", "four axes", "struct"],
)
def test_a_mask_file_of_another_form_is_an_error(tmp_path, arrays):
    from scipy.io import savemat

    savemat(tmp_path / "a.mat", arrays)
    with pytest.raises(ValueError, match=r"a\.mat has .*expected"):
        read_puppet_mask(tmp_path / "a.mat", 0)
