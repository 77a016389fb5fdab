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
import numpy as np
import pytest
from PIL import Image

from hf_rvos.metrics.folders import frame_names, read_masks


@pytest.fixture
def masks():
    return np.random.default_rng(0).integers(0, 5, (3, 6, 8), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, masks):
    for index, mask in enumerate(masks):
        Image.fromarray(mask).save(tmp_path / f"{3 * index:05}.png")
    return tmp_path


FRAMES = ["00000", "00003", "00006"]


def test_values_are_read_as_stored(folder, masks):
    palette = Image.fromarray(masks[1])
    palette.putpalette([255 - value for value in range(256) for _ in range(3)])
    palette.save(folder / "00003.png")
    assert frame_names(folder) == FRAMES
    assert np.array_equal(read_masks(folder, FRAMES), masks)


def test_black_and_white_files_are_read(folder, masks):
    Image.fromarray(masks[0] > 2).save(folder / "00000.png")
    assert np.array_equal(read_masks(folder, FRAMES[:1])[0], masks[0] > 2)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16"])
def test_files_with_colours_are_refused(folder, mode):
    Image.new(mode, (8, 6)).save(folder / "00003.png")
    with pytest.raises(ValueError, match=f"00003.png' is in mode {mode}, expected one of P, L, 1"):
        read_masks(folder, FRAMES)


def test_files_of_another_size_are_refused(folder):
    with pytest.raises(ValueError, match="00000.png' is 6x8 pixels .* expected 8x6"):
        read_masks(folder, FRAMES, size=(8, 6))
    Image.new("L", (9, 6)).save(folder / "00006.png")
    with pytest.raises(ValueError, match="00006.png' is 6x9 pixels .* expected 6x8"):
        read_masks(folder, FRAMES)


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_broken_files_are_refused(folder, content):
    path = folder / "00003.png"
    path.write_bytes(path.read_bytes()[:40] if content is None else content)
    with pytest.raises(ValueError, match="00003.png' is damaged or no image"):
        read_masks(folder, FRAMES)


def test_missing_files_are_counted_or_empty(folder, masks):
    frames = [*FRAMES, "00009", "00012"]
    with pytest.raises(ValueError, match="2 of 5 predicted masks are missing: .*00009.png, .*00012.png"):
        read_masks(folder, frames)
    read = read_masks(folder, frames, missing="empty")
    assert np.array_equal(read[:3], masks) and not read[3:].any()
    assert read_masks(folder / "nothing", frames, size=(2, 3), missing="empty").shape == (5, 2, 3)


def test_unknown_way_with_missing_files_is_refused(folder):
    with pytest.raises(ValueError, match="expected one of error, empty"):
        read_masks(folder, FRAMES, missing="drop")


@pytest.mark.parametrize("name", ["..", "../a", "/etc/a"])
def test_names_that_leave_the_folder_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="leaves the folder"):
        read_masks(tmp_path, [name], missing="empty")
