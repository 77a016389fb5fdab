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
"""Matching and losses of SSA: every referred object has a query of its own, in each frame and in the clip."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedConfig

from hf_rvos.losses.criterion import average_over_processes
from hf_rvos.losses.mask_losses import dice_score
from hf_rvos.models.ssa.outputs_ssa import SsaPredictions


# Of the names of the losses, as released code has them: its video module is that of VITA.
PREFIXES = {"frame": "loss_", "video": "loss_vita_"}


def ssa_loss(
    outputs: SsaPredictions,
    labels: Sequence[Mapping[str, torch.Tensor]],
    padded_size: tuple[int, int],
    config: PreTrainedConfig,
    num_items: Mapping[str, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Match queries to objects in every prediction and sum the weighted losses.

    An object counts in the frames that show it, and in the clip if one of them does. Matching is done for all
    predictions at once, for which the host waits a single time. It compares masks at points that are drawn for each
    frame, or for each clip at the level of videos, and shared by the predictions; released code draws them again for
    each. Everything is computed in float32, also under autocast.

    Args:
        outputs: Predictions of all layers.
        labels: One dict for each expression, see [`SsaForReferringVideoSegmentation.forward`].
        padded_size: `(height, width)` of the padded input.
        config: Configuration of the model.
        num_items: What the losses are divided by, as [`count_targets`] counts it. If None, that of the batch, averaged
            over processes.

    Returns:
        The weighted sum, and the unweighted losses `loss_ce`, `loss_mask` and `loss_dice` of frames, with the suffix
        `_0`, `_1`, ... for predictions before the last one; `loss_vita_ce`, `loss_vita_mask` and `loss_vita_dice` of
        clips, likewise; and `loss_similarity`.

    Raises:
        ValueError: if the labels do not fit the predictions.
    """
    with torch.autocast(outputs.frame_logits.device.type, enabled=False):
        return _ssa_loss(
            SsaPredictions(**{name: values.float() for name, values in outputs.items()}),
            labels,
            padded_size,
            config,
            num_items,
        )


