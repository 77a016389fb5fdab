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
"""The forms in which COCO files keep masks and boxes, checked and brought to those of the shared schema.

pycocotools is written in C and trusts its input: a damaged code can make it read or write past the end of its memory.
So everything is checked before it gets there.
"""

import math
from typing import Any

import numpy as np


def encode_segmentation(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """The `segmentation` of a COCO annotation as a compressed run-length code.

    Args:
        segmentation: List of polygons `[x1, y1, x2, y2, ...]` in pixels, whose union is meant, or a dict with `"size"`
            and `"counts"`, which are a list of runs or the compressed text.
        height: Of the image.
        width: Of the image.

    Returns:
        `"size"` (`[height, width]`) and `"counts"` (ascii `str`).

    Raises:
        ValueError: if it is none of these or does not fit the image.
    """
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, dict):
        _check_code(segmentation, height, width)
        if isinstance(segmentation["counts"], str):
            return {"size": [height, width], "counts": segmentation["counts"]}
        code = coco_mask.frPyObjects(segmentation, height, width)
    else:
        _check_polygons(segmentation, height, width)
        code = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    return {"size": [height, width], "counts": code["counts"].decode("ascii")}


def box_corners(bbox: Any, height: int, width: int) -> list[float]:
    """The `bbox` of a COCO annotation as xyxy.

    Args:
        bbox: Left, top, width and height in pixels.
        height: Of the image.
        width: Of the image.

    Returns:
        Left, top, right and bottom in pixels.

    Raises:
        ValueError: if it is no box or does not fit the image.
    """
    limit = _farthest_point(height, width)
    if (
        not isinstance(bbox, list)
        or len(bbox) != 4
        or not all(_is_number(value) and abs(value) <= limit for value in bbox)
        or min(bbox[2:]) < 0
    ):
        raise ValueError(
            f"bbox is {str(bbox)[:80]}, expected [left, top, width, height] in a picture of {height}x{width}"
        )
    left, top, box_width, box_height = map(float, bbox)
    return [left, top, left + box_width, top + box_height]


def _farthest_point(height: int, width: int) -> int:
    """Annotators stray over the border, but not by pictures."""
    return 4 * (height + width)


def _check_polygons(polygons: Any, height: int, width: int) -> None:
    if not isinstance(polygons, list) or not polygons:
        raise ValueError(f"segmentation is {str(polygons)[:80]}, expected polygons or a run-length code")
    limit = _farthest_point(height, width)
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(
                f"a polygon is {str(polygon)[:80]}, expected [x1, y1, x2, y2, ...] of three or more points"
            )
        if not all(_is_number(value) and abs(value) <= limit for value in polygon):
            raise ValueError(f"a polygon is {str(polygon)[:80]}, expected points of a picture of {height}x{width}")


def _check_code(code: dict[str, Any], height: int, width: int) -> None:
    if code.get("size") != [height, width]:
        raise ValueError(f"the code has size {code.get('size')}, expected [{height}, {width}] (height, width)")
    counts = code.get("counts")
    runs = _read_runs(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError(f"the code has counts {str(counts)[:80]!r}, expected a list of runs or compressed text")
    if sum(runs) != height * width:
        raise ValueError(f"the code describes {sum(runs)} pixels, expected {height * width}")


def _read_runs(counts: str) -> list[int]:
    """Lengths of the runs of compressed counts: groups of five bits, from the third on as differences."""
    bits = np.frombuffer(counts.encode("utf-32-le"), np.uint32).astype(np.int64) - 48
    if not ((bits >= 0) & (bits < 64)).all():
        raise ValueError(f"the code has counts {counts[:80]!r}, expected the compressed text of COCO")
    if not len(bits) or bits[-1] & 32:
        raise ValueError(f"the code with counts {counts[:80]!r} is cut off, expected the compressed text of COCO")
    ends = np.flatnonzero(bits < 32)
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends - starts + 1
    if lengths.max() > 7:
        raise ValueError(f"the code has counts {counts[:80]!r}, expected the compressed text of COCO")
    places = 5 * (np.arange(len(bits)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((bits & 31) << places, starts)
    runs -= np.where(bits[ends] & 16, 1 << 5 * lengths, 0)
    for first in (1, 2):
        runs[first::2] = runs[first::2].cumsum()
    return runs.tolist()


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
