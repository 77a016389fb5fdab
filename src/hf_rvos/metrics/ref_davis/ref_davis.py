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
"""The evaluation of Ref-DAVIS17, as a module for `evaluate`."""

import datasets
import evaluate
import numpy
import pycocotools.mask

import hf_rvos.metrics.davis
import hf_rvos.metrics.evaluate_base


DESCRIPTION = """\
Mean of four passes, in each of which the objects of a video, segmented by another annotator's expressions, are merged
into one index map and compared with the ground truth of DAVIS 2017. The configuration folders takes folders of PNGs.
"""
INPUTS = """
Args:
    predictions: for each video of each pass its index map, (num_frames, height, width); for the configuration folders
        the four folders of the passes, in order.
    references: the true index maps in the same order, 255 is void; for folders the root of DAVIS, four times.
    annotation_passes: the pass of each video, 0 to 3; not for folders.
    protocol: unsupervised (published) or semi-supervised.
    matching: official or id.
Returns:
    The totals of hf_rvos.metrics.summarize_ref_davis.
"""


def encode_index_map(index_map):
    """For each frame the masks of its labels; Arrow would take ten times as long for the pixels."""
    frames = []
    for frame in numpy.asarray(index_map):
        labels = [int(label) for label in numpy.unique(frame) if label != 0]
        masks = [hf_rvos.metrics.evaluate_base.encode_mask(frame == label)["counts"] for label in labels]
        frames.append({"size": list(frame.shape), "labels": labels, "counts": masks})
    return frames


def decode_index_map(frames):
    index_map = numpy.zeros((len(frames), *frames[0]["size"]), dtype=numpy.uint8)
    for decoded, frame in zip(index_map, frames):
        for label, counts in zip(frame["labels"], frame["counts"]):
            decoded[pycocotools.mask.decode({"size": frame["size"], "counts": counts}) > 0] = label
    return index_map


class RefDavis(hf_rvos.metrics.evaluate_base.EncodedMetric):
    """Mean of the four passes of Ref-DAVIS17."""

    @property
    def encode(self):
        encode = str if self.config_name == "folders" else encode_index_map
        return {"predictions": encode, "references": encode}

    def _info(self):
        if self.config_name == "folders":
            features = {name: datasets.Value("string") for name in ("predictions", "references")}
        elif self.config_name == "default":
            frame = {
                "size": datasets.List(datasets.Value("int32")),
                "labels": datasets.List(datasets.Value("int32")),
                "counts": datasets.List(datasets.Value("string")),
            }
            features = {name: datasets.List(frame) for name in ("predictions", "references")}
            features["annotation_passes"] = datasets.Value("int32")
        else:
            raise ValueError(f"ref_davis has no configuration {self.config_name!r}, expected default or folders")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=hf_rvos.metrics.evaluate_base.CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(features),
        )

    def _compute(self, predictions, references, annotation_passes=None, protocol="unsupervised", matching="official"):
        self._check_not_empty(references)
        if self.config_name == "folders":
            if len(set(references)) != 1:
                raise ValueError(f"ref_davis: references are the folders {sorted(set(references))}, expected one")
            return hf_rvos.metrics.davis.evaluate_ref_davis(list(predictions), references[0], protocol, matching)
        rows = []
        for pred, gt, annotation_pass in zip(predictions, references, annotation_passes):
            maps = decode_index_map(pred), decode_index_map(gt)
            objects = hf_rvos.metrics.davis.score_davis_video(*maps, protocol, matching)
            rows += [{"annotation_pass": annotation_pass} | row for row in objects]
        summary = hf_rvos.metrics.davis.summarize_ref_davis(rows)
        return {"protocol": protocol, "matching": matching} | summary
