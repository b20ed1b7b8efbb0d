"""Calibration of a classifier: its accuracy by its confidence."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from convoy.tasks.task_report import ReportTable

NUM_BINS = 15
"""Number of bins of equal width, as in Guo et al. 2017 (arXiv:1706.04599)."""


class CalibrationBins(Metric):
    """Images, mean confidence and accuracy in bins of the probability of the predicted class."""

    def __init__(self) -> None:
        super().__init__(sync_on_compute=True)
        self.add_state("sums", torch.zeros(3, NUM_BINS), dist_reduce_fx="sum")
        self.sums: Tensor

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Count a batch.

        Args:
            outputs: logits [N, num_classes].
            targets: class indices [N].
        """
        confidence, predicted = torch.softmax(outputs, 1).max(1)
        bins = (confidence * NUM_BINS).long().clamp(max=NUM_BINS - 1)
        values = torch.stack([torch.ones_like(confidence), confidence, (predicted == targets).to(confidence.dtype)])
        self.sums.index_add_(1, bins, values.to(self.sums.dtype))

    def compute(self) -> Tensor:
        """Return images, sum of confidences and right predictions, [3, bins]."""
        return self.sums

    def table(self) -> ReportTable:
        """Return one row per bin; mean confidence and accuracy are empty where there are no images."""
        rows = []
        for index, (count, confidence, right) in enumerate(self.compute().T.tolist()):
            ends = round(index / NUM_BINS, 4), round((index + 1) / NUM_BINS, 4)
            means = (confidence / count, right / count) if count else (None, None)
            rows.append((*ends, int(count), *means))
        return ReportTable(("from", "to", "images", "confidence", "accuracy"), tuple(rows), kind="calibration")
