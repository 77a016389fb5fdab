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
"""Installation of the package. Versions of everything it needs stand in one table."""

import re
from pathlib import Path

from setuptools import find_packages, setup


ROOT = Path(__file__).parent

# Bounds were tried with Python 3.11: all the lowest versions in one environment, the newest ones of November 2026 in
# another, the tests that are not slow in both. An upper bound is the next major release after the newest tried one, or
# the next minor one where the major number is 0. hf-doc-builder was tried in version 0.5.0 alone.
VERSIONS = {
    requirement.partition(">")[0]: requirement
    for requirement in (
        "accelerate>=1.15,<2",
        "av>=17.1,<19",
        "datasets>=5.1,<6",
        "evaluate>=0.4.6,<0.5",
        "filelock>=3.20,<5",
        "h5py>=3.12,<4",
        "hf-doc-builder>=0.5,<0.6",
        "huggingface-hub>=2,<3",
        "matplotlib>=3.10,<4",
        "numpy>=2,<3",
        "opencv-python-headless>=4.11,<6",
        "pillow>=11,<14",
        "pycocotools>=2.0.10,<3",
        "pytest>=8.4,<10",
        "pytest-xdist>=3.6.1,<4",
        "pyyaml>=6,<7",
        "rich>=14,<16",
        "ruff>=0.17.5,<0.18",
        "safetensors>=0.8,<0.9",
        "scipy>=1.15,<2",
        "timm>=1.0.23,<2",
        "tokenizers>=0.23.3,<0.24",
        "torch>=2.11,<3",
        "torchvision>=0.26,<0.30",
        # Tried: 5.22.0, 5.22.2 and 5.23.0; kernels 0.17.2 with 5.22 only. In 5.22 the registry of pipelines loads av.
        "transformers>=5.22,<5.24",
        "typer>=0.20,<0.30",
    )
}


def versions(*names: str) -> list[str]:
    return [VERSIONS[name] for name in names]


# What `hf-rvos segment` and the pipeline need.
install_requires = versions(
    "av",
    "huggingface-hub",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "pycocotools",
    "rich",
    "safetensors",
    "scipy",
    "tokenizers",
    "torch",
    "torchvision",
    "transformers",
    "typer",
)

extras = {
    # ResNet backbones
    "timm": versions("timm"),
    "data": versions("datasets", "h5py"),
    # transformers knows which version of kernels it accepts.
    "kernels": ["transformers[kernels]"],
    "quality": versions("ruff"),
    "docs": versions("hf-doc-builder"),
}
extras["eval"] = versions("accelerate", "evaluate", "matplotlib") + extras["data"]
extras["train"] = versions("filelock", "pyyaml") + extras["eval"]
extras["testing"] = versions("pytest", "pytest-xdist") + extras["timm"] + extras["train"] + extras["quality"]
extras["dev"] = extras["testing"] + extras["docs"]

setup(
    name="hf_rvos",
    version=re.search(r'^__version__ = "(.+)"$', (ROOT / "src/hf_rvos/__init__.py").read_text(), re.M)[1],
    description="Referring video object segmentation with transformers: a video and sentences in, masks out",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The hf_rvos authors",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE.md"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    package_dir={"": "src"},
    packages=find_packages("src"),
    package_data={"hf_rvos": ["checkpoints/*/*"]},
    python_requires=">=3.11",
    install_requires=install_requires,
    extras_require=extras,
    entry_points={"console_scripts": ["hf-rvos = hf_rvos.cli:main"]},
    zip_safe=False,
)
