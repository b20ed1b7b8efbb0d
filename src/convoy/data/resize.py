"""From a picture to the square of pixels that the network sees, written straight into its place in a batch.

The filter is Pillow's antialiased bilinear one. torch has the same on uint8, five times faster, within one level.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from convoy.data.boxes import Box, central_box, size_with_shorter_side
from convoy.data.decode import Picture
from convoy.data.jpeg import FACTORS

Pixels = NDArray[np.uint8]

LEAST_REDUCTION = 3
"""How many times smaller than a JPEG that was shrunk while decoded an image must still become. At 3 the result is
0.45 levels from the whole image's on average, at 2 it is 0.9 (the two photographs of scikit-learn)."""


def crop_and_resize(picture: Picture, box: Box, out: Pixels, *, mirrored: bool = False) -> None:
    """The part `box` of a picture, resized and maybe mirrored, into `out`, [S, S, C].

    Raises:
        BadImageError: if the picture can't be decoded.
    """
    size = len(out)
    factor = _factor(picture, min(box.width, box.height), size)
    pixels = picture.pixels(box.bottom, factor)
    target = np.empty_like(out) if mirrored else out
    if factor == 1:
        _resize(pixels[box.top : box.bottom, box.left : box.left + box.width], target)
    else:
        left, top, right, bottom = _edges(box, factor)
        rows = slice(math.floor(top), math.ceil(bottom))
        part = pixels[rows, math.floor(left) : math.ceil(right)]
        x, y = left - math.floor(left), top - math.floor(top)
        _resize_by_pillow(part, (x, y, x + right - left, y + bottom - top), target)
    if mirrored:
        # A colour at a time: a fourth of the time that a copy of reversed pixels takes.
        for channel in range(out.shape[2]):
            out[:, :, channel] = target[:, ::-1, channel]


def resize_and_center(picture: Picture, shorter_side: int, out: Pixels) -> None:
    """The centre of a picture after its shorter side was resized to `shorter_side`, into `out`, [S, S, C].

    Raises:
        BadImageError: if the picture can't be decoded.
    """
    width, height = size_with_shorter_side(picture.width, picture.height, shorter_side)
    center = central_box(width, height, len(out))
    scale = picture.height / height
    # The filter reaches as far as one pixel of the result, or of the image if that is more.
    bottom = min(picture.height, math.ceil(center.bottom * scale + max(scale, 1)) + 1)
    factor = _factor(picture, min(picture.width, picture.height), shorter_side)
    pixels = picture.pixels(bottom, factor)
    if factor > 1:
        across, down = picture.width / width / factor, scale / factor
        left, top, right, bottom_edge = _edges(center, 1)
        _resize_by_pillow(pixels, (left * across, top * down, right * across, bottom_edge * down), out)
        return
    if (width, height) != (picture.width, picture.height):
        pixels = resized(pixels, width, height)
    out[:] = pixels[center.top : center.bottom, center.left : center.left + center.width]


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """uint8 [height, width, C] from all of `pixels`, uint8 [H, W, C]."""
    out = np.empty((height, width, pixels.shape[2]), dtype=np.uint8)
    _resize(pixels, out)
    return out


def _factor(picture: Picture, side: int, target: int) -> int:
    """By how much the picture may be shrunk while it is decoded: `side` pixels of it become `target`."""
    if not picture.can_shrink:
        return 1
    return next((factor for factor in FACTORS if side >= LEAST_REDUCTION * factor * target), 1)


def _edges(box: Box, factor: int) -> tuple[float, float, float, float]:
    return box.left / factor, box.top / factor, (box.left + box.width) / factor, box.bottom / factor


def _resize(pixels: Pixels, out: Pixels) -> None:
    """All of `pixels`, [H, W, C], into `out`, [h, w, C]."""
    if pixels.shape == out.shape:
        out[:] = pixels
        return
    # Contiguous, and without interpolate() around it: else torch copies with threads of its own, one team for each
    # of ours, and the result in another memory format, which takes as long again as the resize.
    image = _as_batch(np.ascontiguousarray(pixels))
    size = list(out.shape[:2])
    torch.ops.aten._upsample_bilinear2d_aa.out(image, size, False, None, None, out=_as_batch(out))


def _as_batch(pixels: Pixels) -> Tensor:
    """[1, C, H, W] in channels_last, in the same memory as [H, W, C]."""
    return torch.from_numpy(pixels[None]).permute(0, 3, 1, 2)


def _resize_by_pillow(pixels: Pixels, box: tuple[float, float, float, float], out: Pixels) -> None:
    """The part `box`, (left, top, right, bottom) in fractions of a pixel, into `out`."""
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
    resized = image.resize((out.shape[1], out.shape[0]), Image.Resampling.BILINEAR, box=box)
    out[:] = np.asarray(resized).reshape(out.shape)
