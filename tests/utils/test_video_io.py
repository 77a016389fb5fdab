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
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import av
import numpy as np
import pytest
import torch
from PIL import Image

from hf_rvos.utils.video_io import VideoWriter, natural_order, open_video
from tests.tiny_segmenter import moving_square


# H.264 rounds colours; smooth pictures stay within a few of 255 steps on average.
MEAN_COLOUR_ERROR = 4.0


@pytest.fixture(scope="module")
def clip():
    return moving_square(num_frames=30, height=48, width=64)


@pytest.fixture(scope="module")
def mp4(clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write(path, clip)
    return path


def write(path, frames, fps=10):
    with VideoWriter(path, fps=fps, size=frames.shape[1:3]) as writer:
        for frame in frames:
            writer.write(frame)


def read(source):
    return np.stack([frame for frame, _ in open_video(source)])


def colour_error(frames, expected):
    return np.abs(frames.astype(float) - expected).mean()


def test_written_file_is_h264_and_reads_back(mp4, clip):
    with av.open(str(mp4)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
    reader = open_video(mp4)
    assert (reader.height, reader.width, reader.fps, reader.num_frames) == (48, 64, 10.0, 30)
    frames, timestamps = zip(*reader)
    assert colour_error(np.stack(frames), clip) < MEAN_COLOUR_ERROR
    np.testing.assert_allclose(timestamps, np.arange(30) / 10)


def test_a_file_can_be_read_twice(mp4):
    reader = open_video(str(mp4))
    assert sum(1 for _ in reader) == sum(1 for _ in reader) == 30


def test_odd_sizes_grow_by_a_repeated_row_and_column(tmp_path):
    frames = moving_square(num_frames=2, height=47, width=63)
    write(tmp_path / "odd.mp4", frames)
    read_back = read(tmp_path / "odd.mp4")
    assert read_back.shape == (2, 48, 64, 3)
    assert colour_error(read_back[:, :47, :63], frames) < MEAN_COLOUR_ERROR


def test_writer_leaves_nothing_behind_after_an_error(tmp_path, clip):
    (tmp_path / "clip.mp4").write_bytes(b"the older file")
    with pytest.raises(RuntimeError, match="in the middle"):
        with VideoWriter(tmp_path / "clip.mp4", fps=10, size=(48, 64)) as writer:
            writer.write(clip[0])
            raise RuntimeError("in the middle")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
    assert (tmp_path / "clip.mp4").read_bytes() == b"the older file"


def test_writer_refuses_a_suffix_that_is_no_video(tmp_path):
    with pytest.raises(ValueError, match="output: cannot write a video"):
        with VideoWriter(tmp_path / "clip.text", fps=10, size=(48, 64)):
            pass
    assert not list(tmp_path.iterdir())


def test_writer_refuses_a_frame_of_another_size(tmp_path, clip):
    with pytest.raises(ValueError, match=r"expected \(48, 32, 3\) uint8"):
        with VideoWriter(tmp_path / "clip.mp4", fps=10, size=(48, 32)) as writer:
            writer.write(clip[0])


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_of_the_file_is_applied(tmp_path, clip, degrees):
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.set_display_rotation(degrees)
        for frame in clip[:3]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    expected = np.stack([np.rot90(frame, degrees // 90) for frame in clip[:3]])
    reader = open_video(path)
    assert (reader.height, reader.width) == expected.shape[1:3]
    assert colour_error(read(path), expected) < MEAN_COLOUR_ERROR


def test_frames_of_a_folder_come_in_natural_order(tmp_path, clip):
    for index in (0, 2, 10):
        Image.fromarray(clip[index]).save(tmp_path / f"frame{index}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    np.testing.assert_array_equal(read(tmp_path), clip[[0, 2, 10]])


@pytest.mark.parametrize(
    "convert",
    [
        lambda clip: clip,
        lambda clip: clip.transpose(0, 3, 1, 2),
        lambda clip: clip.astype(np.float64) / 255,
        lambda clip: torch.from_numpy(clip),
        lambda clip: torch.from_numpy(clip).permute(0, 3, 1, 2),
        lambda clip: torch.from_numpy(clip).float() / 255,
        lambda clip: list(clip),
        lambda clip: [Image.fromarray(frame) for frame in clip],
        lambda clip: (frame for frame in clip),
        lambda clip: map(Image.fromarray, clip),
    ],
    ids=[
        "array",
        "channels-first",
        "float",
        "tensor",
        "tensor-channels-first",
        "float-tensor",
        "list",
        "pil",
        "generator",
        "map",
    ],
)
def test_every_form_gives_the_same_frames(clip, convert):
    np.testing.assert_array_equal(read(convert(clip[:3])), clip[:3])


def test_frames_without_a_clock_come_at_25_a_second(clip):
    assert [timestamp for _, timestamp in open_video(clip[:3])] == [0, 1 / 25, 2 / 25]


def test_an_iterator_is_read_lazily_and_only_once(clip):
    taken = []
    reader = open_video(taken.append(index) or frame for index, frame in enumerate(clip))
    assert taken == [0] and reader.num_frames is None
    assert sum(1 for _ in reader) == 30
    with pytest.raises(ValueError, match="only once"):
        next(iter(reader))


@pytest.fixture
def server(tmp_path):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_url_is_downloaded(server, tmp_path, clip):
    write(tmp_path / "clip.mp4", clip)
    reader = open_video(f"{server}/clip.mp4?token=1")
    assert reader.num_frames == 30
    assert colour_error(np.stack([frame for frame, _ in reader]), clip) < MEAN_COLOUR_ERROR


def test_a_missing_url_names_the_argument(server):
    with pytest.raises(ValueError, match="video: cannot download .*404"):
        open_video(f"{server}/missing.mp4")


def test_missing_file_names_the_argument(tmp_path):
    with pytest.raises(FileNotFoundError, match="video: nothing at .*expected a video file"):
        open_video(tmp_path / "missing.mp4")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is an empty file"), (b"these are words" * 100, "cannot be read as a video")],
    ids=["empty", "text"],
)
def test_unreadable_file_names_the_argument(tmp_path, content, message):
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(ValueError, match=f"^video: .*{message}"):
        open_video(tmp_path / "clip.mp4")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_file_is_refused_before_decoding(tmp_path, clip, suffix, share):
    path = tmp_path / f"clip{suffix}"
    noisy = np.random.default_rng(0).integers(0, 255, clip.shape, dtype=np.uint8)  # so that the file is not all header
    write(path, noisy, fps=2)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match="^video: .*truncated"):
        open_video(path)


def test_file_without_its_index_is_refused(tmp_path, mp4):
    path = tmp_path / "clip.mp4"
    path.write_bytes(mp4.read_bytes()[:200])
    with pytest.raises(ValueError, match="^video: .*no video stream, expected a complete video file"):
        open_video(path)


def test_damage_in_the_middle_is_an_error_and_not_fewer_frames(tmp_path, clip):
    path = tmp_path / "clip.mp4"
    noisy = np.random.default_rng(0).integers(0, 255, clip.shape, dtype=np.uint8)
    write(path, noisy)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][15]
    content[packet.pos : packet.pos + packet.size] = bytes(255 for _ in range(packet.size))
    path.write_bytes(content)
    with pytest.raises(ValueError, match="^video: .*damaged"):
        read(path)


def test_sound_alone_is_not_a_video(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match="video: .*no video stream"):
        open_video(path)


def test_video_stream_without_frames_is_refused(tmp_path):
    path = tmp_path / "nothing.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        container.start_encoding()
    with pytest.raises(ValueError, match="^video: .*has no frames, expected at least one"):
        open_video(path)


def test_writer_refuses_to_end_without_a_frame(tmp_path):
    with pytest.raises(ValueError, match="output: no frame was written"):
        with VideoWriter(tmp_path / "clip.mp4", fps=10, size=(48, 64)):
            pass
    assert not list(tmp_path.iterdir())


def test_folder_without_frames_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("not a frame")
    with pytest.raises(ValueError, match="video: the folder .* has no frames, expected .jpg or .png"):
        open_video(tmp_path)


def test_folder_with_two_sizes_is_refused(tmp_path, clip):
    Image.fromarray(clip[0]).save(tmp_path / "0.png")
    Image.fromarray(clip[0][:, :32]).save(tmp_path / "1.png")
    with pytest.raises(ValueError, match=r"video: frame 1.png .* is 48x32 .*0.png is 48x64"):
        open_video(tmp_path)


def test_folder_with_a_damaged_frame_is_refused(tmp_path):
    (tmp_path / "0.jpg").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match="video: the frame .* cannot be read as an image"):
        open_video(tmp_path)


def test_frame_cut_short_is_an_error_when_it_is_read(tmp_path):
    noisy = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noisy).save(tmp_path / "0.png")
    content = (tmp_path / "0.png").read_bytes()
    (tmp_path / "0.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="video: the frame .* is damaged or truncated"):
        read(tmp_path)


def with_value(value):
    frames = np.full((3, 8, 10, 3), 0.5, np.float32)
    frames[2, 4, 5, 1] = value
    return frames


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (with_value(np.nan), "frame 2 has NaN"),
        (torch.from_numpy(with_value(np.inf)), "frame 2 has NaN or infinite"),
        (with_value(3.0), r"frame 2 has values outside \[0, 1\]"),
        (with_value(0.5)[0], r"shape \(8, 10, 3\)"),
        (np.zeros((2, 8, 10), np.uint8)[None], "has shape"),
        (np.zeros((2, 8, 10, 3), np.int64), "is int64, expected uint8"),
        (np.zeros((0, 8, 10, 3), np.uint8), "no frames"),
        ([], "no frames"),
        (iter(()), "without frames"),
        ([np.zeros((8, 10, 3), np.uint8), np.zeros((10, 8, 3), np.uint8)], "frame 1 is 10x8"),
        (["a.png", "b.png"], "frame 0 is a str"),
        ({"frames": 1}, "got dict"),
        (3, "got int"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_frames_that_are_not_pictures_name_the_argument(source, message):
    with pytest.raises(ValueError, match=f"^video: .*{message}"):
        open_video(source)


def test_iterator_of_frames_with_two_sizes_is_an_error_at_that_frame():
    frames = open_video(np.zeros((8, width, 3), np.uint8) for width in (10, 10, 12))
    with pytest.raises(ValueError, match="video: frame 2 is 8x12"):
        list(frames)


def test_digits_that_are_no_numbers_sort_as_text():
    assert sorted(["frame\u00b2", "frame10", "frame9"], key=natural_order) == ["frame9", "frame10", "frame\u00b2"]
