"""Bicubic resize of MATLAB's `imresize`, which papers on super-resolution use.

The kernel is Keys' cubic with a = -0.5 (Keys 1981). To shrink, it is widened by the factor (antialiasing). The weights
are normalized to a sum of 1, and pixels beyond the border are the mirrored ones. The result is rounded once, as that of
`imresize` for images in double precision.

Pillow and torch (with `antialias=True`) have the same kernel, but omit the pixels beyond the border instead of
mirroring them, and Pillow rounds after each of the two directions. OpenCV, and torch without `antialias`, don't widen
the kernel, and use a = -0.75.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convoy.data.degradation.axis_filter import Taps, filter_axis, mirrored, to_pixels

_WIDTH = 4.0
"""Width of the kernel in pixels of the smaller image."""


def shrink_bicubic(pixels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return pixels [H, W, C] reduced to [H / factor, W / factor, C]; both sides must be multiples of `factor`."""
    height, width = pixels.shape[:2]
    return to_pixels(resize_bicubic(pixels, height // factor, width // factor))


def enlarge_bicubic(pixels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return pixels [H, W, C] enlarged to [H * factor, W * factor, C]."""
    height, width = pixels.shape[:2]
    return to_pixels(resize_bicubic(pixels, height * factor, width * factor))


def resize_bicubic(pixels: NDArray[Any], height: int, width: int) -> NDArray[np.float64]:
    """Return pixels [H, W, C] of any type as float64 [height, width, C], neither rounded nor clipped."""
    values: NDArray[np.float64] = pixels.astype(np.float64)
    for axis, length in enumerate((height, width)):
        if values.shape[axis] != length:
            values = filter_axis(values, _taps(values.shape[axis], length), axis)
    return values


@lru_cache(maxsize=64)
def _taps(given: int, length: int) -> Taps:
    scale = length / given
    shrinking = min(scale, 1.0)
    # Centers of the result's pixels in the coordinates of the given ones, both counted from 0.
    centers = (np.arange(length) + 0.5) / scale - 0.5
    first = np.floor(centers - _WIDTH / shrinking / 2).astype(np.int64)
    positions = first + np.arange(math.ceil(_WIDTH / shrinking) + 2)[:, None]
    weights = _cubic(shrinking * (centers - positions))
    used = weights.any(1)
    return mirrored(positions[used], given), weights[used] / weights.sum(0)


def _cubic(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Keys' cubic with a = -0.5."""
    x = np.abs(distances)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
