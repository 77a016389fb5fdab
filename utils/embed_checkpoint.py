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
"""Put a trained model among the checkpoints that come with the package, or a sub-model that several of them share.

    python utils/embed_checkpoint.py outputs/video-swin-tiny/final video-swin-tiny
    python utils/embed_checkpoint.py outputs/soc-tiny/final soc-tiny backbone=video-swin-tiny

A sub-model before `=` is left out of the checkpoint, since it is embedded already under the name after it; its weights
must be the same. Numbers are stored in half precision. The name must stand in `src/hf_rvos/checkpoints/__init__.py`.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, PreTrainedModel

from hf_rvos.auto import MODEL_FOR_REFERRING_VIDEO_SEGMENTATION_MAPPING, AutoModelForReferringVideoSegmentation
from hf_rvos.backbones import load_backbone
from hf_rvos.checkpoints import find_part, list_embedded_checkpoints
from hf_rvos.processing import RvosProcessor
from hf_rvos.training.checkpointing import replace_folder


CHECKPOINTS = Path(__file__).parents[1] / "src/hf_rvos/checkpoints"


def half(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Only the numbers on disk are rounded: the configuration keeps float32, so the model loads and runs in that."""
    return {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}


def clean(folder: Path) -> None:
    """Take out of `config.json` where the parts of a model came from, which is nothing to its users."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    for part in (config.get("backbone_config"), config.get("text_config")):
        if part and "_name_or_path" in part:
            part |= {"_name_or_path": "", "architectures": None}
    file.write_text(json.dumps(config, indent=2) + "\n")


def embed(source: Path, folder: Path, sources: dict[str, str]) -> PreTrainedModel:
    """Write the folder of a model, or of a backbone by itself."""
    if type(AutoConfig.from_pretrained(source)) not in MODEL_FOR_REFERRING_VIDEO_SEGMENTATION_MAPPING:
        model = load_backbone(source)
        model.save_pretrained(folder, state_dict=half(model))
        return model
    model = AutoModelForReferringVideoSegmentation.from_pretrained(source, dtype=torch.float32)
    for name in sources:
        model.base_model.get_submodule(name).requires_grad_(False)
    model.save_pretrained(folder, state_dict=half(model), trainable_only=bool(sources), sources=sources)
    RvosProcessor.from_pretrained(source).save_pretrained(folder)
    clean(folder)
    return model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of the trained model")
    parser.add_argument("name", help="short name to embed it under")
    parser.add_argument("parts", nargs="*", help="SUB_MODEL=EMBEDDED_PART, for what is left out")
    arguments = parser.parse_args()
    if arguments.name not in list_embedded_checkpoints() and find_part(arguments.name) is None:
        parser.error(f"{arguments.name} stands neither in _NAMES nor in _PARTS of {CHECKPOINTS / '__init__.py'}")
    with replace_folder(CHECKPOINTS / arguments.name) as folder:
        model = embed(arguments.source, folder, dict(part.split("=", 1) for part in arguments.parts))
        saved = type(model).from_pretrained(folder, dtype=torch.float32).state_dict()
        different = [name for name, value in half(model).items() if not torch.equal(saved[name].half(), value)]
        if different:
            raise RuntimeError(f"reading {folder} back gave other weights in {different[:3]}")
    for file in sorted((CHECKPOINTS / arguments.name).iterdir()):
        print(f"{file.stat().st_size:>9,} {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
