"""Bootstrap intervals of metrics: how much they depend on the images that happen to be in a split.

A metric is computed for many samples of the split's images, drawn with replacement and as large as the split. The
interval is that of the percentiles (Efron & Tibshirani 1993: "An introduction to the bootstrap", chapter 13). It does
not include the variation between trainings with different seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from convoy.tasks.task import Task

LEVEL = 0.95
"""Share of the samples whose metric is in the interval."""
_SEED = 0


def bootstrap_intervals(
    task: Task, new_metrics: Callable[[], MetricCollection], outputs: Tensor, targets: Tensor, resamples: int
) -> dict[str, tuple[float, float]]:
    """Return the lower and the upper end of the interval of each metric by name.

    Samples for which a metric is not a number are left out. The same samples are drawn in every call.

    Args:
        task: task of the metrics.
        new_metrics: function that returns new metrics.
        outputs: outputs of the network, [N, ...].
        targets: targets of the images, [N, ...].
        resamples: number of samples.
    """
    generator = torch.Generator().manual_seed(_SEED)
    found: dict[str, list[float]] = {}
    metrics = new_metrics()
    for _ in range(resamples):
        drawn = torch.randint(len(targets), (len(targets),), generator=generator)
        metrics.reset()
        task.update_metrics(metrics, outputs[drawn], targets[drawn])
        for name, value in task.compute(metrics).items():
            found.setdefault(name, []).append(value)
    tail = (1 - LEVEL) / 2
    return {name: _percentiles(values, tail) for name, values in found.items()}


def _percentiles(values: list[float], tail: float) -> tuple[float, float]:
    finite = torch.tensor([value for value in values if not math.isnan(value)], dtype=torch.float64)
    if not len(finite):
        return math.nan, math.nan
    low, high = torch.quantile(finite, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high
