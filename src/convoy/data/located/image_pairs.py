"""Images as targets that a data set returns together with the network's input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from convoy.config.degradation_schema import DegradationConfig
from convoy.config.faults import Fault, UserError
from convoy.data.degradation.image_targets import ImageTargets
from convoy.data.images.decode import LazyImage
from convoy.data.located.located_targets import Pixels, write_picture
from convoy.data.located.placement import Placement


class ImagePairs(ImageTargets):
    """Images of a split that a network should return for other images of the same size, `LazyImage.target`.

    Args:
        name: function that returns the name of an image, for errors.
        channels: channels of the images that the network should return.
        key: setting that names the data, for errors.
    """

    def __init__(self, name: Callable[[int], str], channels: int, key: str) -> None:
        super().__init__(DegradationConfig(), channels)
        self._name, self._key = name, key

    def write(self, sample: int, picture: LazyImage, placement: Placement, pixels: Pixels, slot: Pixels) -> None:
        """See `LocatedTargets`."""
        wanted: LazyImage = picture.target
        if (wanted.width, wanted.height) != (picture.width, picture.height):
            sizes = f"{picture.width}x{picture.height} and {wanted.width}x{wanted.height} (width x height)"
            rule = f"{self._name(sample)} returns images of {sizes}"
            raise UserError(Fault(self._key, rule, "return two images of one size"))
        write_picture(picture, placement, pixels)
        write_picture(wanted, placement, slot)

    def transform(self, transform: Any, pixels: Pixels, slot: Pixels) -> None:
        """See `LocatedTargets`."""
        from torchvision import tv_tensors

        images = [tv_tensors.Image(torch.from_numpy(one).permute(2, 0, 1)) for one in (pixels, slot)]
        for out, image in zip((pixels, slot), transform(*images), strict=True):
            out[:] = image.permute(1, 2, 0).numpy()

    def complete(self, pixels: Pixels, slot: Pixels, seed: int | None) -> None:
        """See `LocatedTargets`; the input does not follow from the target."""
