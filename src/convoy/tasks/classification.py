"""Classification: one class per image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from convoy.data.batches.collate import Batch
from convoy.data.targets import Targets
from convoy.models import auxiliary
from convoy.tasks.calibration_bins import CalibrationBins
from convoy.tasks.losses import ConfiguredLoss
from convoy.tasks.mean_loss import MeanLoss, count_batch
from convoy.tasks.task import Task
from convoy.tasks.task_report import Report, ReportTable

if TYPE_CHECKING:
    from convoy.tasks.mixing import Mixing

_TOP5_FROM = 6
_SMALLEST_PROBABILITY = 1e-300


class Classification(Task):
    """Task with one class index per image; the network returns logits [B, num_classes].

    Auxiliary classifiers, which return a tuple in training (GoogLeNet, Inception), contribute
    `auxiliary_weight` times their loss each.

    Args:
        targets: class names.
        loss: of logits and class indices [B], or class probabilities [B, num_classes] where batches are mixed.
        mixup: alpha of mixup; 0 turns it off.
        cutmix: alpha of CutMix; 0 turns it off. With mixup, each batch draws one of the two.
        auxiliary_weight: weight of each auxiliary loss.
        mix_probability: share of the batches that are mixed.
        mix_epochs: number of epochs, from the first, in which batches are mixed; None for all.
    """

    titles = {"top1": "top-1", "top5": "top-5"}  # noqa: RUF012
    hidden = frozenset({"error"})
    severity_text = "Wrong predictions, those with the largest probability first."
    report_metrics = frozenset({"confusion_matrix", "calibration"})

    def __init__(
        self,
        targets: Targets,
        loss: ConfiguredLoss,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        auxiliary_weight: float = auxiliary.WEIGHT,
        mix_probability: float = 1.0,
        mix_epochs: int | None = None,
    ) -> None:
        super().__init__(targets, loss)
        self.auxiliary_weight = auxiliary_weight
        self._mixing: Mixing | None = None
        if mixup > 0 or cutmix > 0:
            from convoy.tasks.mixing import mixing

            self._mixing = mixing(mixup, cutmix, len(targets.names), mix_probability)
        self._mix_epochs = mix_epochs

    def training_losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        images, targets = self.mixed(batch)
        return self.losses_of(network(images), batch.targets, targets)[0]

    def mixed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return images and targets after mixup or CutMix."""
        is_over = self._mix_epochs is not None and self.epoch >= self._mix_epochs
        return (batch.images, batch.targets) if self._mixing is None or is_over else self._mixing(*batch)

    def losses_of(self, outputs: Any, labels: Tensor, targets: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses by name, the main classifier's first, and its logits [B, num_classes].

        Args:
            outputs: of the network in training.
            labels: class indices [B], for the logged accuracy.
            targets: class indices [B], or class probabilities of mixed images.
        """
        logits, side_logits = auxiliary.logits_of(outputs)
        losses = {"classifier": self.loss(logits, targets)}
        for number, side in enumerate(side_logits, 1):
            losses[f"auxiliary_{number}"] = self.auxiliary_weight * self.loss(side, targets)
        self.log("top1", (logits.detach().argmax(1) == labels).sum(dtype=torch.float32))
        return losses, logits

    def uninformed_loss(self, device: torch.device) -> float:
        """Return the loss of equal logits, over all classes."""
        num_classes = len(self.targets.names)
        logits = torch.zeros(num_classes, num_classes, device=device)
        return float(self.loss(logits, torch.arange(num_classes, device=device)))

    def metrics(self, split: str) -> MetricCollection:
        num_classes = len(self.targets.names)
        found: dict[str, Any] = {
            "loss": MeanLoss(),
            "top1": MulticlassAccuracy(num_classes, average="micro", top_k=1, validate_args=False),
        }
        if num_classes >= _TOP5_FROM:
            found["top5"] = MulticlassAccuracy(num_classes, average="micro", top_k=5, validate_args=False)
        if split == "test":
            found["confusion_matrix"] = MulticlassConfusionMatrix(num_classes, validate_args=False)
            found["calibration"] = CalibrationBins()
        # Without groups: torchmetrics would merge metrics whose states happen to agree after the first batch.
        return MetricCollection(found, compute_groups=False)

    def update_metrics(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> None:
        losses = self.loss.per_sample(outputs, targets)
        count_batch(metrics, losses, len(targets), outputs, targets)

    def compute(self, metrics: MetricCollection) -> dict[str, float]:
        values = super().compute(metrics)
        return {"loss": values["loss"], "top1": values["top1"], "error": 1 - values["top1"], **values}

    def metric_names(self) -> tuple[str, ...]:
        return (*super().metric_names(), "error")

    def report(self, metrics: MetricCollection) -> Report:
        """Return the accuracy per class (None for a class without images), the confusion matrix and the calibration."""
        if "confusion_matrix" not in metrics:
            return Report()
        matrix = metrics["confusion_matrix"].compute().cpu()
        totals = matrix.sum(1)
        names = self.targets.names
        per_class = {
            name: int(matrix[index, index]) / int(totals[index]) if totals[index] else None
            for index, name in enumerate(names)
        }
        bins = metrics["calibration"]
        assert isinstance(bins, CalibrationBins)
        rows = tuple((name, *row) for name, row in zip(names, matrix.tolist(), strict=True))
        table = ReportTable(("true \\ predicted", *names), rows, kind="matrix")
        return Report({"per_class": per_class}, {"confusion_matrix": table, "calibration": bins.table()})

    def to_average(self, outputs: Tensor) -> Tensor:
        """Return the probabilities [N, num_classes]."""
        return torch.softmax(outputs.double(), 1)

    def from_average(self, averaged: Tensor) -> Tensor:
        """Return log probabilities, which are logits of the same probabilities."""
        return averaged.clamp_min(_SMALLEST_PROBABILITY).log()

    def likelihoods(self, averaged: Tensor, targets: Tensor) -> Tensor:
        return averaged[:, torch.arange(len(targets)), targets]

    def severity(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the probability of each wrong prediction, [N], and 0 for right ones."""
        probability, predicted = torch.softmax(outputs, 1).max(1)
        return torch.where(predicted == targets, 0, probability)

    def decisions(self, outputs: Tensor) -> Tensor:
        """Return the most probable class of each image."""
        return outputs.argmax(1)

    def target_texts(self, targets: Tensor) -> list[str]:
        """Return the class of each image."""
        return [self.targets.names[index] for index in targets.tolist()]

    def predictions(self, outputs: Tensor, limit: int) -> list[dict[str, Any]]:
        """Return the most probable classes of each image with their probabilities."""
        # In float64, so that the probabilities of one image add up to 1.
        probabilities = torch.softmax(outputs.double(), 1)
        values, indices = probabilities.topk(min(limit, probabilities.shape[1]), dim=1)
        return [
            {"classes": [{"class": self.targets.names[i], "probability": v} for v, i in zip(row, order, strict=True)]}
            for row, order in zip(values.tolist(), indices.tolist(), strict=True)
        ]

    def prediction_rows(self, record: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [(one["class"], f"{one['probability']:.2%}") for one in record["classes"]]
