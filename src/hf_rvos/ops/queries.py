# Copyright 2026 The hf_rvos authors. All rights reserved.
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

"""Choosing among the queries of a clip."""

import torch


def best_query(logits: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
    """The query that a clip is answered with: highest score in the mean over the frames, for its best class.

    Args:
        logits: `(num_expressions, num_queries, num_frames, num_classes)`.
        frame_mask: `(num_expressions, num_frames)`, True at frames that count, or None when all do.

    Returns:
        `(num_expressions,)` indices.
    """
    scores = logits.float().sigmoid()
    if frame_mask is None:
        means = scores.mean(2)
    else:
        means = (scores * frame_mask[:, None, :, None]).sum(2) / frame_mask.sum(1)[:, None, None]
    return means.amax(-1).argmax(1)
