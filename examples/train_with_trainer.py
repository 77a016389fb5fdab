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
"""Train with the `Trainer` of transformers instead of train.py: fewer settings, the loop you know.

    python examples/train_with_trainer.py --model soc-tiny --dataset custom --data_dir data/mine \
        --output_dir outputs/trainer --max_steps 200 --learning_rate 1e-4 --per_device_train_batch_size 2

Every argument of `TrainingArguments` can be given. The model starts from a folder, a hub id or the name of an embedded
checkpoint; it is saved with its processor in the output folder, and scored on another split in `evaluation` there.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import HfArgumentParser, Trainer, TrainerCallback, TrainingArguments

from hf_rvos.auto import AutoModelForReferringVideoSegmentation
from hf_rvos.backbones import freeze_stem
from hf_rvos.checkpoints import find_checkpoint
from hf_rvos.data import load_dataset
from hf_rvos.data.augmentation import ClipAugmentation
from hf_rvos.data.collate import ClipCollator
from hf_rvos.data.referring_clips import ReferringClips
from hf_rvos.evaluation.prediction import ModelPredictor
from hf_rvos.evaluation.run import Benchmark, describe_model, evaluate
from hf_rvos.processing.processing_rvos import RvosProcessor


# Rates of the two large parts as shares of --learning_rate, as ReferFormer is trained; 0 freezes a part.
RATE_SHARES = {"backbone": 0.5, "text_encoder": 0.0}


@dataclass
class DataArguments:
    model: str = field(default="soc-tiny", metadata={"help": "what to start from"})
    dataset: str = field(default="custom", metadata={"help": "a name of hf_rvos.data.load_dataset"})
    data_dir: str | None = field(default=None, metadata={"help": "its folder"})
    split: str = field(default="train", metadata={"help": "to learn from"})
    eval_split: str = field(default="valid", metadata={"help": "to score on"})
    clip_length: int = field(default=5, metadata={"help": "frames of a clip"})
    flip_probability: float = field(default=0.5, metadata={"help": "how often a clip is mirrored"})


class NumberedClips(Dataset):
    """Clips asked for by their number alone, as a sampler of torch does it; each epoch draws other ones."""

    def __init__(self, clips: ReferringClips, clip_length: int):
        self.clips, self.clip_length, self.epoch = clips, clip_length, 0

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.clips[self.epoch, index, self.clip_length]


class TellEpoch(TrainerCallback):
    """Tells the data in which epoch it is, before workers are started."""

    def __init__(self, data: NumberedClips):
        self.data = data

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.data.epoch = int(state.epoch or 0)


def parameter_groups(model: torch.nn.Module, rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """One group for each rate; a part with rate 0 is frozen."""
    groups: dict[float, list] = {}
    freeze_stem(model.base_model.backbone)
    for name, parameter in model.named_parameters():
        part = next((part for part in RATE_SHARES if f".{part}." in name), None)
        share = RATE_SHARES.get(part, 1.0)
        if share == 0:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            groups.setdefault(share, []).append(parameter)
    return [
        {"params": parameters, "lr": rate * share, "weight_decay": weight_decay}
        for share, parameters in groups.items()
    ]


def main(arguments: list[str] | None = None) -> None:
    data, training = HfArgumentParser((DataArguments, TrainingArguments)).parse_args_into_dataclasses(arguments)
    # A sample is a dict of frames, masks and sentences, of which the collator makes what a model takes.
    training.remove_unused_columns, training.label_names = False, ["labels"]

    folder = find_checkpoint(data.model)
    model = AutoModelForReferringVideoSegmentation.from_pretrained(folder)
    processor = RvosProcessor.from_pretrained(folder)

    video_processor = processor.video_processor
    size = video_processor.size
    augmentation = ClipAugmentation(
        flip_probability=data.flip_probability,
        short_sides=(size["shortest_edge"],),
        max_long_side=dict(size).get("longest_edge"),
    )
    rows = load_dataset(data.dataset, data.data_dir, split=data.split)
    clips = ReferringClips(rows, data.data_dir, data.clip_length, augmentation=augmentation, seed=training.seed)
    train_data = NumberedClips(clips, data.clip_length)
    collator = ClipCollator(processor.tokenizer, video_processor.image_mean, video_processor.image_std, 1)

    def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
        # Names of videos are for messages; what is None was not needed.
        return {name: value for name, value in collator(samples).items() if name != "video_id" and value is not None}

    groups = parameter_groups(model, training.learning_rate, training.weight_decay)
    trainer = Trainer(
        model=model,
        args=training,
        data_collator=collate,
        train_dataset=train_data,
        processing_class=processor,
        optimizers=(torch.optim.AdamW(groups), None),
        callbacks=[TellEpoch(train_data)],
    )
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    trainer.save_model()

    predictor = ModelPredictor(model.eval(), processor)
    benchmark = Benchmark(data.dataset, data.data_dir and Path(data.data_dir), data.eval_split)
    output = Path(training.output_dir) / "evaluation"
    if trainer.is_world_process_zero():
        shutil.rmtree(output, ignore_errors=True)  # scores of an earlier training
    trainer.accelerator.wait_for_everyone()
    evaluate(benchmark, predictor, describe_model(training.output_dir, predictor), output)
    if trainer.is_world_process_zero():
        print((output / "metrics.md").read_text())


if __name__ == "__main__":
    main()
