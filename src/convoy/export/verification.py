"""Comparison of networks on real images: outputs, decisions and speed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from convoy.data.batches.collate import Batch
from convoy.export.formats import Run
from convoy.tasks.task import Task

_WARMUP_ROUNDS = 2
_FEWEST_ROUNDS = 5
_MOST_ROUNDS = 51
_SECONDS = 12.0
_TOLERANCE = 1e-4
"""Largest difference of an output without a decision, relative to 1 plus its absolute value."""


@dataclass
class Agreement:
    """Comparison of a network's outputs with those of a reference on the same images.

    Attributes:
        metrics: metrics of the task on the outputs.
        images: number of images.
        changed: number of images with another decision, with an output that isn't finite or, for a task without
            decisions, with an output that differs by more than the tolerance.
        max_difference: largest absolute difference of two outputs.
    """

    metrics: MetricCollection
    images: int = 0
    changed: int = 0
    max_difference: float = 0.0

    def add(self, task: Task, outputs: Tensor, reference: Tensor, targets: Any) -> None:
        """Count a batch: outputs and reference [B, ...], and the targets."""
        task.update_metrics(self.metrics, outputs, targets)
        difference = (outputs - reference).abs().nan_to_num(torch.inf).flatten(1)
        decisions, expected = task.decisions(outputs), task.decisions(reference)
        if decisions is None or expected is None:
            differs = (difference > _TOLERANCE * (1 + reference.abs().flatten(1))).any(1)
        else:
            differs = (decisions != expected).flatten(1).any(1) if decisions.ndim > 1 else decisions != expected
        self.images += len(outputs)
        self.changed += int((differs | ~outputs.isfinite().flatten(1).all(1)).sum())
        self.max_difference = max(self.max_difference, float(difference.max()))


def compare(
    runs: Mapping[str, Run], task: Task, batches: Iterable[Batch], num_images: int | None = None
) -> dict[str, Agreement]:
    """Compare each network with the first, in one pass over the images.

    Args:
        runs: networks by name.
        task: task that computes decisions and metrics.
        batches: one or more batches.
        num_images: number of images after which to stop; None for all.
    """
    found = {name: Agreement(task.metrics("val")) for name in runs}
    seen = 0
    for images, targets in batches:
        if num_images is not None:
            images, targets = images[: num_images - seen], targets[: num_images - seen]
        outputs = {name: run(images).float() for name, run in runs.items()}
        reference = next(iter(outputs.values()))
        for name, values in outputs.items():
            found[name].add(task, values, reference, targets)
        seen += len(images)
        if seen == num_images:
            break
    return found


@dataclass(frozen=True)
class Speeds:
    """Speeds of several networks, measured in alternation.

    Attributes:
        images_per_s: median over the rounds, by name.
        rounds: number of rounds; each network runs once per round.
    """

    images_per_s: dict[str, float]
    rounds: int


def measure_speeds(runs: Mapping[str, Run], images: Tensor) -> Speeds:
    """Return the images per second of each network for a batch [B, C, H, W] on the CPU.

    The networks run in alternation and in rotating order, so that other load on the machine affects all of them
    equally. There are as many rounds as fit in twelve seconds, from 5 to 51.
    """
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(_WARMUP_ROUNDS):
        for run in runs.values():
            run(images)
    begin, rounds = time.perf_counter(), 0
    while rounds < _FEWEST_ROUNDS or (rounds < _MOST_ROUNDS and time.perf_counter() - begin < _SECONDS):
        first = rounds % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            runs[name](images)
            seconds[name].append(time.perf_counter() - start)
        rounds += 1
    return Speeds({name: len(images) / statistics.median(taken) for name, taken in seconds.items()}, rounds)
