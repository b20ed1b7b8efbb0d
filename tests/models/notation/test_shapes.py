"""The shapes along a chain, against the shapes of torch's own layers, and how a misfit is answered."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convoy.config.faults import Fault, UserError
from convoy.models.notation.shapes import read_chain

ALEXNET = ["CONV11-64/4 p2", "POOL3/2", "CONV5-192", "POOL3/2", "CONV3-384", "POOL3/2", "FC-{num_classes}"]


def fault_of(layers: list[str], in_channels: int = 3, image_size: int = 32, num_classes: int = 10) -> Fault:
    with pytest.raises(UserError) as caught:
        read_chain(layers, num_classes=num_classes, in_channels=in_channels, image_size=image_size)
    (fault,) = caught.value.faults
    return fault


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ("CONV3-8", nn.Conv2d(3, 8, 3, padding=1)),
        ("CONV11-8/4 p2", nn.Conv2d(3, 8, 11, stride=4, padding=2)),
        ("CONV3x5-8/2x3", nn.Conv2d(3, 8, (3, 5), stride=(2, 3), padding=(1, 2))),
        ("CONV2-8 p0", nn.Conv2d(3, 8, 2)),
        ("POOL2", nn.MaxPool2d(2)),
        ("POOL3/2", nn.MaxPool2d(3, 2)),
        ("AVGPOOL3/2 p1", nn.AvgPool2d(3, 2, 1)),
        ("GAP", nn.AdaptiveAvgPool2d(1)),
    ],
)
@pytest.mark.parametrize("image_size", [11, 31, 32])
def test_output_shape_is_that_of_torch(text: str, module: nn.Module, image_size: int) -> None:
    first, _ = read_chain([text, "FC-{num_classes}"], num_classes=10, in_channels=3, image_size=image_size)
    assert first.outputs == tuple(module(torch.zeros(1, 3, image_size, image_size)).shape[1:])


def test_too_small_an_image_reports_the_smallest_size() -> None:
    fault = fault_of(ALEXNET)
    assert (fault.key, fault.value) == ("model.layers[5]", "POOL3/2")
    assert "3x3 window does not fit into its 384x1x1 input" in fault.rule
    assert "images of 3x32x32" in fault.rule
    assert fault.remedy.startswith("data.image_size=63 is the smallest that works")
    read_chain(ALEXNET, num_classes=10, in_channels=3, image_size=63)
    assert fault_of(ALEXNET, image_size=62).key == "model.layers[5]"


def test_no_image_size_is_suggested_if_none_works() -> None:
    fault = fault_of(["POOL2"] * 6 + ["CONV3-8 g2", "FC-{num_classes}"])
    assert fault.key == "model.layers[5]"
    assert "image_size" not in fault.remedy


@pytest.mark.parametrize(
    ("layers", "key", "rule"),
    [
        (["CONV3-8 g2", "FC-{num_classes}"], "model.layers[0]", "2 groups don't divide 3 channels in and 8 filters"),
        (["CONV3-8 g3", "FC-{num_classes}"], "model.layers[0]", "3 groups don't divide 3 channels in and 8 filters"),
        (["MAXOUT2", "FC-{num_classes}"], "model.layers[0]", "takes 2 channels per unit, which does not divide the 3"),
        (["FC-20", "POOL2", "FC-{num_classes}"], "model.layers[1]", "receives 20 units without height and width"),
        (["FC-20", "CONV3-8", "FC-{num_classes}"], "model.layers[1]", "receives 20 units without height and width"),
        (["FC-20", "GAP", "FC-{num_classes}"], "model.layers[1]", "receives 20 units without height and width"),
        (["FC-20", "LRN5", "FC-{num_classes}"], "model.layers[1]", "receives 20 units without height and width"),
        (["CONV1-{num_classes}"], "model.layers", "ends with 10x32x32 outputs for 10 classes"),
        (["FC-100"], "model.layers", "ends with 100 outputs for 10 classes"),
    ],
)
def test_misfit_names_its_layer(layers: list[str], key: str, rule: str) -> None:
    fault = fault_of(layers)
    assert fault.key == key
    assert rule in fault.rule
    assert fault.remedy


def test_maxout_returns_the_number_of_filters_in_the_token() -> None:
    steps = read_chain(["CONV3-8 maxout2", "MAXOUT4", "FC-{num_classes}"], num_classes=5, in_channels=1, image_size=6)
    assert [step.outputs for step in steps] == [(8, 6, 6), (2, 6, 6), (5,)]
