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

"""How SSA was published to see frames and to give masks."""

from typing import Any

from hf_rvos.processing import RvosVideoProcessor


# Of CLIP, as the released code rounds them.
IMAGE_MEAN = tuple(value / 255 for value in (122.771, 116.746, 104.094))
IMAGE_STD = tuple(value / 255 for value in (68.501, 66.632, 70.323))
SIZE_DIVISOR = 32


def build_video_processor(**settings: Any) -> RvosVideoProcessor:
    """A video processor for SSA.

    Args:
        settings: Options of [`RvosVideoProcessor`] that differ, such as `size`; the published sizes are
            `{"shortest_edge": 480, "longest_edge": 1333}` for Ref-YouTube-VOS and Ref-DAVIS17, the default, and 448
            for MeViS.
    """
    return RvosVideoProcessor(
        **{
            "size": {"shortest_edge": 480, "longest_edge": 1333},
            "image_mean": IMAGE_MEAN,
            "image_std": IMAGE_STD,
            "pad_to_multiple_of": SIZE_DIVISOR,
            "round_half_up": True,
            "enlarge_masks_twice": True,
        }
        | settings
    )
