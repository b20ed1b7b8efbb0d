"""Geometry of crops, equal to that of torchvision's RandomResizedCrop, Resize and CenterCrop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from convoy.config.augment_schema import AugmentConfig
from convoy.config.image_size import ImageSize, Sides, sides_of
from convoy.data.sampling.randomness import Stream, as_uniform, random_bits

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


def random_box(
    width: int, height: int, scale: Sequence[float], numbers: Sequence[float], shape: float = 1.0
) -> CropBox:
    """Return a crop of random area and aspect ratio (Szegedy et al. 2014, "Going Deeper with Convolutions").

    The area is uniform in `scale` times the area of the image; the logarithm of width over height is uniform between
    those of 3/4 and 4/3 times `shape`, so that the crop is stretched by at most 4/3. A crop that does not fit in the
    image is drawn again. After 10 attempts, the result is the largest central crop with the nearest permitted aspect
    ratio.

    Args:
        width: width of the image, in pixels.
        height: height of the image, in pixels.
        scale: [smallest, largest] share of the area.
        numbers: `NUM_CROP_NUMBERS` numbers, uniform in [0, 1).
        shape: width over height of the network's input.
    """
    for attempt in range(NUM_TRIES):
        share, aspect, down, right = numbers[4 * attempt : 4 * attempt + 4]
        area = width * height * (scale[0] + share * (scale[1] - scale[0]))
        ratio = math.exp(_RATIO_LOG * (2 * aspect - 1)) * shape
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left, top = int(right * (width - box_width + 1)), int(down * (height - box_height + 1))
            return CropBox(left, top, box_width, box_height)
    box_width, box_height = min(width, round(height * 4 / 3 * shape)), min(height, round(width * 4 / 3 / shape))
    return CropBox((width - box_width) // 2, (height - box_height) // 2, box_width, box_height)


NUM_JITTER_NUMBERS = 3


def jittered_box(
    width: int, height: int, shorter_sides: Sequence[int], image_size: Sides, numbers: Sequence[float]
) -> CropBox:
    """Return a random crop of an image that is resized to a random size (Simonyan & Zisserman 2014, section 3.1).

    Resizing this crop to `image_size` equals resizing the image to cover an area of the same shape, whose shorter side
    is uniform in `shorter_sides`, and cropping `image_size` at a random position.

    Args:
        width: width of the image, in pixels.
        height: height of the image, in pixels.
        shorter_sides: [smallest, largest] shorter side of the area in pixels, at least that of `image_size`.
        image_size: size of the network's input.
        numbers: `NUM_JITTER_NUMBERS` numbers, uniform in [0, 1).
    """
    shorter_side = shorter_sides[0] + int(numbers[0] * (shorter_sides[1] - shorter_sides[0] + 1))
    if width * image_size.height <= height * image_size.width:
        covered, side = width, image_size.width
    else:
        covered, side = height, image_size.height
    # Quotients of integers are rounded once, so that a square has two equal sides.
    box_width, box_height = (
        max(1, round(covered * image_size.shorter * one / (shorter_side * side)))
        for one in (image_size.width, image_size.height)
    )
    left, top = int(numbers[1] * (width - box_width + 1)), int(numbers[2] * (height - box_height + 1))
    return CropBox(left, top, box_width, box_height)


NUM_PLACE_NUMBERS = 2


def placed_box(width: int, height: int, size: Sides, numbers: Sequence[float]) -> CropBox:
    """Return a crop of a size at a random position; for a smaller image, the crop that becomes as large when resized.

    Args:
        width: width of the image, in pixels.
        height: height of the image, in pixels.
        size: size of the network's input.
        numbers: `NUM_PLACE_NUMBERS` numbers, uniform in [0, 1).
    """
    factor = max(1.0, size.height / height, size.width / width)
    box_width, box_height = round(size.width / factor), round(size.height / factor)
    left, top = int(numbers[1] * (width - box_width + 1)), int(numbers[0] * (height - box_height + 1))
    return CropBox(left, top, box_width, box_height)


class RandomCrop:
    """Random crop of images that are read from files: random_resized_crop, scale_jitter or random_crop.

    Args:
        augment: settings.
        image_size: size of the crop after it is resized.
        seed: seed of the run.

    Attributes:
        is_on: whether one of the three is set.
    """

    def __init__(self, augment: AugmentConfig, image_size: ImageSize, seed: int) -> None:
        self._scale, self._sides = augment.random_resized_crop, augment.scale_jitter
        self._image_size = sides_of(image_size)
        self._seed = seed
        self.is_on = self._scale is not None or self._sides is not None or augment.random_crop

    def numbers(self, epoch: int, samples: Tensor) -> list[list[float]]:
        """Return the random numbers of each of `samples`, int64 [B], for `box`."""
        if self._sides is not None:
            streams = range(Stream.SCALE_JITTER, Stream.SCALE_JITTER + NUM_JITTER_NUMBERS)
        elif self._scale is not None:
            streams = range(Stream.RESIZED_CROP, Stream.RESIZED_CROP + NUM_CROP_NUMBERS)
        else:
            streams = range(Stream.CROP_TOP, Stream.CROP_TOP + NUM_PLACE_NUMBERS)
        numbers: list[list[float]] = as_uniform(random_bits(self._seed, epoch, samples, streams)).T.tolist()
        return numbers

    def box(self, width: int, height: int, numbers: Sequence[float]) -> CropBox:
        """Return the crop of an image of width and height in pixels."""
        if self._sides is not None:
            return jittered_box(width, height, self._sides, self._image_size, numbers)
        if self._scale is None:
            return placed_box(width, height, self._image_size, numbers)
        return random_box(width, height, self._scale, numbers, self._image_size.width / self._image_size.height)


def size_with_shorter_side(width: int, height: int, shorter_side: int) -> tuple[int, int]:
    """Return width and height of an image resized to `shorter_side`, rounded down as in torchvision."""
    return covering_size(width, height, Sides(shorter_side, shorter_side))


def covering_size(width: int, height: int, area: Sides) -> tuple[int, int]:
    """Return the smallest width and height of an image resized to cover an area, rounded down as in torchvision."""
    if width * area.height <= height * area.width:
        return area.width, max(area.height, int(area.width * height / width))
    return max(area.width, int(area.height * width / height)), area.height


def central_box(width: int, height: int, size: ImageSize) -> CropBox:
    """Return the central rectangle of a size."""
    sides = sides_of(size)
    return CropBox(round((width - sides.width) / 2), round((height - sides.height) / 2), sides.width, sides.height)
