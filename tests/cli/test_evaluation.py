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
"""`hf-rvos evaluate`, `metrics` and `submission check`."""

import csv
import json
import zipfile

import numpy as np
import pytest

from hf_rvos.checkpoints import DEFAULT_CHECKPOINT
from hf_rvos.data.benchmark_builder import Report
from hf_rvos.data.media import load_masks
from hf_rvos.data.mevis import read_rows as read_mevis
from tests.cli.commands import assert_error, run
from tests.data import roots
from tests.data.roots import write_image
from tests.data.sentence_roots import write_a2d
from tests.tiny_segmenter import tiny_ssa_pipeline


@pytest.fixture(scope="module")
def mevis(tmp_path_factory):
    """Root with two videos of four and one frames in `train`, and `valid` without ground truth."""
    folder = tmp_path_factory.mktemp("mevis")
    roots.mevis(folder)
    return folder


@pytest.fixture(scope="module")
def predictions(mevis, tmp_path_factory):
    """The truth of `train` as a submission."""
    folder = tmp_path_factory.mktemp("predictions")
    for row in read_mevis(mevis, "train", Report()):
        for frame, mask in zip(row["frames"], load_masks(row, mevis)):
            write_image(folder / row["video_id"] / row["expression_id"] / f"{frame}.png", mask.astype(np.uint8) * 255)
    return folder


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def numbers_of(folder):
    """Metrics without what they were measured with."""
    known = metrics_of(folder).items()
    return {key: value for key, value in known if key != "threshold" and (isinstance(value, float) or key == "groups")}


# hf-rvos evaluate


def test_evaluate_prints_the_table_and_writes_the_files(here, model, mevis):
    result = run("evaluate", "--dataset", "mevis", "--split", "train", "--data-dir", mevis, "--model", model)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == (here / "evaluation" / "metrics.md").read_text().strip()
    assert "written to evaluation" in result.stderr
    metrics = metrics_of(here / "evaluation")
    assert (metrics["checkpoint"], metrics["num_rows"]) == (str(model), 8)
    assert len(list((here / "evaluation" / "worst").iterdir())) == 8
    assert not (here / "evaluation" / "masks").exists()


def test_evaluate_takes_its_options_to_the_model(here, model, mevis):
    options = ("--threshold", 0.4, "--clip-length", 3, "--grouping", "single", "--limit", 1, "--worst", 0)
    options += ("--shortest-edge", 32, "--longest-edge", 0, "--dtype", "bfloat16", "--output", "out")
    result = run("evaluate", "--dataset", "mevis", "--split", "train", "--data-dir", mevis, "--model", model, *options)
    assert result.exit_code == 0, result.output
    stated = {"threshold": 0.4, "clip_length": 3, "grouping": "single", "num_videos": 1, "dtype": "bfloat16"}
    assert stated.items() <= metrics_of(here / "out").items()
    assert metrics_of(here / "out")["size"] == {"shortest_edge": 32}
    assert not (here / "out" / "worst").exists()


def test_evaluate_takes_options_of_the_data_set_and_has_a_model_of_its_own(here):
    options = ("--option", "config_name=all", "--limit", 1, "--worst", 0, "--shortest-edge", 32)
    result = run("evaluate", "--dataset", "moving_shapes", "--split", "val", *options)
    assert result.exit_code == 0, result.output
    metrics = metrics_of(here / "evaluation")
    assert (metrics["config_name"], metrics["checkpoint"]) == ("all", DEFAULT_CHECKPOINT)
    assert "config_name all" in result.stdout


def test_evaluate_takes_a_window_for_single_frames(here, model):
    write_a2d(here / "root")
    options = ("--window", 3, "--data-dir", here / "root", "--model", model)
    result = run("evaluate", "--dataset", "a2d_sentences", "--split", "test", *options)
    assert result.exit_code == 0, result.output
    assert metrics_of(here / "evaluation")["window"] == 3
    assert "overall IoU" in result.stdout


def test_evaluate_without_truth_names_the_archive_for_the_server(here, model, mevis):
    result = run("evaluate", "--dataset", "mevis", "--split", "valid", "--data-dir", mevis, "--model", model)
    assert result.exit_code == 0, result.output
    assert "for the server: evaluation/submission.zip" in result.stdout
    assert check(mevis, here / "evaluation" / "submission.zip").exit_code == 0


