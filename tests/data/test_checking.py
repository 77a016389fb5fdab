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
"""What the check of a download finds, and what it does not complain about."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from hf_rvos.data.checking import check_dataset
from hf_rvos.data.facts import FACTS
from hf_rvos.data.loading import DATASETS
from tests.data.roots import mevis
from tests.data.sentence_roots import (
    HEIGHT,
    WIDTH,
    write_a2d,
    write_custom,
    write_h5,
    write_jhmdb,
    write_mat,
    write_refcoco,
    write_video,
)


@pytest.fixture
def own(tmp_path):
    """A data set of all kinds of files that pictures can be in."""
    write_custom(tmp_path)
    write_own(tmp_path)
    return tmp_path


def write_own(root, **change):
    entries = [
        {"video": "clips/noise.mp4", "expression": "noise"},
        {"video": "frames/walk", "expression": "the box", "mask_dir": "ids/walk", "object_id": 4},
        {"video": "frames/walk", "expression": "one box", "mask_dir": "one/walk", **change},
    ]
    (root / "annotations.json").write_text(json.dumps(entries))


def kinds(findings, is_fault=True):
    return {problem.kind for problem in findings.problems if problem.is_fault == is_fault}


def places(findings, kind):
    return [problem.where for problem in findings.problems if problem.kind == kind]


def cut(path, share=0.7):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


MINI = {
    "ref_youtube_vos": "ref_youtube_vos",
    "ref_davis17": "ref_davis/raw",
    "a2d_sentences": "a2d_sentences",
    "jhmdb_sentences": "jhmdb_sentences",
    "refcoco": "refcoco",
    "refcoco+": "refcoco",
    "refcocog": "refcoco",
    "mevis": "mevis",
    "revos": "revos",
    "long_rvos": "long_rvos",
}


@pytest.mark.parametrize("name", MINI)
def test_the_shared_samples_have_no_fault(shared_dir, name):
    findings = check_dataset(name, shared_dir / "data" / "mini" / MINI[name], decode=True)
    assert findings.ok, str(findings)
    assert all(counts.expressions for counts in findings.counts.values())


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize(
    ("name", "write"),
    [("a2d_sentences", write_a2d), ("jhmdb_sentences", write_jhmdb), ("refcoco", write_refcoco)],
)
def test_a_complete_root_has_no_fault(tmp_path, name, write, decode):
    write(tmp_path)
    findings = check_dataset(name, tmp_path, decode)
    assert findings.ok, str(findings)


@pytest.mark.parametrize("decode", [False, True])
def test_ones_own_data_has_no_fault(own, decode):
    findings = check_dataset("custom", own, decode)
    assert findings.ok, str(findings)


def test_counts_stand_beside_the_published_ones(tmp_path):
    write_a2d(tmp_path)
    findings = check_dataset("a2d_sentences", tmp_path)
    assert findings.size_rows() == [
        ("train", "2 / -", "4 / 15,741", "3 / -"),
        ("test", "1 / -", "3 / 3,800", "2 / -"),
        ("all", "3 / 3,782", "7 / -", "5 / -"),
    ]


def test_published_counts_are_those_of_the_usual_split(tmp_path):
    write_refcoco(tmp_path)
    refs = tmp_path / "refcoco" / "refs(unc).p"
    assert check_dataset("refcoco", tmp_path).counts["train"].published.expressions == (120624,)
    refs.rename(tmp_path / "refcoco" / "refs(google).p")
    findings = check_dataset("refcoco", tmp_path, split_by="google")
    assert findings.counts["train"].published.expressions == ()


def test_every_data_set_with_files_has_facts():
    assert set(FACTS) == set(DATASETS) - {"moving_shapes"}
    for name, facts in FACTS.items():
        assert facts.access and facts.terms and facts.source
        assert name == "custom" or facts.homepage.startswith("https://")


def test_the_text_says_where_the_data_is_from_and_what_to_do(own):
    shutil.rmtree(own / "frames")
    write_a2d(own)
    text = str(check_dataset("a2d_sentences", own))
    assert all(words in text for words in ("kgavrilyuk.github.io", "no explicit licence", "15,741", "No fault"))
    text = str(check_dataset("custom", own))
    assert "FAULT: missing videos (1): get these files again" in text
    assert "The data set is not complete and sound." in text


def test_the_text_can_list_all_places_or_a_few(own):
    for number in range(20, 50):
        (own / "frames" / "walk" / f"frame{number}.png").write_bytes(b"no picture")
    write_own(own)
    findings = check_dataset("custom", own)
    assert findings.to_text().count("  frames/walk/frame") == 30
    assert findings.to_text(limit=3).count("  frames/walk/frame") == 3
    assert "... and 27 more places" in findings.to_text(limit=3)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("decode", [False, True])
def test_a_truncated_frame_is_found(own, suffix, decode):
    path = own / "frames" / "walk" / f"frame9{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    (own / "frames" / "walk" / "frame9.png").unlink()
    Image.fromarray(noise).save(path)
    cut(path)
    findings = check_dataset("custom", own, decode)
    assert kinds(findings) == {"damaged frames"}
    assert places(findings, "damaged frames")[0].startswith(f"frames/walk/frame9{suffix} (")


def test_damage_inside_of_a_png_is_found_by_its_checksum(own):
    path = own / "frames" / "walk" / "frame9.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    assert kinds(check_dataset("custom", own)) == {"damaged frames"}


def test_a_frame_of_another_size_is_found(own):
    Image.new("RGB", (WIDTH + 2, HEIGHT)).save(own / "frames" / "walk" / "frame9.png")
    findings = check_dataset("custom", own)
    assert places(findings, "frames of another size than the video") == [
        "frames/walk/frame9.png is 24x34 (height x width), the video 24x32 (height x width)"
    ]


def test_a_damaged_mask_is_found(own):
    cut(own / "ids" / "walk" / "frame9.png", 0.5)
    assert kinds(check_dataset("custom", own)) == {"damaged masks"}


def test_a_mask_of_another_size_is_found(own):
    Image.new("L", (WIDTH, HEIGHT + 1)).save(own / "ids" / "walk" / "frame9.png")
    assert kinds(check_dataset("custom", own)) == {"masks of another size than the video"}


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_mask_in_colours_is_found(own, mode):
    Image.new(mode, (WIDTH, HEIGHT)).save(own / "ids" / "walk" / "frame9.png")
    findings = check_dataset("custom", own)
    assert places(findings, "masks in a mode that has no labels") == [f"ids/walk/frame9.png is in mode {mode}"]


def test_another_palette_is_a_note(own):
    mask = Image.new("P", (WIDTH, HEIGHT))
    mask.putpalette([0, 0, 0, 0, 0, 255, 9, 9, 9])
    mask.save(own / "ids" / "walk" / "frame9.png")
    findings = check_dataset("custom", own)
    assert findings.ok
    assert kinds(findings, is_fault=False) == {"masks with another palette than that of VOC"}


def test_files_that_nothing_names_are_a_note(own):
    Image.new("L", (WIDTH, HEIGHT)).save(own / "ids" / "walk" / "another.png")
    findings = check_dataset("custom", own)
    assert findings.ok
    assert places(findings, "masks on disk that no list names") == ["ids/walk/another.png"]


def test_repeated_expressions_are_a_note(own):
    write_own(own, expression="The  box", mask_dir="ids/walk", object_id=4)
    findings = check_dataset("custom", own)
    assert findings.ok
    assert places(findings, "expressions that are repeated") == ["train: frames/walk/1"]


def test_a_target_in_no_frame_is_a_note_when_decoding(own):
    write_own(own, mask_dir="ids/walk", object_id=9)
    assert kinds(check_dataset("custom", own), False) == set()
    findings = check_dataset("custom", own, decode=True)
    assert findings.ok
    assert kinds(findings, False) == {"expressions whose target is in no frame"}


def test_a_damaged_video_is_found(own):
    cut(own / "clips" / "noise.mp4")
    assert kinds(check_dataset("custom", own)) == {"unreadable videos"}


def test_a_damaged_list_is_one_problem(own):
    cut(own / "annotations.json")
    findings = check_dataset("custom", own)
    assert kinds(findings) == {"missing annotations"}
    assert "is not JSON" in findings.problems[0].where


def test_a_root_of_another_data_set_is_one_problem(own):
    findings = check_dataset("a2d_sentences", own)
    assert kinds(findings) == {"missing annotations"}
    assert "videoset.csv" in findings.problems[0].where


def test_a_split_that_is_not_there_is_a_note(tmp_path):
    write_refcoco(tmp_path)
    (tmp_path / "refcoco" / "instances_refcoco_train.json").write_text('{"images": [], "annotations": []')
    findings = check_dataset("refcoco", tmp_path, layout="converted")
    assert places(findings, "splits that are not there") == [
        f"refcoco/instances_refcoco_{split}.json" for split in ("val", "testA", "testB")
    ]
    assert kinds(findings) == {"unreadable annotations"}


def test_a_video_of_another_length_than_listed_is_a_note(tmp_path):
    write_a2d(tmp_path)
    write_video(tmp_path / "Release" / "clips320H" / "third.mp4", 3, np.random.default_rng(0))
    findings = check_dataset("a2d_sentences", tmp_path)
    assert findings.ok
    assert places(findings, "videos with another number of frames than listed") == [
        "Release/clips320H/third.mp4 has 3 of 6"
    ]


def test_a_mask_file_of_another_size_than_its_video_is_found(tmp_path):
    write_a2d(tmp_path)
    folder = tmp_path / "text_annotations" / "a2d_annotation_with_instances" / "third"
    for path in folder.iterdir():
        write_h5(path, [1, 0], [np.ones((HEIGHT, WIDTH + 4))] * 2)
    findings = check_dataset("a2d_sentences", tmp_path)
    assert kinds(findings) == {"videos of another size than their masks"}


def test_a_truncated_file_of_masks_is_found(tmp_path):
    write_jhmdb(tmp_path)
    path = tmp_path / "puppet_mask" / "run" / "other" / "puppet_mask.mat"
    write_mat(path, np.ones((40, HEIGHT, WIDTH)))
    cut(path)
    findings = check_dataset("jhmdb_sentences", tmp_path)
    assert kinds(findings) == {"damaged masks"}
    assert len(places(findings, "damaged masks")) == 3


def test_all_missing_files_are_listed(tmp_path):
    write_jhmdb(tmp_path)
    samples = json.loads((tmp_path / "jhmdb_sentences_samples_metadata.json").read_text())
    for path in (tmp_path / "Rename_Images" / "run" / "other").iterdir():
        if path.name != "00003.png":
            path.unlink()
    findings = check_dataset("jhmdb_sentences", tmp_path)
    assert len(samples) == 6
    assert len(places(findings, "missing frames")) == 3
    assert findings.counts["test"].videos == 1


def test_nothing_is_written(own, tmp_path_factory, monkeypatch):
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HF_HOME", str(home))
    before = {path: path.stat().st_mtime_ns for path in own.rglob("*")}
    check_dataset("custom", own)
    assert {path: path.stat().st_mtime_ns for path in own.rglob("*")} == before
    assert not list(home.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("custm", {}, "did you mean 'custom'"),
        ("moving_shapes", {}, "is drawn and has no files to check"),
        ("custom", {"annotation": "x"}, "annotation: is no option of 'custom'"),
        ("refcoco", {"split_by": "umd"}, "split_by: got 'umd'"),
        ("ref_davis17", {"layout": "davis"}, "layout: got 'davis'"),
        ("custom", {"annotations": "mine.json"}, "annotations: .* has no file mine.json"),
        ("jhmdb_sentences", {"samples_file": "mine.json"}, "samples_file: there is no file 'mine.json'"),
    ],
)
def test_a_mistake_of_the_caller_is_an_error(own, name, options, match):
    with pytest.raises(ValueError, match=match):
        check_dataset(name, own, **options)


def test_a_root_that_is_no_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="root: there is no folder"):
        check_dataset("custom", tmp_path / "nowhere")


def test_findings_can_be_written_as_json(own):
    assert json.loads(json.dumps(dataclasses.asdict(check_dataset("custom", own))))["name"] == "custom"


def test_splits_that_are_not_asked_for_are_not_checked(tmp_path):
    mevis(tmp_path)
    (tmp_path / "train/mask_dict.json").write_text("{")
    assert not check_dataset("mevis", tmp_path).ok
    findings = check_dataset("mevis", tmp_path, splits=("valid_u",))
    assert findings.ok and list(findings.counts) == ["valid_u"]
