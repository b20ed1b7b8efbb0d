"""Masks with a class per pixel, read from image files."""

from __future__ import annotations

from collections.abc import Callable
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
from convoy.data.images.decode import LazyImage
from convoy.data.located.located_targets import Pixels, ReadTarget, write_picture
from convoy.data.located.pictures import as_picture, with_mask
from convoy.data.located.placement import Placement
from convoy.data.targets import IGNORED


class MaskTargets:
    """Masks of a split.

    Args:
        count: number of images.
        read: function that returns the mask of an image, uint8 [H, W]: class indices, or `IGNORED`; see `ReadTarget`.
        names: function that returns the names of the mask and of the image, for errors.
        num_classes: number of classes.
        key: setting that names the data, for errors.
    """

    def __init__(
        self,
        count: int,
        read: ReadTarget,
        names: Callable[[int], tuple[str, str]],
        num_classes: int,
        key: str = "data.root",
    ) -> None:
        self._count, self._read, self._names = count, read, names
        self._num_classes, self._key = num_classes, key

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
        mask = self._of(sample, picture)
        slot[:] = IGNORED
        slot[: placement.size.height, : placement.size.width] = mask[placement.rows()[:, None], placement.columns()]

    def mask(self, sample: int) -> Pixels:
        """Return the mask of an image, uint8 [H, W].

        Raises:
            BadImageError: if the file can't be decoded.
            UserError: if it has values that are no class.
        """
        mask: Pixels = self._read(sample, None)
        return mask

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
            total = sum(pool.map(counts, range(self._count)), np.zeros((2, self._num_classes), dtype=np.int64))
        return torch.from_numpy(total)

    def __len__(self) -> int:
        return self._count

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

    def _of(self, sample: int, picture: LazyImage) -> Pixels:
        """Return the mask of an opened image, whose size it must have."""
        mask: Pixels = self._read(sample, picture)
        if mask.shape != (picture.height, picture.width):
            own, image = self._names(sample)
            rule = (
                f"{own} has {mask.shape[1]}x{mask.shape[0]} pixels, and its image"
                f" {image} {picture.width}x{picture.height} (width x height)"
            )
            raise UserError(Fault(self._key, rule, "a mask needs the size of its image: replace one of the two"))
        return mask

    def present(self, sample: int, picture: LazyImage) -> list[float]:
        """See `LocatedTargets`."""
        counts = np.bincount(self._of(sample, picture).ravel(), minlength=IGNORED + 1)[: self._num_classes]
        return [float(count > 0) for count in counts]

    def drawn(self, pixels: Pixels, target: Tensor) -> Pixels:
        """See `LocatedTargets`; pixels that are not counted stay as they are."""
        return np.asarray(with_mask(as_picture(pixels), target.numpy().astype(np.uint8), self._num_classes))

    def finished(self, targets: Tensor, operations: BatchOperations | None, size: Sides) -> Tensor:
        """Return int64 [B, H, W]."""
        if operations is not None:
            targets = move_masks(targets, operations.in_order, IGNORED)
        return targets.long()
