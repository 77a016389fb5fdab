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
import torch
from transformers import PreTrainedModel, TimmBackbone

from hf_rvos.backbones import BACKBONE_NAMES, backbone_config, extract_frame_features, freeze_stem
from hf_rvos.models.video_swin import VideoSwinBackbone
from tests.parity.backbone_recording import BackboneRecording


# Trained parameters of each backbone as the released models have them, and the channels of their stages.
RELEASED = {
    "resnet50": (23_454_912, [256, 512, 1024, 2048]),
    "resnet101": (42_394_816, [256, 512, 1024, 2048]),
    "swin-t": (27_520_698, [96, 192, 384, 768]),
    "swin-s": (48_838_602, [96, 192, 384, 768]),
    "swin-b": (86_745_016, [128, 256, 512, 1024]),
    "swin-l": (194_998_164, [192, 384, 768, 1536]),
    "video-swin-t": (27_844_326, [96, 192, 384, 768]),
    "video-swin-s": (49_502_934, [96, 192, 384, 768]),
    "video-swin-b": (87_630_792, [128, 256, 512, 1024]),
}


def build(name: str, **overrides) -> PreTrainedModel:
    config = backbone_config(name, **overrides)
    return (TimmBackbone if config.model_type == "timm_backbone" else VideoSwinBackbone)(config).eval()


@pytest.mark.parametrize("name", BACKBONE_NAMES)
def test_named_backbone_has_the_size_of_the_released_one(name):
    with torch.device("meta"):
        backbone = build(name)
    num_parameters, channels = RELEASED[name]
    assert sum(parameter.numel() for parameter in backbone.parameters()) == num_parameters
    assert backbone.channels == channels


def test_released_spelling_names_the_same_backbone():
    assert backbone_config("video_swin_b_p4w7").to_dict() == backbone_config("video-swin-b").to_dict()


def test_overrides_win_over_the_name():
    config = backbone_config("swin-t", drop_path_rate=0.0)
    assert config.drop_path_rate == 0.0
    assert config.window_size == (1, 7, 7)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="'resnet18' is unknown, expected one of: resnet50, "):
        backbone_config("resnet18")


@torch.no_grad()
def test_resnet_feature_maps_equal_those_of_the_released_code(fixtures_dir):
    recording = BackboneRecording(fixtures_dir / "parity/referformer", "tiny-resnet")
    backbone = build("resnet50")
    recording.load_weights(backbone)
    for name in ("padded", "batch2", "inference", "image"):
        recording.check(backbone, name)


@pytest.mark.parametrize("name", ["resnet50", "video-swin-t"])
def test_freeze_stem_stops_gradients_in_the_first_stage_of_a_resnet_only(name):
    backbone = build(name)
    freeze_stem(backbone)
    frozen = {parameter_name.split(".")[1] for parameter_name, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == ({"conv1", "layer1"} if name == "resnet50" else set())


@torch.no_grad()
def test_image_backbone_gets_the_frames_of_a_clip_side_by_side():
    backbone = build("resnet50")
    clips = torch.randn(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    together = extract_frame_features(backbone, clips)
    alone = extract_frame_features(backbone, clips[1:, :1])
    for maps, frame in zip(together, alone, strict=True):
        torch.testing.assert_close(maps[2:3], frame)
