"""Crop and resize of images to the network's input size.

Streamed images are written straight into their place in a batch. The filter is Pillow's antialiased bilinear one;
torch's implementation on uint8 is five times faster and equal within one level. Sets in memory are resized, padded and
converted between gray and RGB as tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from convoy.config.image_size import ImageSize, Sides, sides_of
from convoy.data.images.crop_geometry import CropBox, central_box, covering_size
from convoy.data.images.jpeg import FACTORS

if TYPE_CHECKING:
    from convoy.data.images.decode import LazyImage

Pixels = NDArray[np.uint8]

LEAST_REDUCTION = 3
"""Minimum factor of the resize after a JPEG was reduced during decoding. At 3, the result differs from that of the
whole image by 0.45 levels on average, at 2 by 0.9 (the two photographs of scikit-learn)."""


# Images converted at a time, so that temporary copies stay small compared with the set.
_CHUNK = 4096


def crop_and_resize(image: LazyImage, box: CropBox, out: Pixels, *, mirrored: bool = False) -> None:
    """Write a crop of an image, resized, into `out`.

    Args:
        image: source image.
        box: crop, in pixels of the image.
        out: destination, uint8 [H, W, C].
        mirrored: whether to flip the result left to right.

    Raises:
        BadImageError: if the image can't be decoded.
    """
    factor = _factor(image, (box.height, box.width), out.shape[:2])
    pixels = image.pixels(box.bottom, factor)
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
        # One channel at a time takes a fourth of the time of a copy of reversed pixels.
        for channel in range(out.shape[2]):
            out[:, :, channel] = target[:, ::-1, channel]


def resize_and_center(image: LazyImage, shorter_side: int, out: Pixels) -> None:
    """Resize an image and write its center into `out`.

    Args:
        image: source image.
        shorter_side: shorter side in pixels of the area that the resized image covers. The area has the shape of
            `out`; that of a square is covered by an image with this shorter side.
        out: destination, uint8 [H, W, C].

    Raises:
        BadImageError: if the image can't be decoded.
    """
    size = Sides(*out.shape[:2])
    width, height = covering_size(image.width, image.height, size.with_shorter(shorter_side))
    center = central_box(width, height, size)
    scale = image.height / height
    # The filter extends over one pixel of the result, or one of the image if that is larger.
    bottom = min(image.height, math.ceil(center.bottom * scale + max(scale, 1)) + 1)
    factor = _factor(image, (image.height, image.width), (height, width))
    pixels = image.pixels(bottom, factor)
    if factor > 1:
        across, down = image.width / width / factor, scale / factor
        left, top, right, bottom_edge = _edges(center, 1)
        _resize_by_pillow(pixels, (left * across, top * down, right * across, bottom_edge * down), out)
        return
    if (width, height) != (image.width, image.height):
        pixels = resized(pixels, width, height)
    out[:] = pixels[center.top : center.bottom, center.left : center.left + center.width]


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """Resize `pixels`, uint8 [H, W, C], to uint8 [height, width, C]."""
    out = np.empty((height, width, pixels.shape[2]), dtype=np.uint8)
    _resize(pixels, out)
    return out


def _factor(image: LazyImage, size: Sequence[int], target: Sequence[int]) -> int:
    """Return the factor by which the decoder may reduce the image, if `size` (height, width) of it becomes `target`."""
    if not image.can_shrink:
        return 1
    reduction = min(side // pixels for side, pixels in zip(size, target, strict=True))
    return next((factor for factor in FACTORS if reduction >= LEAST_REDUCTION * factor), 1)


def _edges(box: CropBox, factor: int) -> tuple[float, float, float, float]:
    return box.left / factor, box.top / factor, (box.left + box.width) / factor, box.bottom / factor


def _resize(pixels: Pixels, out: Pixels) -> None:
    """Resize `pixels`, [H, W, C], into `out`, [h, w, C]."""
    if pixels.shape == out.shape:
        out[:] = pixels
        return
    # Contiguous input, and not interpolate(): it would copy with a team of threads per decoding thread, and the result
    # into another memory format, which takes as long as the resize.
    image = _as_batch(np.ascontiguousarray(pixels))
    size = list(out.shape[:2])
    torch.ops.aten._upsample_bilinear2d_aa.out(image, size, False, None, None, out=_as_batch(out))


def _as_batch(pixels: Pixels) -> Tensor:
    """Return a view [1, C, H, W] in channels_last of pixels [H, W, C]."""
    return torch.from_numpy(pixels[None]).permute(0, 3, 1, 2)


def _resize_by_pillow(pixels: Pixels, box: tuple[float, float, float, float], out: Pixels) -> None:
    """Resize a crop, (left, top, right, bottom) with fractions of a pixel, into `out`."""
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
    resized = image.resize((out.shape[1], out.shape[0]), Image.Resampling.BILINEAR, box=box)
    out[:] = np.asarray(resized).reshape(out.shape)


def fit_images(images: Tensor, size: ImageSize, fit: str) -> Tensor:
    """Resize or pad images.

    Args:
        images: uint8 [n, C, H, W].
        size: size of the result; at least that of the images for "pad".
        fit: "pad" adds zeros around the image; "resize" is Pillow's bilinear filter, antialiased when it shrinks.

    Returns:
        uint8 [n, C, height, width].
    """
    given, wanted = Sides(*images.shape[2:]), sides_of(size)
    if given == wanted:
        return images
    if fit == "pad":
        down, across = wanted.height - given.height, wanted.width - given.width
        return functional.pad(images, [across // 2, across - across // 2, down // 2, down - down // 2])
    return torch.cat([_resized_tensors(chunk, wanted) for chunk in torch.split(images, _CHUNK)])


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Convert images [n, 1 or 3, H, W] to uint8 [n, channels, H, W]: gray is repeated, RGB converted to gray.

    Gray is the luma of ITU-R BT.601 in Pillow's fixed-point arithmetic, with equal results.
    """
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.repeat(1, 3, 1, 1)
    return torch.cat([_luma(chunk) for chunk in torch.split(images, _CHUNK)])


def _resized_tensors(images: Tensor, size: Sides) -> Tensor:
    resized = functional.interpolate(
        images.to(torch.float32), size=size, mode="bilinear", antialias=True, align_corners=False
    )
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def _luma(images: Tensor) -> Tensor:
    red, green, blue = images.to(torch.int32).unbind(1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).to(torch.uint8)[:, None]
