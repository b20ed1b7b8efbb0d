"""Multi-label classification: any number of labels per image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MultilabelAccuracy, MultilabelAveragePrecision, MultilabelF1Score

from convoy.data.batches.collate import Batch
from convoy.data.targets import Targets
from convoy.tasks.losses import ConfiguredLoss
from convoy.tasks.mean_loss import MeanLoss, count_batch
from convoy.tasks.task import Task
from convoy.tasks.task_report import Report

_SMALLEST_PROBABILITY = 1e-300


class Multilabel(Task):
    """Task with a 0/1 target per label; the network returns one logit per label, [B, num_labels].

    Logs `map` (mean over labels of the average precision), `f1_macro`, `f1_micro` and `accuracy` (mean over labels of
    the share of images that are classified correctly).

    Args:
        targets: label names.
        loss: of logits and float targets [B, num_labels].
        threshold: probability from which a label counts as predicted.
    """

    titles = {"map": "mAP", "f1_macro": "macro F1", "f1_micro": "micro F1"}  # noqa: RUF012
    severity_text = "Wrong labels, those with the most probability on the wrong side first."
    report_metrics = frozenset({"accuracy_per_label"})

    def __init__(self, targets: Targets, loss: ConfiguredLoss, threshold: float = 0.5) -> None:
        super().__init__(targets, loss)
        self.threshold = threshold

    def training_losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        logits = network(batch.images)
        right = (logits.detach().sigmoid() > self.threshold) == (batch.targets > 0.5)
        self.log("accuracy", right.float().mean(1).sum())
        return {"labels": self.loss(logits, batch.targets)}

    def uninformed_loss(self, device: torch.device) -> float:
        """Return the loss of probabilities of 1/2, for labels that are all absent or all present."""
        outputs = torch.zeros(2, len(self.targets.names), device=device)
        targets = torch.stack([torch.zeros_like(outputs[0]), torch.ones_like(outputs[0])])
        return float(self.loss(outputs, targets))

    def metrics(self, split: str) -> MetricCollection:
        num_labels = len(self.targets.names)
        common: dict[str, Any] = {"num_labels": num_labels, "validate_args": False}
        found: dict[str, Any] = {
            "loss": MeanLoss(),
            "map": MultilabelAveragePrecision(**common, average="macro"),
            "f1_macro": MultilabelF1Score(**common, threshold=self.threshold, average="macro"),
            "f1_micro": MultilabelF1Score(**common, threshold=self.threshold, average="micro"),
            "accuracy": MultilabelAccuracy(**common, threshold=self.threshold, average="macro"),
        }
        if split == "test":
            found["accuracy_per_label"] = MultilabelAccuracy(**common, threshold=self.threshold, average="none")
        return MetricCollection(found, compute_groups=False)

    def update_metrics(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> None:
        losses = self.loss.per_sample(outputs, targets)
        probabilities, truth = outputs.sigmoid(), targets.long()
        count_batch(metrics, losses, len(targets), probabilities, truth)

    def report(self, metrics: MetricCollection) -> Report:
        """Return the accuracy per label."""
        if "accuracy_per_label" not in metrics:
            return Report()
        values = metrics["accuracy_per_label"].compute().tolist()
        return Report({"accuracy_per_label": dict(zip(self.targets.names, values, strict=True))})

    def to_average(self, outputs: Tensor) -> Tensor:
        """Return the probability of each label, [N, num_labels]."""
        return outputs.double().sigmoid()

    def from_average(self, averaged: Tensor) -> Tensor:
        """Return the logits of probabilities."""
        return torch.logit(averaged, eps=1e-12)

    def likelihoods(self, averaged: Tensor, targets: Tensor) -> Tensor:
        found = torch.where(targets > 0.5, averaged, 1 - averaged)
        return found.flatten(1).clamp_min(_SMALLEST_PROBABILITY)

    def severity(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over each image's wrong labels of the distance between probability and target, [N]."""
        probabilities = outputs.sigmoid()
        is_wrong = (probabilities > self.threshold) != (targets > 0.5)
        return ((probabilities - targets).abs() * is_wrong).sum(1)

    def decisions(self, outputs: Tensor) -> Tensor:
        """Return the labels above the threshold, [N, num_labels]."""
        return outputs.sigmoid() > self.threshold

    def target_texts(self, targets: Tensor) -> list[str]:
        """Return the labels of each image."""
        rows = (zip(self.targets.names, row, strict=True) for row in targets.tolist())
        return [", ".join(name for name, value in row if value > 0.5) or "–" for row in rows]

    def predictions(self, outputs: Tensor, limit: int) -> list[dict[str, Any]]:
        """Return the probability of each label, and the labels above the threshold."""
        records = []
        for row in outputs.double().sigmoid().tolist():
            probabilities = dict(zip(self.targets.names, row, strict=True))
            chosen = [name for name, value in probabilities.items() if value > self.threshold]
            records.append({"labels": chosen, "probabilities": probabilities})
        return records

    def prediction_rows(self, record: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [(name, f"{record['probabilities'][name]:.2%}") for name in record["labels"]]
