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
"""Recorded backbone outputs of the released code, shared by the parity tests of all backbones."""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from hf_rvos.backbones import convert_backbone_state_dict, extract_frame_features
from tests.parity.official_weights import normal, official_state_dict


# The recordings differ from a float64 run by at most 1e-5; typical mistakes move features by 1e-2 or more.
TOLERANCE = 1e-4


class BackboneRecording:
    """One parity case of `folder`: weights, inputs and what the released backbone made of them."""

    def __init__(self, folder: Path, case: str):
        self.case = json.loads((folder / f"{case}.json").read_text())
        self.arrays = np.load(folder / f"{case}.npz")
        self.keys_file = folder / f"{case}.keys.json"

    def load_weights(self, backbone: torch.nn.Module) -> None:
        prefix = "backbone.0.body."
        released = official_state_dict(self.keys_file, self.case["seed"])
        released = {name.removeprefix(prefix): value for name, value in released.items() if name.startswith(prefix)}
        backbone.load_state_dict(convert_backbone_state_dict(released, backbone.config), strict=True)

    def clips(self, name: str) -> torch.Tensor:
        """`(batch_size, num_frames, 3, height, width)`, padded as the released loaders do."""
        entry = self.case["inputs"][name]
        clips = [torch.from_numpy(normal(**clip["pixel_values"], seed=self.case["seed"])) for clip in entry["videos"]]
        divisor = entry["size_divisor"]
        height, width = (-(-max(clip.shape[axis] for clip in clips) // divisor) * divisor for axis in (-2, -1))
        return torch.stack([F.pad(clip, (0, width - clip.shape[-1], 0, height - clip.shape[-2])) for clip in clips])

    def check(self, backbone: torch.nn.Module, name: str) -> None:
        feature_maps = extract_frame_features(backbone, self.clips(name))
        for level, feature_map in enumerate(feature_maps):
            key = f"backbone_features_{level}"
            about = self.case["outputs"][name][key]
            assert list(feature_map.shape) == about["shape"]
            found = feature_map.flatten()[:: about["stride"]][: about["count"]]
            expected = torch.from_numpy(self.arrays[f"{name}/{key}"]).flatten()
            torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)
