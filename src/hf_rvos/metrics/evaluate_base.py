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
"""What the modules for `evaluate` share: masks as arrays or run-length codes, stored as run-length codes.

Arrow keeps run-length codes ten times as fast as pixels, and the frames of different videos may differ in size.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
import torch

from hf_rvos.metrics.detections import as_rle
from hf_rvos.metrics.expressions import Masks


CITATION = """\
@inproceedings{perazzi2016benchmark,
  title={A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation},
  author={Perazzi, Federico and Pont-Tuset, Jordi and McWilliams, Brian and Van Gool, Luc and Gross, Markus and
    Sorkine-Hornung, Alexander},
  booktitle={CVPR},
  year={2016}
}
"""
RLE_FEATURE = {"size": datasets.List(datasets.Value("int32")), "counts": datasets.Value("string")}
TRACK_FEATURE = datasets.List(RLE_FEATURE)


def encode_mask(mask: Any) -> dict[str, Any]:
    """One mask, an array or a run-length code, as Arrow keeps it."""
    rle = as_rle(mask if isinstance(mask, (Mapping, np.ndarray, torch.Tensor)) else np.asarray(mask))
    counts = rle["counts"]
    return {
        "size": [int(side) for side in rle["size"]],
        "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
    }


def encode_track(masks: Masks) -> list[dict[str, Any]]:
    """The masks of a video, None where there is nothing, as Arrow keeps them."""
    # Not None, because Arrow cannot tell the type of a batch that is None throughout.
    return [{"size": [], "counts": ""} if mask is None else encode_mask(mask) for mask in masks]


def decode_track(rles: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any] | None]:
    """The reverse of `encode_track`, as run-length codes."""
    return [rle if rle["size"] else None for rle in rles]


class EncodedMetric(evaluate.Metric):
    """A metric that encodes its inputs as they are added; `encode` has a function by the name of the input."""

    encode: dict[str, Any] = {}

    def add_batch(self, *, predictions: Sequence | None = None, references: Sequence | None = None, **kwargs):
        """Add samples; masks are arrays or run-length codes in the form of COCO."""
        batch = {"predictions": predictions, "references": references, **kwargs}
        super().add_batch(**{name: self._encoded(name, values) for name, values in batch.items()})

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs):
        """Add one sample; masks are arrays or run-length codes in the form of COCO."""
        kwargs = {name: [value] for name, value in kwargs.items()}
        self.add_batch(predictions=[prediction], references=[reference], **kwargs)

    def _encoded(self, name: str, values: Sequence | None) -> list | None:
        encode = self.encode.get(name)
        return values if values is None or encode is None else [encode(value) for value in values]

    def _check_not_empty(self, references: Sequence) -> None:
        if not len(references):
            raise ValueError(f"{self.name}: there are no predictions and references, expected at least one of each")
