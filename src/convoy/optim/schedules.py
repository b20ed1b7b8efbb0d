"""Schedules in optimizer steps with a linear warm-up, which torch has only by chaining two schedulers.

Each multiplies the learning rate of every parameter group by a factor of the step. The warm-up rises from
1/warmup of the rate at the first step to the whole at the last warm-up step (Goyal et al. 2017, section 2.2).
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
    """The rate as it is, after the warm-up."""
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
    """Half a cosine from the rate to final_fraction of it (Loshchilov & Hutter 2016, equation 5, one cycle)."""
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
    """A straight line from the rate to final_fraction of it."""
    warmup = _warmup(total_steps, steps_per_epoch, warmup_epochs, warmup_steps)
    shape = lambda done: 1 - (1 - final_fraction) * done  # noqa: E731
    return LambdaLR(optimizer, _factor(shape, warmup, total_steps))


def _warmup(total_steps: int, steps_per_epoch: int, epochs: float, steps: int | None) -> int:
    """Warm-up in steps. Given in epochs, never more than a quarter of a short run, which else would only warm up."""
    return min(round(epochs * steps_per_epoch), total_steps // 4) if steps is None else min(steps, total_steps)


def _factor(shape: Callable[[float], float], warmup: int, total_steps: int) -> Callable[[int], float]:
    """The factor at a step: the warm-up's line, then `shape` of the share of the rest that is done (0..1)."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return shape(min(1.0, (step - warmup) / max(1, total_steps - warmup)))

    return factor
