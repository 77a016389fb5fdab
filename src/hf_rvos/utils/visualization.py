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
"""Draw mask tracks over the frames they belong to."""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont


# Colours that stay apart for colour-blind people (Okabe and Ito, Color Universal Design, 2008), with white in place of
# their black, which dark videos would hide.
PALETTE = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (0, 114, 178),  # blue
    (213, 94, 0),  # vermilion
    (204, 121, 167),  # reddish purple
    (255, 255, 255),  # white
)
LEGEND_OPACITY = 0.6  # of the ground behind the text
COMPARISON_HEIGHT = 256  # of a frame, in pixels, to which small ones are enlarged


def draw_masks(
    frame: np.ndarray, masks: Sequence[np.ndarray], labels: Sequence[str] = (), alpha: float = 0.5
) -> np.ndarray:
    """Tint what masks cover, outline it, and write a legend in the top left corner.

    Args:
        frame: `(height, width, 3)` uint8 RGB; not changed.
        masks: Boolean masks `(height, width)`, one for each object; later ones lie on top.
        labels: What the legend says of each mask. None are written if empty.
        alpha: Weight of the colour against the picture, in [0, 1].

    Returns:
        `(height, width, 3)` uint8 RGB.
    """
    drawn = np.array(frame)
    for index, mask in enumerate(masks):
        mask = np.asarray(mask, dtype=bool)
        if mask.shape != frame.shape[:2]:
            raise ValueError(f"masks[{index}] has shape {mask.shape}, expected that of the frame, {frame.shape[:2]}")
        color = PALETTE[index % len(PALETTE)]
        drawn[mask] = np.round((1 - alpha) * drawn[mask] + alpha * np.array(color)).astype(np.uint8)
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outlines, -1, color, thickness=1 if min(mask.shape) < 480 else 2)
    if labels:
        legend = _legend(tuple(labels), frame.shape[0], frame.shape[1])
        corner = drawn[: legend.shape[0], : legend.shape[1]]
        opacity = legend[..., 3:] / 255
        corner[:] = np.round((1 - opacity) * corner + opacity * legend[..., :3])
    return drawn


def draw_comparison(
    frames: np.ndarray, predicted: np.ndarray, target: np.ndarray, lines: Sequence[str], num_frames: int = 4
) -> np.ndarray:
    """Put some frames of a video side by side, all but the prediction darkened, the truth outlined in white.

    Args:
        frames: `(video_length, height, width, 3)` uint8 RGB; small ones are enlarged.
        predicted: Boolean masks `(video_length, height, width)`.
        target: True masks, same shape.
        lines: Text above the frames.
        num_frames: How many frames are shown, from the first to the last at equal distances.

    Returns:
        `(strip_height, strip_width, 3)` uint8 RGB.
    """
    scale = max(1, round(COMPARISON_HEIGHT / frames.shape[1]))
    drawn = []
    for index in np.unique(np.linspace(0, len(frames) - 1, num_frames).round().astype(int)):
        frame, mask, true_mask = (
            np.asarray(image)[index].repeat(scale, axis=0).repeat(scale, axis=1)
            for image in (frames, predicted, target)
        )
        # Not a tint, which could have the colour of the object itself.
        picture = np.where(mask[..., None], frame, (frame * 0.4).astype(np.uint8))
        outlines, _ = cv2.findContours(true_mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        # Black on both sides of the white line, which would be lost on a white object.
        for color, thickness in ((0, 0, 0), 5), ((255, 255, 255), 3):
            cv2.drawContours(picture, outlines, -1, color, thickness)
        drawn.append(np.pad(picture, [(0, 0), (0, 4), (0, 0)]))
    strip = np.concatenate(drawn, axis=1)[:, :-4]

    font = ImageFont.load_default(COMPARISON_HEIGHT // 14)
    line_height = round(font.size * 1.4)
    header = Image.new("RGB", (strip.shape[1], line_height * len(lines) + font.size // 2))
    draw = ImageDraw.Draw(header)
    for number, line in enumerate(lines):
        text = _shorten(line, font, header.width - font.size)
        draw.text((font.size / 2, font.size / 4 + line_height * (number + 0.5)), text, font=font, anchor="lm")
    return np.concatenate([np.asarray(header), strip])


@lru_cache(maxsize=8)
def _legend(labels: tuple[str, ...], frame_height: int, frame_width: int) -> np.ndarray:
    """A coloured square and the text of each label, `(height, width, 4)` uint8 RGBA, at most as large as the frame."""
    font_size = min(max(10, frame_height // 25), max(6, frame_height // (2 * len(labels))))
    font = ImageFont.load_default(font_size)
    line, margin = round(font_size * 1.4), round(font_size * 0.4)
    text_left = 2 * margin + font_size
    room = frame_width - text_left - margin
    labels = [_shorten(label, font, room) for label in labels]
    width = text_left + margin + max(int(np.ceil(font.getlength(label))) for label in labels)
    image = Image.new("RGBA", (width, line * len(labels) + margin), (0, 0, 0, round(255 * LEGEND_OPACITY)))
    draw = ImageDraw.Draw(image)
    for index, label in enumerate(labels):
        top = margin + line * index
        draw.rectangle((margin, top, margin + font_size - 1, top + font_size - 1), fill=PALETTE[index % len(PALETTE)])
        draw.text((text_left, top + font_size / 2), label, font=font, fill="white", anchor="lm")
    return np.asarray(image)[:frame_height, :frame_width]


def _shorten(text: str, font: ImageFont.FreeTypeFont, room: int) -> str:
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"
