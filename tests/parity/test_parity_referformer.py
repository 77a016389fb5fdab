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
"""ReferFormer against recorded numbers of the official implementation, through the path that users take.

A state dict with generated weights is written as an official `.pth`, converted, loaded with `from_pretrained` and run.
The small cases are kept in `tests/fixtures`, the ones with published sizes are read from the shared folder.
"""

import argparse
import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_rvos.models.referformer import ReferFormerForReferringVideoSegmentation
from hf_rvos.models.referformer.convert_referformer_to_hf import convert_checkpoint, convert_state_dict
from tests.parity.official_weights import normal, official_state_dict


FIXTURES = Path(__file__).parents[1] / "fixtures" / "parity" / "referformer"
TINY_INPUTS = [
    ("tiny-videoswin", "padded"),
    ("tiny-videoswin", "batch2"),
    ("tiny-videoswin", "inference"),
    ("tiny-videoswin", "long"),
    ("tiny-videoswin", "one_valid_frame"),
    ("tiny-resnet", "padded"),
    ("tiny-resnet", "batch2"),
    ("tiny-resnet", "inference"),
    ("tiny-resnet", "image"),
    ("tiny-swin", "padded"),
    ("tiny-swin", "batch2"),
    ("tiny-swin", "inference"),
]
FULL_CASES = ["full-videoswin-t", "full-resnet50"]
# float32 rounding of another order of operations; typical mistakes move these by 1e-2 and more.
TOLERANCE = {"pred_masks": 1e-3, "mask_features": 1e-3}
DEFAULT_TOLERANCE = 1e-4


