"""Masks with a class per pixel, read from image files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convoy.config.faults import Fault, UserError
from convoy.config.image_size import Sides
from convoy.data.augmentation.batch_augmentation import BatchOperations
from convoy.data.augmentation.operations import move_masks
from convoy.data.decode import LazyImage
from convoy.data.located.located_targets import Pixels, write_picture
from convoy.data.located.pictures import as_picture, with_mask
from convoy.data.located.placement import Placement
from convoy.data.targets import IGNORED


class MaskTargets:
    """Masks of a split.

    Args:
        images: names of the images, for errors.
        masks: mask of each image.
        read: function that returns the mask of a file, uint8 [H, W]: class indices, or `IGNORED`. Called in any thread;
            it may raise BadImageError and UserError.
        num_classes: number of classes.
    """

    def __init__(
        self, images: Sequence[str], masks: Sequence[str], read: Callable[[str], Pixels], num_classes: int
    ) -> None:
        self._images, self._masks, self._read = images, masks, read
        self._num_classes = num_classes

    def input_size(self, picture_size: Sides) -> Sides:
        """See `LocatedTargets`."""
        return picture_size

    def picture_size(self, input_size: Sides) -> Sides:
        """See `LocatedTargets`."""
        return input_size

    def slots(self, count: int, input_size: Sides) -> NDArray[Any]:
        """Return uint8 [count, H, W]."""
        return np.empty((count, *input_size), dtype=np.uint8)

    def write(self, sample: int, picture: LazyImage, placement: Placement, pixels: Pixels, slot: Pixels) -> None:
        """See `LocatedTargets`."""
        write_picture(picture, placement, pixels)
        mask = self.mask(sample)
        if mask.shape != (picture.height, picture.width):
            rule = (
                f"{self._masks[sample]} has {mask.shape[1]}x{mask.shape[0]} pixels, and its image"
                f" {self._images[sample]} {picture.width}x{picture.height} (width x height)"
            )
            raise UserError(Fault("data.root", rule, "a mask needs the size of its image: replace one of the two"))
        slot[:] = IGNORED
        slot[: placement.size.height, : placement.size.width] = mask[placement.rows()[:, None], placement.columns()]

    def mask(self, sample: int) -> Pixels:
        """Return the mask of an image, uint8 [H, W].

        Raises:
            BadImageError: if the file can't be decoded.
            UserError: if it has values that are no class.
        """
        return self._read(self._masks[sample])

    def pixels_per_class(self, num_threads: int) -> Tensor:
        """Return the pixels of each class in all masks, and the counted pixels of the masks that have the class.

        Returns:
            int64 [2, num_classes].

        Raises:
            BadImageError: if a file can't be decoded.
            UserError: if a mask has values that are no class.
        """

        def counts(sample: int) -> NDArray[np.int64]:
            own = np.bincount(self.mask(sample).ravel(), minlength=IGNORED + 1)[: self._num_classes]
            return np.stack([own, np.where(own > 0, own.sum(), 0)])

        with ThreadPoolExecutor(num_threads, thread_name_prefix="convoy-decode") as pool:
            total = sum(pool.map(counts, range(len(self._masks))), np.zeros((2, self._num_classes), dtype=np.int64))
        return torch.from_numpy(total)

    def __len__(self) -> int:
        return len(self._masks)

    def transform(self, transform: Any, pixels: Pixels, slot: Pixels) -> None:
        """See `LocatedTargets`."""
        from torchvision import tv_tensors

        image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
        # Transforms fill with 0, which is a class: masks are shifted, so that 0 means IGNORED.
        image, mask = transform(image, tv_tensors.Mask(torch.from_numpy(slot - np.uint8(IGNORED))))
        pixels[:] = image.permute(1, 2, 0).numpy()
        slot[:] = mask.numpy() + np.uint8(IGNORED)

    def complete(self, pixels: Pixels, slot: Pixels, seed: int | None) -> None:
        """See `LocatedTargets`; the input does not follow from the mask."""

    def present(self, sample: int) -> list[float]:
        """See `LocatedTargets`."""
        counts = np.bincount(self.mask(sample).ravel(), minlength=IGNORED + 1)[: self._num_classes]
        return [float(count > 0) for count in counts]

    def drawn(self, pixels: Pixels, target: Tensor) -> Pixels:
        """See `LocatedTargets`; pixels that are not counted stay as they are."""
        return np.asarray(with_mask(as_picture(pixels), target.numpy().astype(np.uint8), self._num_classes))

    def finished(self, targets: Tensor, operations: BatchOperations | None, size: Sides) -> Tensor:
        """Return int64 [B, H, W]."""
        if operations is not None:
            targets = move_masks(targets, operations.in_order, IGNORED)
        return targets.long()
