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
"""Mask tracks in the compressed run-length form of COCO, as benchmarks store and expect them."""

from collections.abc import Sequence

import numpy as np


def encode_rle(masks: np.ndarray) -> list[dict]:
    """Compress a mask track.

    Args:
        masks: `(num_frames, height, width)`, anything non-zero is foreground.

    Returns:
        One dict for each frame, ready for JSON: `"size"` (`[height, width]`) and `"counts"` (ascii `str`).

    Raises:
        ValueError: if `masks` is not a track.
    """
    from pycocotools import mask as coco_mask

    masks = np.asarray(masks)
    if masks.ndim != 3:
        raise ValueError(
            f"masks has shape {masks.shape}, expected (num_frames, height, width). A single mask needs a leading "
            "frame dimension, e.g. mask[None]."
        )
    # COCO counts down the columns and wants the frames last, in Fortran order.
    columns = np.asfortranarray((masks != 0).transpose(1, 2, 0), dtype=np.uint8)
    return [
        {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
        for rle in coco_mask.encode(columns)
    ]


def decode_rle(rles: Sequence[dict]) -> np.ndarray:
    """Restore the mask track that `encode_rle` compressed.

    Args:
        rles: One dict for each frame, with `"size"` and compressed `"counts"` as `str` or `bytes`.

    Returns:
        `(num_frames, height, width)` boolean.

    Raises:
        ValueError: if there is no frame, or if the sizes of the frames differ.
    """
    from pycocotools import mask as coco_mask

    sizes = {tuple(rle["size"]) for rle in rles}
    if len(sizes) != 1:
        raise ValueError(
            f"rles has {len(rles)} frames with the sizes {sorted(sizes)}, expected one or more frames of one size."
        )
    return np.ascontiguousarray(coco_mask.decode(list(rles)).transpose(2, 0, 1)).astype(bool)


def merge_rle(rles: Sequence[dict]) -> dict:
    """The union of masks, without decoding them.

    Args:
        rles: One or more dicts with `"size"` and compressed `"counts"` as `str` or `bytes`.

    Returns:
        A dict like those of `encode_rle`.

    Raises:
        ValueError: if there is no mask, or if the sizes differ.
    """
    from pycocotools import mask as coco_mask

    sizes = {tuple(rle["size"]) for rle in rles}
    if len(sizes) != 1:
        raise ValueError(f"rles has {len(rles)} masks of the sizes {sorted(sizes)}, expected one or more of one size.")
    if len(rles) > 1:
        rles = [coco_mask.merge([{"size": rle["size"], "counts": rle["counts"]} for rle in rles])]
    counts = rles[0]["counts"]
    size = [int(side) for side in rles[0]["size"]]
    return {"size": size, "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}
