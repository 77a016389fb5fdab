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
"""Segment what two sentences describe in a video, and save the overlay. About ten seconds on a laptop, no GPU needed.

    python examples/segment_video.py clip.mp4 "the red circle moving left" "the star"

The overlay goes to overlay.mp4 in the current folder. The same on the command line, with more options:
`hf-rvos segment`.
"""

import sys

from transformers import pipeline

import hf_rvos  # noqa: F401  registers the pipeline
from hf_rvos.utils.video_io import VideoWriter, open_video
from hf_rvos.utils.visualization import draw_masks


if len(sys.argv) < 3:
    sys.exit(__doc__)
video, texts = sys.argv[1], sys.argv[2:]

segmenter = pipeline("referring-video-segmentation")  # the embedded tiny model; pass model="..." for another
reader = open_video(video)

# A clip at a time, so that a long video needs no more memory than a short one. segmenter(video, text=texts) gives all
# masks at once.
with VideoWriter("overlay.mp4", fps=reader.fps, size=(reader.height, reader.width)) as writer:
    for clip in segmenter.stream(reader, texts):
        for index, frame in enumerate(clip["frames"]):
            writer.write(draw_masks(frame, [track["masks"][index].numpy() for track in clip["tracks"]], texts))
        for track in clip["tracks"]:
            print(f"{clip['timestamps'][0]:7.2f} s  {track['score']:.2f}  {track['text']}")
