"""Interface of targets with positions in their image, as the loaders of images call it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from convoy.config.image_size import Sides
from convoy.data.augmentation.batch_augmentation import BatchOperations
from convoy.data.images.decode import LazyImage
from convoy.data.images.resize import crop_and_resize
from convoy.data.located.placement import Placement

Pixels = NDArray[np.uint8]

ReadTarget = Callable[[int, LazyImage | None], NDArray[Any]]
"""Function that returns the stored target of a sample: of the given image, or None to open it. Called in any thread.

It may raise BadImageError and UserError.
"""


class LocatedTargets(Protocol):
    """Targets of a split that move with the pixels of their image.

    A sample is written in three steps, in any thread: `write` puts image and target where the placement says,
    `transform` applies transforms to both, and `complete` computes the network's input if it follows from the target.
    """

    def input_size(self, picture_size: Sides) -> Sides:
        """Return the size of the network's input for a whole image."""
        ...

    def picture_size(self, input_size: Sides) -> Sides:
        """Return the size in which an image is placed, given that of the network's input."""
        ...

    def slots(self, count: int, input_size: Sides) -> NDArray[Any]:
        """Return memory for the targets of `count` samples, the first dimension."""
        ...

    def write(self, sample: int, picture: LazyImage, placement: Placement, pixels: Pixels, slot: NDArray[Any]) -> None:
        """Write an image and its target.

        Args:
            sample: index of the image in the split.
            picture: the image.
            placement: where it is shown.
            pixels: network's input, uint8 [H, W, C].
            slot: one of `slots`.

        Raises:
            BadImageError: if a file can't be decoded.
            UserError: if the target does not fit the image.
        """
        ...

    def transform(self, transform: Any, pixels: Pixels, slot: NDArray[Any]) -> None:
        """Apply a transform of torchvision's tv_tensors to image and target, in place."""
        ...

    def complete(self, pixels: Pixels, slot: NDArray[Any], seed: int | None) -> None:
        """Compute the network's input from the target if it follows from it.

        Args:
            pixels: network's input, uint8 [H, W, C].
            slot: the target.
            seed: seed of the sample in training; None in evaluation, where nothing changes from one time to the next.
        """
        ...

    def present(self, sample: int, picture: LazyImage) -> list[float]:
        """Return 1 for each class, point or channel that the target of an image has, else 0.

        Args:
            sample: index of the image in the split.
            picture: the image.

        Raises:
            BadImageError: if a file can't be decoded.
            UserError: if the target can't be used.
        """
        ...

    def drawn(self, pixels: Pixels, target: Tensor) -> Pixels:
        """Return an image with its target drawn on it or beside it, uint8 [H, W, 3].

        Args:
            pixels: uint8 [H, W, C].
            target: one of `finished`, on the CPU.
        """
        ...

    def finished(self, targets: Tensor, operations: BatchOperations | None, size: Sides) -> Any:
        """Return the targets of a batch for the task, on the device, moved by the operations on its images.

        Args:
            targets: stacked slots.
            operations: operations on the images of the batch; None for none.
            size: size of the images.
        """
        ...


def write_picture(picture: LazyImage, placement: Placement, out: Pixels) -> None:
    """Write an image where a placement shows it into `out`, uint8 [H, W, C], with zeros around it.

    Raises:
        BadImageError: if the image can't be decoded.
    """
    size, is_mirrored = placement.size, placement.is_mirrored
    if size == out.shape[:2]:
        crop_and_resize(picture, placement.box, out, mirrored=is_mirrored)
        return
    placed = np.empty((*size, out.shape[2]), dtype=np.uint8)
    crop_and_resize(picture, placement.box, placed, mirrored=is_mirrored)
    out[:] = 0
    out[: size.height, : size.width] = placed
