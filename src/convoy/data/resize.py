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
from torch.nn import functional

from convoy.data.crop_geometry import CropBox, central_box, size_with_shorter_side
from convoy.data.decode import LazyImage
from convoy.data.jpeg import FACTORS

Pixels = NDArray[np.uint8]

LEAST_REDUCTION = 3
"""How many times smaller than a JPEG that was shrunk while decoded an image must still become. At 3 the result is
0.45 levels from the whole image's on average, at 2 it is 0.9 (the two photographs of scikit-learn)."""


# Images at a time, so that their wider copies stay small beside the set.
_CHUNK = 4096


def crop_and_resize(picture: LazyImage, box: CropBox, out: Pixels, *, mirrored: bool = False) -> None:
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


def resize_and_center(picture: LazyImage, shorter_side: int, out: Pixels) -> None:
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


def _factor(picture: LazyImage, side: int, target: int) -> int:
    """By how much the picture may be shrunk while it is decoded: `side` pixels of it become `target`."""
    if not picture.can_shrink:
        return 1
    return next((factor for factor in FACTORS if side >= LEAST_REDUCTION * factor * target), 1)


def _edges(box: CropBox, factor: int) -> tuple[float, float, float, float]:
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


def fit_images(images: Tensor, size: int, fit: str) -> Tensor:
    """uint8 [n, C, size, size] from square uint8 images [n, C, S, S].

    Args:
        images: uint8 [n, C, S, S].
        size: in pixels; at least S for "pad".
        fit: "pad" puts zeros around the image, "resize" is Pillow's bilinear resizing (antialiased when it
            shrinks).
    """
    side = images.shape[-1]
    if side == size:
        return images
    if fit == "pad":
        before = (size - side) // 2
        after = size - side - before
        return functional.pad(images, [before, after, before, after])
    return torch.cat([_resized_tensors(chunk, size) for chunk in torch.split(images, _CHUNK)])


def with_channels(images: Tensor, channels: int) -> Tensor:
    """uint8 [n, channels, H, W] from [n, 1 or 3, H, W]: gray repeated to 3, colours to gray for 1.

    Gray is the luma of ITU-R BT.601 in Pillow's fixed-point arithmetic, so that both give the same values.
    """
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.repeat(1, 3, 1, 1)
    return torch.cat([_luma(chunk) for chunk in torch.split(images, _CHUNK)])


def _resized_tensors(images: Tensor, size: int) -> Tensor:
    resized = functional.interpolate(
        images.to(torch.float32), size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def _luma(images: Tensor) -> Tensor:
    red, green, blue = images.to(torch.int32).unbind(1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).to(torch.uint8)[:, None]
