"""Residual networks for CIFAR, and the plain networks they are compared with (He et al. 2015)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock, ResNet

from convoy.config.faults import Fault, UserError
from convoy.models.stems import make_stem_small

WIDTHS = (16, 32, 64)
"""Filters per stage of a network for CIFAR."""

PLAIN_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Pairs of convolutions per stage, by depth: He et al. 2015, table 1."""


class CifarResNet(nn.Module):
    """Networks of He et al. 2015 (arXiv:1512.03385), section 4.2, with and without shortcuts.

    A 3x3 convolution, three stages of n blocks of two 3x3 convolutions with 16, 32 and 64 filters, global average
    pooling and one fully connected layer: 6n + 2 layers with weights. The second and third stage begin with
    stride 2. Shortcuts have no parameters (option A), so the plain and the residual network have the same number.
    The network maps (N, in_channels, H, W) to logits (N, num_classes).

    Args:
        depth: 6n + 2, such as 20, 56 or 1202.
        num_classes: number of logits.
        in_channels: channels of an image.
        shortcuts: False for the plain network.

    Raises:
        UserError: if the depth is not 6n + 2.
    """

    def __init__(self, depth: int, num_classes: int, in_channels: int = 3, shortcuts: bool = True) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            near = max(8, round((depth - 2) / 6) * 6 + 2)
            raise UserError(Fault("model.depth", "must be 6n + 2", f"write model.depth={near}", str(depth)))
        self.conv = nn.Conv2d(in_channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(WIDTHS[0])
        self.stages = nn.Sequential()
        channels = WIDTHS[0]
        for stage, width in enumerate(WIDTHS):
            blocks = nn.Sequential()
            for index in range((depth - 2) // 6):
                stride = 2 if stage and not index else 1
                blocks.append(CifarBlock(channels, width, stride, shortcut=shortcuts))
                channels = width
            self.stages.append(blocks)
        self.fc = nn.Linear(channels, num_classes)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stages(functional.relu(self.bn(self.conv(images)), inplace=True))
        logits: Tensor = self.fc(maps.mean((2, 3)))
        return logits


class CifarBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut: (N, C, H, W) to (N, O, H/S, W/S)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = PaddedShortcut(stride, out_channels - in_channels) if shortcut else None

    def forward(self, inputs: Tensor) -> Tensor:
        maps: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(inputs)))))
        if self.shortcut is not None:
            maps = maps + self.shortcut(inputs)
        activated: Tensor = self.relu(maps)
        return activated


class PaddedShortcut(nn.Module):
    """Option A of He et al. 2015, section 3.3: every S-th pixel, and zeros for the new channels."""

    def __init__(self, stride: int, new_channels: int) -> None:
        super().__init__()
        self.stride = stride
        self.new_channels = new_channels

    def forward(self, inputs: Tensor) -> Tensor:
        kept = inputs[:, :, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, 0, self.new_channels)) if self.new_channels else kept

    def extra_repr(self) -> str:
        return f"stride={self.stride}, new_channels={self.new_channels}"


class PlainBlock(BasicBlock):  # type: ignore[misc]
    """Basic block of torchvision's ResNet without the shortcut."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.downsample = None

    def forward(self, x: Tensor) -> Tensor:
        maps = self.relu(self.bn1(self.conv1(x)))
        activated: Tensor = self.relu(self.bn2(self.conv2(maps)))
        return activated


def plain_network(depth: int, num_classes: int, in_channels: int = 3, stem: str = "standard") -> nn.Module:
    """Return a plain network of He et al. 2015, section 3.3: ResNet-18 or -34 without shortcuts.

    Args:
        depth: 18 or 34.
        num_classes: number of logits.
        in_channels: channels of an image.
        stem: standard, or small (see `stems.make_stem_small`).

    Raises:
        UserError: if the depth is not 18 or 34.
    """
    if depth not in PLAIN_BLOCKS:
        raise UserError(Fault("model.depth", "no such plain network", "choose from 18, 34", str(depth)))
    network: nn.Module = ResNet(PlainBlock, PLAIN_BLOCKS[depth], num_classes=num_classes)
    first = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
    network.set_submodule("conv1", first)
    if stem == "small":
        make_stem_small(network, f"plain{depth}")
    return network


def initialize(network: nn.Module, fan: Literal["fan_in", "fan_out"] = "fan_out") -> None:
    """Initialize convolutions as He et al. 2015 (arXiv:1502.01852): normal, variance 2 / fan; biases zero.

    Args:
        network: changed in place.
        fan: `fan_out` or `fan_in`; networks without norms need the second where the number of channels changes.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=fan, nonlinearity="relu")
        if isinstance(module, nn.Conv2d | nn.Linear) and isinstance(module.bias, torch.Tensor):
            nn.init.zeros_(module.bias)
