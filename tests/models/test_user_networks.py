"""Networks of the user's own: what is passed to them, and the remedy for each mistake in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from convoy.config.compose import compose
from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.config.schema import Config
from convoy.models.building.build import build_model
from convoy.training.preflight import read

SIZES = {"num_classes": 10, "in_channels": 1, "image_size": 8}

GOOD = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, in_channels, image_size, width=4):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3, padding=1)
        self.head = nn.Linear(width * image_size**2, num_classes)

    def forward(self, images):
        return self.head(self.conv(images).relu().flatten(1))
"""

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Make:
    """Write a module and an option that names its class `Net`; return the composed `model` group."""

    def make(source: str, option: str = "", *words: str) -> dict[str, Any]:
        name = f"net_{abs(hash(request.node.nodeid))}"
        (tmp_path / f"{name}.py").write_text(source)
        folder = tmp_path / "options" / "model"
        folder.mkdir(parents=True)
        (folder / "mynet.yaml").write_text(f"_target_: {name}.Net\n{option}")
        config: Config = read(["model=mynet", *words], Options(folder.parent))
        return config.model

    return make


def fault_of(model: dict[str, Any], **sizes: int) -> Fault:
    with pytest.raises(UserError) as caught:
        build_model(model, **{**SIZES, **sizes})
    (fault,) = caught.value.faults
    return fault


def test_a_network_receives_the_sizes_and_its_keys(make: Make) -> None:
    model = make(GOOD, "width: 6\nlr: {sgd: 0.3}\nauxiliary_weight: 0.5\n")
    network = build_model(model, **SIZES)
    assert [tuple(parameter.shape) for parameter in network.parameters()] == [(6, 1, 3, 3), (6,), (10, 384), (10,)]


def test_a_network_is_named_by_its_file_and_its_learning_rate_is_read(make: Make, tmp_path: Path) -> None:
    make(GOOD, "lr: {sgd: 0.3}\n")
    config = read(["model=mynet"], Options(tmp_path / "options"))
    assert (config.name, config.model["name"], config.optimizer["lr"]) == ("mynet", "mynet", 0.3)


def test_a_network_starts_from_a_file_of_weights_and_is_frozen(make: Make, tmp_path: Path) -> None:
    model = make(GOOD)
    first = build_model(model, **SIZES)
    torch.save(first.state_dict(), tmp_path / "weights.pt")
    second = build_model({**model, "pretrained": str(tmp_path / "weights.pt"), "freeze": "features"}, **SIZES)
    assert torch.equal(first.conv.weight, second.conv.weight)  # type: ignore[union-attr, arg-type]
    assert [parameter.requires_grad for parameter in second.parameters()] == [False, False, True, True]
    assert fault_of({**model, "pretrained": True}).rule == "there are no published weights for mynet"


def test_a_function_may_build_the_network(make: Make) -> None:
    source = """
from torch import nn

def Net(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
"""
    assert isinstance(build_model(make(source), **SIZES), nn.Sequential)


def forward(body: str) -> str:
    return GOOD.replace("return self.head(self.conv(images).relu().flatten(1))", body)


OWN = "self.head(self.conv(images).relu().flatten(1))"


@pytest.mark.parametrize(
    ("body", "rule", "remedy"),
    [
        (
            f"return {{'out': {OWN}, 'aux': None}}",
            "returns a mapping (dict) with the keys out, aux for one image; the task expects a tensor of shape (1, 10)",
            "return the logits alone from forward",
        ),
        (
            f"return {OWN}, images",
            "returns a tuple of length 2 for one image; the task expects a tensor of shape (1, 10)",
            "return the logits alone from forward",
        ),
        (
            "return self.conv(images)",
            "returns shape (1, 4, 8, 8) for one image; the task expects (1, 10)",
            "pool, flatten or project, so that the output is [B, 10] for B images",
        ),
        (
            f"return {OWN}[0]",
            "returns shape (10,) for one image; the task expects (1, 10)",
            "pool, flatten or project, so that the output is [B, 10] for B images",
        ),
        (
            f"return {OWN}[:, :7]",
            "returns shape (1, 7) for one image; the task expects (1, 10)",
            "its last layer must have num_classes outputs",
        ),
    ],
)
def test_a_wrong_output_is_described_with_its_remedy(make: Make, body: str, rule: str, remedy: str) -> None:
    fault = fault_of(make(forward(body)))
    assert (fault.key, fault.rule, fault.remedy) == ("model._target_", rule, remedy)


def test_a_network_without_a_num_classes_argument_is_reported(make: Make) -> None:
    source = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 7))
"""
    fault = fault_of(make(source))
    assert fault.remedy.startswith("give its constructor an argument num_classes")


def test_following_the_remedy_for_a_number_in_the_file_works(make: Make) -> None:
    model = make(GOOD, "num_classes: 7\n")
    assert fault_of(model).remedy == 'write num_classes: "{num_classes}" in its file'
    assert build_model({**model, "num_classes": "{num_classes}"}, **SIZES)


def test_an_error_in_forward_names_the_line(make: Make) -> None:
    fault = fault_of(make(forward("return self.haed(images)")))
    assert fault.key == "model._target_"
    assert fault.rule.startswith(
        "fails on an image of 1x8x8 (AttributeError: 'Net' object has no attribute 'haed'; net_"
    )
    assert fault.rule.endswith(".py, line 12)")
    assert fault.remedy == "correct its layers or forward"


def test_a_layer_that_does_not_fit_names_the_sizes_that_convoy_passes(make: Make) -> None:
    signature = "num_classes, in_channels, image_size, width=4"
    fault = fault_of(make(GOOD.replace(signature, "num_classes, width=4, image_size=8").replace("in_channels", "3")))
    assert "to have 3 channels, but got 1 channels instead" in fault.rule
    assert fault.remedy.endswith("; a constructor with an argument in_channels receives that number")


def test_an_error_in_the_constructor_names_the_line(make: Make) -> None:
    fault = fault_of(make(GOOD.replace("super().__init__()", "1 / 0")))
    assert ".Net can't be built (ZeroDivisionError: division by zero; net_" in fault.rule
    assert fault.rule.endswith(".py, line 7)")


def test_a_target_that_is_not_a_network_is_refused(make: Make) -> None:
    fault = fault_of(make("class Net:\n    pass\n"))
    assert fault.rule == "builds an object of type Net, not a torch.nn.Module"


def test_a_wrong_key_is_reported_with_the_nearest(make: Make) -> None:
    fault = fault_of(make(GOOD, "widht: 3\n"))
    assert (fault.key, fault.remedy) == ("model.widht", "did you mean width?")


def test_a_small_image_is_refused_with_the_smallest_that_works(make: Make) -> None:
    source = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Conv2d(1, 4, 11), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
"""
    assert fault_of(make(source)).remedy == "data.image_size=11 is the smallest that works"


def test_a_mapping_of_a_library_is_no_matter_of_num_classes() -> None:
    """torchvision's segmentation networks return a mapping, although num_classes is set."""
    compose(["model._target_=torchvision.models.segmentation.lraspp_mobilenet_v3_large"])
    model = {
        "_target_": "torchvision.models.segmentation.lraspp_mobilenet_v3_large",
        "name": "lraspp",
        "num_classes": "{num_classes}",
        "weights_backbone": None,
    }
    fault = fault_of(model, in_channels=3, image_size=64)
    assert "returns a mapping (OrderedDict) with the keys out for one image" in fault.rule
    assert "num_classes" not in fault.remedy
