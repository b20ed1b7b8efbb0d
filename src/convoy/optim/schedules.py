"""Learning-rate schedules in optimizer steps with a linear warm-up.

Each schedule multiplies the learning rate of every parameter group by a factor. The warm-up rises from 1/warmup of the
rate at the first step to the full rate at the last warm-up step (Goyal et al. 2017, section 2.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def constant(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float = 0,
    warmup_steps: int | None = None,
) -> LambdaLR:
    """Return a schedule that keeps the learning rate after the warm-up."""
    warmup = _warmup(total_steps, steps_per_epoch, warmup_epochs, warmup_steps)
    return LambdaLR(optimizer, _factor(lambda _: 1.0, warmup, total_steps))


def cosine(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float = 1,
    warmup_steps: int | None = None,
    final_fraction: float = 0.0,
) -> LambdaLR:
    """Return half a cosine from the rate to `final_fraction` of it (Loshchilov & Hutter 2016, equation 5)."""
    warmup = _warmup(total_steps, steps_per_epoch, warmup_epochs, warmup_steps)
    span = 1 - final_fraction
    shape = lambda done: final_fraction + span * (1 + math.cos(math.pi * done)) / 2  # noqa: E731
    return LambdaLR(optimizer, _factor(shape, warmup, total_steps))


def linear(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float = 1,
    warmup_steps: int | None = None,
    final_fraction: float = 0.0,
) -> LambdaLR:
    """Return a straight line from the rate to `final_fraction` of it."""
    warmup = _warmup(total_steps, steps_per_epoch, warmup_epochs, warmup_steps)
    shape = lambda done: 1 - (1 - final_fraction) * done  # noqa: E731
    return LambdaLR(optimizer, _factor(shape, warmup, total_steps))


def _warmup(total_steps: int, steps_per_epoch: int, epochs: float, steps: int | None) -> int:
    """Return the warm-up in steps. A warm-up in epochs is limited to a quarter of the run."""
    return min(round(epochs * steps_per_epoch), total_steps // 4) if steps is None else min(steps, total_steps)


def _factor(shape: Callable[[float], float], warmup: int, total_steps: int) -> Callable[[int], float]:
    """Return the factor per step: the linear warm-up, then `shape` of the completed share (0 to 1) of the rest."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return shape(min(1.0, (step - warmup) / max(1, total_steps - warmup)))

    return factor
