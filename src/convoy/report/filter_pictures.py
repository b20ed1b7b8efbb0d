"""Filters of a network's first convolution as an image (as in Krizhevsky et al. 2012, figure 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convoy.config.faults import Fault, UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAGNIFIED = 4
_EDGE = 2
"""Pixels between two filters; each weight is a square of `_MAGNIFIED` pixels."""

_PAPER = (0.80, 0.87, 0.95)
"""Background colour; gray and white occur at the edges of filters."""


@dataclass(frozen=True)
class FirstLayer:
    """First convolution of a network.

    Attributes:
        name: name of the module.
        weight: [filters, channels, height, width], in float32.
    """

    name: str
    weight: Tensor


def first_convolution(network: nn.Module) -> FirstLayer:
    """Return the first convolution of a network, in the order of its modules.

    Raises:
        UserError: the network has none.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            return FirstLayer(name, module.weight.detach().float().cpu())
    raise UserError(Fault("run", "its network has no convolution, so there are no filters", "choose another run"))


def scaled(weight: Tensor) -> NDArray[np.float32]:
    """Return filters as images [filters, height, width, 3], each scaled from 0 (smallest weight) to 1 (largest).

    Filters of one channel are gray, filters of three channels red, green and blue. Other filters are averaged over
    their channels and gray.
    """
    if weight.shape[1] not in (1, 3):
        weight = weight.mean(1, keepdim=True)
    least, most = weight.flatten(1).amin(1), weight.flatten(1).amax(1)
    span = torch.where(most > least, most - least, 1)
    images = (weight - least[:, None, None, None]) / span[:, None, None, None]
    shown: NDArray[np.float32] = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    return shown


def grid(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Arrange images [N, height, width, 3] row by row in one image, about as wide as high, with edges between them."""
    images = images.repeat(_MAGNIFIED, axis=1).repeat(_MAGNIFIED, axis=2)
    count, height, width, _ = images.shape
    columns = math.ceil(math.sqrt(count * height / width))
    rows = math.ceil(count / columns)
    size = rows * (height + _EDGE) + _EDGE, columns * (width + _EDGE) + _EDGE
    sheet = np.full((*size, 3), _PAPER, dtype=np.float32)
    for index, image in enumerate(images):
        top, left = _EDGE + index // columns * (height + _EDGE), _EDGE + index % columns * (width + _EDGE)
        sheet[top : top + height, left : left + width] = image
    return sheet


def draw(layer: FirstLayer, name: str) -> Figure:
    """Draw the filters of a layer under the title `name`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sheet = grid(scaled(layer.weight))
    height, width, _ = sheet.shape
    inches = 7.0
    figure = Figure(figsize=(inches, inches * height / width + 0.8), dpi=130)
    FigureCanvasAgg(figure)
    share = inches * height / width / figure.get_figheight()
    axes = figure.add_axes((0.02, 0.02 * share, 0.96, 0.96 * share))
    axes.imshow(sheet, interpolation="nearest")
    axes.set_axis_off()
    count, channels, high, wide = layer.weight.shape
    figure.text(0.02, 1 - 0.28 / figure.get_figheight(), name, fontsize=10.5, va="center")
    subtitle = f"{layer.name}: {count} filters of {channels}x{high}x{wide}, each scaled to its own range"
    subtitle += "" if channels in (1, 3) else ", means over channels"
    figure.text(0.02, 1 - 0.56 / figure.get_figheight(), subtitle, fontsize=9, va="center", color="#444444")
    return figure
