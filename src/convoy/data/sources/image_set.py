"""Labelled images as tensors, with the names of the classes; the result of a reader."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LabelledImages:
    """Images and their labels.

    Attributes:
        images: uint8 [n, C, H, W].
        labels: int64 [n], indices into the set's class names.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, samples: Tensor) -> LabelledImages:
        """Return the images at the indices `samples`, int64."""
        return LabelledImages(self.images[samples], self.labels[samples])


@dataclass(frozen=True)
class ImageSet:
    """Data set as published by its authors; val is held out of train later."""

    classes: tuple[str, ...]
    train: LabelledImages
    test: LabelledImages
