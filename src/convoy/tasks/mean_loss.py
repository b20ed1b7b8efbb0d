"""Mean of a loss over the samples of a split."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from convoy.data.targets import IGNORED


def losses_per_sample(losses: Tensor, targets: Tensor) -> Tensor:
    """Return one loss per sample, [B].

    Args:
        losses: of a loss without reduction: [B], [B, ...], per pixel like the targets, or a scalar mean over the batch.
        targets: of the samples; pixels with the value `IGNORED` are left out of the mean over an image.
    """
    if losses.ndim == 0:
        return losses.expand(len(targets))
    if losses.ndim > 1 and losses.shape == targets.shape and not targets.is_floating_point():
        is_counted = targets != IGNORED
        return losses.flatten(1).sum(1) / is_counted.flatten(1).sum(1).clamp(min=1)
    return losses.flatten(1).mean(1) if losses.ndim > 1 else losses


def count_batch(
    metrics: MetricCollection, losses: Tensor, count: int | Tensor, outputs: Tensor, targets: Tensor
) -> None:
    """Count a batch: the losses in `MeanLoss`, outputs and targets in all other metrics.

    Args:
        metrics: of a split.
        losses: see `MeanLoss.update`.
        count: likewise.
        outputs: of the network.
        targets: of the batch.
    """
    for metric in metrics.values():
        if isinstance(metric, MeanLoss):
            metric.update(losses, count)
        else:
            metric.update(outputs, targets)


class MeanLoss(Metric):
    """Mean over samples, which stays on the device until it is computed; NaN if the loss of a sample is NaN.

    torchmetrics' `MeanMetric` looks for NaN in every update, for which the CPU waits for the GPU.
    """

    full_state_update = False
    total: Tensor
    num_samples: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("num_samples", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, losses: Tensor, num_samples: int | Tensor) -> None:
        """Count a batch.

        Args:
            losses: loss per sample [B, ...], or the mean over the batch, a scalar.
            num_samples: B; or the weight of each sample, [B], with one loss per sample.
        """
        if isinstance(num_samples, Tensor):
            self.total += (losses * num_samples).sum()
            self.num_samples += num_samples.sum()
            return
        if losses.ndim == 0:
            self.total += losses * num_samples
        else:
            self.total += (losses.flatten(1).mean(1) if losses.ndim > 1 else losses).sum()
        self.num_samples += num_samples

    def compute(self) -> Tensor:
        """Return the mean, a scalar."""
        return self.total / self.num_samples
