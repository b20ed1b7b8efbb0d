"""Images as targets that a data set returns together with the network's input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from convoy.config.degradation_schema import DegradationConfig
from convoy.config.faults import Fault, UserError
from convoy.config.image_size import Sides
from convoy.data.degradation.image_targets import ImageTargets
from convoy.data.images.decode import LazyImage
from convoy.data.located.located_targets import Pixels, write_picture
from convoy.data.located.placement import Placement


class ImagePairs(ImageTargets):
    """Images of a split that a network should return for other images, `LazyImage.target`.

    Args:
        name: function that returns the name of an image, for errors.
        channels: channels of the images that the network should return.
        key: setting that names the data, for errors.
        scale: height and width of these images divided by those of the network's input.
    """

    def __init__(self, name: Callable[[int], str], channels: int, key: str, scale: int) -> None:
        super().__init__(DegradationConfig(scale=scale), channels)
        self._name, self._key, self._scale = name, key, scale

    def input_size(self, picture_size: Sides) -> Sides:
        """See `LocatedTargets`; the image is the input."""
        return picture_size

    def picture_size(self, input_size: Sides) -> Sides:
        """See `LocatedTargets`; the image is the input."""
        return input_size

    def slots(self, count: int, input_size: Sides) -> Pixels:
        """Return uint8 [count, s H, s W, C]."""
        return super().slots(count, super().picture_size(input_size))

    def write(self, sample: int, picture: LazyImage, placement: Placement, pixels: Pixels, slot: Pixels) -> None:
        """See `LocatedTargets`."""
        wanted: LazyImage = picture.target
        if (wanted.width, wanted.height) != (self._scale * picture.width, self._scale * picture.height):
            raise UserError(self._size_fault(sample, picture, wanted))
        write_picture(picture, placement, pixels)
        write_picture(wanted, placement.enlarged(self._scale), slot)

    def transform(self, transform: Any, pixels: Pixels, slot: Pixels) -> None:
        """See `LocatedTargets`."""
        from torchvision import tv_tensors

        images = [tv_tensors.Image(torch.from_numpy(one).permute(2, 0, 1)) for one in (pixels, slot)]
        for out, image in zip((pixels, slot), transform(*images), strict=True):
            out[:] = image.permute(1, 2, 0).numpy()

    def complete(self, pixels: Pixels, slot: Pixels, seed: int | None) -> None:
        """See `LocatedTargets`; the input does not follow from the target."""

    def _size_fault(self, sample: int, given: LazyImage, wanted: LazyImage) -> Fault:
        sizes = f"{given.width}x{given.height} and {wanted.width}x{wanted.height} (width x height)"
        rule = f"{self._name(sample)} returns images of {sizes}, with data.degradation.scale={self._scale}"
        scale = wanted.width // given.width
        if scale > 0 and (wanted.width, wanted.height) == (scale * given.width, scale * given.height):
            return Fault(self._key, rule, f"write data.degradation.scale={scale}")
        return Fault(self._key, rule, "return an image and one that is a whole number of times as large, the scale")
