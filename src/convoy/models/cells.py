"""Networks of stacked cells, in which NASNet-A and AmoebaNet-A can be written (see `cell_notation`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from convoy.config.faults import Fault, UserError
from convoy.models.notation.cell_notation import Cell, parse_cell
from convoy.models.residual import initialize

_EPSILON = 1e-3  # of batch norms; the default of TensorFlow


class CellNetwork(nn.Module):
    """Convolution, and three groups of normal cells: Zoph et al. 2017 (arXiv:1707.07012), figure 2.

    Between the groups, a reduction cell halves height and width and doubles the filters. With the standard stem, two
    more reduction cells precede the groups. There is no auxiliary classifier. The network maps images
    (N, in_channels, H, W) to logits (N, num_classes).

    Args:
        normal: blocks of the normal cell (see `cell_notation`).
        reduction: blocks of the reduction cell.
        num_classes: number of logits.
        in_channels: channels of an image.
        cells: normal cells per group, N in the papers.
        filters: filters per operation in the first group, F in the papers.
        stem: standard, or small for images of about 32 pixels: no stride, and no reduction before the groups.
        stem_filters: filters of the first convolution.
        project_stem: False if the first cell reads the convolution's output as state 1 unchanged, as in NASNet.
        dropout: probability of dropping one of the last features.

    Raises:
        UserError: if a cell is not in the notation, or there are too few cells or filters.
    """

    def __init__(
        self,
        normal: Sequence[str],
        reduction: Sequence[str],
        num_classes: int,
        in_channels: int = 3,
        cells: int = 6,
        filters: int = 32,
        stem: str = "standard",
        stem_filters: int = 32,
        project_stem: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        graphs = (
            parse_cell(normal, "model.normal", reduces=False),
            parse_cell(reduction, "model.reduction", reduces=True),
        )
        least = 16 if stem == "standard" else 4
        for key, value, bound in (("cells", cells, 1), ("filters", filters, least), ("stem_filters", stem_filters, 1)):
            if value < bound:
                raise UserError(Fault(f"model.{key}", f"must be at least {bound}", "", str(value)))
        stride, padding = (2, 0) if stem == "standard" else (1, 1)
        self.conv = nn.Conv2d(in_channels, stem_filters, 3, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(stem_filters, _EPSILON)
        self.cells = nn.ModuleList()
        channels, before, halved = stem_filters, stem_filters, False
        plan = [(filters // 4, True), (filters // 2, True)] if stem == "standard" else []
        for group in range(3):
            plan += [(filters * 2**group, True)] * bool(group) + [(filters * 2**group, False)] * cells
        for (width, reduces), is_used in zip(plan, _used([graphs[reduces] for _, reduces in plan]), strict=True):
            projects = bool(self.cells) or project_stem
            inputs = Inputs(channels, before, width, halve_before=halved, project_before=projects)
            cell = CellModule(graphs[reduces], inputs, reduces=reduces)
            self.cells.append(cell if is_used else UnusedCell())
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


@dataclass(frozen=True)
class Inputs:
    """Inputs of a cell.

    Attributes:
        channels: channels of the previous cell's output.
        channels_before: channels of the output of the cell before it.
        width: filters per operation.
        halve_before: True if the output of the cell before the previous one is twice as high and wide.
        project_before: False if that output is used unchanged.
    """

    channels: int
    channels_before: int
    width: int
    halve_before: bool = False
    project_before: bool = True


class CellModule(nn.Module):
    """Cell that maps the outputs of the two previous cells to (N, out_channels, H/S, W/S).

    Args:
        cell: its graph.
        inputs: sizes of its inputs.
        reduces: True for a reduction cell (S = 2), False for a normal cell (S = 1).
    """

    def __init__(self, cell: Cell, inputs: Inputs, *, reduces: bool) -> None:
        super().__init__()
        self.cell = cell
        width = inputs.width
        self.last = pointwise(inputs.channels, width) if 0 in cell.states else nn.Identity()
        self.before: nn.Module = nn.Identity()
        if inputs.project_before and 1 in cell.states:
            halve = inputs.halve_before
            self.before = (Halving if halve else pointwise)(inputs.channels_before, width)
        widths = dict.fromkeys(cell.concatenated, 2 * width)
        widths[1] = width if inputs.project_before else inputs.channels_before
        self.out_channels = sum(widths.get(state, width) for state in cell.output)
        self.operations = nn.ModuleList(
            _operation(kind, widths.get(state, width), width, 2 if reduces and state < 2 else 1)
            for pair in cell.blocks
            for kind, state in pair
        )

    def forward(self, last: Tensor, before: Tensor) -> Tensor:
        states = [self.last(last), self.before(before)]
        for index, ((_, one), (_, other)) in enumerate(self.cell.blocks):
            results = self.operations[2 * index](states[one]), self.operations[2 * index + 1](states[other])
            states.append(torch.cat(results, 1) if index + 2 in self.cell.concatenated else results[0] + results[1])
        return torch.cat([states[state] for state in self.cell.output], 1)


class UnusedCell(nn.Module):
    """Cell whose output no later cell reads."""

    def forward(self, last: Tensor, before: Tensor) -> Tensor:
        return last


def _used(cells: Sequence[Cell]) -> list[bool]:
    """Return for each cell of a stack whether the last one depends on it."""
    used = [False] * len(cells) + [True]
    for index in reversed(range(len(cells))):
        if used[index + 1]:
            states = cells[index].states
            for state in (0, 1):
                if state in states and index - state >= 0:
                    used[index - state] = True
    return used[1:]


def _operation(kind: str, channels: int, width: int, stride: int) -> nn.Module:
    """Return an operation that maps (N, channels, H, W) to (N, width, H/stride, W/stride)."""
    name, size = kind.rstrip("0123456789"), int(kind.lstrip("abcdefghijklmnopqrstuvwxyz") or 0)
    if name in ("average", "max"):
        average = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
        pool = average if name == "average" else nn.MaxPool2d(3, stride, padding=1)
        return pool if channels == width else nn.Sequential(pool, pointwise(channels, width))
    if name == "identity":
        plain = stride == 1 and channels == width
        return nn.Identity() if plain else _convolution(channels, width, (1, 1), (stride, stride))
    if name == "convolution":
        return _convolution(channels, width, (size, size), (stride, stride))
    if name == "factorized":
        return _factorized(channels, width, stride)
    if name == "dilated":
        return nn.Sequential(*_separable(channels, width, size, stride, dilation=2))
    return nn.Sequential(*_separable(channels, width, size, stride), *_separable(width, width, size, 1))


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


def _separable(channels: int, width: int, size: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    """Return ReLU, depthwise convolution, pointwise convolution and batch norm."""
    padding = dilation * (size // 2)
    depthwise = nn.Conv2d(channels, channels, size, stride, padding, dilation, groups=channels, bias=False)
    return [nn.ReLU(), depthwise, nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width, _EPSILON)]


def _factorized(channels: int, width: int, stride: int) -> nn.Sequential:
    """Return a 1x7 and a 7x1 convolution on a quarter of the channels."""
    narrow = max(1, width // 4)
    return nn.Sequential(
        pointwise(channels, narrow),
        _convolution(narrow, narrow, (1, 7), (1, stride)),
        _convolution(narrow, narrow, (7, 1), (stride, 1)),
        pointwise(narrow, width),
    )


def _convolution(channels: int, filters: int, size: tuple[int, int], stride: tuple[int, int] = (1, 1)) -> nn.Sequential:
    padding = (size[0] // 2, size[1] // 2)
    convolution = nn.Conv2d(channels, filters, size, stride, padding, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(filters, _EPSILON))
