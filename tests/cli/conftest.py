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
"""What the tests of all commands share."""

import pytest

from hf_rvos.utils.video_io import VideoWriter
from tests.tiny_segmenter import moving_square, tiny_pipeline


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Folder of a saved model."""
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def video(tmp_path_factory):
    """A video of more than one clip."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    frames = moving_square(num_frames=40)
    with VideoWriter(path, fps=10, size=frames.shape[1:3]) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder, so that what a command leaves behind can be seen."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
