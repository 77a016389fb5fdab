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
"""Videos in and out: one reader for every form a video comes in, one writer for H.264 files.

Reading is lazy, so that memory does not grow with the length of a video. Everything that can be known to be wrong
before the first frame is needed (a missing or truncated file, frames of different size) is an error of `open_video`.
"""

import os
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from hf_rvos.utils.files import replace_when_done


# Frames that come without a clock (folders, arrays, iterators) are taken to be this many a second.
DEFAULT_FPS = 25.0
FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")
URL_TIMEOUT = 30.0  # seconds without an answer

VIDEO_FORMS = (
    "expected a path or an http(s) URL of a video file, a folder of .jpg or .png frames, a list of PIL images or "
    "arrays, an array or tensor (num_frames, height, width, 3), or an iterator of frames"
)


class VideoReader:
    """Frames of one video with their times, decoded one by one while you iterate. Made by [`open_video`].

    Iterating gives `(frame, timestamp)`: an array `(height, width, 3)` uint8 RGB and seconds from the start. Only
    readers of an iterator are spent after one pass.

    Args:
        frames: Starts a pass over the video.
        height, width: Size of every frame in pixels, after the rotation that the file asks for.
        fps: Frames per second; the average where it varies.
        num_frames: None where it is not known before the end.
        source: Path or URL of the video, None if it never had one.
    """

    def __init__(
        self,
        frames: Callable[[], Iterator[tuple[np.ndarray, float]]],
        height: int,
        width: int,
        fps: float,
        num_frames: int | None,
        source: str | None = None,
    ):
        self._frames = frames
        self.height = height
        self.width = width
        self.fps = fps
        self.num_frames = num_frames
        self.source = source

    def __iter__(self) -> Iterator[tuple[np.ndarray, float]]:
        for index, (frame, timestamp) in enumerate(self._frames()):
            if frame.shape[:2] != (self.height, self.width):
                raise ValueError(
                    f"video: frame {index} is {_size(frame.shape)}, but the first one is "
                    f"{_size((self.height, self.width))}; all frames of a video must have the same size"
                )
            yield frame, timestamp


def open_video(source: Any) -> VideoReader:
    """Open a video of any form for lazy reading.

    Args:
        source: Path or http(s) URL of a video file; a folder of `.jpg` or `.png` frames, read in natural order
            (frame2 before frame10); a list of PIL images or arrays; an array or tensor
            `(num_frames, height, width, 3)` or `(num_frames, 3, height, width)`; an iterator of frames; or a
            [`VideoReader`]. Arrays are uint8, or floats in [0, 1]. Frames without a clock are taken to come at 25 a
            second.

    Raises:
        FileNotFoundError: if there is nothing at the path.
        ValueError: if there is no video in `source`, or it is truncated, or its frames differ in size or have values
            that are not colours. All messages begin with "video:".
    """
    if isinstance(source, VideoReader):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _open_location(os.fspath(source))
    if isinstance(source, (np.ndarray, torch.Tensor)):
        if source.ndim != 4:
            raise ValueError(f"video: got an array of shape {tuple(source.shape)}, {VIDEO_FORMS}")
        return _open_sequence(source)
    if isinstance(source, (list, tuple)):
        return _open_sequence(source)
    if isinstance(source, Iterable) and not isinstance(source, (dict, set, bytes)):
        return _open_iterator(iter(source))
    raise ValueError(f"video: got {type(source).__name__}, {VIDEO_FORMS}")


