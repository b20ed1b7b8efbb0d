"""Every option of conf/model builds, and learns a step."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from convoy.config import targets
from convoy.models.build import build_model, check_model

OPTIONS = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))
NAMED_BY_THE_USER = {"timm": "test_resnet", "torchvision": "mobilenet_v3_small"}
PUBLISHED_PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
}
"""torchvision's documentation of its weights, num_params."""
SMALLEST = {"alexnet": 63}
"""Side of the smallest images in pixels, where 32 is too small."""


def load(name: str) -> dict[str, Any]:
    option: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(OPTIONS[0].parent / f"{name}.yaml"))  # type: ignore[assignment]
    return {**option, "name": NAMED_BY_THE_USER.get(name, option["name"])}


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: path.stem)
def test_option_fits_its_target_and_is_described(path: Path) -> None:
    assert path.read_text().startswith("# ")
    option = load(path.stem)
    assert option["name"] == NAMED_BY_THE_USER.get(path.stem, path.stem)
    assert check_model(option, num_classes=1000, in_channels=3, image_size=224) == []
    given = {"num_classes": 10, "in_channels": 1, "image_size": 224}
    inspect.signature(targets.resolve(option["_target_"], "model")).bind(**targets.arguments("model", option), **given)
    assert set(option.get("lr", {})) <= {"sgd", "adam", "adamw", "rmsprop", "lamb", "lars"}


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: path.stem)
def test_option_builds_for_gray_and_colour(path: Path) -> None:
    for in_channels, num_classes in ((1, 10), (3, 1000)):
        with torch.device("meta"):
            network = build_model(load(path.stem), num_classes=num_classes, in_channels=in_channels, image_size=224)
    if path.stem in PUBLISHED_PARAMETERS:
        count = sum(parameter.numel() for parameter in network.parameters())
        assert count == PUBLISHED_PARAMETERS[path.stem]


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: path.stem)
def test_option_takes_a_step(path: Path) -> None:
    torch.manual_seed(0)
    side = SMALLEST.get(path.stem, 32)
    network = build_model(load(path.stem), num_classes=4, in_channels=1, image_size=side)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    loss = nn.functional.cross_entropy(network(torch.randn(4, 1, side, side)), torch.arange(4))
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    head = list(network.parameters())[-2]
    before = head.detach().clone()
    optimizer.step()
    assert not torch.equal(head, before)


def test_alexnet_on_small_images_is_told_the_smallest_that_works() -> None:
    (fault,) = check_model(load("alexnet"), num_classes=10, in_channels=3, image_size=32)
    assert fault.remedy.startswith("data.image_size=63 is the smallest that works")
    for name in ("vgg11", "vgg19_bn"):
        (fault,) = check_model(load(name), num_classes=10, in_channels=3, image_size=28)
        assert fault.remedy.startswith("data.image_size=32 is the smallest that works")


def test_resnet_of_he_2015_for_small_images() -> None:
    network = build_model({**load("resnet18"), "stem": "small"}, num_classes=10, in_channels=3, image_size=32)
    # Widely published for CIFAR-10: 11,173,962 parameters with a 3x3 stem and 10 classes.
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_173_962
