"""Geometry of crops, equal to that of torchvision's RandomResizedCrop, Resize and CenterCrop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from convoy.config.augment_schema import AugmentConfig
from convoy.data.randomness import Stream, as_uniform, random_bits

_RATIO_LOG = math.log(4 / 3)
NUM_TRIES = 10
NUM_CROP_NUMBERS = 4 * NUM_TRIES
"""Random numbers that one random resized crop can need."""


@dataclass(frozen=True)
class CropBox:
    """Rectangle of an image, in pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def bottom(self) -> int:
        """First row below the rectangle."""
        return self.top + self.height


def random_box(width: int, height: int, scale: Sequence[float], numbers: Sequence[float]) -> CropBox:
    """Return a crop of random area and aspect ratio (Szegedy et al. 2014, "Going Deeper with Convolutions").

    The area is uniform in `scale` times the area of the image; the logarithm of width over height is uniform between
    those of 3/4 and 4/3. A crop that does not fit in the image is drawn again. After 10 attempts, the result is the
    largest central crop with the nearest permitted aspect ratio.

    Args:
        width: width of the image, in pixels.
        height: height of the image, in pixels.
        scale: [smallest, largest] share of the area.
        numbers: `NUM_CROP_NUMBERS` numbers, uniform in [0, 1).
    """
    for attempt in range(NUM_TRIES):
        share, shape, down, right = numbers[4 * attempt : 4 * attempt + 4]
        area = width * height * (scale[0] + share * (scale[1] - scale[0]))
        ratio = math.exp(_RATIO_LOG * (2 * shape - 1))
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left, top = int(right * (width - box_width + 1)), int(down * (height - box_height + 1))
            return CropBox(left, top, box_width, box_height)
    box_width, box_height = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    return CropBox((width - box_width) // 2, (height - box_height) // 2, box_width, box_height)


NUM_JITTER_NUMBERS = 3


def jittered_box(width: int, height: int, sides: Sequence[int], image_size: int, numbers: Sequence[float]) -> CropBox:
    """Return a random square of an image that is resized to a random size (Simonyan & Zisserman 2014, section 3.1).

    Resizing this square to `image_size` equals resizing the image to a shorter side that is uniform in `sides`, and
    cropping a square of `image_size` at a random position.

    Args:
        width: width of the image, in pixels.
        height: height of the image, in pixels.
        sides: [smallest, largest] shorter side of the resized image, in pixels, at least `image_size`.
        image_size: side of the crop, in pixels.
        numbers: `NUM_JITTER_NUMBERS` numbers, uniform in [0, 1).
    """
    shorter_side = sides[0] + int(numbers[0] * (sides[1] - sides[0] + 1))
    side = max(1, round(min(width, height) * image_size / shorter_side))
    return CropBox(int(numbers[1] * (width - side + 1)), int(numbers[2] * (height - side + 1)), side, side)


class RandomCrop:
    """Random crop of images that are read from files: random_resized_crop or scale_jitter of `data.augment`.

    Args:
        augment: settings.
        image_size: side of the crop after it is resized, in pixels.
        seed: seed of the run.

    Attributes:
        is_on: whether one of the two is set.
    """

    def __init__(self, augment: AugmentConfig, image_size: int, seed: int) -> None:
        self._scale, self._sides = augment.random_resized_crop, augment.scale_jitter
        self._image_size = image_size
        self._seed = seed
        self.is_on = self._scale is not None or self._sides is not None

    def numbers(self, epoch: int, samples: Tensor) -> list[list[float]]:
        """Return the random numbers of each of `samples`, int64 [B], for `box`."""
        if self._sides is not None:
            streams = range(Stream.SCALE_JITTER, Stream.SCALE_JITTER + NUM_JITTER_NUMBERS)
        else:
            streams = range(Stream.RESIZED_CROP, Stream.RESIZED_CROP + NUM_CROP_NUMBERS)
        numbers: list[list[float]] = as_uniform(random_bits(self._seed, epoch, samples, streams)).T.tolist()
        return numbers

    def box(self, width: int, height: int, numbers: Sequence[float]) -> CropBox:
        """Return the crop of an image of width and height in pixels."""
        if self._sides is not None:
            return jittered_box(width, height, self._sides, self._image_size, numbers)
        assert self._scale is not None
        return random_box(width, height, self._scale, numbers)


def size_with_shorter_side(width: int, height: int, shorter_side: int) -> tuple[int, int]:
    """Return width and height of an image resized to `shorter_side`, rounded down as in torchvision."""
    if width <= height:
        return shorter_side, max(shorter_side, int(shorter_side * height / width))
    return max(shorter_side, int(shorter_side * width / height)), shorter_side


def central_box(width: int, height: int, size: int) -> CropBox:
    """Return the central square of side `size`."""
    return CropBox(round((width - size) / 2), round((height - size) / 2), size, size)
