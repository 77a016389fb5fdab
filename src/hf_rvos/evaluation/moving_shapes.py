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
"""Scores on Moving Shapes, by the skill that an expression asks for.

What training looks at now and then and what the benchmark script reports are the same numbers from the same code.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from hf_rvos.data.moving_shapes import MovingShapesConfig, MovingShapesVideo, generate_video


GROUPINGS = ("video", "one-per-object", "single")


def group_expressions(object_ids: Sequence[Any], grouping: str) -> list[int]:
    """Which expressions of a video a model is asked together; Fast SgMg lets the answers depend on it.

    Args:
        object_ids: What each expression refers to, in the order of the data set.
        grouping: `"video"` for all together, as published for Ref-YouTube-VOS. `"one-per-object"` for the n-th
            expression of every object together, as published for Ref-DAVIS17, where these are the expressions of
            annotator n. `"single"` for each alone.

    Returns:
        Number of the group of each expression, from 0.
    """
    if grouping not in GROUPINGS:
        raise ValueError(f"grouping is {grouping!r}, expected one of {', '.join(GROUPINGS)}")
    if grouping == "video":
        return [0] * len(object_ids)
    if grouping == "single":
        return list(range(len(object_ids)))
    seen: Counter = Counter()
    groups = []
    for target in object_ids:
        groups.append(seen[target])
        seen[target] += 1
    return groups


@torch.inference_mode()
def segment_moving_shapes(
    model: Any, processor: Any, video: MovingShapesVideo, threshold: float = 0.5, grouping: str = "video"
) -> list[dict[str, Any]]:
    """Segment a video by all its expressions at once, whole and at its own frame rate.

    Args:
        model: A model for referring video segmentation, in evaluation mode.
        processor: Its processor.
        video: Frames and expressions.
        threshold: Probability above which a pixel belongs to the object.
        grouping: Which expressions are asked together, see `group_expressions`.

    Returns:
        One dict for each expression, with `masks`, boolean `(num_frames, height, width)` at the size of the video, and
        what else post-processing gives, such as `score`.
    """
    expressions = [row["expression"] for row in video.rows]
    inputs = processor(videos=[video.frames], text=[expressions], return_tensors="pt")
    input_sizes = None
    if inputs["pixel_mask"].all():
        inputs.pop("pixel_mask")  # nothing is padded, and the model has less to compute without a mask
    else:
        _, height, width = processor.video_processor.unpadded_sizes(inputs["pixel_mask"])[0]
        input_sizes = [(height, width)] * len(expressions)
    if grouping != "video":  # which is what models do by themselves
        groups = group_expressions([tuple(row["object_ids"]) for row in video.rows], grouping)
        inputs["group_index"] = torch.tensor(groups)
    outputs = model(**inputs.to(model.device), queries="best")
    tracks = processor.post_process_referring_video_segmentation(
        outputs,
        threshold=threshold,
        target_sizes=[video.frames.shape[1:3]] * len(expressions),
        input_sizes=input_sizes,
    )
    return [track | {"masks": track["masks"].cpu().numpy()} for track in tracks]


def score_moving_shapes(
    model: Any,
    processor: Any,
    split: str,
    indices: Iterable[int],
    threshold: float = 0.5,
    config: MovingShapesConfig | None = None,
    on_video: Callable[[list[dict[str, Any]]], None] | None = None,
    grouping: str = "video",
) -> list[dict[str, Any]]:
    """Segment every expression of some videos and compare with the truth, the union of the referents' masks.

    Args:
        model: A model for referring video segmentation.
        processor: Its processor.
        split: "train", "val" or "test".
        indices: Numbers of the videos in the split.
        threshold: Probability above which a pixel belongs to the object.
        config: Configuration of the generator; its subset says which expressions there are.
        on_video: Called after each video with its results, to show progress.
        grouping: Which expressions of a video are asked together, see `group_expressions`.

    Returns:
        One dict for each expression: what it is (`video_id`, `video_index`, `expression_id`, `expression`, `skill`,
        `phrasing_seen`), `j_mean` and `f_mean` over the frames in [0, 1], `score` of the chosen query, and `is_empty`,
        True if no pixel of the video was chosen.
    """
    from hf_rvos.metrics.functional import contour_accuracy, region_similarity

    config = config or MovingShapesConfig()
    was_training = model.training
    model.eval()
    results = []
    for index in indices:
        video = generate_video(split, index, config)
        tracks, scored = segment_moving_shapes(model, processor, video, threshold, grouping), []
        for row, track in zip(video.rows, tracks, strict=True):
            predicted, target = track["masks"], video.masks(row)
            scored.append(
                {"video_id": video.video_id, "video_index": index}
                | {key: row[key] for key in ("expression_id", "expression", "skill", "phrasing_seen")}
                | {
                    "j_mean": float(region_similarity(predicted, target).mean()),
                    "f_mean": float(contour_accuracy(predicted, target).mean()),
                    "score": float(track["score"]),
                    "is_empty": not predicted.any(),
                }
            )
        results += scored
        if on_video is not None:
            on_video(scored)
    model.train(was_training)
    return results


def summarize_moving_shapes(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Average the results of `score_moving_shapes`, in percent.

    Returns:
        `j_mean`, `f_mean`, `j_and_f` and `num_rows` overall and, under `skill` and `phrasing_seen`, for each group.
        Rows of the skill "none" also give `n_accuracy`, the share of them answered with empty masks.
    """
    if not results:
        raise ValueError("there are no results to summarize; evaluate at least one video with an expression")

    def averages(rows):
        j_mean, f_mean = (100 * sum(row[key] for row in rows) / len(rows) for key in ("j_mean", "f_mean"))
        return {"j_mean": j_mean, "f_mean": f_mean, "j_and_f": (j_mean + f_mean) / 2, "num_rows": len(rows)}

    summary = averages(results)
    for column in ("skill", "phrasing_seen"):
        groups = sorted({row[column] for row in results}, key=str)
        summary[column] = {
            str(group).lower(): averages([row for row in results if row[column] == group]) for group in groups
        }
    without_target = [row["is_empty"] for row in results if row["skill"] == "none"]
    if without_target:
        summary["skill"]["none"]["n_accuracy"] = 100 * sum(without_target) / len(without_target)
    return summary


def moving_shapes_table(summary: dict[str, Any]) -> str:
    """Write a summary as a Markdown table."""
    lines = [f"| {'rows of':22} | {'number':>6} | {'J':>5} | {'F':>5} | {'J&F':>5} |", "|---|---|---|---|---|"]
    groups = {"overall": summary} | summary["skill"]
    groups |= {f"phrasing seen: {seen}": values for seen, values in summary["phrasing_seen"].items()}
    for name, values in groups.items():
        numbers = " | ".join(f"{values[key]:5.1f}" for key in ("j_mean", "f_mean", "j_and_f"))
        lines.append(f"| {name:22} | {values['num_rows']:6} | {numbers} |")
    if "n_accuracy" in summary["skill"].get("none", {}):
        lines.append(
            f"\nEmpty answers where there is no target (N-acc): {summary['skill']['none']['n_accuracy']:.1f} %"
        )
    return "\n".join(lines)
