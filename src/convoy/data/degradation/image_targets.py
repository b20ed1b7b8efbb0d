"""Images as targets: the network's input is computed from them."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convoy.config.degradation_schema import DegradationConfig
from convoy.config.image_size import Sides
from convoy.data.augmentation.batch_augmentation import BatchOperations
from convoy.data.degradation.degrade import degraded
from convoy.data.images.decode import LazyImage
from convoy.data.located.located_targets import Pixels, write_picture
from convoy.data.located.pictures import as_picture
from convoy.data.located.placement import Placement


class ImageTargets:
    """Images of a split, which the network should restore from their degraded form.

    Args:
        degradation: steps from an image to the network's input.
        channels: channels of the images.
    """

    def __init__(self, degradation: DegradationConfig, channels: int) -> None:
        self._degradation = degradation
        self._channels = channels

    def input_size(self, picture_size: Sides) -> Sides:
        """See `LocatedTargets`; what the scale does not divide is cut off."""
        reduced = (side // self._degradation.scale for side in picture_size)
        if self._degradation.enlarge:
            return Sides(*(side * self._degradation.scale for side in reduced))
        return Sides(*reduced)

    def picture_size(self, input_size: Sides) -> Sides:
        """See `LocatedTargets`."""
        return Sides(*(side * self._degradation.output_scale for side in input_size))

    def slots(self, count: int, input_size: Sides) -> Pixels:
        """Return uint8 [count, s H, s W, C]."""
        return np.empty((count, *self.picture_size(input_size), self._channels), dtype=np.uint8)

    def write(self, sample: int, picture: LazyImage, placement: Placement, pixels: Pixels, slot: Pixels) -> None:
        """See `LocatedTargets`; only the target is written."""
        write_picture(picture, placement, slot)

    def transform(self, transform: Any, pixels: Pixels, slot: Pixels) -> None:
        """See `LocatedTargets`."""
        from torchvision import tv_tensors

        image = transform(tv_tensors.Image(torch.from_numpy(slot).permute(2, 0, 1)))
        slot[:] = image.permute(1, 2, 0).numpy()

    def complete(self, pixels: Pixels, slot: Pixels, seed: int | None) -> None:
        """See `LocatedTargets`. In evaluation, the noise of an image follows from its pixels."""
        pixels[:] = degraded(slot, self._degradation, crc32(slot.tobytes()) if seed is None else seed)

    def present(self, sample: int, picture: LazyImage) -> list[float]:
        """See `LocatedTargets`; an image has all channels."""
        return [1.0] * self._channels

    def drawn(self, pixels: Pixels, target: Tensor) -> Pixels:
        """Return the network's input, enlarged without a filter, beside the image."""
        original = as_picture(np.ascontiguousarray((target * 255).round().byte().permute(1, 2, 0).numpy()))
        given = as_picture(pixels).resize(original.size, Image.Resampling.NEAREST)
        return np.concatenate([np.asarray(given), np.asarray(original)], axis=1)

    def finished(self, targets: Tensor, operations: BatchOperations | None, size: Sides) -> Tensor:
        """Return float32 [B, C, s H, s W] in 0..1, in channels_last."""
        return targets.permute(0, 3, 1, 2).to(torch.float32).div_(255)
