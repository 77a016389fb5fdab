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
"""The columns that every benchmark of the library has, one row for each expression."""

from datasets import Features, List, Value


RLE = {"size": List(Value("int32")), "counts": Value("string")}

# `frames` are names in order; `media_dir` and `mask_dir` are relative to the root given to builder and transform, so
# that moving the data does not invalidate rows. `masks` and `boxes` (xyxy in pixels) have an entry for each frame,
# None where the target is absent; all of `boxes` is None where a benchmark comes with masks only. `masks` are unions;
# `target_masks` has the same for each of several targets, and is None for one, or if masks are not in the row. None in
# `object_ids` means unknown and [] no target; in `annotated_frames` it means all.
FEATURES = Features(
    {
        "dataset": Value("string"),
        "video_id": Value("string"),
        "expression_id": Value("string"),
        "expression": Value("string"),
        "expression_raw": Value("string"),
        "expression_type": Value("string"),
        "object_ids": List(Value("int32")),
        "categories": List(Value("string")),
        "frames": List(Value("string")),
        "media_dir": Value("string"),
        "media_kind": Value("string"),
        "mask_kind": Value("string"),
        "mask_dir": Value("string"),
        "masks": List(RLE),
        "target_masks": List(List(RLE)),
        "boxes": List(List(Value("float64"))),
        "annotated_frames": List(Value("int32")),
        "height": Value("int32"),
        "width": Value("int32"),
        "num_frames": Value("int32"),
    }
)
