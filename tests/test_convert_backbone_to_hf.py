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
import torch.nn.functional as F
from transformers import TimmBackbone

from hf_rvos.backbones import backbone_config, infer_backbone_config, load_backbone
from hf_rvos.convert_backbone_to_hf import convert_checkpoint
from hf_rvos.models.video_swin import VideoSwinBackbone
from tests.cli.commands import run


def released_swin(table_rows: int, patches: tuple[int, ...], depths: tuple[int, ...] = (1, 1, 2, 1)) -> dict:
    """Tensors of a small Swin as its authors name them, with the classifier's norm and buffers."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.1

    width, weights = 8, {}

    def add(name: str, *shape: int) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = draw(*shape), draw(shape[0])

    add("patch_embed.proj", width, 3, *patches)
    add("patch_embed.norm", width)
    for stage, depth in enumerate(depths):
        size = width * 2**stage
        for number in range(depth):
            block = f"layers.{stage}.blocks.{number}"
            weights[f"{block}.attn.relative_position_bias_table"] = draw(table_rows, 2)
            weights[f"{block}.attn.relative_position_index"] = torch.zeros(4, 4, dtype=torch.long)
            for name, *shape in (
                ("norm1", size),
                ("attn.qkv", 3 * size, size),
                ("attn.proj", size, size),
                ("norm2", size),
                ("mlp.fc1", 4 * size, size),
                ("mlp.fc2", size, 4 * size),
            ):
                add(f"{block}.{name}", *shape)
        if stage < 3:
            add(f"layers.{stage}.downsample.norm", 4 * size)
            weights[f"layers.{stage}.downsample.reduction.weight"] = draw(2 * size, 4 * size)
    add("norm", size)
    return weights


def kinetics_file(folder, **options):
    """Path of a checkpoint in the layout of Video Swin, and its tensors of the backbone."""
    weights = released_swin(2535, (2, 4, 4), **options)
    content = {f"backbone.{name}": tensor for name, tensor in weights.items()}
    content["cls_head.fc_cls.weight"] = torch.zeros(400, 64)
    torch.save({"meta": {"epoch": 30, "config": "model = dict()"}, "state_dict": content}, folder / "kinetics.pth")
    return folder / "kinetics.pth", weights


def test_video_swin_of_kinetics_is_read_with_the_sizes_of_its_tensors(tmp_path):
    path, weights = kinetics_file(tmp_path)
    result = run("convert", "--model", "backbone", "--checkpoint", path, "--output", tmp_path / "swin")
    assert result.exit_code == 0, result.output
    backbone = VideoSwinBackbone.from_pretrained(tmp_path / "swin")
    assert (backbone.config.embed_dim, list(backbone.config.depths)) == (8, [1, 1, 2, 1])
    assert list(backbone.config.window_size) == [8, 7, 7] and not backbone.config.normalize_stages
    loaded = backbone.state_dict()
    name = "layers.2.blocks.1.attn.qkv.weight"
    assert torch.equal(loaded[name], weights[name])
    assert torch.equal(loaded["downsamples.1.norm.bias"], weights["layers.1.downsample.norm.bias"])
    assert not [name for name in loaded if name.startswith(("norm", "cls_head"))]


def test_patches_of_a_still_clip_are_those_of_the_released_filters(tmp_path):
    path, weights = kinetics_file(tmp_path)
    backbone = convert_checkpoint(path, tmp_path / "swin")
    clip = torch.randn(1, 3, 1, 8, 12, generator=torch.Generator().manual_seed(1)).expand(1, 3, 2, 8, 12)
    name = "patch_embed.proj"
    expected = F.conv3d(clip, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=(2, 4, 4))
    found = F.conv3d(
        clip[:, :, :1], backbone.state_dict()[f"{name}.weight"], weights[f"{name}.bias"], stride=(1, 4, 4)
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_swin_of_imagenet_exports_its_maps_through_norms_that_change_nothing(tmp_path):
    weights = released_swin(169, (4, 4)) | {"head.weight": torch.zeros(9, 64), "head.bias": torch.zeros(9)}
    weights["layers.0.blocks.0.attn_mask"] = torch.zeros(4, 49, 49)
    torch.save({"model": weights}, tmp_path / "imagenet.pth")
    backbone = convert_checkpoint(tmp_path / "imagenet.pth", tmp_path / "swin")
    assert list(backbone.config.window_size) == [1, 7, 7] and not backbone.config.shrink_window
    assert torch.equal(backbone.state_dict()["norm3.weight"], torch.ones(64))
    assert not backbone.state_dict()["norm3.bias"].any()


def test_resnet_of_torchvision_is_read_back_from_its_folder(tmp_path):
    config = backbone_config("resnet50")
    weights = {name.removeprefix("_backbone."): value for name, value in TimmBackbone(config).state_dict().items()}
    content = weights | {"bn1.num_batches_tracked": torch.tensor(7), "fc.weight": torch.zeros(1000, 2048)}
    torch.save(content, tmp_path / "resnet50.pth")
    convert_checkpoint(tmp_path / "resnet50.pth", tmp_path / "resnet")
    backbone = load_backbone(tmp_path / "resnet")
    assert backbone.config.freeze_batch_norm_2d and backbone.channels == [256, 512, 1024, 2048]
    assert torch.equal(backbone.state_dict()["_backbone.layer4.2.conv3.weight"], weights["layer4.2.conv3.weight"])


def test_named_size_keeps_its_stochastic_depth():
    weights = {
        f"layers.{stage}.blocks.{number}.norm1.weight": torch.zeros(1)
        for stage, depth in enumerate((2, 2, 18, 2))
        for number in range(depth)
    }
    weights |= {
        f"layers.{stage}.blocks.0.attn.relative_position_bias_table": torch.zeros(169, heads)
        for stage, heads in enumerate((4, 8, 16, 32))
    }
    weights["patch_embed.proj.weight"] = torch.zeros(128, 3, 4, 4)
    assert infer_backbone_config(weights).to_dict() == backbone_config("swin-b").to_dict()


def test_window_of_another_size_is_named_with_config(tmp_path):
    torch.save({"model": released_swin(529, (4, 4))}, tmp_path / "large_window.pth")
    with pytest.raises(ValueError, match=r"relative_position_bias_table has shape \(529, 2\).*--config"):
        convert_checkpoint(tmp_path / "large_window.pth", tmp_path / "swin")
    assert not (tmp_path / "swin").exists()
    backbone = convert_checkpoint(
        tmp_path / "large_window.pth", tmp_path / "swin", config={"window_size": [1, 12, 12]}
    )
    assert list(backbone.config.window_size) == [1, 12, 12]


def test_other_weights_are_refused(tmp_path):
    torch.save({"state_dict": {"backbone.conv.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="no tensors of a ResNet, Swin or Video Swin backbone"):
        convert_checkpoint(tmp_path / "other.pth", tmp_path / "other")


def test_tokenizer_is_refused(tmp_path):
    path, _ = kinetics_file(tmp_path)
    with pytest.raises(ValueError, match="^tokenizer is 'roberta-base', but a backbone has none"):
        convert_checkpoint(path, tmp_path / "swin", tokenizer="roberta-base")
