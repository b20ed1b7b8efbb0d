"""ShuffleNet v1, which torchvision and timm lack."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from convoy.config.faults import Fault, UserError
from convoy.models.residual import initialize
from convoy.models.stems import make_stem_small

WIDTHS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
"""Channels of the first stage by number of groups, doubled in each later stage: Zhang et al. 2017, table 1."""

UNITS = (4, 8, 4)
"""Units per stage."""


class ShuffleNetV1(nn.Module):
    """ShuffleNet: Zhang et al. 2017 (arXiv:1707.01083).

    A 3x3 convolution with 24 filters and stride 2, max pooling, three stages of 4, 8 and 4 units, global average
    pooling and one fully connected layer. 1x1 convolutions are grouped, and channels are shuffled between groups.
    The network maps images (N, in_channels, H, W) to logits (N, num_classes).

    Args:
        num_classes: number of logits.
        in_channels: channels of an image.
        groups: groups of the 1x1 convolutions: 1, 2, 3, 4 or 8. More groups have more channels for the same cost.
        scale: factor of the channels of the stages.
        stem: standard, or small (see `stems.make_stem_small`).

    Raises:
        UserError: if there is no such number of groups, or it does not divide the scaled channels.
    """

    def __init__(
        self, num_classes: int, in_channels: int = 3, groups: int = 3, scale: float = 1.0, stem: str = "standard"
    ) -> None:
        super().__init__()
        if groups not in WIDTHS:
            raise UserError(Fault("model.groups", "no such number of groups", "choose from 1, 2, 3, 4, 8", str(groups)))
        width = round(WIDTHS[groups] * scale)
        if width <= 24 or width % (4 * groups):
            rule = f"results in {width} channels, which must be above 24 and a multiple of {4 * groups}"
            raise UserError(Fault("model.scale", rule, "write 0.5, 1, 1.5 or 2", str(scale)))
        self.conv = nn.Conv2d(in_channels, 24, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(24)
        self.pool: nn.Module = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = nn.Sequential()
        channels = 24
        for stage, units in enumerate(UNITS):
            outputs = width * 2**stage
            sequence = nn.Sequential()
            for index in range(units):
                # The very first 1x1 convolution has too few input channels for groups.
                first_groups = groups if stage or index else 1
                sequence.append(ShuffleUnit(channels, outputs, groups, first_groups, halves=not index))
                channels = outputs
            self.stages.append(sequence)
        self.fc = nn.Linear(channels, num_classes)
        initialize(self)
        if stem == "small":
            make_stem_small(self, "shufflenet_v1")

    def forward(self, images: Tensor) -> Tensor:
        maps = self.pool(functional.relu(self.bn(self.conv(images)), inplace=True))
        logits: Tensor = self.fc(self.stages(maps).mean((2, 3)))
        return logits


class ShuffleUnit(nn.Module):
    """Grouped 1x1 convolution, shuffle, depthwise 3x3, grouped 1x1 (Zhang et al. 2017, figure 2 b and c).

    Maps (N, C, H, W) to (N, C, H, W) with the input added or, if `halves`, to (N, O, H/2, W/2) with the
    average-pooled input as the first C channels.
    """

    def __init__(self, in_channels: int, out_channels: int, groups: int, first_groups: int, *, halves: bool) -> None:
        super().__init__()
        inner, stride = out_channels // 4, 2 if halves else 1
        own = out_channels - in_channels if halves else out_channels
        self.conv1 = nn.Conv2d(in_channels, inner, 1, groups=first_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.shuffle = nn.ChannelShuffle(groups)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, own, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(own)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if halves else None

    def forward(self, inputs: Tensor) -> Tensor:
        maps = functional.relu(self.bn1(self.conv1(inputs)), inplace=True)
        maps = self.bn3(self.conv3(self.bn2(self.conv2(self.shuffle(maps)))))
        joined = inputs + maps if self.pool is None else torch.cat([self.pool(inputs), maps], 1)
        return functional.relu(joined, inplace=True)