class Case:
    """A recorded case: its description, its arrays and its converted model."""

    def __init__(self, folder: Path, name: str, scratch: Path):
        self.description = json.loads((folder / f"{name}.json").read_text())
        self.arrays = np.load(folder / f"{name}.npz")
        self.seed = self.description["seed"]
        state_dict = official_state_dict(folder / f"{name}.keys.json", self.seed)
        arguments = argparse.Namespace(**self.description["config"])
        checkpoint, config = scratch / "official.pth", None
        torch.save({"model": state_dict, "args": arguments, "epoch": 5}, checkpoint)
        if name.startswith("tiny"):
            config = scratch / "config.json"
            fields = {"text_config": self.description["text_config"]}
            if "embed_dim" in self.description["backbone_config"]:
                fields["backbone_config"] = own_backbone_config(name, self.description["backbone_config"])
            config.write_text(json.dumps(fields))
        with pytest.warns(UserWarning, match="tokenizer"):
            convert_checkpoint(checkpoint, scratch / "converted", tokenizer=scratch / "nowhere", config=config)
        checkpoint.unlink()
        self.model = ReferFormerForReferringVideoSegmentation.from_pretrained(scratch / "converted")

    def inputs(self, name: str) -> dict:
        """The model inputs of a recorded call."""
        call = self.description["inputs"][name]
        videos = [torch.from_numpy(normal(**video["pixel_values"], seed=self.seed)) for video in call["videos"]]
        divisor = call["size_divisor"]
        height, width = (-(-max(video.shape[axis] for video in videos) // divisor) * divisor for axis in (2, 3))
        pixels = torch.zeros(len(videos), len(videos[0]), 3, height, width)
        mask = torch.zeros(len(videos), len(videos[0]), height, width, dtype=torch.bool)
        for index, video in enumerate(videos):
            pixels[index, :, :, : video.shape[2], : video.shape[3]] = video
            mask[index, :, : video.shape[2], : video.shape[3]] = True
        inputs = {
            "pixel_values_videos": pixels,
            "pixel_mask": None if mask.all() else mask,
            "input_ids": torch.tensor(call["input_ids"]),
            "attention_mask": torch.tensor(call["attention_mask"]),
        }
        if "valid_frame" in call["videos"][0]:
            inputs["annotated_frames"] = torch.tensor([video["valid_frame"] for video in call["videos"]])
        return inputs

    def check(self, call: str, name: str, value: torch.Tensor):
        """Compare a tensor in the official layout with what was recorded of it."""
        recorded = self.description["outputs"][call].get(name)
        if recorded is None:
            return
        assert list(value.shape) == recorded["shape"], name
        sample = value.detach().flatten()[:: recorded["stride"]][: recorded["count"]].float().numpy()
        tolerance = TOLERANCE.get(name.split("/")[-1], DEFAULT_TOLERANCE)
        np.testing.assert_allclose(
            sample,
            self.arrays[f"{call}/{name}"].flatten().astype(np.float32),
            atol=tolerance,
            rtol=tolerance,
            err_msg=name,
        )


def own_backbone_config(case: str, official: dict) -> dict:
    """The fields of an official Swin configuration under our names."""
    fields = {name: official[name] for name in ("embed_dim", "depths", "num_heads")}
    if case == "tiny-swin":
        fields |= {"window_size": [1, 7, 7], "shrink_window": False, "normalize_stages": True}
    else:
        fields["window_size"] = official["window_size"]
    return {"model_type": "video_swin", **fields}


@pytest.fixture(scope="module")
def tiny_case(tmp_path_factory):
    loaded = {}

    def load(name: str) -> Case:
        if name not in loaded:
            loaded[name] = Case(FIXTURES, name, tmp_path_factory.mktemp(name))
        return loaded[name]

    return load


def check_every_stage(case: Case, call: str):
    model, inputs = case.model, case.inputs(call)
    captured = {}

    def keep(name):
        return lambda module, args, output: captured.update({name: output})

    hooks = [
        model.model.backbone.register_forward_hook(keep("backbone")),
        model.model.text_encoder.register_forward_hook(keep("text")),
        model.model.fusion.register_forward_hook(keep("fused")),
        model.model.register_forward_hook(keep("model")),
        model.mask_projection.register_forward_hook(keep("mask_features")),
    ]
    with torch.no_grad():
        video = model.get_video_features(
            inputs["pixel_values_videos"], inputs["pixel_mask"], inputs.get("annotated_frames")
        )
        text = model.get_text_features(inputs["input_ids"], inputs["attention_mask"])
        outputs = model(video_features=video, text_features=text, output_auxiliary=True)
    for hook in hooks:
        hook.remove()

    def by_frame(tensor):  # (E, Q, T, ...) to the official (E, T, Q, ...)
        return tensor.transpose(1, 2)

    for level, feature_map in enumerate(captured["backbone"].feature_maps):
        case.check(call, f"backbone_features_{level}", feature_map)
    case.check(call, "text_last_hidden_state", captured["text"].last_hidden_state)
    case.check(call, "text_pooler_output", captured["text"].pooler_output)
    case.check(call, "text_word_features", text.words)
    case.check(call, "text_sentence_features", text.sentence)
    case.check(call, "text_position_embedding", text.word_positions)
    num_expressions, num_frames = video.pixels.shape[:2]
    lengths = [height * width for height, width in video.spatial_shapes]
    positions = video.pixel_positions.expand(num_expressions, num_frames, -1, -1).split(lengths, dim=2)
    fused = captured["fused"].view(num_expressions, num_frames, -1, captured["fused"].shape[-1]).split(lengths, dim=2)
    for level, shape in enumerate(video.spatial_shapes):
        as_map = [tokens[level].flatten(0, 1).transpose(1, 2).unflatten(2, shape) for tokens in (fused, positions)]
        case.check(call, f"fused_features_{level}", as_map[0])
        case.check(call, f"position_embedding_{level}", as_map[1])
    features = captured["model"]
    case.check(call, "encoder_memory", features.encoder_last_hidden_state)
    case.check(call, "decoder_hidden_states", torch.stack(features.hidden_states))
    case.check(call, "decoder_references", torch.stack(features.boxes))
    initial = features.initial_reference_points
    case.check(call, "initial_references", initial.expand(num_expressions * num_frames, -1, -1))
    case.check(call, "mask_features", captured["mask_features"])
    case.check(call, "reference_points", by_frame(outputs.reference_points))
    case.check(call, "pred_logits", by_frame(outputs.logits))
    case.check(call, "pred_boxes", by_frame(outputs.pred_boxes))
    case.check(call, "pred_masks", by_frame(outputs.pred_masks))
    for index, layer in enumerate(outputs.auxiliary_outputs):
        case.check(call, f"aux_outputs/{index}/pred_logits", by_frame(layer["logits"]))
        case.check(call, f"aux_outputs/{index}/pred_boxes", by_frame(layer["pred_boxes"]))
        case.check(call, f"aux_outputs/{index}/pred_masks", by_frame(layer["pred_masks"]))


@pytest.mark.parametrize(("name", "call"), TINY_INPUTS, ids=lambda value: value)
def test_every_stage_equals_the_official_one(tiny_case, name, call):
    check_every_stage(tiny_case(name), call)


@pytest.mark.slow  # 170 million parameters are made, converted and loaded
@pytest.mark.parametrize("name", FULL_CASES)
def test_published_sizes_equal_the_official_model(shared_dir, tmp_path, name):
    case = Case(shared_dir / "parity" / "referformer", name, tmp_path)
    for call in case.description["inputs"]:
        check_every_stage(case, call)


@pytest.mark.parametrize(("name", "call"), TINY_INPUTS, ids=lambda value: value)
def test_best_query_gets_the_masks_it_has_among_all(tiny_case, name, call):
    case = tiny_case(name)
    inputs = case.inputs(call)
    with torch.no_grad():
        everything, best = case.model(**inputs), case.model(**inputs, queries="best")
    index = best.query_index[:, None, None, None, None]
    torch.testing.assert_close(
        best.pred_masks, torch.take_along_dim(everything.pred_masks, index, 1), atol=1e-3, rtol=1e-4
    )


def labels_of(case: Case, call: str) -> list[dict[str, torch.Tensor]]:
    return [
        {
            "masks": torch.from_numpy(case.arrays[target["masks"]]).bool(),
            "boxes": torch.tensor(target["boxes"]),
            "class_labels": torch.tensor(target["labels"]),
            "valid_frames": torch.tensor(target["valid"]).bool(),
        }
        for target in case.description["training"][call]["targets"]
    ]


@pytest.mark.parametrize("call", ["batch2", "one_valid_frame"])
def test_losses_equal_the_official_ones(tiny_case, call):
    case = tiny_case("tiny-videoswin")
    recorded = case.description["training"][call]
    outputs = case.model(**case.inputs(call), labels=labels_of(case, call))
    assert outputs.loss_dict.keys() == recorded["losses"].keys()
    for name, value in recorded["losses"].items():
        assert outputs.loss_dict[name].item() == pytest.approx(value, rel=1e-4), name
    assert outputs.loss.item() == pytest.approx(recorded["total_loss"], rel=1e-4)


@pytest.mark.parametrize("call", ["batch2", "one_valid_frame"])
def test_gradients_equal_the_official_ones(tiny_case, call):
    # In float64, because a ReLU whose input is nearly zero may open or stay closed in float32.
    case = tiny_case("tiny-videoswin")
    recorded = case.description["training"][call]
    model = copy.deepcopy(case.model).double()
    inputs = case.inputs(call)
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"].double()
    model(**inputs, labels=labels_of(case, call)).loss.backward()
    without_gradient = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert len(without_gradient) == len(recorded["parameters_without_gradient"])
    total = torch.stack([parameter.grad.norm() for parameter in model.parameters()]).norm()
    assert total.item() == pytest.approx(recorded["gradient_norm_all_parameters"], rel=1e-4)
    for name, expected in recorded["gradients"].items():
        gradient = gradient_of(model, name)
        probe = torch.from_numpy(normal(f"probe:{name}", tuple(gradient.shape), case.seed))
        assert gradient.norm().item() == pytest.approx(expected["norm"], rel=1e-4), name
        assert (gradient * probe).sum().item() == pytest.approx(expected["probe"], abs=1e-4 * expected["norm"]), name


def gradient_of(model: ReferFormerForReferringVideoSegmentation, official_name: str) -> torch.Tensor:
    """The gradient of an official tensor; converting a marker under its name tells where it went."""
    own = dict(model.named_parameters())
    names = convert_state_dict({official_name: torch.zeros(3)}, model.config.backbone_config)
    return torch.cat([own[name].grad for name in names])
