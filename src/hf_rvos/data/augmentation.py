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
"""Random changes of a training clip: colours of each frame, size and crop of the clip, its mirror image."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from hf_rvos.data.transforms import mirror_expression, resize_clip
from hf_rvos.processing.video_processing_rvos import resized_size


_RANGES = ("contrast", "saturation", "crop_range")
_SIDES = ("short_sides", "crop_short_sides", "cropped_short_sides")
_PROBABILITIES = ("flip_probability", "photometric_probability", "channel_shuffle_probability", "crop_probability")


@dataclass(frozen=True)
class ClipAugmentation:
    """Augment a clip together with its masks and expressions. As it stands, nothing is changed.

    Size, crop and flip are the same for all frames of a clip, colours are drawn for each frame. A flip exchanges left
    and right in the expressions, as whole words (released code exchanges parts of words, and "bright" becomes
    "bleft").

    Colours are clipped to [0, 255] after each change. Released code lets them wrap around where it goes back to bytes,
    and takes red for blue while it turns hues, which comes to the same since hues are turned both ways.

    Args:
        flip_probability: How often a clip is mirrored; in SOC 0.31, the share of normal draws above 0.5.
        photometric_probability: How often each of brightness, contrast, saturation and hue of a frame is changed.
        brightness: Most that is added to or taken from all values.
        contrast: Range of the factor of all values, used before or after saturation and hue with equal chances.
        saturation: Range of the factor of the saturation.
        hue: Most degrees by which hues are turned.
        channel_shuffle_probability: How often the colour channels of a frame are put into a random order.
        photometric_after_resize: Change colours at the size that the model sees, not at that of the files.
        short_sides: Lengths of the shorter side in pixels, of which one is drawn; None keeps the size.
        max_long_side: Most pixels of the longer side; None for no limit.
        crop_probability: How often a clip is resized, cropped, and then resized again.
        crop_short_sides: Lengths of the shorter side before a crop, whatever the longer side is.
        crop_range: Least and most pixels of each side of a crop. A frame that is smaller than the least is not cropped
            along that side, where released code stops.
        cropped_short_sides: Lengths of the shorter side after a crop, with a limit of their own; None takes
            `short_sides` and `max_long_side`.
        cropped_max_long_side: Limit of the longer side for `cropped_short_sides`.

    Raises:
        ValueError: if a range is no range, or a probability none.
    """

    flip_probability: float = 0.0
    photometric_probability: float = 0.5
    brightness: float = 0.0
    contrast: tuple[float, float] = (1.0, 1.0)
    saturation: tuple[float, float] = (1.0, 1.0)
    hue: float = 0.0
    channel_shuffle_probability: float = 0.0
    photometric_after_resize: bool = False
    short_sides: tuple[int, ...] | None = None
    max_long_side: int | None = None
    crop_probability: float = 0.0
    crop_short_sides: tuple[int, ...] = (400, 500, 600)
    crop_range: tuple[int, int] = (384, 600)
    cropped_short_sides: tuple[int, ...] | None = None
    cropped_max_long_side: int | None = None

    def __post_init__(self):
        for name in _PROBABILITIES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected a number from 0 to 1")
        for name in _RANGES:
            value = tuple(getattr(self, name))
            if len(value) != 2 or not 0 <= value[0] <= value[1]:
                raise ValueError(f"{name} is {value}, expected its least and its greatest value")
            object.__setattr__(self, name, value)
        for name in _SIDES:
            if (value := getattr(self, name)) is not None:
                if not isinstance(value, (list, tuple)) or not value or min(value) < 1:
                    raise ValueError(f"{name} is {value!r}, expected a list of lengths in pixels")
                object.__setattr__(self, name, tuple(value))
        if min(self.brightness, self.hue) < 0:
            raise ValueError(f"brightness ({self.brightness}) and hue ({self.hue}) must be at least 0")

    def __call__(
        self, frames: torch.Tensor, masks: torch.Tensor, expressions: list[str], generator: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        """
        Args:
            frames: `(num_frames, 3, height, width)` uint8, RGB.
            masks: `(num_expressions, num_annotated, height, width)` boolean.
            expressions: One for each row of `masks`.
            generator: Source of all draws.

        Returns:
            The three as changed. An object may have left the clip.
        """
        if not self.photometric_after_resize:
            frames = self._change_colors(frames, generator)
        frames, masks = self._resize(frames, masks, generator)
        # In a mirror everything else is drawn from the same values, so it costs least at the final size.
        if generator.random() < self.flip_probability:
            frames, masks = frames.flip(-1), masks.flip(-1)
            expressions = [mirror_expression(expression) for expression in expressions]
        if self.photometric_after_resize:
            frames = self._change_colors(frames, generator)
        return frames, masks, expressions

    def _resize(
        self, frames: torch.Tensor, masks: torch.Tensor, generator: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        short_sides, max_long_side = self.short_sides, self.max_long_side
        if generator.random() < self.crop_probability:
            frames, masks = _resize_short_side(frames, masks, self.crop_short_sides, None, generator)
            crop = []
            for side in frames.shape[-2:]:
                least, most = (min(side, bound) for bound in self.crop_range)
                length = int(generator.integers(least, most + 1))
                start = int(generator.integers(side - length + 1))
                crop.append(slice(start, start + length))
            frames, masks = frames[:, :, *crop], masks[:, :, *crop]
            if self.cropped_short_sides is not None:
                short_sides, max_long_side = self.cropped_short_sides, self.cropped_max_long_side
        return _resize_short_side(frames, masks, short_sides, max_long_side, generator)

    def _change_colors(self, frames: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
        drawn = (self.brightness, self.hue, self.contrast, self.saturation, self.channel_shuffle_probability)
        if drawn == (0, 0, (1, 1), (1, 1), 0):
            return frames
        pictures = [self._change_frame(frame, generator) for frame in frames.permute(0, 2, 3, 1).numpy()]
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)

    def _change_frame(self, picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        def draw(low: float, high: float, neutral: float) -> float:
            value = generator.uniform(low, high)
            return value if generator.random() < self.photometric_probability else neutral

        brightness = draw(-self.brightness, self.brightness, 0.0)
        contrast = draw(*self.contrast, 1.0)
        first, last = (contrast, 1.0) if generator.random() < 0.5 else (1.0, contrast)
        saturation, hue = draw(*self.saturation, 1.0), draw(-self.hue, self.hue, 0.0)
        values = np.clip(np.arange(256, dtype=np.float32) + np.float32(brightness), 0, 255) * np.float32(first)
        picture = cv2.LUT(np.ascontiguousarray(picture), np.clip(values, 0, 255))
        if (saturation, hue) != (1.0, 0.0):
            picture = change_hue_and_saturation(picture, hue, saturation)
        picture = cv2.convertScaleAbs(picture, alpha=last)
        if generator.random() < self.channel_shuffle_probability:
            channels = cv2.split(picture)
            picture = cv2.merge([channels[channel] for channel in generator.permutation(3)])
        return picture


def change_hue_and_saturation(picture: np.ndarray, hue: float, factor: float = 1.0, offset: float = 0.0) -> np.ndarray:
    """Turn the hues of a picture and change its saturation.

    Args:
        picture: `(height, width, 3)` float32 RGB in [0, 255].
        hue: Degrees.
        factor: What the saturation, from 0 to 1, is multiplied with.
        offset: What is then added to it.

    Returns:
        A picture of the same form.
    """
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    # Back from HSV, hues above 360 are fine, but none below 0.
    change = np.array([[1, 0, 0, hue % 360], [0, factor, 0, offset], [0, 0, 1, 0]], np.float32)
    cv2.transform(hsv, change, dst=hsv)
    np.clip(hsv[..., 1], 0, 1, out=hsv[..., 1])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _resize_short_side(
    frames: torch.Tensor,
    masks: torch.Tensor,
    short_sides: tuple[int, ...] | None,
    max_long_side: int | None,
    generator: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    if short_sides is None:
        return frames, masks
    short_side = short_sides[int(generator.integers(len(short_sides)))]
    return resize_clip(frames, masks, resized_size(*frames.shape[-2:], short_side, max_long_side))
