"""Operations on uint8 images that differ in kind and strength from image to image of a batch.

With the same parameters, results are at most one grey level from those of torchvision's transforms (v2, bilinear
interpolation, black outside of the image).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
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
    WARP = 1
    """Homography from the result to the source, in pixels from the upper left corner: a pixel with center (x, y) is
    taken from ((a x + b y + c) / (g x + h y + 1), (d x + e y + f) / (g x + h y + 1)), for the values a .. h."""
    BRIGHTNESS = 2
    """Factor."""
    CONTRAST = 3
    """Factor."""
    SATURATION = 4
    """Factor; 0: gray."""
    HUE = 5
    """Share of a turn, -0.5 to 0.5."""
    SHARPNESS = 6
    """Factor; 0: smoothed."""
    POSTERIZE = 7
    """Number of bits that are kept."""
    SOLARIZE = 8
    """Smallest value that is inverted."""
    AUTOCONTRAST = 9
    EQUALIZE = 10
    INVERT = 11
    BLUR = 12
    """Standard deviation in pixels."""
    SHIFT = 13
    """Number that is added to each of three channels."""


class Step(NamedTuple):
    """One operation per image, sorted by kind.

    Attributes:
        order: int64 [n], positions of the images with an operation other than NONE.
        values: float32 [n, NUM_VALUES], their parameters.
        spans: kind, first and last + 1 index in `order`, for each kind that occurs.
    """

    order: Tensor
    values: Tensor
    spans: tuple[tuple[int, int, int], ...]


def step_of(kinds: NDArray[np.int64], values: NDArray[np.float32]) -> Step:
    """Return the step of kinds [B] and their values [B, NUM_VALUES]."""
    order = np.argsort(kinds, kind="stable")
    ordered = kinds[order]
    found, begins = np.unique(ordered, return_index=True)
    ends = [*begins[1:], len(ordered)]
    skipped = int(ends[0]) if len(found) and found[0] == Kind.NONE else 0
    spans = tuple(
        (int(kind), int(begin) - skipped, int(end) - skipped)
        for kind, begin, end in zip(found, begins, ends, strict=True)
        if kind != Kind.NONE
    )
    kept = order[skipped:]
    return Step(torch.from_numpy(kept), torch.from_numpy(values[kept]), spans)


def apply(images: Tensor, step: Step) -> None:
    """Apply one operation to each image, in place.

    Args:
        images: uint8 [B, C, S, S].
        step: operations, on the device of the images.
    """
    for kind, begin, end in step.spans:
        places = step.order[begin:end]
        images[places] = _OPERATIONS[Kind(kind)](images[places], step.values[begin:end])


def _per_image(values: Tensor, column: int = 0) -> Tensor:
    """Return a column of the values as [n, 1, 1, 1]."""
    return values[:, column, None, None, None]


def _to_bytes(images: Tensor) -> Tensor:
    return images.clamp_(0, 255).to(torch.uint8)


def _blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    return _to_bytes(images * factors + others * (1 - factors))


def _gray(images: Tensor) -> Tensor:
    """Return float32 [n, 1, S, S], rounded down."""
    if images.shape[1] == 1:
        return images.to(torch.float32)
    red, green, blue = torch.split(images.to(torch.float32), 1, dim=1)
    gray: Tensor = red * 0.2989 + green * 0.587 + blue * 0.114
    return gray.floor_()


def _warp(images: Tensor, values: Tensor) -> Tensor:
    height, width = images.shape[2:]
    x = torch.arange(width, device=images.device) + 0.5
    y = (torch.arange(height, device=images.device) + 0.5)[:, None]
    a, b, c, d, e, f, g, h = values[:, :, None, None].unbind(1)
    scale = g * x + h * y + 1
    grid = torch.stack(
        [(a * x + b * y + c) / scale * (2 / width) - 1, (d * x + e * y + f) / scale * (2 / height) - 1], dim=-1
    )
    warped = functional.grid_sample(images.to(torch.float32), grid, mode="bilinear", align_corners=False)
    return warped.round_().to(torch.uint8)


def _brightness(images: Tensor, values: Tensor) -> Tensor:
    return _to_bytes(images * _per_image(values))


def _contrast(images: Tensor, values: Tensor) -> Tensor:
    return _blend(images, _gray(images).mean(dim=(1, 2, 3), keepdim=True), _per_image(values))


def _saturation(images: Tensor, values: Tensor) -> Tensor:
    return images if images.shape[1] == 1 else _blend(images, _gray(images), _per_image(values))


def _hue(images: Tensor, values: Tensor) -> Tensor:
    """Rotate the hue in HSV; see en.wikipedia.org/wiki/HSL_and_HSV, "HSV to RGB alternative"."""
    if images.shape[1] == 1:
        return images
    red, green, blue = (images.to(torch.float32) / 255).unbind(1)
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
        position = (turned + offset).remainder(6)
        channels.append(largest - spread * torch.minimum(position, 4 - position).clamp_(0, 1))
    return (torch.stack(channels, 1) * 255.999).to(torch.uint8)


def _sharpness(images: Tensor, values: Tensor) -> Tensor:
    channels, height, width = images.shape[1:]
    if min(height, width) <= 2:
        return images
    kernel = torch.full((3, 3), 1 / 13, device=images.device)
    kernel[1, 1] = 5 / 13
    sharp = images.to(torch.float32)
    smooth = functional.conv2d(sharp, kernel.expand(channels, 1, 3, 3), groups=channels).round_()
    inner = sharp[:, :, 1:-1, 1:-1]  # the border stays as it is
    inner += (smooth - inner) * (1 - _per_image(values))
    return _to_bytes(sharp)


def _posterize(images: Tensor, values: Tensor) -> Tensor:
    masks = 256 - torch.exp2(8 - _per_image(values))
    return images & masks.to(torch.uint8)


def _solarize(images: Tensor, values: Tensor) -> Tensor:
    return torch.where(images >= _per_image(values), ~images, images)


def _autocontrast(images: Tensor, _values: Tensor) -> Tensor:
    contrasted: Tensor = torchvision.autocontrast_image(images)
    return contrasted


def _equalize(images: Tensor, _values: Tensor) -> Tensor:
    equalized: Tensor = torchvision.equalize_image(images)
    return equalized


def _invert(images: Tensor, _values: Tensor) -> Tensor:
    return ~images


def _blur(images: Tensor, values: Tensor) -> Tensor:
    count, channels, height, width = images.shape
    distances = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=images.device)
    kernels = torch.softmax(-((distances / values[:, :1]) ** 2) / 2, dim=1)
    kernels = kernels.repeat_interleave(channels, 0)[:, None, None, :]
    planes = images.to(torch.float32).reshape(1, count * channels, height, width)
    planes = functional.pad(planes, [BLUR_RADIUS] * 4, mode="reflect")
    planes = functional.conv2d(planes, kernels, groups=count * channels)
    planes = functional.conv2d(planes, kernels.transpose(2, 3), groups=count * channels)
    return planes.view(count, channels, height, width).round_().to(torch.uint8)


def _shift(images: Tensor, values: Tensor) -> Tensor:
    return _to_bytes((images + values[:, : images.shape[1], None, None]).round_())


_OPERATIONS: dict[Kind, Callable[[Tensor, Tensor], Tensor]] = {
    Kind.WARP: _warp,
    Kind.BRIGHTNESS: _brightness,
    Kind.CONTRAST: _contrast,
    Kind.SATURATION: _saturation,
    Kind.HUE: _hue,
    Kind.SHARPNESS: _sharpness,
    Kind.POSTERIZE: _posterize,
    Kind.SOLARIZE: _solarize,
    Kind.AUTOCONTRAST: _autocontrast,
    Kind.EQUALIZE: _equalize,
    Kind.INVERT: _invert,
    Kind.BLUR: _blur,
    Kind.SHIFT: _shift,
}
