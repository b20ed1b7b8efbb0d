"""Folding: networks whose batch norms are counted in their papers and libraries give the same logits without them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from convoy.export.batch_norm_folding import find_pairs, fold
from convoy.models.building.build import build_model
from convoy.training.preflight import read

SMALL = ("data=cifar10", "logger=csv", "data.image_size=64")


def network_of(*words: str) -> nn.Module:
    """A network whose batch norms have statistics as after training, in float64, in which folding is exact."""
    config = read([*words, *SMALL], to_run=False)
    model = {name: value for name, value in config.model.items() if name != "pretrained"}
    torch.manual_seed(0)
    network = build_model(model, num_classes=10, in_channels=3, image_size=64)
    for norm in network.modules():
        if isinstance(norm, _BatchNorm):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.3)
    return network.double().eval()


def num_norms(network: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in network.modules())


# Counted by hand in the papers' tables: ResNet-18 has 16 batch norms in its blocks, one in the stem and 3 in shortcuts,
# VGG-11 one a convolution, MobileNet two a block and one in the stem.
@pytest.mark.parametrize(
    ("words", "folded", "kept", "idle"),
    [
        (("model=resnet18",), 20, 0, 0),
        (("model=vgg11_bn",), 8, 0, 0),
        (("model=resnet20",), 19, 0, 0),
        (("model=mobilenet_v1",), 27, 0, 0),  # timm's batch norm, which brings its activation along
        (("model=googlenet",), 57, 0, 2),  # two of the auxiliary classifiers
        (("model=preact_resnet110",), 54, 55, 0),  # the first of each of 54 blocks, and the last, follow an addition
        (("model=lenet5",), 0, 0, 0),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_a_folded_network_gives_the_same_logits(words: tuple[str, ...], folded: int, kept: int, idle: int) -> None:
    network = network_of(*words)
    images = torch.randn(3, 3, 64, 64, dtype=torch.float64)
    folding = find_pairs(network, images[:1])
    assert (len(folding.pairs), len(folding.kept), len(folding.idle)) == (folded, kept, idle)
    assert folded + kept + idle == num_norms(network)
    without = copy.deepcopy(network)
    fold(without, folding.pairs)
    assert num_norms(without) == kept + idle
    with torch.no_grad():
        torch.testing.assert_close(without(images), network(images), rtol=1e-9, atol=1e-9)


class _Wired(nn.Module):
    """A convolution, a batch norm and a linear layer with one, and a word that says how they are joined."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm: nn.Module = nn.BatchNorm2d(4, track_running_stats=how != "batch statistics")
        self.fc = nn.Linear(4, 5)
        self.fc_norm = nn.BatchNorm1d(5, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        normed = self.norm(maps.relu() if self.how == "relu between" else maps)
        if self.how == "read twice":
            normed = normed + maps
        if self.how == "run twice":
            normed = normed + self.norm(self.conv(images.flip(3)))
        if self.how == "shape asked":
            normed = normed * maps.shape[1]
        logits: Tensor = self.fc_norm(self.fc(normed.mean((2, 3))))
        return logits


@pytest.mark.parametrize(
    ("how", "can"),
    [
        ("directly", True),
        ("shape asked", True),
        ("relu between", False),
        ("read twice", False),
        ("run twice", False),
        ("batch statistics", False),
    ],
)
def test_only_convolutions_read_by_one_batch_norm_are_folded(how: str, can: bool) -> None:
    torch.manual_seed(0)
    network = _Wired(how)
    images = torch.randn(8, 3, 6, 6)
    network(images)  # so that there are statistics
    network.eval()
    folding = find_pairs(network, images[:1])
    assert folding.pairs == ((("conv", "norm"),) if can else ()) + (("fc", "fc_norm"),)
    assert folding.kept == (() if can else ("norm",))
    without: Any = copy.deepcopy(network)
    fold(without, folding.pairs)
    with torch.no_grad():
        torch.testing.assert_close(without(images), network(images))
