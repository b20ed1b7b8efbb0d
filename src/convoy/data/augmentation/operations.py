"""Operations on uint8 images that differ in kind and strength from image to image of a batch.

With the same parameters, results are at most one grey level from those of torchvision's transforms (v2, bilinear
interpolation, black outside of the image).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as torchvision

NUM_VALUES = 8
"""Parameters of an operation."""

BLUR_RADIUS = 6
"""Half of the width of the Gaussian kernel without its center: three standard deviations of the strongest blur."""


class Kind(IntEnum):
    """Operations; their parameters are the first columns of the values."""

    NONE = 0
    AFFINE = 1
    """Affine map from the result to the source, in pixels from the upper left corner: a pixel with center (x, y) is
    taken from (a x + b y + c, d x + e y + f), for the values a .. f."""
    BLEND = 2
    """Factor f of the image, and the shares m and g of its mean gray value and of its gray image in what 1 - f is the
    factor of. Brightness: m = g = 0; contrast: m = 1; saturation: g = 1; a gray image: f = 0, g = 1."""
    BITS = 3
    """Number of bits that are kept, smallest value that is inverted, and 255 if values are inverted, else 0."""
    AUTOCONTRAST = 4
    HUE = 5
    """Share of a turn, -0.5 to 0.5."""
    SHARPNESS = 6
    """Factor; 0: smoothed."""
    EQUALIZE = 7
    BLUR = 8
    """Standard deviation in pixels."""
    SHIFT = 9
    """Number that is added to each of three channels."""
    PERSPECTIVE = 10
    """Homography, like AFFINE with both coordinates divided by g x + h y + 1, for the values a .. h."""


class Step(NamedTuple):
    """One operation per image, sorted by kind.

    Attributes:
        order: int64 [B], positions of the images in the order of their kinds.
        values: float32 [B, NUM_VALUES], their parameters, in that order.
        spans: kind, first and last + 1 index in `order`, for each kind that occurs, without NONE.
    """

    order: Tensor
    values: Tensor
    spans: tuple[tuple[int, int, int], ...]


def step_of(kinds: NDArray[np.int64], values: NDArray[np.float32]) -> Step:
    """Return the step of kinds [B] and their values [B, NUM_VALUES]."""
    order = np.argsort(kinds, kind="stable")
    ends = np.bincount(kinds).cumsum().tolist()
    spans = tuple((kind, begin, end) for kind, (begin, end) in enumerate(pairwise(ends), start=1) if end > begin)
    return Step(torch.from_numpy(order), torch.from_numpy(values[order]), spans)


def apply(images: Tensor, step: Step) -> Tensor:
    """Return images with one operation applied to each.

    Args:
        images: uint8 [B, C, H, W].
        step: operations, on the device of the images.
    """
    # Sorted, the images of a kind are a slice: index_copy_ of each kind takes longer on a CPU than two index_selects.
    ordered = images.index_select(0, step.order)
    for kind, begin, end in step.spans:
        ordered[begin:end] = _OPERATIONS[Kind(kind)](ordered[begin:end], step.values[begin:end])
    return ordered.index_select(0, step.order.argsort())


def move_masks(masks: Tensor, steps: Iterable[Step], outside: int) -> Tensor:
    """Return masks moved by the geometric operations on their images; each pixel takes the nearest one of the source.

    Args:
        masks: uint8 [B, H, W].
        steps: operations on the images, one after the other; those that move nothing are left out.
        outside: value of pixels that come from outside of the image.
    """
    # Sampling fills with 0.
    planes = (masks - outside)[:, None]
    for step in steps:
        for kind, begin, end in step.spans:
            if kind in _GRIDS:
                places = step.order[begin:end]
                chosen = planes.index_select(0, places)
                grid = _GRIDS[Kind(kind)](chosen, step.values[begin:end])
                moved = functional.grid_sample(_floats(chosen), grid, mode="nearest", align_corners=False)
                planes = planes.index_copy(0, places, moved.to(torch.uint8))
    return planes[:, 0] + outside


def move_points(points: Tensor, steps: Iterable[Step]) -> Tensor:
    """Return points moved by the geometric operations on their images.

    Args:
        points: float32 [B, n, 2], x and y in pixels; the center of the upper left pixel is (0, 0).
        steps: operations on the images, one after the other; those that move nothing are left out.
    """
    points = points + 0.5
    for step in steps:
        for kind, begin, end in step.spans:
            if kind in _GRIDS:
                places, values = step.order[begin:end], step.values[begin:end]
                forward = torch.linalg.inv_ex(_homographies(values, with_divisor=kind == Kind.PERSPECTIVE))[0]
                chosen = functional.pad(points.index_select(0, places), (0, 1), value=1.0)
                moved = chosen @ forward.transpose(1, 2)
                points = points.index_copy(0, places, moved[..., :2] / moved[..., 2:])
    return points - 0.5


def _homographies(values: Tensor, *, with_divisor: bool) -> Tensor:
    """Return the maps from the result to the source, float32 [n, 3, 3]."""
    last = torch.ones_like(values[:, :3]) if with_divisor else torch.zeros_like(values[:, :3])
    if with_divisor:
        last[:, :2] = values[:, 6:8]
    else:
        last[:, 2] = 1
    return torch.cat([values[:, :6], last], dim=1).view(-1, 3, 3)


def _per_image(values: Tensor, column: int = 0) -> Tensor:
    """Return a column of the values as [n, 1, 1, 1]."""
    return values[:, column, None, None, None]


def _to_bytes(images: Tensor) -> Tensor:
    # The conversion from float32 to uint8 is not vectorized; by way of int32 it takes half the time.
    return images.clamp_(0, 255).to(torch.int32).to(torch.uint8)


def _floats(images: Tensor) -> Tensor:
    # Operations on float32 are vectorized; those on uint8 and float32 together are not.
    return images.to(torch.float32)


def _gray(floats: Tensor) -> Tensor:
    """Return a new float32 [n, 1, H, W], rounded down."""
    if floats.shape[1] == 1:
        return floats.clone()
    gray = floats[:, :1] * 0.2989
    return gray.add_(floats[:, 1:2], alpha=0.587).add_(floats[:, 2:], alpha=0.114).floor_()


def _affine(images: Tensor, values: Tensor) -> Tensor:
    return _sampled(images, _grid(images, values))


def _perspective(images: Tensor, values: Tensor) -> Tensor:
    return _sampled(images, _perspective_grid(images, values))


def _perspective_grid(images: Tensor, values: Tensor) -> Tensor:
    divisors = torch.cat([values[:, 6:8], torch.ones_like(values[:, :1])], dim=1)
    divisor = _grid(images, torch.cat([divisors, divisors], dim=1), is_scaled=False)
    return ((_grid(images, values) + 1) / divisor).sub_(1)


def _grid(images: Tensor, values: Tensor, *, is_scaled: bool = True) -> Tensor:
    """Return the positions to which affine maps take the pixel centers, float32 [n, H, W, 2].

    Args:
        images: [n, C, H, W].
        values: [n, 6 or more], a .. f of the affine map.
        is_scaled: whether positions are -1 .. 1, as grid_sample takes them, instead of 0 .. size.
    """
    height, width = images.shape[2:]
    x = torch.arange(width, device=images.device) + 0.5
    y = torch.arange(height, device=images.device) + 0.5
    planes = []
    for place, size in enumerate((width, height)):
        per_x, per_y, constant = values[:, 3 * place : 3 * place + 3].unbind(1)
        along, down = per_x[:, None] * x, per_y[:, None] * y + constant[:, None]
        if is_scaled:
            along, down = along * (2 / size), down * (2 / size) - 1
        planes.append(along[:, None, :] + down[:, :, None])
    # As planes in memory, the sum is vectorized.
    return torch.stack(planes, 1).permute(0, 2, 3, 1)


def _sampled(images: Tensor, grid: Tensor) -> Tensor:
    sampled = functional.grid_sample(_floats(images), grid, mode="bilinear", align_corners=False)
    return _to_bytes(sampled.round_())


def _blend(images: Tensor, values: Tensor) -> Tensor:
    factors = _per_image(values)
    floats = _floats(images)
    gray = _gray(floats)
    others = gray.mean(dim=(1, 2, 3), keepdim=True) * _per_image(values, 1) + gray.mul_(_per_image(values, 2))
    return _to_bytes(floats.mul_(factors).add_(others.mul_(1 - factors)))


def _bits(images: Tensor, values: Tensor) -> Tensor:
    masks = (256 - torch.exp2(8 - _per_image(values))).to(torch.uint8)
    thresholds, inverted = _per_image(values, 1).ceil().to(torch.uint8), _per_image(values, 2).to(torch.uint8)
    return (images & masks) ^ (images >= thresholds).to(torch.uint8).mul_(inverted)


def _hue(images: Tensor, values: Tensor) -> Tensor:
    """Rotate the hue in HSV; see en.wikipedia.org/wiki/HSL_and_HSV, "HSV to RGB alternative"."""
    if images.shape[1] == 1:
        return images
    red, green, blue = (_floats(images) / 255).unbind(1)
    largest = torch.maximum(torch.maximum(red, green), blue)
    spread = largest - torch.minimum(torch.minimum(red, green), blue)
    divisor = torch.where(spread == 0, 1.0, spread)
    sixth = torch.where(
        largest == red,
        (green - blue) / divisor,
        torch.where(largest == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    turned = sixth + 6 * values[:, 0, None, None]
    channels = []
    for offset in (5, 3, 1):
        position = (turned + offset).remainder_(6)
        channels.append(largest - spread * torch.minimum(position, 4 - position).clamp_(0, 1))
    return _to_bytes(torch.stack(channels, 1).mul_(255.999))


def _sharpness(images: Tensor, values: Tensor) -> Tensor:
    height, width = images.shape[2:]
    if min(height, width) <= 2:
        return images
    sharp = _floats(images)
    rows = sharp[:, :, :-2] + sharp[:, :, 1:-1] + sharp[:, :, 2:]
    inner = sharp[:, :, 1:-1, 1:-1]  # the border stays as it is
    # The mean of 3x3 pixels in which the center counts five times, as in Pillow's SMOOTH.
    smooth = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]).add_(inner, alpha=4).div_(13).round_()
    inner += smooth.sub_(inner).mul_(1 - _per_image(values))
    return _to_bytes(sharp)


def _autocontrast(images: Tensor, _values: Tensor) -> Tensor:
    contrasted: Tensor = torchvision.autocontrast_image(images)
    return contrasted


def _equalize(images: Tensor, _values: Tensor) -> Tensor:
    """Equalize the histogram of each channel, as torchvision, without its divisions of integers."""
    pixels = images.flatten(2).to(torch.int64)
    zeros, ones = pixels.new_zeros(*pixels.shape[:2], 256), pixels.new_ones(()).expand_as(pixels)
    counts = zeros.scatter_add_(2, pixels, ones)
    brightest = counts.gather(2, pixels.amax(2, keepdim=True))
    step = ((pixels.shape[2] - brightest) // 255).float()
    levels = (counts.cumsum(2) - counts).float().add_((step / 2).floor_()).div_(step).floor_().clamp_(max=255)
    same = torch.arange(256, device=images.device, dtype=torch.float32)
    levels = torch.where(step == 0, same, levels).to(torch.int32).to(torch.uint8)
    return levels.gather(2, pixels).view_as(images)


def _blur(images: Tensor, values: Tensor) -> Tensor:
    count, channels, height, width = images.shape
    distances = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=images.device)
    kernels = torch.softmax(-((distances / values[:, :1]) ** 2) / 2, dim=1)
    kernels = kernels.repeat_interleave(channels, 0)[:, None, None, :]
    planes = _floats(images).reshape(1, count * channels, height, width)
    planes = functional.pad(planes, [BLUR_RADIUS] * 4, mode="reflect")
    planes = functional.conv2d(planes, kernels, groups=count * channels)
    planes = functional.conv2d(planes, kernels.transpose(2, 3), groups=count * channels)
    return _to_bytes(planes.view(count, channels, height, width).round_())


def _shift(images: Tensor, values: Tensor) -> Tensor:
    return _to_bytes(_floats(images).add_(values[:, : images.shape[1], None, None]).round_())


_OPERATIONS: dict[Kind, Callable[[Tensor, Tensor], Tensor]] = {
    Kind.AFFINE: _affine,
    Kind.BLEND: _blend,
    Kind.BITS: _bits,
    Kind.HUE: _hue,
    Kind.SHARPNESS: _sharpness,
    Kind.AUTOCONTRAST: _autocontrast,
    Kind.EQUALIZE: _equalize,
    Kind.BLUR: _blur,
    Kind.SHIFT: _shift,
    Kind.PERSPECTIVE: _perspective,
}

_GRIDS: dict[Kind, Callable[[Tensor, Tensor], Tensor]] = {Kind.AFFINE: _grid, Kind.PERSPECTIVE: _perspective_grid}
"""Geometric operations: positions in the source of the pixels of the result."""