def test_evaluate_goes_on_in_the_same_folder_and_not_in_that_of_another(here, model, mevis):
    command = ("evaluate", "--dataset", "mevis", "--split", "train", "--data-dir", mevis, "--model", model)
    first, again = (run(*command, "--limit", 1, "--worst", 0) for _ in range(2))
    assert first.exit_code == again.exit_code == 0 and first.stdout == again.stdout
    assert_error(run(*command), "holds another evaluation: num_videos 1 is now 2")


@pytest.mark.parametrize(
    "options, message",
    [
        (["--dataset", "mewis"], "there is no data set 'mewis'; did you mean 'mevis'?"),
        (["--split", "best"], "split: 'best' is not there; of 'mevis' there are"),
        (["--data-dir", "lost"], "lost"),
        (["--protocol", "best"], "protocol is 'best', expected one of official, per-expression"),
        (["--threshold", "1"], "threshold is 1.0, expected a probability"),
        (["--grouping", "all"], "grouping is 'all', expected one of video"),
        (["--option", "strict"], "--option: got 'strict', expected key=value"),
        (["--option", "colour=red"], "colour: is no option of 'mevis'"),
        (["--model", "lost"], "--model: cannot load"),
        (["--output", __file__], "--output: cannot write to"),
        (["--window", "3"], "window: has no meaning for mevis"),
        (["--matching", "id"], "matching: has no meaning for mevis"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_of_evaluate_is_refused(here, model, mevis, options, message):
    settings = {"--dataset": "mevis", "--split": "train", "--data-dir": str(mevis), "--model": str(model)}
    settings |= dict([options])
    result = run("evaluate", *(part for pair in settings.items() for part in pair))
    assert_error(result, message)
    assert "error: " in [line[:7] for line in result.stderr.splitlines()]
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    "options", [["--limit", 0], ["--worst", -1], ["--clip-length", 0], ["--window", 0], ["--dtype", "int8"]], ids=str
)
def test_options_of_evaluate_out_of_range_are_refused(here, mevis, options):
    result = run("evaluate", "--dataset", "mevis", "--split", "train", "--data-dir", mevis, *options)
    assert_error(result, options[0])
    assert not list(here.iterdir())


def test_a_data_set_with_files_needs_its_root(here, model):
    result = run("evaluate", "--dataset", "mevis", "--split", "train", "--model", model)
    assert_error(result, "data_dir: 'mevis' needs the root of its files")


# hf-rvos metrics


def score(mevis, predictions, *options, split="train"):
    return run("metrics", predictions, "--dataset", "mevis", "--split", split, "--data-dir", mevis, *options)


def test_metrics_of_the_truth_are_100(here, mevis, predictions):
    result = score(mevis, predictions)
    assert result.exit_code == 0, result.output
    metrics = metrics_of(here / "evaluation")
    assert (metrics["j_and_f"], metrics["n_acc"], metrics["num_missing_masks"]) == (100, 100, 0)
    assert metrics["predictions"] == str(predictions)
    assert "100.0" in result.stdout
    assert len(list((here / "evaluation" / "worst").iterdir())) == 8


def test_metrics_draw_as_many_of_the_worst_as_asked_for(here, mevis, predictions):
    assert score(mevis, predictions, "--worst", 3).exit_code == 0
    assert len(list((here / "evaluation" / "worst").iterdir())) == 3
    assert score(mevis, predictions, "--worst", 0, "--output", "none").exit_code == 0
    assert not (here / "none" / "worst").exists()


def test_metrics_of_the_masks_that_evaluate_wrote_are_its_own(here, model, mevis):
    options = ("--dataset", "mevis", "--split", "train", "--data-dir", mevis)
    assert run("evaluate", *options, "--model", model, "--save-masks", "--output", "model").exit_code == 0
    assert run("metrics", "model/masks", *options, "--output", "folder").exit_code == 0
    assert numbers_of(here / "folder") == numbers_of(here / "model")
    assert numbers_of(here / "model")["j_and_f"] > 0


def test_metrics_count_what_is_missing_in_one_error(here, mevis, predictions):
    result = score(mevis, predictions / "train9")
    assert_error(result, "20 of 20 predicted masks are missing")
    assert not list(here.iterdir())


def test_metrics_can_take_what_is_missing_as_empty(here, mevis, predictions):
    result = score(mevis, predictions / "train9", "--missing", "empty")
    assert result.exit_code == 0, result.output
    metrics = metrics_of(here / "evaluation")
    assert (metrics["num_missing_masks"], metrics["n_acc"], metrics["t_acc"]) == (20, 100, 0)


def test_only_the_chosen_videos_need_masks(here, mevis, predictions):
    assert score(mevis, predictions, "--limit", 1).exit_code == 0
    assert metrics_of(here / "evaluation")["num_rows"] == 4


def test_metrics_take_no_split_without_truth(here, mevis, predictions):
    assert_error(score(mevis, predictions, split="valid"), "split: it comes without masks")
    assert not list(here.rglob("*.json"))


@pytest.mark.parametrize(
    "options, message",
    [
        (["--missing", "drop"], "missing is 'drop', expected one of error, empty"),
        (["--matching", "id"], "matching: has no meaning for mevis"),
        (["--option", "="], "--option: got '=', expected key=value"),
    ],
    ids=str,
)
def test_bad_input_of_metrics_is_refused(here, mevis, predictions, options, message):
    assert_error(score(mevis, predictions, *options), message)
    assert not list(here.iterdir())


def test_metrics_need_a_folder(here, mevis):
    assert_error(score(mevis, here / "lost"), "predictions: there is no folder")


def test_mini_mevis_has_the_official_numbers(here, shared_dir):
    root = shared_dir / "data/mini/mevis"
    result = score(root, root / "predictions/valid_u", split="valid_u")
    assert result.exit_code == 0, result.output
    official = json.loads((shared_dir / "parity/metrics/mevis_mini.json").read_text())
    metrics = metrics_of(here / "evaluation")
    # Ratios of integers; 1e-9 of a share is 1e-7 percent.
    for key, name in (("j_mean", "J"), ("f_mean", "F"), ("j_and_f", "J&F")):
        assert metrics[key] == pytest.approx(100 * official[name], abs=1e-7)
    with open(here / "evaluation" / "expressions.csv", newline="") as file:
        lines = {f"{line['video_id']}_{line['expression_id']}": line for line in csv.DictReader(file)}
    assert lines.keys() == official["per_expression"].keys()
    for name, wanted in official["per_expression"].items():
        assert float(lines[name]["j_mean"]) == pytest.approx(wanted["J"], abs=1e-9)
        assert float(lines[name]["f_mean"]) == pytest.approx(wanted["F"], abs=1e-9)
        assert (lines[name]["has_target"] == "True") == (wanted["num_targets"] > 0)


def test_mini_davis_has_the_official_numbers(here, shared_dir):
    root = shared_dir / "data/mini/ref_davis"
    options = ("--dataset", "ref_davis17", "--split", "valid", "--data-dir", root / "raw")
    result = run("metrics", root / "results", *options)
    assert result.exit_code == 0, result.output
    official = json.loads((shared_dir / "parity/metrics/ref_davis_mini.json").read_text())["unsupervised"]
    metrics = metrics_of(here / "evaluation")
    assert len(metrics["groups"]) == len(official["passes"]) == 4
    found = [metrics, *(metrics["groups"][f"pass {number}"] for number in range(4))]
    keys = {"j_and_f": "J&F-Mean"} | {
        f"{name}_{key}": f"{name.upper()}-{key.capitalize()}" for name in "jf" for key in ("mean", "recall", "decay")
    }
    for numbers, wanted in zip(found, [official["mean"], *official["passes"]]):
        for key, name in keys.items():
            assert numbers[key] == pytest.approx(100 * wanted[name], abs=1e-7)


# hf-rvos submission check


def check(root, archive, *options):
    return run("submission", "check", archive, "--data-dir", root, "--dataset", "mevis", *options)


@pytest.fixture
def archive(here, mevis):
    """An archive of black masks for `valid`."""
    path = here / "submission.zip"
    with zipfile.ZipFile(path, "w") as file:
        for row in read_mevis(mevis, "valid", Report()):
            for frame in row["frames"]:
                write_image(here / "black.png", np.zeros((roots.HEIGHT, roots.WIDTH), np.uint8))
                file.write(here / "black.png", f"{row['video_id']}/{row['expression_id']}/{frame}.png")
    return path


def test_a_right_submission_is_passed(mevis, archive):
    result = check(mevis, archive)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == "12 of 12 masks are there and right"


def test_a_wrong_submission_is_described_with_exit_code_1(mevis, archive):
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("notes.txt", "mine")
    result = check(mevis, archive)
    assert result.exit_code == 1
    assert "file does not belong here: notes.txt" in result.stdout


def test_the_layout_of_another_server_is_told(mevis, here, archive):
    roots.ref_youtube_vos(here / "root")
    result = run("submission", "check", archive, "--data-dir", here / "root")
    assert result.exit_code == 1
    assert "24 x mask is missing: Annotations/" in result.stdout


@pytest.mark.parametrize(
    "options, message",
    [
        (["--split", "best"], "split: 'best' is not there"),
        (["--dataset", "ref_davis17"], "ref_davis17 has no server that takes submissions"),
        (["--data-dir", "lost"], "lost"),
    ],
    ids=str,
)
def test_bad_input_of_submission_check_is_refused(mevis, archive, options, message):
    assert_error(check(mevis, archive, *options), message)


@pytest.mark.parametrize("content", [None, b"", b"no archive"])
def test_what_is_no_archive_is_refused(mevis, here, content):
    if content is not None:
        (here / "submission.zip").write_bytes(content)
    assert_error(check(mevis, here / "submission.zip"), "cannot be read as a zip archive")


# hf-rvos calibrate


def calibrate(mevis, model, *options):
    return run("calibrate", "--model", model, "--dataset", "mevis", "--split", "train", "--data-dir", mevis, *options)


def test_calibrate_prints_the_thresholds_and_changes_nothing(model, mevis):
    before = (model / "config.json").read_bytes()
    result = calibrate(mevis, model)
    assert result.exit_code == 0, result.output
    assert "| score threshold | N-acc | T-acc | mean |" in result.stdout and result.stdout.count("best") == 1
    assert (model / "config.json").read_bytes() == before


def test_the_saved_threshold_is_what_auto_means(here, model, mevis):
    for file in model.iterdir():
        (here / file.name).write_bytes(file.read_bytes())
    result = calibrate(mevis, here, "--save")
    assert result.exit_code == 0, result.output
    threshold = json.loads((here / "config.json").read_text())["score_threshold"]
    best = next(line for line in result.stdout.splitlines() if "best" in line).split("|")
    assert float(best[1]) == pytest.approx(threshold, abs=1e-4)
    options = ("--dataset", "mevis", "--split", "train", "--data-dir", mevis, "--worst", 0)
    assert run("evaluate", *options, "--model", here, "--score-threshold", "auto", "--output", "out").exit_code == 0
    metrics = metrics_of(here / "out")
    assert metrics["score_threshold"] == threshold
    assert (metrics["n_acc"], metrics["t_acc"]) == pytest.approx((float(best[2]), float(best[3])), abs=0.05)


def test_calibrate_draws_moving_shapes_with_sentences_of_all_kinds(here):
    result = run("calibrate", "--limit", 4)
    assert result.exit_code == 0, result.output
    assert "best" in result.stdout


@pytest.mark.parametrize(
    "options, message",
    [
        (["--save", "--model", "soc-tiny"], "--save: --model is 'soc-tiny', expected the folder of a saved model"),
        (["--option", "config_name=single", "--limit", 1], "a threshold needs sentences with and without a target"),
        (["--split", "best"], "split: 'best' is not there"),
    ],
    ids=str,
)
def test_bad_input_of_calibrate_is_refused(here, model, options, message):
    assert_error(run("calibrate", "--model", model, *options), message)


def test_evaluate_takes_several_targets_from_models_for_them_alone(here, model, mevis):
    options = ("--dataset", "mevis", "--split", "train", "--data-dir", mevis, "--worst", 0)
    assert_error(run("evaluate", *options, "--model", model, "--multi-target"), "multi_target: a model of type")
    tiny_ssa_pipeline().save_pretrained(here / "ssa")
    result = run("evaluate", *options, "--model", here / "ssa", "--multi-target", "--score-threshold", 0.3)
    assert result.exit_code == 0, result.output
    stated = {"multi_target": True, "score_threshold": 0.3, "clip_length": None}
    assert stated.items() <= metrics_of(here / "evaluation").items()
