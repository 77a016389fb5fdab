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
import pytest
import torch
from torch import nn

from hf_rvos.layers.dynamic_mask_head import DynamicMaskHead


def naive_masks(features, parameters, centers, frame_sizes, channels, num_layers, stride, output_channels=1):
    """Features copied for each query, coordinates concatenated, then one 1x1 network after the other."""
    num_frames, feature_size, height, width = features.shape
    inputs = [feature_size + 2] + [channels] * (num_layers - 1)
    outputs = [channels] * (num_layers - 1) + [output_channels]
    masks = features.new_zeros(num_frames, parameters.shape[1], output_channels, height, width)
    for frame in range(num_frames):
        for query in range(parameters.shape[1]):
            rest = parameters[frame, query]
            weights, biases = [], []
            for columns, rows in zip(inputs, outputs):
                weights.append(rest[: rows * columns].view(rows, columns))
                rest = rest[rows * columns :]
            for rows in outputs:
                biases.append(rest[:rows])
                rest = rest[rows:]
            assert not len(rest)
            x, y = centers[frame, query] * frame_sizes[frame].flip(0)
            to_x = x - (stride * torch.arange(width, dtype=features.dtype) + stride // 2)
            to_y = y - (stride * torch.arange(height, dtype=features.dtype) + stride // 2)
            coordinates = torch.stack((to_x.expand(height, width), to_y[:, None].expand(height, width)))
            maps = torch.cat((features[frame], coordinates)).flatten(1)
            for layer, (weight, bias) in enumerate(zip(weights, biases)):
                maps = weight @ maps + bias[:, None]
                if layer < num_layers - 1:
                    maps = maps.relu()
            masks[frame, query] = maps.view(output_channels, height, width)
    return masks.flatten(1, 2)


def example(num_layers=3, channels=8, num_queries=4, dtype=torch.float64):
    torch.manual_seed(0)
    head = DynamicMaskHead(6, channels, num_layers)
    inputs = {
        "features": torch.randn(3, 6, 5, 9, dtype=dtype),
        "parameters": torch.randn(3, num_queries, head.num_parameters, dtype=dtype),
        "centers": torch.rand(3, num_queries, 2, dtype=dtype),
        "frame_sizes": torch.tensor([[19.0, 35.0], [17.0, 36.0], [20.0, 30.0]], dtype=dtype),
    }
    return head, inputs


def test_published_head_has_2153_parameters():
    assert DynamicMaskHead(256, channels=8, num_layers=3).num_parameters == 2153


@pytest.mark.parametrize(("num_layers", "channels"), [(2, 8), (3, 8), (3, 3), (5, 4)])
def test_equals_a_network_for_each_query_over_copied_features(num_layers, channels):
    head, inputs = example(num_layers, channels)
    expected = naive_masks(**inputs, channels=channels, num_layers=num_layers, stride=4)
    torch.testing.assert_close(head(**inputs), expected)


def test_several_logits_per_cell_equal_a_network_for_each_query():
    torch.manual_seed(0)
    head, inputs = DynamicMaskHead(6, channels=5, num_layers=2, stride=8, output_channels=4), example()[1]
    inputs["parameters"] = torch.randn(3, 4, head.num_parameters, dtype=torch.float64)
    expected = naive_masks(**inputs, channels=5, num_layers=2, stride=8, output_channels=4)
    torch.testing.assert_close(head(**inputs), expected)


def test_patches_of_published_size_have_4416_parameters():
    assert DynamicMaskHead(256, channels=16, num_layers=2, stride=8, output_channels=16).num_parameters == 4416


@pytest.mark.parametrize("num_queries", [1, 4])
def test_merged_projection_equals_projecting_first(num_queries):
    head, inputs = example(num_queries=num_queries)
    projection = nn.Conv2d(10, 6, 3, padding=1).double()
    pixels = torch.randn(3, 10, 5, 9, dtype=torch.float64)
    merged = head(**inputs | {"features": pixels}, projection=projection)
    torch.testing.assert_close(merged, head(**inputs | {"features": projection(pixels)}))


def test_merged_projection_passes_the_same_gradients():
    head, inputs = example(num_queries=1)
    pixels = torch.randn(3, 10, 5, 9, dtype=torch.float64)
    gradients = []
    for merged in (False, True):
        torch.manual_seed(1)
        projection = nn.Conv2d(10, 6, 3, padding=1).double()
        if merged:
            masks = head(**inputs | {"features": pixels}, projection=projection)
        else:
            masks = head(**inputs | {"features": projection(pixels)})
        masks.square().sum().backward()
        gradients.append([parameter.grad for parameter in projection.parameters()])
    torch.testing.assert_close(gradients[1], gradients[0])


def test_frames_do_not_see_each_other():
    head, inputs = example()
    alone = [head(**{name: value[frame : frame + 1] for name, value in inputs.items()}) for frame in range(3)]
    torch.testing.assert_close(head(**inputs), torch.cat(alone))


@pytest.mark.parametrize("setting", ["bfloat16", "autocast"])
def test_half_precision_keeps_the_coordinates(setting):
    # In bfloat16 the distance 259 would become 260.
    head = DynamicMaskHead(1, channels=2, num_layers=2)
    # 260 - relu(dx) - relu(-dx): a band around the centre.
    weights = [0.0, 1.0, 0.0, 0.0, -1.0, 0.0, -1.0, -1.0, 0.0, 0.0, 260.0]
    parameters = torch.tensor(weights).view(1, 1, -1)
    centers, frame_sizes = torch.tensor([[[301.0 / 640, 0.5]]]), torch.tensor([[8.0, 640.0]])
    features = torch.zeros(1, 1, 2, 160)
    if setting == "bfloat16":
        parameters, features = parameters.bfloat16(), features.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=setting == "autocast"):
        inside = head(features, parameters, centers, frame_sizes)[0, 0, 0] > 0
    distances = (4 * torch.arange(160) + 2 - 301).abs()
    assert torch.equal(inside, distances < 260)