class VideoWriter:
    """Write frames to an H.264 file (yuv420p) that appears at `path` only when the block ends without an error.

    H.264 in yuv420p needs even sizes: an odd width or height grows by one pixel that repeats the last column or row,
    so that no picture is lost.

    Args:
        path: Name of the file; the suffix chooses the container (`.mp4`, `.mkv`, `.mov`).
        fps: Frames per second.
        size: `(height, width)` of the frames in pixels.

    Example:
        >>> with VideoWriter("overlay.mp4", fps=25, size=(360, 640)) as writer:
        ...     writer.write(frame)
    """

    def __init__(self, path: str | os.PathLike, fps: float, size: tuple[int, int]):
        self.path = Path(path)
        self.fps = fps
        self.size = tuple(size)

    def __enter__(self) -> "VideoWriter":
        import av

        height, width = self.size
        with ExitStack() as stack:
            temporary = stack.enter_context(replace_when_done(self.path))
            try:
                # faststart puts the index in front, so that the file plays while it is still being downloaded.
                faststart = {"movflags": "faststart"} if self.path.suffix.lower() in (".mp4", ".mov") else {}
                self._container = av.open(str(temporary), "w", options=faststart)
                self._stream = self._container.add_stream("libx264", rate=Fraction(self.fps).limit_denominator(60060))
                self._stream.height, self._stream.width = height + height % 2, width + width % 2
                self._stream.pix_fmt = "yuv420p"
            except (av.FFmpegError, ValueError, OSError) as error:
                raise ValueError(f"output: cannot write a video at {str(self.path)!r} ({error})") from error
            stack.push(self._finish)
            self._stack = stack.pop_all()
        self._num_frames = 0
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, `(height, width, 3)` uint8 RGB."""
        import av

        height, width = self.size
        if frame.shape != (height, width, 3) or frame.dtype != np.uint8:
            raise ValueError(f"frame is {frame.shape} {frame.dtype}, expected ({height}, {width}, 3) uint8")
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        self._container.mux(self._stream.encode(picture))
        self._num_frames += 1

    def _finish(self, error_type: type | None, *error: Any) -> None:
        with self._container:
            if error_type is None:
                if not self._num_frames:
                    raise ValueError(f"output: no frame was written to {str(self.path)!r}")
                self._container.mux(self._stream.encode())


def _open_location(location: str) -> VideoReader:
    if re.match(r"https?://", location):
        return _open_url(location)
    if os.path.isdir(location):
        return _open_folder(Path(location))
    if not os.path.exists(location):
        raise FileNotFoundError(
            f"video: nothing at {location!r}, expected a video file, a folder of frames or an http(s) URL"
        )
    return _open_file(location, location)


def _open_url(url: str) -> VideoReader:
    # A file, not a stream: many servers do not allow to jump, which a file with its index at the end needs.
    download = tempfile.NamedTemporaryFile(suffix=Path(urllib.request.url2pathname(url)).suffix[:8])
    try:
        with urllib.request.urlopen(url, timeout=URL_TIMEOUT) as response:
            shutil.copyfileobj(response, download)
        download.flush()
        return _open_file(download.name, url, keep=download)
    except (urllib.error.URLError, OSError) as error:
        download.close()
        raise ValueError(f"video: cannot download {url!r} ({error})") from error


def _open_file(path: str, name: str, keep: Any = None) -> VideoReader:
    """`keep` is an object that must live as long as the reader (a temporary file)."""
    import av

    if os.path.getsize(path) == 0:
        raise ValueError(f"video: {name!r} is an empty file, expected a video")
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise ValueError(f"video: {name!r} has no video stream, expected a complete video file")
            stream = container.streams.video[0]
            num_frames = _count_frames(container, stream, name)
            fps = float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)
            container.seek(0)
            first = next(container.decode(stream), None)
    except av.EOFError:  # a header and nothing behind it
        first = None
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"video: {name!r} cannot be read as a video ({error.strerror or error})") from error
    if first is None:
        raise ValueError(f"video: {name!r} has no frames, expected at least one")
    height, width = _upright(first).shape[:2]

    def frames() -> Iterator[tuple[np.ndarray, float]]:
        index = -1
        try:
            with av.open(path) as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                for index, frame in enumerate(container.decode(stream)):
                    yield _upright(frame), index / fps if frame.time is None else frame.time
        except av.FFmpegError as error:
            raise ValueError(
                f"video: {name!r} is damaged or truncated after frame {index} ({error.strerror or error})"
            ) from error

    reader = VideoReader(frames, height, width, fps, num_frames, source=name)
    reader._keep = keep
    return reader


def _count_frames(container: Any, stream: Any, name: str) -> int:
    """Read the packets without decoding them: the number of shown frames, and an error if the end is missing."""
    # What the file announces, to compare with what is there: entries of its index (mp4, mov) and seconds.
    announced = len(stream.index_entries)
    duration = stream.duration * stream.time_base if stream.duration else None
    if duration is None and container.duration and len(container.streams) == 1:
        duration = Fraction(container.duration, 1_000_000)
    packets = shown = 0
    end = Fraction(0)
    cut = False
    for packet in container.demux(stream):
        if not packet.size:  # the last one only asks a decoder to finish
            continue
        packets += 1
        shown += not packet.is_discard
        cut = packet.is_corrupt
        if packet.pts is not None:
            end = max(end, (packet.pts + (packet.duration or 0) - (stream.start_time or 0)) * packet.time_base)
    # A second of tolerance: containers round, and the last frame of some has no duration.
    missing = duration is not None and end > 0 and duration - end > 1
    if cut or packets < announced or missing:
        raise ValueError(f"video: {name!r} is truncated, only {packets} frames of it are there; get a complete copy")
    return shown


def _upright(frame: Any) -> np.ndarray:
    """RGB array of a decoded frame, turned as the file asks (phones write portrait videos lying down)."""
    pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90))) if frame.rotation else pixels


def _open_folder(folder: Path) -> VideoReader:
    paths = sorted(
        (path for path in folder.iterdir() if path.suffix.lower() in FRAME_SUFFIXES),
        key=lambda path: natural_order(path.stem),
    )
    if not paths:
        raise ValueError(f"video: the folder {str(folder)!r} has no frames, expected .jpg or .png files")
    sizes = {}
    for path in paths:
        try:
            with Image.open(path) as image:
                sizes.setdefault((image.height, image.width), path.name)
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(f"video: the frame {str(path)!r} cannot be read as an image") from error
    if len(sizes) > 1:
        (size, name), (other_size, other_name) = list(sizes.items())[:2]
        raise ValueError(
            f"video: frame {other_name} of {str(folder)!r} is {_size(other_size)}, but {name} is {_size(size)}; all "
            "frames of a video must have the same size"
        )
    height, width = next(iter(sizes))

    def frames() -> Iterator[tuple[np.ndarray, float]]:
        for index, path in enumerate(paths):
            try:
                with Image.open(path) as image:
                    yield np.asarray(image.convert("RGB")), index / DEFAULT_FPS
            except OSError as error:
                raise ValueError(f"video: the frame {str(path)!r} is damaged or truncated ({error})") from error

    return VideoReader(frames, height, width, DEFAULT_FPS, len(paths), source=str(folder))


def natural_order(name: str) -> list[tuple[int, int | str]]:
    """What to sort names by, so that numbers in them count as numbers: frame2 comes before frame10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _open_sequence(frames: Any) -> VideoReader:
    if len(frames) == 0:
        raise ValueError(f"video: got no frames, {VIDEO_FORMS}")
    # Checked one by one now, so that a bad value at the end is found before the work and not after it.
    reader = None
    for index, frame in enumerate(frames):
        height, width = _to_array(frame, index).shape[:2]
        if reader is None:
            reader = VideoReader(lambda: _timed(frames), height, width, DEFAULT_FPS, len(frames))
        elif (height, width) != (reader.height, reader.width):
            raise ValueError(
                f"video: frame {index} is {_size((height, width))}, but the first one is "
                f"{_size((reader.height, reader.width))}; all frames of a video must have the same size"
            )
    return reader


