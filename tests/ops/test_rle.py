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
import json

import numpy as np
import pytest

from hf_rvos.ops.rle import decode_rle, encode_rle, merge_rle


def test_decoding_restores_the_track():
    masks = np.random.default_rng(0).random((5, 13, 7)) > 0.6
    masks[2] = False
    masks[3] = True
    assert np.array_equal(decode_rle(encode_rle(masks)), masks)


def test_codes_survive_json():
    masks = np.eye(6, dtype=np.uint8)[None] * 255
    rles = json.loads(json.dumps(encode_rle(masks)))
    assert rles[0]["size"] == [6, 6]
    assert np.array_equal(decode_rle(rles), masks > 0)


def test_runs_go_down_the_columns():
    mask = np.zeros((1, 3, 4), dtype=bool)
    mask[0, :, 1] = True
    # Three background, three foreground, six background pixels; COCO writes a small number n as chr(n + 48).
    assert encode_rle(mask)[0]["counts"] == "336"


def test_single_mask_without_frames_is_refused():
    with pytest.raises(ValueError, match="frame dimension"):
        encode_rle(np.zeros((4, 5), dtype=bool))


def test_frames_of_different_sizes_are_refused():
    rles = encode_rle(np.zeros((1, 4, 5))) + encode_rle(np.zeros((1, 5, 4)))
    with pytest.raises(ValueError, match=r"\(4, 5\), \(5, 4\)"):
        decode_rle(rles)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_merging_gives_the_code_of_the_union(count):
    masks = np.random.default_rng(0).random((count, 13, 7)) > 0.6
    assert merge_rle(encode_rle(masks)) == encode_rle(masks.any(0)[None])[0]


def test_masks_of_different_sizes_are_not_merged():
    with pytest.raises(ValueError, match=r"2 masks of the sizes \[\(4, 5\), \(5, 4\)\]"):
        merge_rle(encode_rle(np.zeros((1, 4, 5))) + encode_rle(np.zeros((1, 5, 4))))
