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
import json

import numpy as np
import pytest
import torch
from PIL import Image

from examples import train_with_trainer
from hf_rvos import AutoModelForReferringVideoSegmentation, embedded_checkpoint
from hf_rvos.utils.video_io import VideoWriter


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two videos of a bright square on its way, one of them to score on."""
    folder = tmp_path_factory.mktemp("mine")
    entries = []
    for split in ("train", "valid"):
        masks = np.zeros((6, 64, 96), np.uint8)
        for number, mask in enumerate(masks):
            mask[20:44, 10 + 8 * number : 34 + 8 * number] = 1
        with VideoWriter(folder / f"{split}.mp4", fps=6, size=(64, 96)) as writer:
            for mask in masks:
                writer.write(np.repeat(mask[..., None] * np.uint8(200) + np.uint8(30), 3, axis=-1))
        (folder / split).mkdir()
        for number, mask in enumerate(masks, start=1):
            Image.fromarray(mask).save(folder / split / f"{number:05d}.png")
        entry = {"video": f"{split}.mp4", "expression": "the square moving right", "split": split, "mask_dir": split}
        entries.append(entry)
    (folder / "annotations.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trainer")
    options = {
        "--model": "referformer-tiny",
        "--data_dir": root,
        "--clip_length": 2,
        "--output_dir": folder,
        "--num_train_epochs": 2,
        "--learning_rate": 1e-3,
        "--save_strategy": "no",
        "--report_to": "none",
        "--use_cpu": True,
        "--disable_tqdm": True,
    }
    train_with_trainer.main([str(part) for option in options.items() for part in option])
    return folder


@pytest.mark.slow  # two steps and an evaluation: seven seconds of a core
def test_model_and_processor_are_saved_and_scored(finished):
    metrics = json.loads((finished / "evaluation" / "metrics.json").read_text())
    assert metrics["num_expressions"] == 1 and 0 <= metrics["j_and_f"] <= 100
    assert (finished / "processor_config.json").is_file() and (finished / "tokenizer.json").is_file()


@pytest.mark.slow  # shares the run above
def test_all_parts_but_the_text_encoder_learn(finished):
    before = AutoModelForReferringVideoSegmentation.from_pretrained(embedded_checkpoint("referformer-tiny"))
    after = AutoModelForReferringVideoSegmentation.from_pretrained(finished).state_dict()
    moved = {}
    for name, value in before.state_dict().items():
        part = name.split(".")[1] if name.startswith("model.") else "heads"
        moved[part] = moved.get(part, False) or not torch.equal(value, after[name])
    assert {part for part, has_moved in moved.items() if not has_moved} == {"text_encoder"}


def test_backbone_learns_at_its_share_of_the_rate():
    model = AutoModelForReferringVideoSegmentation.from_pretrained(embedded_checkpoint("referformer-tiny"))
    groups = train_with_trainer.parameter_groups(model, 1e-3, 0.1)
    rate_of = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    rates = {
        part: {rate_of.get(id(parameter)) for name, parameter in model.named_parameters() if f".{part}." in name}
        for part in ("backbone", "text_encoder", "decoder")
    }
    assert rates == {"backbone": {5e-4}, "text_encoder": {None}, "decoder": {1e-3}}


def test_every_epoch_draws_other_clips():
    class Keys:
        def __getitem__(self, key):
            return key

    data = train_with_trainer.NumberedClips(Keys(), 2)
    state = type("State", (), {"epoch": 3.0})
    train_with_trainer.TellEpoch(data).on_epoch_begin(None, state, None)
    assert data[7] == (3, 7, 2)
