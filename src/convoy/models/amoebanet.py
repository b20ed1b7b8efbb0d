"""AmoebaNet-A, which torchvision and timm lack: Real et al. 2018 (arXiv:1802.01548)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from convoy.config.faults import Fault, UserError
from convoy.models.residual import initialize

_EPSILON = 1e-3  # of batch norms; the default of TensorFlow
_STEM_FILTERS = 32


@dataclass(frozen=True)
class Wiring:
    """Graph of a cell: five sums of two operations each, and the states that form the output.

    State 0 is the output of the previous cell, state 1 that of the cell before it; each sum adds a state.

    Attributes:
        sums: two pairs of an operation and its input state, per sum.
        given: states that are concatenated along the channels as the output.
    """

    sums: tuple[tuple[tuple[str, int], tuple[str, int]], ...]
    given: tuple[int, ...]


NORMAL = Wiring(
    (
        (("average", 0), ("max", 0)),
        (("separable3", 1), ("identity", 1)),
        (("identity", 0), ("average", 1)),
        (("separable3", 0), ("separable5", 2)),
        (("average", 5), ("separable3", 0)),
    ),
    given=(1, 3, 4, 6),
)
"""Normal cell: figure 5, left. The output states are from the authors' code."""

REDUCTION = Wiring(
    (
        (("separable3", 1), ("average", 0)),
        (("max", 0), ("separable7", 2)),
        (("max", 1), ("max", 0)),
        (("separable3", 4), ("factorized7", 0)),
        (("average", 1), ("separable7", 0)),
    ),
    given=(2, 3, 4, 5, 6),
)
"""Reduction cell: figure 5, right. The output states are from the authors' code."""


class AmoebaNetA(nn.Module):
    """AmoebaNet-A for ImageNet: a convolution, two reduction cells, and three groups of normal cells.

    Between the groups a reduction cell halves height and width and doubles the filters. There is no auxiliary
    classifier. The network maps images (N, in_channels, H, W) to logits (N, num_classes).

    Args:
        num_classes: number of logits.
        in_channels: channels of an image.
        cells: normal cells per group, N in the paper.
        filters: filters per operation in the first group, F in the paper; at least 16.
        dropout: probability of dropping one of the last features.

    Raises:
        UserError: if there are too few cells or filters.
    """

    def __init__(
        self, num_classes: int, in_channels: int = 3, cells: int = 6, filters: int = 190, dropout: float = 0.5
    ) -> None:
        super().__init__()
        for key, value, least in (("cells", cells, 1), ("filters", filters, 16)):
            if value < least:
                raise UserError(Fault(f"model.{key}", f"must be at least {least}", "", str(value)))
        self.conv = nn.Conv2d(in_channels, _STEM_FILTERS, 3, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(_STEM_FILTERS, _EPSILON)
        self.cells = nn.ModuleList()
        channels, before, halved = _STEM_FILTERS, _STEM_FILTERS, False
        plan = [(filters // 4, True), (filters // 2, True)]
        for group in range(3):
            plan += [(filters * 2**group, True)] * bool(group) + [(filters * 2**group, False)] * cells
        for width, reduces in plan:
            cell = Cell(channels, before, width, reduces=reduces, halve_before=halved)
            self.cells.append(cell)
            channels, before, halved = cell.out_channels, channels, reduces
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        last = before = self.bn(self.conv(images))
        for cell in self.cells:
            last, before = cell(last, before), last
        features = functional.relu(last).mean((2, 3))
        logits: Tensor = self.fc(self.dropout(features))
        return logits


class Cell(nn.Module):
    """Cell that maps the outputs of the two previous cells to (N, out_channels, H/S, W/S).

    Args:
        channels: channels of the previous cell's output.
        channels_before: channels of the output of the cell before it.
        width: filters per operation.
        reduces: True for a reduction cell (S = 2), False for a normal cell (S = 1).
        halve_before: True if the output of the cell before the previous one is twice as high and wide.
    """

    def __init__(self, channels: int, channels_before: int, width: int, *, reduces: bool, halve_before: bool) -> None:
        super().__init__()
        self.wiring = REDUCTION if reduces else NORMAL
        self.out_channels = width * len(self.wiring.given)
        self.last = pointwise(channels, width)
        self.before = Halving(channels_before, width) if halve_before else pointwise(channels_before, width)
        self.operations = nn.ModuleList(
            _operation(kind, width, 2 if reduces and state < 2 else 1)
            for pair in self.wiring.sums
            for kind, state in pair
        )
        # States 0 and 1 have the size before the reduction and can't be concatenated with the sums.
        assert not reduces or min(self.wiring.given) >= 2

    def forward(self, last: Tensor, before: Tensor) -> Tensor:
        states = [self.last(last), self.before(before)]
        for index, ((_, one), (_, other)) in enumerate(self.wiring.sums):
            states.append(self.operations[2 * index](states[one]) + self.operations[2 * index + 1](states[other]))
        return torch.cat([states[state] for state in self.wiring.given], 1)


def _operation(kind: str, width: int, stride: int) -> nn.Module:
    """Return an operation of Real et al. 2018, section 3.1, with `width` channels in and out."""
    if kind == "identity":
        return nn.Identity()
    if kind == "average":
        return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    if kind == "max":
        return nn.MaxPool2d(3, stride, padding=1)
    if kind == "factorized7":
        return _factorized(width, stride)
    return _separable(width, int(kind.removeprefix("separable")), stride)


def pointwise(channels: int, width: int) -> nn.Sequential:
    """Return ReLU, 1x1 convolution and batch norm: (N, channels, H, W) to (N, width, H, W)."""
    return _convolution(channels, width, (1, 1))


class Halving(nn.Module):
    """Module that maps (N, channels, H, W) to (N, width, H/2, W/2).

    One 1x1 convolution with stride 2 reads the pixels of even rows and columns, another those of odd ones.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(channels, width // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(channels, width - width // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(width, _EPSILON)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = functional.relu(inputs)
        between = functional.pad(inputs, (0, 1, 0, 1))[:, :, 1:, 1:]
        halved: Tensor = self.bn(torch.cat([self.even(inputs), self.odd(between)], 1))
        return halved


def _separable(width: int, size: int, stride: int) -> nn.Sequential:
    """Return two separable convolutions; the first has the stride."""
    layers: list[nn.Module] = []
    for step in (stride, 1):
        depthwise = nn.Conv2d(width, width, size, step, padding=size // 2, groups=width, bias=False)
        layers += [nn.ReLU(), depthwise, nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width, _EPSILON)]
    return nn.Sequential(*layers)


def _factorized(width: int, stride: int) -> nn.Sequential:
    """Return a 1x7 and a 7x1 convolution on a quarter of the channels."""
    narrow = width // 4
    return nn.Sequential(
        pointwise(width, narrow),
        _convolution(narrow, narrow, (1, 7), (1, stride)),
        _convolution(narrow, narrow, (7, 1), (stride, 1)),
        pointwise(narrow, width),
    )


def _convolution(channels: int, filters: int, size: tuple[int, int], stride: tuple[int, int] = (1, 1)) -> nn.Sequential:
    padding = (size[0] // 2, size[1] // 2)
    convolution = nn.Conv2d(channels, filters, size, stride, padding, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(filters, _EPSILON))
