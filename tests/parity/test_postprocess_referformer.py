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
"""Masks, detections and label maps from pixels on, as the official evaluation scripts made them.

The protocols themselves are tested with recorded predictions in `tests/processing`; here everything runs together.
"""

import numpy as np
import pytest
import torch

from hf_rvos import RvosVideoProcessor
from tests.parity.test_parity_referformer import FIXTURES, Case


# Pixels whose logit is within rounding of the threshold may fall on either side.
MOST_DIFFERENT_PIXELS = 10


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(FIXTURES, "tiny-videoswin", tmp_path_factory.mktemp("case"))


def count_different(masks: torch.Tensor, case: Case, name: str) -> int:
    return int((masks.numpy() != case.arrays[name].reshape(masks.shape)).sum())


def test_youtube_vos_track_equals_the_official_one(case):
    recorded = case.description["postprocess"]["youtube_vos"]
    with torch.no_grad():
        outputs = case.model(**case.inputs(recorded["input"]), queries="best")
    (track,) = RvosVideoProcessor().post_process_referring_video_segmentation(
        outputs, target_sizes=[recorded["original_size"]]
    )
    assert track["query_index"] == recorded["selected_query"]
    assert track["score"] == pytest.approx(max(recorded["query_scores"]), abs=1e-5)
    assert count_different(track["masks"], case, recorded["masks"]) <= MOST_DIFFERENT_PIXELS


def test_davis_label_map_equals_the_official_one(case):
    recorded = case.description["postprocess"]["davis"]
    texts = [torch.tensor(input_ids) for input_ids in recorded["objects_input_ids"]]
    inputs = case.inputs(recorded["input"])
    inputs["input_ids"] = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=1)
    inputs["attention_mask"] = (inputs["input_ids"] != 1).long()
    with torch.no_grad():
        outputs = case.model(**inputs, video_index=torch.tensor([0, 0]), queries="best")
    assert outputs.query_index.tolist() == recorded["selected_queries"]
    (labels,) = RvosVideoProcessor().post_process_davis(outputs, target_size=recorded["original_size"])
    assert count_different(labels, case, recorded["labels"]) <= MOST_DIFFERENT_PIXELS
    fractions = [(labels == label).double().mean().item() for label in range(3)]
    np.testing.assert_allclose(fractions, recorded["label_fractions"], atol=1e-4)


def test_a2d_detections_equal_the_official_ones(case):
    recorded = case.description["postprocess"]["a2d"]
    inputs = case.inputs(recorded["input"])
    with torch.no_grad():
        outputs = case.model(**inputs)
    processor = RvosVideoProcessor()
    detections = processor.post_process_instance_segmentation(
        outputs,
        target_sizes=recorded["original_sizes"],
        input_sizes=[(height, width) for _, height, width in processor.unpadded_sizes(inputs["pixel_mask"])],
    )
    for index, detection in enumerate(detections):
        order = detection["query_indices"].argsort()
        np.testing.assert_allclose(detection["scores"][order], recorded["scores"][index], atol=1e-5)
        assert count_different(detection["masks"][order], case, recorded["masks"][index]) <= MOST_DIFFERENT_PIXELS
