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
import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError

from hf_rvos.models.video_swin import VideoSwinConfig


def test_defaults_export_all_stages():
    assert VideoSwinConfig().out_features == ["stage1", "stage2", "stage3", "stage4"]


@pytest.mark.parametrize("fields", [{}, {"out_indices": [1, 3], "window_size": (1, 7, 7), "normalize_stages": True}])
def test_config_is_the_same_after_a_trip_through_disk(fields, tmp_path):
    config = VideoSwinConfig(**fields)
    config.save_pretrained(tmp_path)
    loaded = VideoSwinConfig.from_pretrained(tmp_path)
    assert loaded.to_diff_dict() == config.to_diff_dict()
    assert loaded.out_features == config.out_features


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depths": (2, 2)}, "num_heads has 4 entries and depths 2"),
        ({"num_heads": (5, 6, 12, 24)}, "stage1 is 96 wide, which its 5 heads do not divide"),
        ({"window_size": (7, 7)}, r"window_size is \(7, 7\)"),
        ({"window_size": (0, 7, 7)}, r"window_size is \(0, 7, 7\)"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate \(1.0\)"),
    ],
)
def test_impossible_architecture_is_refused_with_its_numbers(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        VideoSwinConfig(**fields)


def test_wrong_type_is_refused():
    with pytest.raises(StrictDataclassFieldValidationError):
        VideoSwinConfig(embed_dim="large")
