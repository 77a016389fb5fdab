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
"""Where each benchmark comes from, under which terms, and how large it is said to be."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Published:
    """Size of a split as published; None where nothing is.

    Args:
        videos: Videos, or pictures.
        expressions: Rows: sentences, or pairs of sentence and annotated frame in A2D-Sentences and JHMDB-Sentences.
            Several numbers are those of several versions.
        objects: Objects that sentences refer to.
    """

    videos: int | None = None
    expressions: tuple[int, ...] = ()
    objects: int | None = None


@dataclass(frozen=True)
class Facts:
    """What is worth knowing before asking for a data set.

    Args:
        homepage: Page of the data set.
        access: How to get it.
        terms: Licence and conditions; they are those of the authors, and only they can say what holds.
        published: Size of each split.
        total: Size of all splits together, where only that is published.
        source: Where the sizes come from.
    """

    homepage: str
    access: str
    terms: str
    published: dict[str, Published] = field(default_factory=dict)
    total: Published | None = None
    source: str = "nothing is published"


_REFCOCO_ACCESS = (
    "The official host of the references is down; there are mirrors. Images and "
    "instances: train2014 of COCO (cocodataset.org)."
)
_REFCOCO_TERMS = "Code of the references Apache-2.0, annotations of COCO CC BY 4.0, images under the terms of Flickr."
_REFCOCO_SOURCE = "papers of the sets, for the usual splits (unc, unc, umd); sizes of splits not confirmed"

FACTS = {
    "ref_youtube_vos": Facts(
        "https://youtube-vos.org/dataset/rvos",
        "Free registration at the challenge on CodaLab, which is closed now; ask the authors.",
        "Annotations CC BY 4.0 (not confirmed), videos belong to their authors on YouTube; the rules of the challenge "
        "allow non-commercial research.",
        {
            "train": Published(3471, (12913,), 6388),
            "valid": Published(202, (834,)),
            "test": Published(305, (1262,)),
        },
        source="Seo et al. 2020 and the published files",
    ),
    "ref_davis17": Facts(
        "https://davischallenge.org",
        "DAVIS-2017-Unsupervised-trainval-480p.zip and DAVIS-2017_semantics-480p.zip there; davis_text_annotations.zip"
        " from the page of Khoreva et al. at MPI-INF.",
        "Videos and masks BSD; the sentences are offered for research, without a licence text.",
        {"train": Published(60, (576,), 144), "valid": Published(30, (244,), 61)},
        source="the four published text files (papers quote 1,544 sentences)",
    ),
    "a2d_sentences": Facts(
        "https://kgavrilyuk.github.io/publication/actor_action/",
        "Sentences and masks there, videos at the page of A2D (web.eecs.umich.edu/~jjcorso/r/a2d).",
        "Research use; the sentences have no explicit licence.",
        {"train": Published(expressions=(15741,)), "test": Published(expressions=(3800,))},
        Published(3782),
        "the lists of samples that most papers use; 6,655 sentences, and videos without sentences count in the total",
    ),
    "jhmdb_sentences": Facts(
        "https://kgavrilyuk.github.io/publication/actor_action/",
        "Sentences there; the page of the images (jhmdb.is.tue.mpg.de) was gone in 2025, newer repositories link "
        "mirrors.",
        "JHMDB CC BY 4.0 (not confirmed).",
        {"test": Published(928, (2784,), 928)},
        source="the published lists of samples",
    ),
    "refcoco": Facts(
        "https://github.com/lichengunc/refer",
        _REFCOCO_ACCESS,
        _REFCOCO_TERMS,
        {
            "train": Published(None, (120624,), 42404),
            "val": Published(None, (10834,), 3811),
            "testA": Published(None, (5657,), 1975),
            "testB": Published(None, (5095,), 1810),
        },
        Published(19994, (142210,), 50000),
        _REFCOCO_SOURCE,
    ),
    "refcoco+": Facts(
        "https://github.com/lichengunc/refer",
        _REFCOCO_ACCESS,
        _REFCOCO_TERMS,
        {
            "train": Published(None, (120191,)),
            "val": Published(None, (10758,)),
            "testA": Published(None, (5726,)),
            "testB": Published(None, (4889,)),
        },
        Published(19992, (141564,)),
        _REFCOCO_SOURCE,
    ),
    "refcocog": Facts(
        "https://github.com/lichengunc/refer",
        _REFCOCO_ACCESS,
        _REFCOCO_TERMS,
        {
            "train": Published(None, (80512,)),
            "val": Published(None, (4896,)),
            "test": Published(None, (9602,)),
        },
        Published(25799, (95010,)),
        _REFCOCO_SOURCE,
    ),
    "mevis": Facts(
        "https://henghuiding.com/MeViS",
        "CodaLab 15094, Codabench, or FudanCVL/MeViS on the Hugging Face Hub.",
        "CC BY-NC-SA 4.0, non-commercial.",
        {
            "train": Published(1662, (23051, 27502)),
            "valid_u": Published(50, (793, 907)),
            "valid": Published(140, (2236, 2523)),
        },
        source="the authors, versions 1 and 2; some copies of train lack two videos",
    ),
    "revos": Facts(
        "https://github.com/cilinyan/ReVOS-api",
        "Linked from the repository of VISA.",
        "CC BY-NC-SA 4.0, non-commercial.",
    ),
    "long_rvos": Facts(
        "https://huggingface.co/datasets/iSEE-Laboratory/Long-RVOS",
        "From the Hugging Face Hub.",
        "As its page says.",
        total=Published(2193),
        source="the paper",
    ),
    "custom": Facts("", "You have it.", "Yours.", source="your own"),
}
