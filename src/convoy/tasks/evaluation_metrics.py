"""Metrics of val and test, by torchmetrics: exact over several ranks and ragged batches."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

_TOP5_FROM = 6


class EvaluationMetrics(nn.Module):
    """Loss, top-1, top-5 where there are more than 5 classes, and at the test each class by itself.

    A module, so that its sums move to the run's device with the rest.
    """

    def __init__(self, num_classes: int, *, per_class: bool = False) -> None:
        super().__init__()
        self.loss = MeanMetric()
        self.top1 = MulticlassAccuracy(num_classes, average="micro", top_k=1, validate_args=False)
        self.top5 = (
            MulticlassAccuracy(num_classes, average="micro", top_k=5, validate_args=False)
            if num_classes >= _TOP5_FROM
            else None
        )
        self.confusion = MulticlassConfusionMatrix(num_classes, validate_args=False) if per_class else None

    def update(self, logits: Tensor, labels: Tensor, losses: Tensor) -> None:
        """Count a batch: logits [B, num_classes], labels [B], losses [B]."""
        self.loss.update(losses)
        self.top1.update(logits, labels)
        if self.top5 is not None:
            self.top5.update(logits, labels)
        if self.confusion is not None:
            self.confusion.update(logits, labels)

    def compute(self, split: str) -> dict[str, float]:
        """`<split>/loss`, `/top1`, `/top5`, `/error` (1 - top1) over all ranks; accuracies are fractions."""
        top1 = float(self.top1.compute())
        values = {
            f"{split}/loss": float(self.loss.compute()),
            f"{split}/top1": top1,
            f"{split}/error": 1 - top1,
        }
        if self.top5 is not None:
            values[f"{split}/top5"] = float(self.top5.compute())
        return values

    def report(self) -> dict[str, Any]:
        """`confusion_matrix` as rows of true classes, and `per_class` accuracy (None for a class without images)."""
        if self.confusion is None:
            return {}
        matrix = self.confusion.compute().cpu()
        totals = matrix.sum(1)
        per_class = [int(matrix[index, index]) / int(total) if total else None for index, total in enumerate(totals)]
        return {"confusion_matrix": matrix.tolist(), "per_class": per_class}

    def reset(self) -> None:
        for metric in (self.loss, self.top1, self.top5, self.confusion):
            if metric is not None:
                metric.reset()
