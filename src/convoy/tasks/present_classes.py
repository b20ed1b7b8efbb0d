"""Macro averages over the classes that a split has images of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class PresentClassesMean(Metric):
    """Mean of a metric over the classes that occur among the targets.

    torchmetrics counts a class without images as 0 where it is predicted, and for the area under the ROC curve always.
    The result equals scikit-learn's with `labels` set to the classes that occur.

    Args:
        metric: metric of logits and class indices with `average="macro"`, which becomes a metric per class.
        num_classes: number of classes.
    """

    full_state_update = False
    num_images: Tensor

    def __init__(self, metric: Metric, num_classes: int) -> None:
        super().__init__()
        metric.average = "none"
        self._metric = metric
        self._num_classes = num_classes
        self.add_state("num_images", torch.zeros(num_classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Count a batch."""
        self._metric.update(outputs, targets)
        self.num_images += torch.bincount(targets, minlength=self._num_classes)

    def compute(self) -> Any:
        """Return the mean over the classes with images."""
        values: Tensor = self._metric.compute()
        return values[self.num_images > 0].mean()

    def reset(self) -> None:
        """Forget all batches."""
        super().reset()
        self._metric.reset()
