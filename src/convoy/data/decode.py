"""From an image file to the square of pixels that the network sees, with Pillow.

Pillow lets go of Python's lock while it decodes and resizes, so threads do this side by side. The geometry is
that of torchvision's RandomResizedCrop, Resize and CenterCrop on Pillow images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

_MODES = {1: "L", 3: "RGB"}
_RATIO_LOG = math.log(4 / 3)
NUM_TRIES = 10
NUM_CROP_NUMBERS = 4 * NUM_TRIES
"""Random numbers that one random resized crop may use up."""


class BadImageError(Exception):
    """A file that can't be decoded.

    Attributes:
        path: of the file.
        reason: what the decoder said.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class Box:
    """A part of an image, in pixels."""

    left: int
    top: int
    width: int
    height: int


def decode(path: str, channels: int) -> Image.Image:
    """The image as gray ("L") or "RGB", upright by its EXIF orientation.

    Raises:
        BadImageError: if it is missing, truncated, or nothing that Pillow can decode.
    """
    try:
        with Image.open(path) as opened:
            turned = opened.getexif().get(ExifTags.Base.Orientation, 1) != 1
            image = ImageOps.exif_transpose(opened) if turned else opened
            image.load()
            return image if image.mode == _MODES[channels] else image.convert(_MODES[channels])
    except MemoryError:
        raise
    # Pillow's decoders raise whatever a damaged file leads them to.
    except Exception as error:
        raise BadImageError(path, str(error) or type(error).__name__) from error


def random_box(width: int, height: int, scale: Sequence[float], numbers: Sequence[float]) -> Box:
    """A part of random area and aspect ratio (Szegedy et al. 2014, "Going Deeper with Convolutions").

    The area is uniform in `scale` times the image's, the logarithm of width over height uniform between those
    of 3/4 and 4/3. A part that doesn't fit in the image is drawn again; after 10 in vain it is the largest
    central part with the nearest permitted aspect ratio.

    Args:
        width, height: of the image, in pixels.
        scale: [smallest, largest] share of the area.
        numbers: `NUM_CROP_NUMBERS` uniform in [0, 1).
    """
    for attempt in range(NUM_TRIES):
        share, shape, down, right = numbers[4 * attempt : 4 * attempt + 4]
        area = width * height * (scale[0] + share * (scale[1] - scale[0]))
        ratio = math.exp(_RATIO_LOG * (2 * shape - 1))
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left, top = int(right * (width - box_width + 1)), int(down * (height - box_height + 1))
            return Box(left, top, box_width, box_height)
    box_width, box_height = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    return Box((width - box_width) // 2, (height - box_height) // 2, box_width, box_height)


def crop_and_resize(image: Image.Image, box: Box, size: int) -> NDArray[np.uint8]:
    """[size, size, C] uint8: the part `box`, resized by Pillow's antialiased bilinear filter."""
    part = image.crop((box.left, box.top, box.left + box.width, box.top + box.height))
    return _pixels(part.resize((size, size), Image.Resampling.BILINEAR))


def resize_and_center(image: Image.Image, shorter_side: int, size: int) -> NDArray[np.uint8]:
    """[size, size, C] uint8: the centre of the image, after its shorter side was resized to
    `shorter_side`."""
    width, height = image.size
    if width <= height:
        resized = (shorter_side, max(shorter_side, int(shorter_side * height / width)))
    else:
        resized = (max(shorter_side, int(shorter_side * width / height)), shorter_side)
    if image.size != resized:
        image = image.resize(resized, Image.Resampling.BILINEAR)
    left, top = round((resized[0] - size) / 2), round((resized[1] - size) / 2)
    return _pixels(image.crop((left, top, left + size, top + size)))


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = np.asarray(image)
    return pixels.reshape(*pixels.shape[:2], -1)
