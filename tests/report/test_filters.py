"""Pictures of a run: its filters as they are, and maps that follow from the scores of classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import TINY, Run
from torch import nn
from torchvision.models import alexnet

from convoy.config.compose import compose, to_config
from convoy.config.faults import UserError
from convoy.data.targets import CLASS_INDEX, Targets
from convoy.report.activation_maps import activation_maps, examples, last_feature_map
from convoy.report.filter_pictures import first_convolution, grid, scaled
from convoy.tasks.construction import build_task

Convoy = Callable[..., Run]


def test_alexnet_has_64_filters_in_colour() -> None:
    layer = first_convolution(alexnet(weights=None))
    assert (layer.name, tuple(layer.weight.shape)) == ("features.0", (64, 3, 11, 11))
    images = scaled(layer.weight)
    assert images.shape == (64, 11, 11, 3)
    assert images.reshape(64, -1).min(1).tolist() == [0] * 64
    assert images.reshape(64, -1).max(1).tolist() == [1] * 64
    sheet = grid(images)
    # Eight by eight, a weight four pixels high and wide, an edge of two before, between and behind.
    assert sheet.shape == (8 * (44 + 2) + 2, 8 * (44 + 2) + 2, 3)
    filter_, row, column = 19, 4, 7
    top, left = 2 + 2 * 46 + 4 * row, 2 + 3 * 46 + 4 * column
    weight = layer.weight[filter_]
    expected = (weight[:, row, column] - weight.min()) / (weight.max() - weight.min())
    for pixel in sheet[top : top + 4, left : left + 4].reshape(-1, 3):
        assert np.allclose(pixel, expected.numpy(), atol=1e-6)


def test_filters_of_other_channels_are_gray() -> None:
    images = scaled(torch.tensor([[[[0.0, 2.0]], [[4.0, 2.0]], [[2.0, 8.0]], [[2.0, 4.0]]]]))
    assert images[0, 0].tolist() == [[0, 0, 0], [1, 1, 1]]  # means of 2 and 4
    assert scaled(torch.full((1, 1, 2, 2), 0.3)).tolist() == [[[[0.0] * 3] * 2] * 2]


def pooled() -> nn.Sequential:
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(6, 5, 3, padding=1))
    head = (nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4))
    return nn.Sequential(features, *head).eval()


def largest(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.max(1).values


def test_with_global_average_pooling_the_map_is_the_class_activation_map() -> None:
    network = pooled()
    images = torch.randn(7, 3, 8, 8)
    layer = last_feature_map(network, images[:1])
    assert layer == "1", "the ReLU before the pooling"
    maps, outputs = activation_maps(network, images, layer, largest)
    with torch.no_grad():
        feature_maps = network[:2](images)
        logits = network(images)
        classes = logits.argmax(1)
        # Zhou et al. 2016, equation 2: the class's weights over the feature map; here divided by its 64 places.
        cam = torch.einsum("bc,bchw->bhw", network[4].weight[classes], feature_maps) / 64
    torch.testing.assert_close(maps, cam.clamp_min(0))
    torch.testing.assert_close(outputs, logits)
    # The map before what is below zero is left out adds up to the score of the class.
    torch.testing.assert_close(cam.sum((1, 2)) + network[4].bias[classes], logits.max(1).values)


def test_with_fully_connected_layers_the_map_adds_up_to_the_score_too() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()
    images = torch.randn(5, 1, 8, 8)
    maps, _ = activation_maps(network, images, "1", largest)
    with torch.no_grad():
        kept, logits = network[:2](images), network(images)
        parts = (network[3].weight[logits.argmax(1)].view(5, 4, 6, 6) * kept).sum(1)
    torch.testing.assert_close(maps, parts.clamp_min(0))


def test_frozen_weights_have_maps_as_well() -> None:
    network, images = pooled(), torch.randn(2, 3, 8, 8)
    before = activation_maps(network, images, "1", largest)[0]
    for parameter in network.parameters():
        parameter.requires_grad = False
    torch.testing.assert_close(activation_maps(network, images, "1", largest)[0], before)


def test_example_targets_have_the_number_of_names() -> None:
    images = torch.randn(40, 3, 8, 8)
    labels = torch.tensor([0, 0, 0, 3, 1, 1, 2, 0, 3, 2] * 4)
    batches = [(images[:20], labels[:20]), (images[20:], labels[20:])]
    task = build_task(to_config(compose([])), Targets(CLASS_INDEX, ("cat", "dog", "owl", "yak")))
    network = pooled()
    found, layer = examples(network, task, batches, 6)
    assert [one.target for one in found] == ["cat", "yak", "dog", "owl", "cat", "yak"]
    assert torch.equal(found[1].image, images[3])
    assert torch.equal(found[4].image, images[1])
    assert all(float(one.heat.min()) >= 0 and float(one.heat.max()) <= 1 for one in found)
    assert found[0].heat.shape == (8, 8)
    assert layer == "1"
    with torch.no_grad():
        probabilities, predicted = network(torch.stack([one.image for one in found])).softmax(1).max(1)
    names = [task.targets.names[index] for index in predicted]
    assert [one.prediction for one in found] == [
        (name, f"{value:.2%}") for name, value in zip(names, probabilities.tolist(), strict=True)
    ]
    assert [one.is_right for one in found] == [name == one.target for name, one in zip(names, found, strict=True)]


def test_images_of_different_sizes_are_examples_of_their_sizes() -> None:
    task = build_task(to_config(compose([])), Targets(CLASS_INDEX, ("cat", "dog", "owl", "yak")))
    batches = [(torch.randn(1, 3, 8, width), torch.tensor([width % 4])) for width in (8, 13)]
    network = pooled()
    found, _ = examples(network, task, batches, 2)
    assert [one.heat.shape for one in found] == [(8, 8), (8, 13)]
    with torch.no_grad():
        values = [float(network(images).softmax(1).max()) for images, _ in batches]
    assert [one.prediction[1] for one in found] == [f"{value:.2%}" for value in values]


def test_a_network_without_convolutions_is_refused() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with pytest.raises(UserError, match="has no convolution"):
        first_convolution(flat)
    with pytest.raises(UserError, match="no feature map with more than one position"):
        last_feature_map(flat, torch.zeros(1, 1, 8, 8))


def test_a_run_is_drawn(convoy: Convoy, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert convoy("train", *TINY, f"folder={run}").code == 0
    done = convoy("filters", f"run={run}", "images=10")
    assert done.code == 0, done.err
    assert sorted(path.name for path in (run / "report").iterdir()) == ["activation_maps.png", "filters.png"]
    for path in (run / "report").iterdir():
        with Image.open(path) as image:
            image.verify()
    before = (run / "report" / "filters.png").read_bytes()
    assert convoy("filters", f"run={run}", "images=0", f"output={tmp_path / 'again'}").code == 0
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["filters.png"]
    assert (tmp_path / "again" / "filters.png").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rum=latest"], "did you mean run?"),
        (["run=nowhere"], "run=nowhere"),
        (["run=latest", "images=x"], "images=x: must be a whole number of at least 0"),
        (["run=latest", "split=tst"], "did you mean test?"),
        (["run=latest", "checkpoint="], "checkpoint: needs a value"),
    ],
)
def test_a_mistake_is_reported(convoy: Convoy, words: list[str], message: str) -> None:
    done = convoy("filters", *words)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