def _open_iterator(frames: Iterator[Any]) -> VideoReader:
    first = next(frames, None)
    if first is None:
        raise ValueError(f"video: got an iterator without frames, {VIDEO_FORMS}")
    height, width = _to_array(first, 0).shape[:2]

    def all_frames() -> Iterator[Any]:
        nonlocal first
        if first is None:
            raise ValueError("video: this iterator of frames is spent; it can be read only once")
        head, first = first, None
        yield head
        yield from frames

    return VideoReader(lambda: _timed(all_frames()), height, width, DEFAULT_FPS, None)


def _timed(frames: Iterable[Any]) -> Iterator[tuple[np.ndarray, float]]:
    for index, frame in enumerate(frames):
        yield _to_array(frame, index), index / DEFAULT_FPS


def _to_array(frame: Any, index: int) -> np.ndarray:
    """One frame of any kind as `(height, width, 3)` uint8."""
    if isinstance(frame, Image.Image):
        return np.asarray(frame.convert("RGB"))
    channels_first = isinstance(frame, torch.Tensor)
    if channels_first:
        frame = frame.detach().cpu()
        frame = (frame.float() if frame.is_floating_point() else frame).numpy()
    if not isinstance(frame, np.ndarray):
        raise ValueError(
            f"video: frame {index} is a {type(frame).__name__}, expected a PIL image, an array or a tensor"
        )
    if frame.ndim != 3 or 0 in frame.shape or 3 not in (frame.shape[0], frame.shape[2]):
        raise ValueError(
            f"video: frame {index} has shape {frame.shape}, expected (height, width, 3) or (3, height, width)"
        )
    # Where both readings are possible (3 pixels wide or high) the usual one of the type is taken.
    if frame.shape[2] != 3 or (channels_first and frame.shape[0] == 3):
        frame = frame.transpose(1, 2, 0)
    if np.issubdtype(frame.dtype, np.floating):
        # Written so that NaN, which is not inside any range, is refused too.
        if not (frame.min() >= 0 and frame.max() <= 1):
            kind = "values outside [0, 1]" if np.isfinite(frame).all() else "NaN or infinite values"
            raise ValueError(f"video: frame {index} has {kind}; expected floats in [0, 1], or uint8")
        frame = np.round(frame * 255).astype(np.uint8)
    if frame.dtype != np.uint8:
        raise ValueError(f"video: frame {index} is {frame.dtype}, expected uint8, or floats in [0, 1]")
    return np.ascontiguousarray(frame)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]} (height x width)"
