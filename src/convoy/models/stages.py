"""Networks of residual stages, in which RegNet and EfficientNet can be written (see `stage_notation`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from convoy.config.faults import Fault, UserError
from convoy.models.notation.stage_notation import Stage, parse_stages
from convoy.models.residual import initialize

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "silu": partial(nn.SiLU, inplace=True),
}


class StageNetwork(nn.Module):
    """Convolution, residual stages, global average pooling and a fully connected layer.

    The network maps images (N, in_channels, H, W) to logits (N, num_classes).

    Args:
        stages: texts of the stages (see `stage_notation`).
        num_classes: number of logits.
        in_channels: channels of an image.
        stem: standard for a first convolution with stride 2, small for stride 1.
        stem_filters: filters of the first convolution.
        head: filters of a 1x1 convolution before the pooling; 0 for none.
        activation: relu or silu.
        dropout: probability of dropping one of the last features.

    Raises:
        UserError: if a stage is not in the notation, or the activation does not exist.
    """

    def __init__(
        self,
        stages: Sequence[str],
        num_classes: int,
        in_channels: int = 3,
        stem: str = "standard",
        stem_filters: int = 32,
        head: int = 0,
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if activation not in _ACTIVATIONS:
            remedy = f"choose from {', '.join(_ACTIVATIONS)}"
            raise UserError(Fault("model.activation", "no such activation", remedy, str(activation)))
        act = _ACTIVATIONS[activation]
        parsed = parse_stages(stages)
        self.stem = nn.Sequential(*_convolution(in_channels, stem_filters, 3, 2 if stem == "standard" else 1), act())
        self.stages = nn.Sequential()
        channels = stem_filters
        for stage in parsed:
            blocks = nn.Sequential()
            for index in range(stage.blocks):
                blocks.append(Block(channels, stage if index == 0 else replace(stage, stride=1), act))
                channels = stage.filters
            self.stages.append(blocks)
        self.head = nn.Sequential(*_convolution(channels, head, 1), act()) if head else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(head or channels, num_classes)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.head(self.stages(self.stem(images)))
        logits: Tensor = self.fc(self.dropout(torch.flatten(maps.mean((2, 3)), 1)))
        return logits


class Block(nn.Module):
    """Residual block that maps (N, channels, H, W) to (N, filters, H/S, W/S).

    An inverted bottleneck has a shortcut only if it keeps its shape (Sandler et al. 2018), and no activation after the
    sum. The others project a shortcut that changes its shape (He et al. 2015, option B).

    Args:
        channels: of the input.
        stage: settings of the block.
        activation: constructor of the activation.
    """

    def __init__(self, channels: int, stage: Stage, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        keeps = stage.stride == 1 and channels == stage.filters
        inverted = stage.kind == "INVERTED"
        self.rest = nn.Sequential(*_layers(channels, stage, activation))
        self.shortcut: nn.Module | None = nn.Identity() if keeps else None
        if not keeps and not inverted:
            self.shortcut = nn.Sequential(*_convolution(channels, stage.filters, 1, stage.stride))
        self.activation = nn.Identity() if inverted else activation()

    def forward(self, inputs: Tensor) -> Tensor:
        maps: Tensor = self.rest(inputs)
        if self.shortcut is not None:
            maps = maps + self.shortcut(inputs)
        activated: Tensor = self.activation(maps)
        return activated


def _layers(channels: int, stage: Stage, activation: Callable[[], nn.Module]) -> list[nn.Module]:
    """Return the layers of a block's branch."""
    narrow = max(1, round(stage.squeeze * channels))

    def squeezed(width: int) -> list[nn.Module]:
        return [SqueezeExcitation(width, narrow, activation)] if stage.squeeze else []

    window, stride, filters = stage.window, stage.stride, stage.filters
    if stage.kind == "BASIC":
        first = [*_convolution(channels, filters, window, stride), activation()]
        return [*first, *_convolution(filters, filters, window), *squeezed(filters)]
    if stage.kind == "BOTTLENECK":
        inner = filters // stage.expansion
        groups, first = inner // (stage.group_width or inner), _convolution(channels, inner, 1)
    else:
        inner = channels * stage.expansion
        groups, first = inner, _convolution(channels, inner, 1) if stage.expansion > 1 else []
    if first:
        first = [*first, activation()]
    middle = [*_convolution(inner, inner, window, stride, groups), activation(), *squeezed(inner)]
    return [*first, *middle, *_convolution(inner, filters, 1)]


def _convolution(channels: int, filters: int, window: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a convolution without bias that keeps the size at stride 1, and a batch norm."""
    convolution = nn.Conv2d(channels, filters, window, stride, window // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(filters)]
