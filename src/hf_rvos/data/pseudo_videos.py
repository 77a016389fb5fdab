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
"""Pictures made into short videos by moving copies of them around."""

import cv2
import numpy as np

from hf_rvos.data.augmentation import change_hue_and_saturation


def pseudo_video(
    picture: np.ndarray,
    masks: np.ndarray,
    clip_length: int,
    generator: np.random.Generator,
    perspective: float = 0.08,
    rotation: float = 20.0,
    translation: float = 0.1,
    blur_probability: float = 0.25,
    blur_sizes: tuple[int, ...] = (9, 11),
    brightness: float = 40.0,
    hue_saturation: float = 5.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Make a clip of a picture: the picture itself and changed copies of it, in random order.

    Joint training of ReferFormer and SOC turns RefCOCO into videos this way; SOC leaves hue and saturation as they
    are. A copy is changed in brightness, in hue and saturation, or in both; then it is seen from another side, then
    turned and shifted, and then sometimes blurred as by a moving camera. What was outside the picture is black.

    Args:
        picture: `(height, width, 3)` uint8, RGB.
        masks: `(num_expressions, height, width)` boolean.
        clip_length: Frames of the clip.
        generator: Source of all draws.
        perspective: Standard deviation of the distance by which each corner moves inwards, as a share of the sides.
        rotation: Most degrees.
        translation: Largest shift, as a share of the sides.
        blur_probability: How often a copy is blurred.
        blur_sizes: Pixels of the track that a point is blurred to.
        brightness: Most that is added to or taken from all values.
        hue_saturation: Most by which hue and saturation change, both of 255; 0 leaves them as they are.

    Returns:
        Frames `(clip_length, height, width, 3)` uint8 and masks `(num_expressions, clip_length, height, width)`
        boolean.
    """
    frames = np.repeat(picture[None], clip_length, axis=0)
    tracks = np.repeat(masks[:, None], clip_length, axis=1)
    original = int(generator.integers(clip_length))
    for time in range(clip_length):
        if time == original:
            continue
        copy = _change_colors(picture, generator, brightness, hue_saturation)
        # Two steps: what a step takes from outside the picture is black.
        for matrix in (
            _perspective_matrix(picture.shape[:2], generator, perspective),
            _affine_matrix(picture.shape[:2], generator, rotation, translation),
        ):
            copy = _warp(copy, matrix, cv2.INTER_LINEAR)
            for track in tracks:
                track[time] = _warp(track[time].astype(np.uint8), matrix, cv2.INTER_NEAREST)
        if generator.random() < blur_probability:
            copy = cv2.filter2D(copy, -1, _blur_kernel(int(generator.choice(blur_sizes)), generator))
        frames[time] = copy
    return frames, tracks


def _change_colors(
    picture: np.ndarray, generator: np.random.Generator, brightness: float, hue_saturation: float
) -> np.ndarray:
    change = generator.integers(3) if hue_saturation else 0  # brightness, hue and saturation, or both
    if change != 1:
        added = np.arange(256) + np.rint(generator.uniform(-brightness, brightness))
        picture = cv2.LUT(picture, np.clip(added, 0, 255).astype(np.uint8))
    if change != 0:
        share = generator.uniform(-hue_saturation, hue_saturation) / 255
        picture = cv2.convertScaleAbs(change_hue_and_saturation(picture.astype(np.float32), 360 * share, offset=share))
    return picture


def _perspective_matrix(size: tuple[int, int], generator: np.random.Generator, deviation: float) -> np.ndarray:
    """Homography that stretches a part of the picture over all of it."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    # Half a side would let corners meet.
    moved = np.abs(generator.normal(0, deviation, (4, 2))) % 0.5 if deviation else np.zeros((4, 2))
    # From the middle of the first pixel to that of the last one: between these there is nothing from outside.
    sides = np.maximum([size[1] - 1, size[0] - 1], 1)
    inside = np.where(corners == 1, 1 - moved, moved)
    return cv2.getPerspectiveTransform((inside * sides).astype(np.float32), (corners * sides).astype(np.float32))


def _affine_matrix(
    size: tuple[int, int], generator: np.random.Generator, rotation: float, translation: float
) -> np.ndarray:
    height, width = size
    matrix = np.eye(3)
    center = ((width - 1) / 2, (height - 1) / 2)
    matrix[:2] = cv2.getRotationMatrix2D(center, generator.uniform(-rotation, rotation), 1.0)
    matrix[:2, 2] += generator.uniform(-translation, translation, 2) * (width, height)
    return matrix


def _warp(picture: np.ndarray, matrix: np.ndarray, interpolation: int) -> np.ndarray:
    return cv2.warpPerspective(picture, matrix, picture.shape[1::-1], flags=interpolation)


def _blur_kernel(size: int, generator: np.random.Generator) -> np.ndarray:
    """Weights along a line of random direction, which rise or fall towards one end."""
    kernel = np.zeros((size, size), np.float32)
    end = generator.random()
    kernel[:, size // 2] = np.linspace(end, 1 - end, size)
    turn = cv2.getRotationMatrix2D(((size - 1) / 2, (size - 1) / 2), generator.uniform(0, 360), 1.0)
    kernel = cv2.warpAffine(kernel, turn, (size, size))
    return kernel / kernel.sum()
