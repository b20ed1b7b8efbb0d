"""Pictures of predictions: maps of classes with a palette, and drawings on images."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convoy.data.targets import IGNORED

_OPACITY = 0.5
_GOLDEN = 0.618034


def palette(count: int) -> list[tuple[int, int, int]]:
    """Return colors that differ in hue, brightness and saturation."""
    colors = []
    for index in range(count):
        brightness, saturation = (1.0, 0.75) if index % 2 else (0.75, 1.0)
        red, green, blue = colorsys.hsv_to_rgb(index * _GOLDEN % 1, saturation, brightness)
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colors


def as_picture(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return pixels, [H, W, C], as an RGB image; other than 1 or 3 channels are averaged."""
    if pixels.shape[2] not in (1, 3):
        pixels = pixels.mean(axis=2, keepdims=True).astype(np.uint8)
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]).convert("RGB")


def map_picture(indices: NDArray[np.uint8], num_classes: int) -> Image.Image:
    """Return a map of class indices, [H, W], as an image whose values are the indices and whose palette has colors."""
    picture = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    picture.putpalette([value for color in palette(num_classes) for value in color])
    return picture


def blended(image: Image.Image, over: Image.Image) -> Image.Image:
    """Return an image with another one of its size laid over it, half transparent."""
    return Image.blend(image.convert("RGB"), over.convert("RGB"), _OPACITY)


def with_mask(image: Image.Image, indices: NDArray[np.uint8], num_classes: int) -> Image.Image:
    """Return an image with a mask of its size laid over it; pixels that are not counted stay as they are."""
    shown = np.asarray(blended(image, map_picture(indices, num_classes)))
    return Image.fromarray(np.where((indices == IGNORED)[:, :, None], np.asarray(image.convert("RGB")), shown))


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """Return images in a row, smaller ones enlarged to the largest height."""
    height = max(image.height for image in images)
    scaled = [
        image.convert("RGB").resize((round(image.width * height / image.height), height), Image.Resampling.NEAREST)
        for image in images
    ]
    return Image.fromarray(np.concatenate([np.asarray(image) for image in scaled], axis=1))


def with_points(image: Image.Image, points: Iterable[tuple[float, float]], count: int) -> Image.Image:
    """Return an image with points drawn on it.

    Args:
        image: the image.
        points: x and y in pixels of the image; NaN for points that are not drawn.
        count: number of points, each of which has a color.
    """
    drawn = image.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    radius = max(2.0, min(image.size) / 80)
    for (x, y), color in zip(points, palette(count), strict=True):
        if x == x and y == y:
            box = (x - radius, y - radius, x + radius, y + radius)
            pen.ellipse(box, fill=color, outline=(255, 255, 255), width=max(1, round(radius / 4)))
    return drawn
