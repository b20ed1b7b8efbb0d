"""What a source gives: labelled images as tensors, and the names of the classes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LabelledImages:
    """Images with their labels.

    Attributes:
        images: uint8 [n, C, H, W].
        labels: int64 [n], indices into the set's class names.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, samples: Tensor) -> LabelledImages:
        """Those at the indices `samples`, int64."""
        return LabelledImages(self.images[samples], self.labels[samples])


@dataclass(frozen=True)
class ImageSet:
    """A set as its authors publish it; val is held out of train later."""

    classes: tuple[str, ...]
    train: LabelledImages
    test: LabelledImages
