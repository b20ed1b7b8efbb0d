"""Lightning callbacks of the `debug` group: the first loss, and the loss of a batch that is repeated."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from convoy.records.console import Console

FAR_OFF = 1.5
"""Factor between the first loss and that of an uninformed network from which a hint is printed."""


class FirstLoss(pl.Callback):
    """Lightning callback that compares the first loss of a run with that of outputs without information.

    Args:
        console: of the run.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx > 0:
            return
        # The first of several losses is that of the network's main output.
        first = float(next(iter(pl_module.losses.values())))
        expected = pl_module.task.uninformed_loss(pl_module.device)
        self._console.say(first_loss_text(first, expected))


def first_loss_text(first: float, expected: float | None) -> str:
    """Return a line about the first loss.

    Args:
        first: loss of the first micro batch.
        expected: loss of outputs without information; None if it is not known.
    """
    if expected is None:
        return f"debug   first loss {first:.4g}"
    text = f"debug   first loss {first:.4g}, that of a network without information {expected:.4g}"
    if expected / FAR_OFF <= first <= expected * FAR_OFF:
        return text
    if first < expected:
        return f"{text}: far below; trained weights, or targets that can be read off the images?"
    return f"{text}: far above; check data.mean and data.std, the initial weights of the last layer, and the targets"


class Overfit(pl.Callback):
    """Lightning callback that ends training when the loss of the repeated batch is below a value.

    Args:
        below: loss that must be reached.
        console: of the run.

    Attributes:
        failed: whether training ended above the value.
    """

    def __init__(self, below: float, console: Console) -> None:
        self._below, self._console = below, console
        self._first: float | None = None
        self._last = float("inf")
        self.failed = False

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss: Tensor = trainer.strategy.reduce(next(iter(pl_module.losses.values())), reduce_op="mean")
        self._last = float(loss)
        self._first = self._last if self._first is None else self._first
        if self._last < self._below and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._first is None:
            return
        self.failed = self._last >= self._below
        change = f"the loss of one batch went from {self._first:.4g} to {self._last:.4g} in {trainer.global_step} steps"
        if self.failed:
            self._console.say(
                f"overfit failed: {change}, not below {self._below:g}. Vary optimizer.lr by a factor of 10 both ways; "
                "raise trainer.max_steps if the loss still falls; otherwise check targets, loss and network",
                style="bold red",
            )
        else:
            self._console.say(f"overfit passed: {change}; network, loss, targets and optimizer fit together")
