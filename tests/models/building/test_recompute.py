"""Activation checkpointing changes memory and nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from convoy.models.building.recompute import recompute_activations


def trained(network: nn.Module, steps: int = 2) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(steps):
        loss = functional.cross_entropy(network(torch.randn(4, 3, 64, 64)), torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.state_dict()


def kept_bytes(network: nn.Module) -> int:
    """What autograd holds between forward and backward, each storage once."""
    storages = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(torch.randn(4, 3, 64, 64))
    return sum(storages.values())


@pytest.mark.parametrize(
    ("name", "blocks"),
    # torchvision's: 8 basic blocks; 58 dense layers; VGG's two chains; 17 inverted residuals and others of 2 layers.
    [("resnet18", 8), ("densenet121", 58), ("vgg11_bn", 1), ("mobilenet_v2", 17)],
)
def test_weights_statistics_and_dropout_are_those_of_a_training_without(name: str, blocks: int) -> None:
    torch.manual_seed(1)
    kwargs = {"num_classes": 10} | (
        {"dropout": 0.5} if name in ("vgg11_bn", "mobilenet_v2") else {"drop_rate": 0.2} if "dense" in name else {}
    )
    plain = getattr(torchvision.models, name)(**kwargs).train()
    if name == "vgg11_bn":
        plain.avgpool, plain.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(512, 10)
    again = copy.deepcopy(plain)
    assert recompute_activations(again) == blocks
    copied = copy.deepcopy(again)
    expected = trained(plain)
    for other in (again, copied):
        found = trained(other)
        assert list(found) == list(expected)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6, msg=key)
    assert kept_bytes(again) < 0.7 * kept_bytes(plain)
    assert type(again.eval()).__name__ == type(plain).__name__


def test_a_network_without_blocks_is_not_changed() -> None:
    assert recompute_activations(nn.Sequential(nn.Flatten(), nn.Linear(12, 3))) == 0
