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
"""Predictors that know what they will say, in place of a model."""

from dataclasses import dataclass

import numpy as np


@dataclass
class KnownClip:
    """What `Answers` says of a clip."""

    rows: list
    positions: range
    answer: object
    score: float | None
    box: object = None

    def track(self, index):
        return {"masks": self.answer(self.rows[index])[list(self.positions)], "score": self.score}

    def label_maps(self, groups):
        for group in groups:
            maps = np.zeros_like(self.track(group[0])["masks"], np.uint8)
            for label, index in enumerate(group, start=1):
                maps[self.track(index)["masks"]] = label
            yield maps

    def detections(self, index, resize_logits):
        boxes = {} if self.box is None else {"boxes": [self.box(self.rows[index])]}
        return {"masks": self.track(index)["masks"], "scores": np.ones(1)} | boxes


class Answers:
    """Answers each row with `answer(row)`, masks `(num_frames, height, width)`.

    Args:
        answer: Gives the masks.
        clip_length: Frames that are said together.
        score: How sure it is.
        box: Gives the box of a single frame, xyxy in pixels; there is none if it is None.
    """

    model_type = None

    def __init__(self, answer, clip_length=36, score=None, box=None):
        self.answer, self.clip_length, self.score, self.box = answer, clip_length, score, box
        self.asked, self.windows = [], []

    def prepare(self, rows, protocol):
        return {}

    def clips(self, rows, root=None):
        self.asked.append([row["expression_id"] for row in rows])
        length = rows[0]["num_frames"]
        for start in range(0, length, self.clip_length):
            yield KnownClip(rows, range(start, min(start + self.clip_length, length)), self.answer, self.score)

    def annotated_frame(self, rows, root, window, position):
        self.asked.append([row["expression_id"] for row in rows])
        self.windows.append((window, position))
        return KnownClip(rows, range(window[position], window[position] + 1), self.answer, 0.5, self.box)
