"""Heatmaps of key points: one map per point with a Gaussian at its position."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from convoy.config.image_size import Sides

_SMALLEST = 1e-10


class Decoded(NamedTuple):
    """Positions that were read from heatmaps.

    Attributes:
        points: float32 [B, points, 2], x and y in pixels of the network's input.
        scores: float32 [B, points], value at the maximum.
    """

    points: Tensor
    scores: Tensor


def heatmaps(points: Tensor, size: Sides, image_size: Sides, sigma: float) -> Tensor:
    """Return the heatmaps of points, float32 [B, points, h, w], with the value 1 at a point (Tompson et al. 2014).

    Args:
        points: [B, points, 2], x and y in pixels of the network's input.
        size: height h and width w of the maps.
        image_size: size of the network's input.
        sigma: standard deviation of the Gaussian in pixels of the map.
    """
    x, y = _to_map(points, size, image_size).unbind(-1)
    columns = torch.arange(size.width, device=points.device, dtype=points.dtype)
    rows = torch.arange(size.height, device=points.device, dtype=points.dtype)
    across = torch.exp(-((columns - x[..., None]) ** 2) / (2 * sigma**2))
    down = torch.exp(-((rows - y[..., None]) ** 2) / (2 * sigma**2))
    return down[..., :, None] * across[..., None, :]


def decoded(maps: Tensor, image_size: Sides) -> Decoded:
    """Return the position of the maximum of each heatmap, to a part of a pixel.

    Along each axis, the logarithm of the maximum and its two neighbors determines a parabola, whose vertex is the
    position: that of a Gaussian exactly (as Zhang et al. 2020, "Distribution-Aware Coordinate Representation", with the
    axes apart).

    Args:
        maps: [B, points, h, w].
        image_size: size of the network's input.
    """
    size = Sides(*maps.shape[2:])
    flat = maps.flatten(2)
    scores, places = flat.max(2)
    row, column = places // size.width, places % size.width
    x = column + _vertex(flat, places, column, size.width, 1)
    y = row + _vertex(flat, places, row, size.height, size.width)
    points = torch.stack([x, y], dim=-1)
    stride = points.new_tensor([image_size.width / size.width, image_size.height / size.height])
    return Decoded((points + 0.5) * stride - 0.5, scores)


def _to_map(points: Tensor, size: Sides, image_size: Sides) -> Tensor:
    stride = points.new_tensor([image_size.width / size.width, image_size.height / size.height])
    return (points + 0.5) / stride - 0.5


def _vertex(flat: Tensor, places: Tensor, along: Tensor, length: int, step: int) -> Tensor:
    """Return the distance of the vertex from the maximum, [B, points]; 0 at the border and where there is none.

    Args:
        flat: [B, points, h * w].
        places: positions of the maxima in it.
        along: position of the maxima along the axis.
        length: number of positions along the axis.
        step: distance of two of them in `flat`.
    """
    is_inside = (along > 0) & (along < length - 1)

    def logarithm(shift: int) -> Tensor:
        moved = torch.where(is_inside, places + shift, places)
        return flat.gather(2, moved[..., None])[..., 0].clamp_min(_SMALLEST).log()

    before, center, after = logarithm(-step), logarithm(0), logarithm(step)
    curvature = 2 * center - before - after
    is_maximum = is_inside & (curvature > 0)
    offset = (after - before) / (2 * torch.where(is_maximum, curvature, 1.0))
    return torch.where(is_maximum, offset.clamp(-0.5, 0.5), 0.0)
