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
"""`hf-rvos data check`, `convert-davis` and `export`."""

import numpy as np
import pytest

from hf_rvos.data import checking
from hf_rvos.data.benchmark_builder import Report
from hf_rvos.data.checking import check_dataset
from hf_rvos.data.media import load_masks
from hf_rvos.data.ref_davis17 import read_rows as read_ref_davis17
from hf_rvos.data.ref_youtube_vos import read_rows as read_ref_youtube_vos
from tests.cli.commands import assert_error, run
from tests.data import roots


@pytest.fixture
def revos(tmp_path):
    """A root without a fault."""
    roots.revos(tmp_path / "revos")
    return tmp_path / "revos"


# hf-rvos data check


def test_a_sound_download_has_exit_code_0(revos):
    result = run("data", "check", "revos", revos)
    assert result.exit_code == 0, result.output
    assert f"revos at {revos}" in result.stdout and "No fault was found." in result.stdout


def test_faults_are_listed_with_exit_code_1(revos):
    (revos / "JPEGImages/part_b/clip_2/00001.jpg").unlink()
    result = run("data", "check", "revos", revos)
    assert result.exit_code == 1
    assert "FAULT: missing frames" in result.stdout and "The data set is not complete and sound." in result.stdout


@pytest.mark.parametrize("decode", [False, True])
def test_everything_is_decoded_on_demand(revos, monkeypatch, decode):
    found = []
    monkeypatch.setattr(checking, "check_dataset", lambda *given: found.append(given) or check_dataset(*given))
    assert run("data", "check", "revos", revos, *(["--decode"] * decode)).exit_code == 0
    assert found == [("revos", revos, decode)]


def test_all_places_are_listed_on_demand(tmp_path):
    roots.ref_youtube_vos(tmp_path)
    paths = list(tmp_path.rglob("*/0*.jpg"))
    for path in paths:
        path.write_bytes(b"no picture")
    some, every = (run("data", "check", "ref_youtube_vos", tmp_path, *more) for more in ((), ("--all",)))
    assert some.exit_code == every.exit_code == 1
    assert "more places" in some.stdout and "more places" not in every.stdout
    assert every.stdout.count(".jpg") > some.stdout.count(".jpg") > 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["revvos", "."], "did you mean 'revos'?"),
        (["revos", "lost"], "lost"),
        (["revos", ".", "--option", "colour=red"], "colour"),
        (["revos", ".", "--option", "colour"], "--option: got 'colour', expected key=value"),
    ],
    ids=str,
)
def test_what_cannot_be_checked_is_refused(here, arguments, message):
    assert_error(run("data", "check", *arguments), message)


# hf-rvos data convert-davis


def test_davis_is_converted_to_the_same_expressions(here):
    roots.ref_davis17(here)
    result = run("data", "convert-davis", "raw", "output")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == "Converted raw to output"
    before, after = (list(read_ref_davis17(here / root, "valid", Report())) for root in ("raw", "output"))
    assert [row["expression_raw"] for row in before] == [row["expression_raw"] for row in after] != []


def test_what_is_not_davis_is_refused(here):
    (here / "raw").mkdir()
    assert_error(run("data", "convert-davis", "raw", "output"), "davis_root: 'raw' does not look like")
    assert not (here / "output").exists()


def test_a_full_folder_is_not_converted_into(here):
    roots.ref_davis17(here)
    (here / "output").mkdir()
    (here / "output" / "notes.txt").write_text("mine")
    assert_error(run("data", "convert-davis", "raw", "output"), "output: the folder 'output' is not empty")
    assert [path.name for path in (here / "output").iterdir()] == ["notes.txt"]


# hf-rvos data export


def test_an_exported_split_has_the_same_expressions_and_masks(here, revos):
    result = run("data", "export", "revos", "output", "--split", "valid", "--data-dir", revos, "--as", "train")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == "Wrote revos to output"
    rows = list(read_ref_youtube_vos(here / "output", "train", Report()))
    expected = roots.revos(here / "again")["valid"]
    assert sorted(row["expression_raw"] for row in rows) == sorted(row.text for row in expected)
    for row in rows:
        (wanted,) = [one for one in expected if one.text == row["expression_raw"]]
        assert np.array_equal(load_masks(row, here / "output"), wanted.masks)


def test_drawn_videos_are_exported_without_a_root(here):
    result = run("data", "export", "moving_shapes", "output", "--split", "val", "--option", "num_videos=2")
    assert result.exit_code == 0, result.output
    assert len(list((here / "output/valid/JPEGImages").iterdir())) == 2


def test_limit_takes_the_first_videos(here):
    roots.mevis(here / "root")
    result = run("data", "export", "mevis", "output", "--split", "train", "--data-dir", "root", "--limit", 1)
    assert result.exit_code == 0, result.output
    rows = list(read_ref_youtube_vos(here / "output", "train", Report()))
    assert {row["video_id"].split("-")[0] for row in rows} == {"train9"} and len(rows) == 4


@pytest.mark.parametrize(
    "options, message",
    [
        (["--split", "best"], "split: 'best' is not there"),
        (["--data-dir", "lost"], "lost"),
        (["--option", "a=1"], "a: is no option of 'revos'"),
        (["--as", "../train"], "split"),
    ],
    ids=str,
)
def test_what_cannot_be_exported_is_refused(here, revos, options, message):
    settings = {"--split": "valid", "--data-dir": revos} | dict([options])
    result = run("data", "export", "revos", "output", *(part for pair in settings.items() for part in pair))
    assert_error(result, message)
    assert not list((here / "output").rglob("*.jpg"))
