"""Every classifier of conf/model builds, and some learn a step; test_zoo has what is published of them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from convoy.config import targets
from convoy.config.cards import POSE, SUPER_RESOLUTION
from convoy.models.building.build import build_model, check_model

FOLDER = Path(__file__).parents[2] / "conf" / "model"
OTHERS = re.compile(f"segmentation|{SUPER_RESOLUTION}|family: {POSE}")
OPTIONS = sorted(path for path in FOLDER.glob("*.yaml") if not OTHERS.search(path.read_text()))
NAMED_BY_THE_USER = {"timm": "test_resnet", "torchvision": "mobilenet_v3_small"}
SIDES = {"alexnet": 63, "lenet5": 32, "vgg11": 32, "resnet18": 32, "mobilenet_v2": 32, "timm": 32, "resnet20": 32}
"""Of the images on which an option takes a step with values; the step of every option is in test_zoo."""


def load(name: str) -> dict[str, Any]:
    option: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))  # type: ignore[assignment]
    return {**option, "name": NAMED_BY_THE_USER.get(name, option["name"])}


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: path.stem)
def test_option_fits_its_target_and_is_described(path: Path) -> None:
    assert path.read_text().startswith("# ")
    option = load(path.stem)
    assert option["name"] == NAMED_BY_THE_USER.get(path.stem, path.stem)
    assert check_model(option, num_classes=1000, in_channels=3, image_size=224) == []
    given = {"num_classes": 10, "in_channels": 1, "image_size": 224}
    signature = inspect.signature(targets.resolve(option["_target_"], "model"))
    # Keys that `build_model` reads itself for a target that does not take them.
    passed = {
        key: value
        for key, value in targets.arguments("model", option).items()
        if key not in ("name", "pretrained", "weights") or key in signature.parameters
    }
    signature.bind(**passed, **{key: value for key, value in given.items() if key in signature.parameters})
    assert set(option.get("lr", {})) <= {"sgd", "adam", "adamw", "rmsprop", "lamb", "lars"}


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: path.stem)
def test_an_option_accepts_color_images_of_its_size(path: Path) -> None:
    # Gray and small ones, with gradients: test_zoo.
    side = 299 if path.stem == "inception_v3" else 224
    with torch.device("meta"):
        network = build_model(load(path.stem), num_classes=10, in_channels=3, image_size=side)
    assert network.training


@pytest.mark.parametrize(("name", "side"), SIDES.items())
def test_an_option_trains_for_a_step(name: str, side: int) -> None:
    torch.manual_seed(0)
    network = build_model(load(name), num_classes=4, in_channels=1, image_size=side)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    loss = nn.functional.cross_entropy(network(torch.randn(4, 1, side, side)), torch.arange(4))
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    head = list(network.parameters())[-2]
    before = head.detach().clone()
    optimizer.step()
    assert not torch.equal(head, before)


def test_alexnet_on_small_images_reports_the_smallest_size() -> None:
    (fault,) = check_model(load("alexnet"), num_classes=10, in_channels=3, image_size=32)
    assert fault.remedy.startswith("data.image_size=63 is the smallest that works")
    for name in ("vgg11", "vgg19_bn"):
        (fault,) = check_model(load(name), num_classes=10, in_channels=3, image_size=28)
        assert fault.remedy.startswith("data.image_size=32 is the smallest that works")


def test_resnet_of_he_2015_for_small_images() -> None:
    network = build_model({**load("resnet18"), "stem": "small"}, num_classes=10, in_channels=3, image_size=32)
    # Widely published for CIFAR-10: 11,173,962 parameters with a 3x3 stem and 10 classes.
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_173_962
