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
"""Configuration of the shifted-window backbone for clips and for single frames."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.backbone_utils import BackboneConfigMixin


@strict
class VideoSwinConfig(BackboneConfigMixin, PreTrainedConfig):
    """Configuration of a [`VideoSwinBackbone`].

    The defaults give Video Swin-T. With a window of one frame, `shrink_window=False` and `normalize_stages=True` the
    same backbone is a Swin that sees every frame alone.

    Args:
        num_channels (`int`, *optional*, defaults to 3):
            Channels of a frame.
        patch_size (`int`, *optional*, defaults to 4):
            Side of a patch in pixels; patches span one frame.
        embed_dim (`int`, *optional*, defaults to 96):
            Channels of the first stage; every later stage doubles them.
        depths (`tuple[int, ...]`, *optional*, defaults to `(2, 2, 6, 2)`):
            Blocks of each stage.
        num_heads (`tuple[int, ...]`, *optional*, defaults to `(3, 6, 12, 24)`):
            Attention heads of each stage.
        window_size (`tuple[int, int, int]`, *optional*, defaults to `(8, 7, 7)`):
            Frames, rows and columns of an attention window. Odd-numbered blocks shift it by half, rounded down.
        shrink_window (`bool`, *optional*, defaults to `True`):
            If a map has at most as many frames, rows or columns as the window, whether the window shrinks to the map
            and is not shifted along that dimension. If False, the map is padded up to the window.
        mlp_ratio (`float`, *optional*, defaults to 4.0):
            Width of the feed-forward layers over that of their stage.
        qkv_bias (`bool`, *optional*, defaults to `True`):
            Whether queries, keys and values have a bias.
        drop_path_rate (`float`, *optional*, defaults to 0.2):
            Probability to skip a residual branch of the last block in training; it grows linearly from 0 at the first.
        normalize_stages (`bool`, *optional*, defaults to `False`):
            Whether a LayerNorm is applied to each exported map. The next stage gets the map without it.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of new weights.
        out_features (`list[str]`, *optional*):
            Stages to export, of `"stage1"`, `"stage2"`, ... If None, all of them.
        out_indices (`list[int]`, *optional*):
            The same by number, from 0. If None, what `out_features` says.

    Example:
        >>> from hf_rvos.models.video_swin import VideoSwinConfig
        >>> VideoSwinConfig(embed_dim=128, num_heads=(4, 8, 16, 32)).out_features
        ['stage1', 'stage2', 'stage3', 'stage4']
    """

    model_type = "video_swin"

    num_channels: int = 3
    patch_size: int = 4
    embed_dim: int = 96
    depths: list[int] | tuple[int, ...] = (2, 2, 6, 2)
    num_heads: list[int] | tuple[int, ...] = (3, 6, 12, 24)
    window_size: list[int] | tuple[int, ...] = (8, 7, 7)
    shrink_window: bool = True
    mlp_ratio: float | int = 4.0
    qkv_bias: bool = True
    drop_path_rate: float | int = 0.2
    normalize_stages: bool = False
    initializer_range: float = 0.02
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs):
        self.stage_names = [f"stage{index}" for index in range(1, len(self.depths) + 1)]
        out_features, out_indices = kwargs.pop("out_features", None), kwargs.pop("out_indices", None)
        if out_features is None and out_indices is None:
            out_features = list(self.stage_names)
        self.set_output_features_output_indices(out_features=out_features, out_indices=out_indices)
        super().__post_init__(**kwargs)

    def validate_architecture(self):
        super().validate_architecture()
        if len(self.num_heads) != len(self.depths):
            raise ValueError(
                f"num_heads has {len(self.num_heads)} entries and depths {len(self.depths)}, expected one per stage"
            )
        for stage, heads in enumerate(self.num_heads):
            if (width := self.embed_dim * 2**stage) % heads:
                raise ValueError(f"stage{stage + 1} is {width} wide, which its {heads} heads do not divide")
        if len(self.window_size) != 3 or min(self.window_size) < 1:
            raise ValueError(
                f"window_size is {tuple(self.window_size)}, expected three positive numbers: frames, rows, columns"
            )
        if not 0 <= self.drop_path_rate < 1:
            raise ValueError(f"drop_path_rate ({self.drop_path_rate}) must be in [0, 1)")


__all__ = ["VideoSwinConfig"]
