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
import ast
import sys
import threading
from pathlib import Path

import evaluate
import numpy as np
import pytest

import hf_rvos.metrics
from hf_rvos.metrics import (
    evaluate_ref_davis,
    load,
    score_detections,
    score_expression,
    summarize_detections,
    summarize_expressions,
    summarize_gres,
    summarize_temporal_stability,
)
from hf_rvos.ops.rle import encode_rle


FOLDER = Path(hf_rvos.metrics.__file__).parent
NAMES = list(hf_rvos.metrics.EVALUATE_MODULES)


@pytest.fixture(autouse=True)
def cache_dir(tmp_path, monkeypatch):
    """No test finds what another has stored."""
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def tracks():
    """Predictions and references of five expressions, of different length and size, some without a target."""
    generator = np.random.default_rng(0)
    pairs = []
    for index, (num_frames, size) in enumerate(
        [(3, (20, 30)), (1, (24, 20)), (4, (20, 30)), (2, (16, 16)), (2, (9, 7))]
    ):
        gt = np.kron(generator.random((num_frames, 2, 2)) > 0.5, np.ones((1, size[0] // 2 + 1, size[1] // 2 + 1)))
        gt = gt[:, : size[0], : size[1]].astype(bool) & (index != 2)
        pairs.append((np.roll(gt, 2, axis=2), gt))
    return tuple(map(list, zip(*pairs)))


def as_rles(tracks):
    """Run-length codes, None for frames without anything."""
    return [[rle if mask.any() else None for rle, mask in zip(encode_rle(track), track)] for track in tracks]


def rows_of(predictions, references, **kwargs):
    return [score_expression(pred, gt, **kwargs) for pred, gt in zip(predictions, references)]


@pytest.mark.parametrize("name", NAMES)
def test_folders_can_be_loaded_by_evaluate(name):
    metric = evaluate.load(str(FOLDER / name))
    assert metric.name == load(name).name == name
    assert metric.features == load(name).features
    assert "Args:" in metric.inputs_description


def test_loaded_folder_gives_the_numbers_of_the_class(tracks):
    predictions, references = tracks
    loaded = evaluate.load(str(FOLDER / "jf"), "mevis")
    assert loaded.compute(predictions=predictions, references=references) == load("jf", "mevis").compute(
        predictions=predictions, references=references
    )


@pytest.mark.parametrize("form", ["arrays", "codes"])
def test_jf_gives_the_totals_of_the_functions(tracks, form):
    predictions, references = tracks if form == "arrays" else map(as_rles, tracks)
    expected = summarize_expressions(rows_of(*tracks))
    assert load("jf").compute(predictions=predictions, references=references) == expected


def test_samples_can_be_added_one_by_one_or_in_batches(tracks):
    expected = load("jf").compute(predictions=tracks[0], references=tracks[1])
    one_by_one, batches = load("jf"), load("jf")
    for pred, gt in zip(*tracks):
        one_by_one.add(prediction=pred, reference=as_rles([gt])[0])
    for part in (slice(0, 2), slice(2, 5)):
        batches.add_batch(predictions=tracks[0][part], references=tracks[1][part])
    assert one_by_one.compute() == batches.compute() == expected


def test_jf_reports_types(tracks):
    types = ["static", "dynamic", "static", "hybrid", "hybrid"]
    expected = [row | {"expression_type": kind} for row, kind in zip(rows_of(*tracks), types)]
    totals = load("jf", "long_rvos").compute(predictions=tracks[0], references=tracks[1], expression_types=types)
    assert totals == summarize_expressions(expected, "long_rvos")
    with pytest.raises(ValueError, match="expression_types"):
        load("jf", "revos").compute(predictions=tracks[0], references=tracks[1])


def test_jf_gives_statistics_on_request(tracks):
    totals = load("jf").compute(predictions=tracks[0], references=tracks[1], statistics=True)
    frames = [row["j_frames"] for row in rows_of(*tracks, per_frame=True)]
    assert totals["j_recall"] == pytest.approx(np.mean([np.mean(np.array(values) > 0.5) for values in frames]))
    assert {"j_decay", "f_recall", "f_decay"} <= totals.keys()


def test_temporal_stability_gives_the_totals_of_the_function(tracks):
    totals = load("temporal_stability").compute(predictions=tracks[0], references=tracks[1])
    assert totals == summarize_temporal_stability(rows_of(*tracks))


@pytest.mark.parametrize("config_name, summarize", [(None, summarize_detections), ("gres", summarize_gres)])
def test_referring_iou_gives_the_totals_of_the_functions(tracks, config_name, summarize):
    pairs = [(np.stack([pred[0], gt[0]]), gt[0]) for pred, gt in zip(*tracks) if gt.any()]
    scores = [[0.9, 1 / 3], [0.2, 0.7], [0.5, 0.5], [1.0, 0.0]][: len(pairs)]
    expected = summarize([score_detections(masks, values, gt) for (masks, gt), values in zip(pairs, scores)])
    for convert in (lambda masks: masks, encode_rle):
        totals = load("referring_iou", config_name).compute(
            predictions=[{"masks": convert(masks), "scores": values} for (masks, _), values in zip(pairs, scores)],
            references=[convert(gt[None])[0] for _, gt in pairs],
        )
        assert totals == pytest.approx(expected, nan_ok=True, abs=0)


@pytest.fixture
def passes():
    """Index maps of two videos in four passes, with the true ones, in which 255 is void."""
    generator = np.random.default_rng(0)
    true = {
        name: np.kron(generator.integers(0, 3, (3, *size)), np.ones((1, 5, 5), dtype=int)).astype(np.uint8)
        for name, size in (("a", (4, 6)), ("b", (5, 5)))
    }
    for maps in true.values():
        maps[0, 0, :3] = [1, 2, 255]
    predicted = [{name: np.roll(maps % 255, shift, axis=1) for name, maps in true.items()} for shift in range(4)]
    return predicted, true


def test_ref_davis_takes_index_maps(passes):
    predicted, true = passes
    metric = load("ref_davis")
    for index, maps in enumerate(predicted):
        metric.add_batch(
            predictions=list(maps.values()), references=list(true.values()), annotation_passes=[index] * len(maps)
        )
    expected = evaluate_ref_davis(predicted, true)
    totals = metric.compute()
    assert totals["passes"] == expected["passes"] and len(totals["passes"]) == 4
    assert totals.items() <= expected.items()


def test_ref_davis_takes_folders(passes, tmp_path):
    from PIL import Image

    predicted, true = passes
    folders = [tmp_path / f"anno_{index}" for index in range(4)]
    for folder, videos in [*zip(folders, predicted), (tmp_path / "true", true)]:
        for video, maps in videos.items():
            (folder / video).mkdir(parents=True)
            for index, labels in enumerate(maps):
                Image.fromarray(labels).save(folder / video / f"{index:05}.png")
    totals = load("ref_davis", "folders").compute(
        predictions=folders, references=[tmp_path / "true"] * 4, matching="id"
    )
    assert totals == evaluate_ref_davis(predicted, true, matching="id")


def test_metrics_can_be_combined(tracks):
    predictions, references = tracks
    combined = evaluate.combine([load("jf"), load("temporal_stability")])
    combined.add_batch(predictions=predictions, references=references)
    totals = combined.compute()
    expected = summarize_expressions(rows_of(*tracks))
    assert totals["j_and_f"] == expected["j_and_f"]
    assert totals["temporal_stability_j_variance"] == totals["jf_j_variance"] == expected["j_variance"]


def test_two_processes_have_the_totals_of_one(tracks, cache_dir):
    # Two threads stand for the processes; they meet in the same files.
    metrics = [load("jf", num_process=2, process_id=rank, experiment_id="two", timeout=30) for rank in range(2)]
    totals = [None, "nothing"]

    def work(rank):
        metrics[rank].add_batch(predictions=tracks[0][rank::2], references=tracks[1][rank::2])
        totals[rank] = metrics[rank].compute()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = summarize_expressions(rows_of(*tracks))
    assert totals[1] is None
    assert totals[0]["j_and_f"] == pytest.approx(expected["j_and_f"], abs=1e-12)
    assert totals[0]["num_expressions"] == 5


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_compare_is_a_clear_error(name):
    inputs = {"annotation_passes": []} if name == "ref_davis" else {}
    with pytest.raises(ValueError, match=f"{name}: there are no predictions and references"):
        load(name).compute(predictions=[], references=[], **inputs)


def test_unequal_numbers_are_refused(tracks):
    with pytest.raises(ValueError, match="Mismatch in the number of predictions"):
        load("jf").compute(predictions=tracks[0][:2], references=tracks[1])


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="there is no metric 'fj', expected one of jf"):
        load("fj")
    for name in ("jf", "ref_davis", "referring_iou"):
        with pytest.raises(ValueError, match="configuration 'other'"):
            load(name, "other")


def test_functions_need_neither_evaluate_nor_datasets():
    for path in FOLDER.glob("*.py"):
        if path.name == "evaluate_base.py":
            continue
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            imported = {name.split(".")[0] for name in names}
            assert imported <= {*sys.stdlib_module_names, "numpy", "torch", "hf_rvos"}, path.name
            assert "hf_rvos.metrics.evaluate_base" not in names, path.name
