"""Whether a network gives what another gives, on real images, and how fast each is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from convoy.export.formats import Run

_WARMUP_ROUNDS = 2
_FEWEST_ROUNDS = 5
_MOST_ROUNDS = 51
_SECONDS = 12.0


@dataclass
class Agreement:
    """A network's logits held against those of another on the same images.

    Attributes:
        images: how many.
        correct: of them, by their labels.
        changed: of them, whose most probable class is another; those with a logit that isn't finite count too.
        max_difference: the largest absolute difference of two logits.
    """

    images: int = 0
    correct: int = 0
    changed: int = 0
    max_difference: float = 0.0

    def add(self, logits: Tensor, reference: Tensor, labels: Tensor) -> None:
        """Count a batch: logits and reference [B, num_classes], labels [B]."""
        classes = logits.argmax(1)
        finite = logits.isfinite().all(1)
        self.images += len(labels)
        self.correct += int((classes == labels).sum())
        self.changed += int(((classes != reference.argmax(1)) | ~finite).sum())
        self.max_difference = max(self.max_difference, float((logits - reference).abs().nan_to_num(torch.inf).max()))

    @property
    def top1(self) -> float:
        """Share of the images whose most probable class is theirs."""
        return self.correct / self.images


def compare(
    runs: Mapping[str, Run], batches: Iterable[tuple[Tensor, Tensor]], num_images: int | None = None
) -> dict[str, Agreement]:
    """Hold each against the first, in one pass over the images.

    Args:
        runs: by name.
        batches: images [B, C, S, S] and labels [B], at least one.
        num_images: with how many to stop; None: all.
    """
    found = {name: Agreement() for name in runs}
    seen = 0
    for images, labels in batches:
        if num_images is not None:
            images, labels = images[: num_images - seen], labels[: num_images - seen]
        logits = {name: run(images).float() for name, run in runs.items()}
        reference = next(iter(logits.values()))
        for name, values in logits.items():
            found[name].add(values, reference, labels)
        seen += len(labels)
        if seen == num_images:
            break
    return found


@dataclass(frozen=True)
class Speeds:
    """Measured side by side.

    Attributes:
        images_per_s: the median over the rounds, by name.
        rounds: in each of which everyone had a turn.
    """

    images_per_s: dict[str, float]
    rounds: int


def measure_speeds(runs: Mapping[str, Run], images: Tensor) -> Speeds:
    """Images a second of each on one batch [B, C, S, S] on the CPU.

    Rounds in which each has a turn, and starts in turn, so that whatever else the machine does meets all alike; as
    many as fit in twelve seconds, 5 to 51.
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