def _ssa_loss(
    outputs: SsaPredictions,
    labels: Sequence[Mapping[str, torch.Tensor]],
    padded_size: tuple[int, int],
    config: PreTrainedConfig,
    num_items: Mapping[str, torch.Tensor] | None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    device = outputs.frame_logits.device
    num_supervised, num_expressions, num_frames = outputs.frame_similarity.shape[:3]
    targets = stack_targets(labels, num_expressions, num_frames, padded_size).to(device, non_blocking=True)
    visible = targets.any(-1).any(-1)  # (E, T, O)
    targets = targets.float()
    frame_cost, video_cost = matching_costs(outputs, targets, config)
    # Everything that the host has to know, in one copy.
    parts = (frame_cost, video_cost, visible)
    packed = torch.cat([part.flatten().float() for part in parts]).cpu().numpy()
    sizes = np.cumsum([part.numel() for part in parts])[:-1]
    frame_cost, video_cost, seen = (
        values.reshape(part.shape) for values, part in zip(np.split(packed, sizes), parts, strict=True)
    )
    seen = seen > 0
    frame_queries, video_queries = (
        torch.from_numpy(match_objects(cost, is_target)).to(device, non_blocking=True)
        for cost, is_target in ((frame_cost, seen), (video_cost, seen.any(1)))
    )
    if num_items is None:
        counts = _count([frames.T for frames in seen], config)
        averages = average_over_processes(torch.tensor([*counts.values()], device=device))
        num_items = {name: count if "weight" in name else count.clamp(min=1) for name, count in zip(counts, averages)}

    frame_embeddings = of_objects(outputs.frame_mask_embeddings, frame_queries)
    video_embeddings = of_objects(outputs.video_mask_embeddings.flatten(0, 1), video_queries)
    # Features are not repeated for the predictions, as a matrix product would do.
    frame_masks = torch.einsum("petoc,etchw->petohw", frame_embeddings, outputs.frame_mask_features)
    video_masks = torch.einsum("peoc,etchw->peothw", video_embeddings, outputs.mask_features)
    # Where there is something to draw; a frame is a clip of one.
    in_frames, in_clips = (
        tuple(torch.from_numpy(index).to(device, non_blocking=True) for index in is_target.nonzero())
        for is_target in (seen, seen.any(1))
    )
    frames = (frame_masks[:, *in_frames, None], targets[*in_frames, None], frame_queries[:, *in_frames] >= 0)
    clips = (video_masks[:, *in_clips], targets.transpose(1, 2)[in_clips], video_queries[:, *in_clips] >= 0)
    levels = {
        "frame": (outputs.frame_logits, frames, frame_queries, 1),
        "video": (outputs.video_logits.flatten(0, 1), clips, video_queries, num_supervised),
    }
    weights = {"ce": config.class_loss_weight, "mask": config.mask_loss_weight, "dice": config.dice_loss_weight}
    loss, loss_dict = 0.0, {}
    for level, (logits, drawn, queries, num_parts) in levels.items():
        cross_entropy, dice = mask_losses(*drawn, config)
        class_losses = class_loss(logits, queries, config.no_object_weight)
        terms = {
            "ce": class_losses / num_items[f"{level}_class_weight"],
            "mask": cross_entropy / num_items[f"{level}_targets"],
            "dice": dice / num_items[f"{level}_targets"],
        }
        for term, values in terms.items():
            values = values.view(-1, num_parts).sum(1)
            for layer in range(0 if config.auxiliary_loss else len(values) - 1, len(values)):
                suffix = f"_{layer}" if layer < len(values) - 1 else ""
                loss_dict[PREFIXES[level] + term + suffix] = values[layer]
                loss = loss + weights[term] * values[layer]
    similarity = similarity_loss(
        outputs.frame_similarity,
        outputs.video_similarity,
        frame_queries[-num_supervised:],
        video_queries[-num_supervised:],
    )
    loss_dict["loss_similarity"] = similarity / num_items["similarity_pairs"]
    return loss + config.similarity_loss_weight * loss_dict["loss_similarity"], loss_dict


# Labels


def object_masks(label: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The `(num_objects, num_frames, height, width)` masks of a label, which may have one mask for one object."""
    return label["object_masks"] if "object_masks" in label else label["masks"][None]


def count_targets(labels: Sequence[Mapping[str, torch.Tensor]], config: PreTrainedConfig) -> dict[str, torch.Tensor]:
    """Count what the losses are divided by, all of which is known before anything is predicted.

    With counts of several batches or processes, shared as [`~hf_rvos.training.progress.share_items`] does, their
    gradients are exactly those of one batch, if the same points are drawn: each loss is a sum over frames, clips or
    pairs of queries, divided by one of these numbers.

    Args:
        labels: One dict for each expression, as for [`ssa_loss`].
        config: Configuration of the model.

    Returns:
        `frame_targets` and `video_targets`, the objects to draw; `frame_class_weight` and `video_class_weight`, the
        sums of the weights of all classifications; `similarity_pairs`.
    """
    counts = _count([object_masks(label).flatten(2).any(-1).cpu().numpy() for label in labels], config)
    return {name: torch.tensor(count) for name, count in counts.items()}


def _count(visible: Iterable[np.ndarray], config: PreTrainedConfig) -> dict[str, float]:
    """The same of `(num_objects, num_frames)`, True where an object is in the frame, for each expression."""
    names = ("frame_targets", "frame_class_weight", "video_targets", "video_class_weight", "similarity_pairs")
    counts = np.zeros(len(names))
    layers, num_queries = config.num_supervised_frame_layers, config.num_queries
    for seen in visible:
        in_frames, in_clip = seen.sum(0), seen.any(1).sum()
        # No more objects are matched than there are queries.
        matches = np.minimum(in_frames, num_queries).sum(), min(in_clip, num_queries)
        classified = num_queries * len(in_frames), num_queries
        frame_weight, video_weight = (
            matched + config.no_object_weight * (queries - matched) for matched, queries in zip(matches, classified)
        )
        counts += (
            in_frames.sum(),
            frame_weight,
            in_clip * layers,
            video_weight * layers,
            sum(matches) ** 2 * layers,
        )
    return dict(zip(names, counts.tolist(), strict=True))


def stack_targets(
    labels: Sequence[Mapping[str, torch.Tensor]], num_expressions: int, num_frames: int, padded_size: tuple[int, int]
) -> torch.Tensor:
    """Masks of all objects, `(num_expressions, num_frames, num_objects, *padded_size)` boolean.

    `num_objects` is the largest number of any expression, at least 1; others have empty masks in their place.

    Raises:
        ValueError: as [`ssa_loss`].
    """
    if len(labels) != num_expressions:
        raise ValueError(f"labels has {len(labels)} entries, expected {num_expressions}, one for each expression.")
    masks = [object_masks(label) for label in labels]
    for index, entry in enumerate(masks):
        if entry.ndim != 4 or entry.shape[1] != num_frames or max(np.subtract(entry.shape[2:], padded_size)) > 0:
            raise ValueError(
                f"labels[{index}] has masks of shape {tuple(entry.shape)}, expected (num_objects, num_frames, height, "
                f"width) with num_frames={num_frames} and at most {padded_size[0]} x {padded_size[1]} pixels."
            )
    num_objects = max(1, *(len(entry) for entry in masks))
    stacked = masks[0].new_zeros(num_expressions, num_frames, num_objects, *padded_size, dtype=torch.bool)
    for place, entry in zip(stacked, masks, strict=True):
        place[:, : len(entry), : entry.shape[2], : entry.shape[3]] = entry.transpose(0, 1) != 0
    return stacked


# Matching


def random_points(shape: Sequence[int], device: torch.device) -> torch.Tensor:
    """Uniform points `(*shape, 2)`, x and y in [0, 1) as shares of the padded input."""
    return torch.rand(*shape, 2, device=device)


def sample_points(maps: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Bilinear values of maps at points, zero outside.

    Args:
        maps: `(num_maps, num_channels, height, width)`.
        points: `(num_maps, ..., num_points, 2)` with at most one dimension in place of the dots.

    Returns:
        `(num_maps, num_channels, ..., num_points)`.
    """
    grid = points[:, None] if points.ndim == 3 else points
    values = F.grid_sample(maps, 2 * grid - 1, mode="bilinear", padding_mode="zeros", align_corners=False)
    return values[:, :, 0] if points.ndim == 3 else values


@torch.no_grad()
def matching_costs(
    outputs: SsaPredictions, targets: torch.Tensor, config: PreTrainedConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cost of every query for every object.

    Sampling is linear, so the mask of a query at a point is the product of its embedding and the features sampled
    there, and masks need not be drawn.

    Args:
        outputs: Predictions of all layers.
        targets: `(num_expressions, num_frames, num_objects, height, width)`, 0 or 1.
        config: Configuration of the model.

    Returns:
        Of frames `(P, E, T, N, O)` and of clips `(L * S, E, N, O)`.
    """
    num_expressions, num_frames = targets.shape[:2]

    def sample(points: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        return sample_points(maps.flatten(0, 1), points.flatten(0, 1)).unflatten(0, (num_expressions, num_frames))

    points = random_points((num_expressions, num_frames, config.num_points), targets.device)
    features, objects = sample(points, outputs.frame_mask_features), sample(points, targets)
    frame_cost = [
        _cost(logits, embeddings @ features, objects, config)
        for logits, embeddings in zip(outputs.frame_logits, outputs.frame_mask_embeddings)
    ]
    # In a clip, the points of all frames together are those of a mask.
    points = random_points((num_expressions, 1, config.num_points), targets.device).expand(-1, num_frames, -1, -1)
    features = sample(points, outputs.mask_features).transpose(1, 2).flatten(2)  # (E, C, T * points)
    objects = sample(points, targets).transpose(1, 2).flatten(2)
    video_cost = [
        _cost(logits, embeddings @ features, objects, config)
        for logits, embeddings in zip(outputs.video_logits.flatten(0, 1), outputs.video_mask_embeddings.flatten(0, 1))
    ]
    return torch.stack(frame_cost), torch.stack(video_cost)


def _cost(
    logits: torch.Tensor, mask_logits: torch.Tensor, objects: torch.Tensor, config: PreTrainedConfig
) -> torch.Tensor:
    """`(..., N, O)` from scores `(..., N, 2)` and masks `(..., N, points)` and `(..., O, points)`."""
    objects = objects.mT
    probabilities = mask_logits.sigmoid()
    # Binary cross-entropy is linear in the target.
    cross_entropy = (F.softplus(mask_logits).sum(-1, keepdim=True) - mask_logits @ objects) / mask_logits.shape[-1]
    dice = dice_score(probabilities @ objects, probabilities.sum(-1, keepdim=True), objects.sum(-2, keepdim=True))
    return (
        -config.class_loss_weight * logits.softmax(-1)[..., :1]
        + config.mask_loss_weight * cross_entropy
        + config.dice_loss_weight * (1 - dice)
    )


def match_objects(cost: np.ndarray, is_target: np.ndarray) -> np.ndarray:
    """Assign queries to objects so that the sum of the costs is least.

    Args:
        cost: `(num_predictions, ..., num_queries, num_objects)`.
        is_target: `(..., num_objects)`, False where there is nothing to match.

    Returns:
        `(num_predictions, ..., num_objects)`, the query of each object, or -1 if it has none: no target, or left over
        because there are more targets than queries.
    """
    from scipy.optimize import linear_sum_assignment

    # Of weights that are no longer finite anything may come; the loss will say so.
    cost = np.nan_to_num(cost)
    queries = np.full((*cost.shape[:-2], cost.shape[-1]), -1)
    for place in np.ndindex(*cost.shape[:-2]):
        (candidates,) = is_target[place[1:]].nonzero()
        rows, columns = linear_sum_assignment(cost[place][:, candidates])
        queries[place][candidates[columns]] = rows
    return queries


# Losses


def class_loss(logits: torch.Tensor, queries: torch.Tensor, no_object_weight: float) -> torch.Tensor:
    """Weighted cross-entropy of "referred" for the matched queries and "no object" for the others.

    Args:
        logits: `(num_predictions, ..., num_queries, 2)`.
        queries: `(num_predictions, ..., num_objects)`, -1 for none.
        no_object_weight: Weight of the queries without object.

    Returns:
        `(num_predictions,)`, sums over the batch.
    """
    num_queries = logits.shape[-2]
    # One place more, for what is not matched.
    is_free = torch.ones(*logits.shape[:-2], num_queries + 1, device=logits.device)
    is_free = is_free.scatter(-1, queries.remainder(num_queries + 1), 0.0)[..., :num_queries]
    losses = F.cross_entropy(logits.movedim(-1, 1), is_free.long(), reduction="none")
    return (losses * torch.where(is_free > 0, no_object_weight, 1.0)).flatten(1).sum(1)


def of_objects(values: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """From values of all queries `(..., num_queries, size)` to those of each object's, `(..., num_objects, size)`.

    For an object without a query, -1 in `queries` `(..., num_objects)`, they are those of any query.
    """
    return values.take_along_dim(queries.clamp(min=0).unsqueeze(-1), -2)


@torch.no_grad()
def uncertain_points(mask_logits: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    """Points at which masks are compared: mostly those of many where they are least decided.

    Args:
        mask_logits: `(num_masks, height, width)`.
        config: Configuration of the model.

    Returns:
        `(num_masks, num_points, 2)`.
    """
    num_masks, device = len(mask_logits), mask_logits.device
    candidates = random_points((num_masks, int(config.oversample_ratio * config.num_points)), device)
    certainty = sample_points(mask_logits[:, None], candidates)[:, 0].abs()
    num_uncertain = int(config.importance_ratio * config.num_points)
    chosen = certainty.topk(num_uncertain, largest=False, sorted=False).indices
    uncertain = candidates.take_along_dim(chosen.unsqueeze(-1), 1)
    return torch.cat([uncertain, random_points((num_masks, config.num_points - num_uncertain), device)], 1)


def mask_losses(
    mask_logits: torch.Tensor, targets: torch.Tensor, is_matched: torch.Tensor, config: PreTrainedConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Binary cross-entropy and dice loss of masks at points of their own, those of all frames together.

    Args:
        mask_logits: `(num_predictions, num_masks, num_frames, mask_height, mask_width)`.
        targets: `(num_masks, num_frames, height, width)`, 0 or 1.
        is_matched: `(num_predictions, num_masks)`, False where another object has the query.
        config: Configuration of the model.

    Returns:
        Each `(num_predictions,)`, sums over the masks.
    """
    places = mask_logits.shape[:3]
    masks = mask_logits.flatten(0, 2)
    points = uncertain_points(masks, config)
    logits = sample_points(masks[:, None], points)[:, 0].unflatten(0, places).flatten(2)
    # All predictions look at the same target, each at points of its own.
    points = points.unflatten(0, (places[0], -1)).transpose(0, 1)
    objects = sample_points(targets.flatten(0, 1)[:, None], points)[:, 0].transpose(0, 1)
    objects = objects.unflatten(1, places[1:]).flatten(2)
    probabilities = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, objects, reduction="none").mean(-1)
    dice = 1 - dice_score((probabilities * objects).sum(-1), probabilities.sum(-1), objects.sum(-1))
    return tuple((values * is_matched).sum(1) for values in (cross_entropy, dice))


def similarity_loss(
    frame_vectors: torch.Tensor, video_vectors: torch.Tensor, frame_queries: torch.Tensor, video_queries: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of telling which matched queries of a clip, of frames and of the clip, are of the same object.

    Frame queries are compared as they were matched. Released code compares those that the association has brought to
    their places, so it takes other queries for them wherever it has changed the order.

    Args:
        frame_vectors: `(S, E, T, N, hidden_size)`.
        video_vectors: `(S, E, N, hidden_size)`.
        frame_queries: `(S, E, T, num_objects)`, -1 for none.
        video_queries: `(S, E, num_objects)`, -1 for none.

    Returns:
        The sum over all pairs of queries with the same clip and layer, each with itself included.
    """
    num_frames, num_objects = frame_queries.shape[2:]
    of_frames = of_objects(frame_vectors, frame_queries).flatten(2, 3)
    of_clip = of_objects(video_vectors, video_queries)
    vectors = torch.cat([of_frames, of_clip], 2)  # (S, E, T * O + O, C)
    is_matched = torch.cat([frame_queries.flatten(2), video_queries], 2) >= 0
    objects = torch.arange(num_objects, device=vectors.device).repeat(num_frames + 1)
    similarity = vectors @ vectors.mT
    is_same = (objects[:, None] == objects).to(similarity.dtype).expand_as(similarity)
    losses = F.binary_cross_entropy_with_logits(similarity, is_same, reduction="none")
    return (losses * (is_matched[..., None] & is_matched[..., None, :])).sum()
