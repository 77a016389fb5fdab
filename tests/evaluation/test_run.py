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
"""Whole evaluations: what is written, and that a killed one goes on to the same files."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hf_rvos.cli.common import Dtype, load_segmenter
from hf_rvos.data.media import load_clip, load_masks
from hf_rvos.data.moving_shapes import VERSION
from hf_rvos.evaluation import run
from hf_rvos.evaluation.prediction import FolderPredictor, ModelPredictor
from hf_rvos.evaluation.protocols import find_protocol
from hf_rvos.evaluation.run import Benchmark, describe_model, evaluate
from hf_rvos.evaluation.submission import check_submission
from tests.data import roots
from tests.data.sentence_roots import write_a2d, write_custom, write_refcoco
from tests.evaluation.answers import Answers
from tests.tiny_segmenter import tiny_model, tiny_pipeline, tiny_processor, tiny_ssa, tiny_ssa_processor


DESCRIBED = {"checkpoint": "tiny"}


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def predictor(model):
    return ModelPredictor(model, tiny_processor(), clip_length=2)


@pytest.fixture(scope="module")
def mevis(tmp_path_factory):
    """Root with two videos of four and one frames in `train`, and `valid` without ground truth."""
    folder = tmp_path_factory.mktemp("mevis")
    roots.mevis(folder)
    return Benchmark("mevis", folder, "train")


@pytest.fixture(autouse=True)
def fixed_revision(monkeypatch):
    """Files of the checkout may change while the tests run."""
    monkeypatch.setattr(run, "versions", lambda: {"torch": torch.__version__, "revision": "a"})


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def nothing(row):
    return np.zeros((row["num_frames"], row["height"], row["width"]), bool)


class Killed(Exception):
    pass


class Interrupted(Answers):
    """Is killed when it is asked for one more video than a number."""

    def __init__(self, answer, limit):
        super().__init__(answer, score=0.5)
        self.limit = limit

    def clips(self, rows, root=None):
        if len(self.asked) == self.limit:
            raise Killed
        yield from super().clips(rows, root)


# What is written.


def test_files_hold_what_was_measured_on_what(mevis, predictor, tmp_path):
    returned = evaluate(mevis, predictor, DESCRIBED, tmp_path, num_worst=1)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("run.json", "videos", "metrics.json", "metrics.md", "expressions.csv", "chart.png", "worst"),
    }
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics == returned
    stated = {"dataset": "mevis", "split": "train", "protocol": "per-expression", "num_videos": 2, "num_rows": 8}
    assert stated.items() <= metrics.items()
    assert metrics["checkpoint"] == "tiny" and metrics["versions"]["torch"] == torch.__version__
    with open(tmp_path / "expressions.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["video"], line["video_id"], line["expression_id"]) for line in lines] == [
        (str(number), f"train{9 - number}", str(key)) for number in range(2) for key in range(4)
    ]
    assert np.mean([float(line["j_mean"]) for line in lines]) == pytest.approx(metrics["j_mean"] / 100)
    with Image.open(tmp_path / "chart.png") as chart:
        assert chart.width > 100


def test_the_report_states_what_was_measured_on_what(mevis, predictor, tmp_path):
    evaluate(mevis, predictor, DESCRIBED, tmp_path)
    caption, _, table = (tmp_path / "metrics.md").read_text().partition("\n\n")
    assert "dataset mevis, split train, protocol per-expression, num_videos 2, rows " in caption
    assert "checkpoint tiny," in caption
    assert f"torch {torch.__version__}" in caption
    assert table.startswith("| rows of | number |")


def test_drawn_videos_need_no_root_and_have_a_version(tmp_path):
    predictor = Answers(nothing)
    metrics = evaluate(Benchmark("moving_shapes", None, "val", limit=1), predictor, {}, tmp_path)
    assert (metrics["config_name"], metrics["version"], metrics["num_videos"]) == ("single", VERSION, 1)
    metrics = evaluate(
        Benchmark("moving_shapes", None, "val", limit=2, options={"config_name": "all"}), predictor, {}, tmp_path / "2"
    )
    assert (metrics["config_name"], metrics["num_videos"]) == ("all", 2)


def test_a_mean_of_nothing_is_null(tmp_path):
    roots.revos(tmp_path / "root")
    (path,) = (tmp_path / "root").glob("meta_expressions_valid_.json")
    content = json.loads(path.read_text())
    content["videos"]["part_b/clip_2"]["expressions"].pop("1")  # the only one of its type
    path.write_text(json.dumps(content))
    evaluate(Benchmark("revos", tmp_path / "root", "valid"), Answers(nothing), {}, tmp_path / "out")
    text = (tmp_path / "out" / "metrics.json").read_text()
    assert "NaN" not in text
    metrics = json.loads(text)
    assert metrics["j_and_f"] is None and metrics["groups"]["reasoning"]["j_and_f"] is None
    assert metrics["groups"]["referring"]["j_and_f"] >= 0
    assert "| reasoning |" in (tmp_path / "out" / "metrics.md").read_text()


def test_rows_without_ground_truth_are_left_out_where_others_have_it(tmp_path):
    write_custom(tmp_path)
    entries = [
        {"video": "clips/noise.mp4", "expression": "noise"},
        {"video": "frames/walk", "expression": "the box", "mask_dir": "ids/walk", "object_id": 4},
        {"video": "frames/walk", "expression": "a box"},
    ]
    (tmp_path / "annotations.json").write_text(json.dumps(entries))
    metrics = evaluate(Benchmark("custom", tmp_path, "train"), Answers(nothing), {}, tmp_path / "out")
    assert (metrics["num_videos"], metrics["num_rows"], metrics["j_and_f"]) == (1, 1, 0)


def test_limit_takes_the_first_videos(mevis, tmp_path):
    predictor = Answers(nothing)
    metrics = evaluate(Benchmark("mevis", mevis.data_dir, "train", limit=1), predictor, {}, tmp_path)
    assert (metrics["num_videos"], metrics["num_rows"]) == (1, 4) and len(predictor.asked) == 1


def test_progress_is_told_after_each_video(mevis, tmp_path):
    told = []
    evaluate(mevis, Answers(nothing), {}, tmp_path, on_video=lambda *numbers: told.append(numbers))
    assert told == [(1, 2), (2, 2)]


def test_models_are_given_the_sentences_that_the_protocol_wants(predictor):
    predictor.prepare([], find_protocol("ref_davis17"))
    assert predictor.text_column == "expression_raw"
    predictor.prepare([], find_protocol("mevis"))
    assert predictor.text_column == "expression"


def test_other_rows_do_not_go_on_in_the_folder(tmp_path):
    roots.mevis(tmp_path / "root")
    benchmark = Benchmark("mevis", tmp_path / "root", "train")
    evaluate(benchmark, Answers(nothing), DESCRIBED, tmp_path / "out")
    path = tmp_path / "root/train/meta_expressions.json"
    content = json.loads(path.read_text())
    next(iter(content["videos"]["train9"]["expressions"].values()))["exp"] = "another sentence"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="holds another evaluation: rows "):
        evaluate(benchmark, Answers(nothing), DESCRIBED, tmp_path / "out")


# Killed and started again.


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_a_killed_evaluation_goes_on_to_the_same_files(mevis, tmp_path, limit):
    answer = lambda row: np.roll(load_masks(row), 1, 2)  # noqa: E731
    options = {"save_masks": True, "num_worst": 0}
    evaluate(mevis, Answers(answer, score=0.5), DESCRIBED, tmp_path / "whole", **options)
    if limit < 2:
        with pytest.raises(Killed):
            evaluate(mevis, Interrupted(answer, limit), DESCRIBED, tmp_path / "parts", **options)
        assert not (tmp_path / "parts" / "metrics.json").exists()
    else:  # in the reports, at the very end
        evaluate(mevis, Interrupted(answer, limit), DESCRIBED, tmp_path / "parts", **options)
        (tmp_path / "parts" / "metrics.json").unlink()
    again = Answers(answer, score=0.5)
    evaluate(mevis, again, DESCRIBED, tmp_path / "parts", **options)
    assert len(again.asked) == 2 - limit  # finished videos are not predicted again
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


def test_a_killed_evaluation_of_a_model_gives_the_same_pictures_too(mevis, model, tmp_path, monkeypatch):
    def evaluate_model(folder):
        predictor = ModelPredictor(model, tiny_processor(), clip_length=2)
        return evaluate(mevis, predictor, describe_model("tiny", predictor), folder, num_worst=2)

    evaluate_model(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(run, "draw_worst", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            evaluate_model(tmp_path / "parts")
    (tmp_path / "parts" / "videos" / "00000.json").unlink()
    evaluate_model(tmp_path / "parts")
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


def test_a_model_is_the_same_wherever_its_frozen_parts_are_kept():
    model = tiny_model()
    described = describe_model("tiny", ModelPredictor(model, tiny_processor()))
    model.config.frozen_parts = {"backbone": {"source": "somewhere", "fingerprint": "0"}}
    assert describe_model("tiny", ModelPredictor(model, tiny_processor())) == described
    assert model.config.frozen_parts


@pytest.mark.parametrize("change", ["checkpoint", "weights", "threshold", "split", "limit", "size", "masks"])
def test_another_evaluation_does_not_go_on_in_the_folder(mevis, model, tmp_path, change):
    def described(name="tiny", model=model, threshold=0.5, shortest_edge=48):
        return describe_model(name, ModelPredictor(model, tiny_processor(shortest_edge), threshold))

    other = tiny_model()
    torch.nn.init.zeros_(next(other.parameters()))
    benchmark = Benchmark(
        "mevis", mevis.data_dir, "valid_u" if change == "split" else "train", limit=change == "limit" or None
    )
    now = {
        "checkpoint": {"name": "other"},
        "weights": {"model": other},
        "threshold": {"threshold": 0.4},
        "size": {"shortest_edge": 64},
    }.get(change, {})
    evaluate(mevis, Answers(nothing), described(), tmp_path)
    kept = files_of(tmp_path)
    with pytest.raises(ValueError, match="holds another evaluation: .* remove it or take another --output"):
        evaluate(benchmark, Answers(nothing), described(**now), tmp_path, save_masks=change == "masks")
    assert files_of(tmp_path) == kept


def test_a_moved_root_goes_on(tmp_path):
    roots.mevis(tmp_path / "here")
    with pytest.raises(Killed):
        evaluate(Benchmark("mevis", tmp_path / "here", "train"), Interrupted(nothing, 1), {}, tmp_path / "out")
    (tmp_path / "here").rename(tmp_path / "there")
    predictor = Answers(nothing)
    evaluate(Benchmark("mevis", tmp_path / "there", "train"), predictor, {}, tmp_path / "out")
    assert len(predictor.asked) == 1


# Two more processes and what starts them import torch (about 15 s on idle cores).
@pytest.mark.slow
def test_two_processes_measure_what_one_measures(mevis, tmp_path):
    tiny_pipeline().save_pretrained(tmp_path / "model")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--module"]
    command += ["hf_rvos", "evaluate", "--dataset", "mevis", "--split", "train", "--data-dir", mevis.data_dir]
    command += ["--model", tmp_path / "model", "--output", tmp_path / "two", "--save-masks"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(Path(run.__file__).parents[2])
    done = subprocess.run([*map(str, command)], env=environment, check=True, capture_output=True, text=True)
    assert "1/1" in done.stderr  # of two videos
    segmenter = load_segmenter(str(tmp_path / "model"), "cpu", Dtype.auto)
    predictor = ModelPredictor(segmenter.model, segmenter.processor)
    described = describe_model(str(tmp_path / "model"), predictor)
    evaluate(mevis, predictor, described, tmp_path / "one", save_masks=True, num_worst=8)
    one, two = ({**files_of(tmp_path / name)} for name in ("one", "two"))
    assert one.keys() == two.keys()
    for files in (one, two):
        del files["metrics.md"]  # which states versions, as these do
        for name in ("run.json", "metrics.json"):
            files[name] = json.loads(files[name])
            del files[name]["versions"]
    assert [name for name in one if one[name] != two[name]] == []


# Masks.


def test_without_truth_there_is_an_archive_that_the_server_takes(mevis, predictor, tmp_path):
    benchmark = Benchmark("mevis", mevis.data_dir, "valid")
    evaluate(benchmark, predictor, DESCRIBED, tmp_path)
    rows = list(benchmark.load().rows)
    report = check_submission(tmp_path / "submission.zip", rows, {"valid9": (roots.HEIGHT, roots.WIDTH)})
    assert report.is_valid and report.num_files == 4 * 3, str(report)
    assert not (tmp_path / "chart.png").exists()
    assert "j_and_f" not in json.loads((tmp_path / "metrics.json").read_text())


def test_a_part_of_a_split_makes_no_archive(mevis, tmp_path):
    benchmark = Benchmark("mevis", mevis.data_dir, "valid", limit=1)
    evaluate(benchmark, Answers(nothing, score=0.5), {}, tmp_path)
    assert len(list((tmp_path / "masks").rglob("*.png"))) == 12
    assert not (tmp_path / "submission.zip").exists()


def test_an_archive_of_ref_youtube_vos_has_its_folder_on_top(tmp_path):
    roots.ref_youtube_vos(tmp_path / "root")
    benchmark = Benchmark("ref_youtube_vos", tmp_path / "root", "valid")
    answer = lambda row: ~nothing(row)  # noqa: E731
    evaluate(benchmark, Answers(answer, score=0.5), {}, tmp_path / "out")
    rows = list(benchmark.load().rows)
    sizes = {row["video_id"]: load_clip(row, tmp_path / "root", [0]).shape[1:3] for row in rows}
    report = check_submission(tmp_path / "out" / "submission.zip", rows, sizes)
    assert report.is_valid and report.num_files == 12 * 2, str(report)


# Ratios of numbers of pixels: none may differ at all.
@pytest.mark.parametrize(
    "name, split, write",
    [
        ("mevis", "train", roots.mevis),
        ("revos", "valid", roots.revos),
        ("long_rvos", "valid", roots.long_rvos),
        ("ref_youtube_vos", "train", roots.ref_youtube_vos),
        ("ref_davis17", "valid", roots.ref_davis17),
    ],
)
def test_masks_that_were_written_score_the_same(predictor, tmp_path, name, split, write):
    write(tmp_path / "root")
    root = tmp_path / "root" / "raw" if name == "ref_davis17" else tmp_path / "root"
    benchmark = Benchmark(name, root, split)
    evaluate(benchmark, predictor, {}, tmp_path / "model", save_masks=True, num_worst=2)
    evaluate(benchmark, FolderPredictor(tmp_path / "model" / "masks"), {}, tmp_path / "folder", num_worst=2)
    # As written, since no NaN equals another.
    metrics, again = (json.loads((tmp_path / each / "metrics.json").read_text()) for each in ("model", "folder"))
    assert again.pop("num_missing_masks") == 0 and again.pop("masks")
    del metrics["multi_target"], metrics["score_threshold"]  # of the model
    assert again == metrics | {"saved_masks": False} and 0 <= metrics["j_and_f"] < 100
    for first, second in zip(*(read_table(tmp_path / each / "expressions.csv") for each in ("model", "folder"))):
        first.pop("score", None)  # of the model
        assert first == second
    pictures = files_of(tmp_path / "model" / "worst")
    assert files_of(tmp_path / "folder" / "worst") == pictures and len(pictures) == 2


def read_table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "name, split, write", [("a2d_sentences", "test", write_a2d), ("refcoco", "train", write_refcoco)]
)
def test_best_masks_of_single_frames_that_were_written_have_the_same_iou(predictor, tmp_path, name, split, write):
    write(tmp_path / "root")
    benchmark = Benchmark(name, tmp_path / "root", split)
    metrics = evaluate(benchmark, predictor, {}, tmp_path / "model", save_masks=True, num_worst=3)
    folder = FolderPredictor(tmp_path / "model" / "masks")
    again = evaluate(benchmark, folder, {}, tmp_path / "folder", num_worst=3)
    for key in ("num_samples", "overall_iou", "mean_iou", "precision_at_0.5"):
        assert again[key] == metrics[key]
    # Files of masks have no boxes, and A2D-Sentences has none to compare with.
    assert ("box_mean_iou" in metrics) == (name == "refcoco") and "box_mean_iou" not in again
    assert ("box P@0.5" in (tmp_path / "model" / "metrics.md").read_text()) == (name == "refcoco")
    pictures = files_of(tmp_path / "model" / "worst")
    assert files_of(tmp_path / "folder" / "worst") == pictures and pictures
    assert metrics["overall_iou"] > 0
    assert not (tmp_path / "model" / "submission.zip").exists()


def test_masks_are_black_and_white(mevis, predictor, tmp_path):
    evaluate(mevis, predictor, {}, tmp_path, save_masks=True)
    paths = sorted((tmp_path / "masks").rglob("*.png"))
    assert len(paths) == 4 * 4 + 4 * 1
    values = set()
    for path in paths:
        with Image.open(path) as image:
            assert image.mode == "L" and image.size == (roots.WIDTH, roots.HEIGHT)
            values |= set(np.unique(image).tolist())
    assert values == {0, 255}


# What cannot be evaluated.


@pytest.mark.parametrize(
    "change, message",
    [
        ({"name": "mewis"}, "did you mean 'mevis'"),
        ({"split": "test"}, "there are"),
        ({"data_dir": None}, "needs the root of its files"),
        ({"protocol": "best"}, "protocol is 'best'"),
        ({"options": {"split_by": "google"}}, "split_by: is no option"),
    ],
    ids=str,
)
def test_what_cannot_be_evaluated_is_refused_before_anything_is_written(mevis, tmp_path, change, message):
    settings = {"name": "mevis", "data_dir": mevis.data_dir, "split": "valid_u"} | change
    with pytest.raises(ValueError, match=message):
        evaluate(Benchmark(**settings), Answers(nothing), {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_are_told_apart_and_names_are_not(model):
    first = describe_model("a", ModelPredictor(model, tiny_processor()))
    assert describe_model("b", ModelPredictor(tiny_model(), tiny_processor())) == first | {"checkpoint": "b"}
    half = describe_model("a", ModelPredictor(tiny_model().to(torch.bfloat16), tiny_processor()))
    assert half["dtype"] == "bfloat16" and half["weights"] != first["weights"]


@pytest.mark.parametrize(
    "name, folder, split",
    [
        ("mevis", "mevis", "valid_u"),
        ("revos", "revos", "valid"),
        ("long_rvos", "long_rvos", "valid"),
        ("ref_youtube_vos", "ref_youtube_vos", "valid"),
        ("ref_davis17", "ref_davis/raw", "valid"),
        ("ref_davis17", "ref_davis/converted", "valid"),
        ("a2d_sentences", "a2d_sentences", "test"),
        ("jhmdb_sentences", "jhmdb_sentences", "test"),
        ("refcoco", "refcoco", "testA"),
    ],
)
def test_the_embedded_model_can_be_evaluated_on_every_benchmark(shared_dir, tmp_path, name, folder, split):
    from hf_rvos import AutoModelForReferringVideoSegmentation
    from hf_rvos.checkpoints import DEFAULT_CHECKPOINT, find_checkpoint
    from hf_rvos.processing import RvosProcessor

    location = find_checkpoint(DEFAULT_CHECKPOINT)
    model = AutoModelForReferringVideoSegmentation.from_pretrained(location).eval()
    processor = RvosProcessor.from_pretrained(location)
    processor.video_processor.size = {"shortest_edge": 64}  # a quarter of the time
    benchmark = Benchmark(name, shared_dir / "data/mini" / folder, split, limit=1)
    metrics = evaluate(benchmark, ModelPredictor(model, processor), {}, tmp_path, num_worst=1)
    assert metrics["num_videos"] == 1 and metrics["num_rows"] > 0
    assert (tmp_path / "metrics.md").is_file()


@pytest.fixture(scope="module")
def ssa_predictor():
    return ModelPredictor(tiny_ssa(multi_target=True, score_threshold=0.3), tiny_ssa_processor())


def test_ssa_is_scored_on_the_sentences_of_mevis(shared_dir, ssa_predictor, tmp_path):
    root = shared_dir / "data/mini/mevis"
    metrics = evaluate(Benchmark("mevis", root, "valid_u"), ssa_predictor, {}, tmp_path / "model", save_masks=True)
    assert metrics["num_rows"] > 0 and 0 < metrics["j_and_f"] < 100
    assert metrics["n_acc"] is not None and metrics["t_acc"] is not None
    folder = FolderPredictor(tmp_path / "model" / "masks")
    again = evaluate(Benchmark("mevis", root, "valid_u"), folder, {}, tmp_path / "folder")
    assert {key: again[key] for key in ("j_and_f", "n_acc", "t_acc")} == {
        key: metrics[key] for key in ("j_and_f", "n_acc", "t_acc")
    }


def test_ssa_makes_an_archive_that_the_server_of_mevis_takes(shared_dir, ssa_predictor, tmp_path):
    root = shared_dir / "data/mini/mevis"
    benchmark = Benchmark("mevis", root, "valid")
    evaluate(benchmark, ssa_predictor, {}, tmp_path)
    rows = list(benchmark.load().rows)
    sizes = {row["video_id"]: load_clip(row, root, [0]).shape[1:3] for row in rows}
    report = check_submission(tmp_path / "submission.zip", rows, sizes)
    assert report.is_valid, str(report)


def test_skills_have_shares_of_what_is_there_and_what_is_not(tmp_path):
    benchmark = Benchmark("moving_shapes", None, "val", limit=8, options={"config_name": "all"})
    metrics = evaluate(benchmark, Answers(nothing), {}, tmp_path)
    assert (metrics["n_acc"], metrics["t_acc"]) == (100, 0)
    assert metrics["groups"]["none"]["n_acc"] == 100 and metrics["groups"]["none"]["t_acc"] is None
    assert metrics["groups"]["several"]["t_acc"] == 0 and metrics["groups"]["several"]["n_acc"] is None
