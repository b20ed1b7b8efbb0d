"""Learning-rate schedules in optimizer steps with a linear warm-up.

Each schedule multiplies the learning rate of every parameter group by a factor. The warm-up rises from 1/warmup of the
rate at the first step to the full rate at the last warm-up step (Goyal et al. 2017, section 2.2). The schedules of this
module begin after it; `num_warmup_steps` is their `warmup_steps` in a run. `ramp` is the warm-up of any other schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def constant(
    optimizer: Optimizer,
    total_steps: int,
    warmup_steps: int = 0,
) -> LambdaLR:
    """Return a schedule that keeps the learning rate after the warm-up."""
    return LambdaLR(optimizer, _factor(lambda _: 1.0, warmup_steps, total_steps))


def cosine(
    optimizer: Optimizer,
    total_steps: int,
    warmup_steps: int = 0,
    final_fraction: float = 0.0,
) -> LambdaLR:
    """Return half a cosine from the rate to `final_fraction` of it (Loshchilov & Hutter 2016, equation 5)."""
    span = 1 - final_fraction
    shape = lambda done: final_fraction + span * (1 + math.cos(math.pi * done)) / 2  # noqa: E731
    return LambdaLR(optimizer, _factor(shape, warmup_steps, total_steps))


def linear(
    optimizer: Optimizer,
    total_steps: int,
    warmup_steps: int = 0,
    final_fraction: float = 0.0,
) -> LambdaLR:
    """Return a straight line from the rate to `final_fraction` of it."""
    shape = lambda done: 1 - (1 - final_fraction) * done  # noqa: E731
    return LambdaLR(optimizer, _factor(shape, warmup_steps, total_steps))


def polynomial(
    optimizer: Optimizer,
    total_steps: int,
    warmup_steps: int = 0,
    power: float = 2.0,
    final_fraction: float = 0.0,
) -> LambdaLR:
    """Return a decay to `final_fraction` of the rate by (1 - completed share)^power (Chen et al. 2016)."""
    shape = lambda done: final_fraction + (1 - final_fraction) * (1 - done) ** power  # noqa: E731
    return LambdaLR(optimizer, _factor(shape, warmup_steps, total_steps))


def cosine_restarts(
    optimizer: Optimizer,
    steps_per_epoch: int,
    cycle_epochs: float = 10,
    cycle_growth: int = 1,
    warmup_steps: int = 0,
    final_fraction: float = 0.0,
) -> LambdaLR:
    """Return half cosines that begin again at the full rate (Loshchilov & Hutter 2016, section 3).

    Args:
        optimizer: of the run.
        steps_per_epoch: optimizer steps of an epoch.
        cycle_epochs: length of the first cycle in epochs, above 0.
        cycle_growth: factor between the lengths of two cycles, at least 1.
        warmup_steps: warm-up before the first cycle.
        final_fraction: share of the rate at the end of a cycle.

    Raises:
        ValueError: A cycle has no length, or cycles become shorter.
    """
    if cycle_epochs <= 0 or cycle_growth < 1:
        raise ValueError(
            f"cycle_epochs must be above 0 and cycle_growth at least 1, not {cycle_epochs:g} and {cycle_growth:g}"
        )
    first = max(1, round(cycle_epochs * steps_per_epoch))

    def factor(step: int) -> float:
        if step < warmup_steps:
            return ramp(step, warmup_steps)
        done, length = step - warmup_steps, first
        if cycle_growth == 1:
            done %= length
        while done >= length:
            done, length = done - length, length * cycle_growth
        return final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * done / length)) / 2

    return LambdaLR(optimizer, factor)


def num_warmup_steps(total_steps: int, steps_per_epoch: int, epochs: float, steps: int | None) -> int:
    """Return the warm-up in steps. A warm-up in epochs is limited to a quarter of the run."""
    return min(round(epochs * steps_per_epoch), total_steps // 4) if steps is None else min(steps, total_steps)


def ramp(step: int, warmup: int) -> float:
    """Return the factor of the learning rate in a linear warm-up; 1 after it."""
    return (step + 1) / warmup if step < warmup else 1.0


def _factor(shape: Callable[[float], float], warmup: int, total_steps: int) -> Callable[[int], float]:
    """Return the factor per step: the linear warm-up, then `shape` of the completed share (0 to 1) of the rest."""

    def factor(step: int) -> float:
        if step < warmup:
            return ramp(step, warmup)
        return shape(min(1.0, (step - warmup) / max(1, total_steps - warmup)))

    return factor
