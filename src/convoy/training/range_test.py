"""Learning-rate range test: the loss of a training whose rate grows exponentially from step to step (Smith 2015)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from convoy.config.faults import Fault, UserError
from convoy.config.run_length import run_length
from convoy.config.schema import Config, DebugConfig
from convoy.records.console import Console
from convoy.records.run_context import RunContext
from convoy.runs.layout import RunFolder
from convoy.training.machine import check_with_torch, choose_machine
from convoy.training.out_of_memory_errors import is_out_of_memory
from convoy.training.run_parts import build_module, open_data
from convoy.training.trainer import build_trainer

SMOOTHING = 0.9
"""Weight of the past in the smoothed loss."""

DIVERGED = 4.0
"""The test ends where the smoothed loss is this many times its minimum."""

_EDGE = 5
"""First steps whose smoothed loss is dominated by few batches; no minimum is searched in them."""


@dataclass(frozen=True)
class RangeTest:
    """Losses of a range test.

    Attributes:
        rates: learning rate of each step.
        losses: training loss of each step.
        smoothed: exponential averages of the losses, corrected for their start as in Adam.
        diverged: whether the test ended before its last step.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    diverged: bool

    @property
    def lowest_rate(self) -> float:
        """Learning rate with the lowest smoothed loss."""
        return self.rates[self._lowest]

    @property
    def suggestion(self) -> float | None:
        """Learning rate at which the smoothed loss falls fastest; None if it never falls below its first values."""
        lowest = self._lowest
        if lowest <= _EDGE or self.smoothed[lowest] > 0.95 * self.smoothed[_EDGE]:
            return None
        slopes = [self.smoothed[step + 1] - self.smoothed[step - 1] for step in range(_EDGE, lowest)]
        return self.rates[_EDGE + min(range(len(slopes)), key=slopes.__getitem__)]

    @property
    def _lowest(self) -> int:
        found = range(min(_EDGE, len(self.smoothed) - 1), len(self.smoothed))
        return min(found, key=self.smoothed.__getitem__)


def smoothed(losses: Sequence[float]) -> list[float]:
    """Return exponential averages of losses, corrected for their start."""
    found, average = [], 0.0
    for step, loss in enumerate(losses, 1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        found.append(average / (1 - SMOOTHING**step))
    return found


def rates_between(lowest: float, highest: float, steps: int) -> list[float]:
    """Return `steps` rates from `lowest` to `highest` with a constant ratio."""
    return [lowest * (highest / lowest) ** (step / (steps - 1)) for step in range(steps)]


def range_test(config: Config, lowest: float, highest: float, steps: int) -> RangeTest:
    """Train with a growing learning rate on one device and return the losses. Nothing is written.

    Args:
        config: checked config of a run.
        lowest: learning rate of the first step.
        highest: learning rate of the last step.
        steps: optimizer steps.

    Raises:
        UserError: the run can't be trained here, or needs several processes.
    """
    trainer = replace(config.trainer, max_epochs=None, max_steps=steps, max_time=None)
    config = replace(config, trainer=trainer, debug=DebugConfig())
    check_with_torch(config)
    machine = choose_machine(config)
    if machine.devices.world_size > 1:
        key = "processes" if machine.devices.accelerator == "cpu" else "gpus"
        count = machine.devices.world_size
        raise UserError(Fault(f"trainer.{key}", "a range test uses one device", f"write trainer.{key}=1", str(count)))
    config, data = machine.config, open_data(machine)
    length = run_length(None, steps, data.steps_per_epoch(1))
    module = build_module(config, data)
    console = Console(speaking=False)
    context = RunContext(config, machine.devices, machine.sizes, length, RunFolder(Path.cwd()), console, None, True)
    sweep = _Sweep(rates_between(lowest, highest, steps))
    built = build_trainer(context, [], [sweep])
    built.limit_val_batches = 0
    try:
        built.fit(module, datamodule=data)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        rule = f"does not fit the GPU ({str(error).splitlines()[0]})"
        raise UserError(
            Fault("trainer.micro_batch_size", rule, "write a smaller one", str(machine.sizes.micro_batch_size))
        ) from error
    count = len(sweep.losses)
    return RangeTest(
        tuple(sweep.rates[:count]), tuple(sweep.losses), tuple(smoothed(sweep.losses)), diverged=count < steps
    )


class _Sweep(pl.Callback):
    """Lightning callback that sets the rate of each step and keeps its loss."""

    def __init__(self, rates: Sequence[float]) -> None:
        self.rates = rates
        self.losses: list[float] = []
        self._parts: list[torch.Tensor] = []
        self._shares: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        # Groups keep their ratio, for example of layer decay.
        groups = trainer.optimizers[0].param_groups
        largest = max(group["lr"] for group in groups)
        self._shares = [group["lr"] / largest for group in groups]
        self._set(trainer, 0)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._parts.append(torch.stack(list(pl_module.losses.values())).sum())
        if trainer.global_step == len(self.losses):
            return  # in the middle of an accumulation
        loss = float(torch.stack(self._parts).mean())
        self._parts = []
        if not math.isfinite(loss):
            trainer.should_stop = True
            return
        self.losses.append(loss)
        averages = smoothed(self.losses)
        if len(averages) > _EDGE and averages[-1] > DIVERGED * min(averages):
            trainer.should_stop = True
        elif len(self.losses) < len(self.rates):
            self._set(trainer, len(self.losses))

    def _set(self, trainer: pl.Trainer, step: int) -> None:
        for group, share in zip(trainer.optimizers[0].param_groups, self._shares, strict=True):
            group["lr"] = self.rates[step] * share
