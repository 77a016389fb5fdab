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
"""Moving Shapes: a generated benchmark in which every sentence carries the skill it tests."""

from importlib import import_module
from typing import Any

from hf_rvos.data.moving_shapes.config import SPLIT_SIZES, VERSION, MovingShapesConfig
from hf_rvos.data.moving_shapes.generate import MovingShapesVideo, generate_video
from hf_rvos.data.moving_shapes.language import vocabulary
from hf_rvos.data.moving_shapes.sentences import SKILLS


# Imported when first used: `datasets` and the video writer are heavy, and training on the fly needs neither.
_LAZY = {
    "MovingShapes": "builder",
    "draw_clip": "builder",
    "export_mp4": "export",
    "export_ref_youtube_vos": "export",
}

__all__ = [
    "SKILLS",
    "SPLIT_SIZES",
    "VERSION",
    "MovingShapesConfig",
    "MovingShapesVideo",
    "generate_video",
    "vocabulary",
    *_LAZY,
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
