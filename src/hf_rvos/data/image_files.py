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
"""Files of data sets: JPEG frames, PNG masks with a palette, JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError


# Full colour resolution and high quality: in small frames the defaults of JPEG fray every outline.
JPEG_OPTIONS = {"quality": 95, "subsampling": 0}

# Modes of PNG files whose pixel values are labels; reading other modes as labels would make labels up.
INDEX_MODES = ("P", "L", "1")


def voc_palette() -> list[int]:
    """The 256 colours of indexed masks in Pascal VOC, DAVIS and YouTube-VOS, as one flat list of 768 values."""
    colors = []
    for index in range(256):
        # Bits 0, 3, 6 of the index make the top bits of red, bits 1, 4, 7 of green, bits 2, 5 of blue.
        colors += [sum((index >> 3 * bit + channel & 1) << 7 - bit for bit in range(8)) for channel in range(3)]
    return colors


_PALETTE = voc_palette()


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that people can read too."""
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def write_jpeg(path: Path, frame: np.ndarray) -> None:
    """Write a frame, `(height, width, 3)` uint8 RGB."""
    Image.fromarray(frame).save(path, **JPEG_OPTIONS)


def write_index_png(path: Path, labels: np.ndarray) -> None:
    """Write object ids, `(height, width)` uint8, as a PNG in palette mode."""
    indexed = Image.fromarray(labels)
    indexed.putpalette(_PALETTE)
    indexed.save(path)


def write_mask_png(path: Path, mask: np.ndarray) -> None:
    """Write a mask, `(height, width)` boolean, as a black and white PNG: 0 and 255, one channel."""
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def read_index_png(path: Path) -> np.ndarray:
    """Read a PNG whose pixel values are object ids, or grey levels.

    Args:
        path: A file with one channel: a palette (P) or grey levels (L, 1).

    Returns:
        `(height, width)` uint8, the stored values.

    Raises:
        ValueError: if it is missing or damaged, or has colours.
    """
    with open_image(path) as image:
        if image.mode not in INDEX_MODES:
            raise ValueError(
                f"masks: {str(path)!r} is in mode {image.mode}, expected one of {', '.join(INDEX_MODES)}: object ids "
                "are the palette indices, and colours cannot be turned back into them; save the indices"
            )
        return np.array(image, dtype=np.uint8)


def open_image(path: Path) -> Image.Image:
    """An image with its pixels read."""
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError:
        raise ValueError(f"row: there is no file {str(path)!r}") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"row: {str(path)!r} is damaged or no image ({error})") from error
    return image
