"""Regression: one or several values per image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection, R2Score

from convoy.data.batches.collate import Batch
from convoy.data.targets import Targets
from convoy.tasks.losses import ConfiguredLoss
from convoy.tasks.mean_loss import MeanLoss
from convoy.tasks.task import Task
from convoy.tasks.task_report import Report


class Regression(Task):
    """Task with one or several float targets; the network returns [B, num_values].

    Logs `mae` and `rmse` over all values, and `r2`, the mean over values of the coefficient of determination, which
    needs two images or more.

    Args:
        targets: names of the values.
        loss: of outputs and targets, both float [B, num_values].
    """

    titles = {"mae": "MAE", "rmse": "RMSE", "r2": "R²"}  # noqa: RUF012
    severity_text = "Largest mean absolute errors first."
    report_metrics = frozenset({"mae_per_value"})

    def __init__(self, targets: Targets, loss: ConfiguredLoss) -> None:
        super().__init__(targets, loss)

    def training_losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        outputs = network(batch.images)
        self.log("mae", (outputs.detach() - batch.targets).abs().mean(1).sum())
        return {"values": self.loss(outputs, batch.targets)}

    def metrics(self, split: str) -> MetricCollection:
        num_values = len(self.targets.names)
        found: dict[str, Any] = {
            "loss": MeanLoss(),
            "mae": MeanAbsoluteError(),
            "rmse": MeanSquaredError(squared=False),
            "r2": R2Score(),
        }
        if split == "test":
            found["mae_per_value"] = MeanAbsoluteError(num_outputs=num_values)
        return MetricCollection(found, compute_groups=False)

    def update_metrics(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> None:
        losses = self.loss.per_sample(outputs, targets)
        for name, metric in metrics.items():
            if name == "loss":
                metric.update(losses, len(targets))
            elif isinstance(metric, R2Score) and outputs.shape[1] == 1:
                metric.update(outputs[:, 0], targets[:, 0])
            else:
                metric.update(outputs, targets)

    def report(self, metrics: MetricCollection) -> Report:
        """Return the mean absolute error per value."""
        if "mae_per_value" not in metrics:
            return Report()
        errors = metrics["mae_per_value"].compute().reshape(-1).tolist()
        return Report({"mae_per_value": dict(zip(self.targets.names, errors, strict=True))})

    def severity(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean absolute error of each image, [N]."""
        return (outputs - targets).abs().mean(1)

    def target_texts(self, targets: Tensor) -> list[str]:
        """Return the values of each image."""
        return [", ".join(f"{value:.4g}" for value in row) for row in targets.tolist()]

    def predictions(self, outputs: Tensor, limit: int) -> list[dict[str, Any]]:
        """Return the values by name."""
        return [{"values": dict(zip(self.targets.names, row, strict=True))} for row in outputs.double().tolist()]

    def prediction_rows(self, record: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [(name, f"{value:.6g}") for name, value in record["values"].items()]
