"""Confusion matrix of pixels, and the scores that follow from it."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from convoy.data.targets import IGNORED


class PixelConfusion(Metric):
    """Pixels by true class (rows) and predicted class (columns), counted on the device without waiting for it.

    Args:
        num_classes: number of classes.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        # The last entry has the pixels that are not counted: to leave them out, the CPU would wait for their number.
        self.add_state("counts", torch.zeros(num_classes**2 + 1, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Count a batch.

        Args:
            outputs: logits [B, num_classes, H, W].
            targets: class indices [B, H, W], or `IGNORED`.
        """
        places = torch.where(targets == IGNORED, self.num_classes**2, targets * self.num_classes + outputs.argmax(1))
        self.counts.index_add_(0, places.flatten(), torch.ones_like(places).flatten())

    def compute(self) -> Tensor:
        """Return the matrix, int64 [num_classes, num_classes]."""
        return self.counts[:-1].view(self.num_classes, self.num_classes)


def intersections_over_unions(matrix: Tensor) -> Tensor:
    """Return the intersection over union of each class; NaN for a class without true and predicted pixels."""
    both = matrix.diagonal().double()
    return both / (matrix.sum(0) + matrix.sum(1) - both)


def dice_coefficients(matrix: Tensor) -> Tensor:
    """Return the Dice coefficient of each class; NaN for a class without true and predicted pixels."""
    return 2 * matrix.diagonal().double() / (matrix.sum(0) + matrix.sum(1))


def recalls(matrix: Tensor) -> Tensor:
    """Return the share of each class's pixels that is found; NaN for a class without pixels."""
    return matrix.diagonal().double() / matrix.sum(1)
