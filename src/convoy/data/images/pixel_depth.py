"""Conversion of decoded images to 8 bits per channel.

Pillow opens gray images of more than 8 bits in other modes, and clips their values at 255 instead of scaling them:

| mode | files | range that becomes 0..255 |
|---|---|---|
| I;16, I;16B, … | PNG, TIFF and JPEG 2000 of 16 bits; TIFF of 12 bits | that of the bits: 0..65535, 0..4095 |
| I | TIFF of 32 bits or of signed 16 bits; PGM, and PNG in older versions of Pillow | 0..65535 |
| F | TIFF of 32-bit floating-point numbers | 0..1 |

The range follows from the kind of the file and never from an image's own values, so that all images of a data set have
the same scale. Other values are an error: 32-bit files don't state their range.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convoy.data.images.pixel_format import Color, PixelFormat, ValueRange

MOST = 65_535
"""Largest value of images of more than 8 bits, unless their files state another one."""

_WHITE_IS_ZERO = 0
_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_BITS_PER_SAMPLE, _PHOTOMETRIC_INTERPRETATION = 258, 262


class RangeError(Exception):
    """Error for an image with values outside the range of its kind."""


def to_mode(image: Image.Image, mode: str, form: PixelFormat, tags: Mapping[int, Any] | None = None) -> Image.Image:
    """Return an image as "L" or "RGB", scaled to 0..255 if it has more than 8 bits.

    Args:
        image: decoded image of any mode.
        mode: "L" or "RGB".
        form: background, which images of more than 8 bits ignore, and range of their values.
        tags: tags of the TIFF file.

    Raises:
        RangeError: if a value is outside the range of the image's mode.
    """
    if form.background is not None:
        image = _on_background(image, form.background)
    if image.mode == mode:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _scaled(image, tags or {}, form.value_range)
    return image.convert(mode)


def _on_background(image: Image.Image, color: Color) -> Image.Image:
    """Return an image with an alpha channel or a transparent color as "RGB", and others unchanged."""
    is_deep = image.mode in ("I", "F") or image.mode.startswith("I;")
    if is_deep or not (image.mode in _WITH_ALPHA or "transparency" in image.info):
        return image
    whole = Image.new("RGBA", image.size, (*color, 255))
    return Image.alpha_composite(whole, image.convert("RGBA")).convert("RGB")


def _scaled(image: Image.Image, tags: Mapping[int, Any], value_range: ValueRange | None) -> Image.Image:
    """Return a gray image as "L"."""
    values = np.asarray(image).astype(np.float64)
    most = 1 if image.mode == "F" else MOST
    if image.mode.startswith("I;"):
        most = 2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
    pixels = to_bytes(values, most, "floating-point" if image.mode == "F" else "32-bit or signed", value_range)
    # Pillow inverts such files only if they have 8 bits.
    return Image.fromarray(255 - pixels if tags.get(_PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO else pixels)


def to_bytes(
    values: NDArray[np.float64], most: float, kind: str, value_range: ValueRange | None = None
) -> NDArray[np.uint8]:
    """Return values scaled to 0..255 and rounded.

    Args:
        values: any shape.
        most: largest value; the smallest is 0.
        kind: type of the values, for errors.
        value_range: values that become 0 and 255 instead; others are clipped.

    Raises:
        RangeError: if a value is not a number, or without `value_range` is outside of 0..most.
    """
    low, high = values.min(), values.max()
    if value_range is not None and not np.isnan(low):
        first, last = value_range
        scaled = np.clip((values - first) * (255 / (last - first)), 0, 255)
        return np.rint(scaled).astype(np.uint8)
    if not (low >= 0 and high <= most):  # NaN is in no range
        rule = f"has values from {low:g} to {high:g}; those of {kind} images must be in 0..{most}"
        raise RangeError(rule if value_range else f"{rule}, unless data.value_range is set")
    return np.rint(values * (255 / most)).astype(np.uint8)
