"""Ends a run early and in good order: Ctrl-C, SIGTERM, Slurm's warning, and the time that it was given."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch

from convoy.training.checkpoints import Checkpoints

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""SIGUSR1 is what the scripts of slurm/ have Slurm send ahead of a time limit."""

_TIME_IS_UP = 1
"""A number below every signal that is caught, so that the highest of all ranks is a signal if there is one."""


class StoppedError(Exception):
    """A signal ended the run after a whole step, and last.ckpt holds that step.

    Attributes:
        signal: its number.
        step: optimizer steps done.
    """

    def __init__(self, number: int, step: int) -> None:
        self.signal, self.step = number, step
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}")


class GracefulStop(pl.Callback):
    """Handlers only set a flag; all ranks agree on it after an optimizer step, save, and leave together.

    A second signal falls through to what was there before: a second Ctrl-C ends at once. A second SIGUSR1 says
    no more than the first. Must be the last of the callbacks, since it saves the others' states.

    Args:
        checkpoints: writes the checkpoint.
        max_seconds: after which training ends with a whole validation and test, as if it were done.
    """

    def __init__(self, checkpoints: Checkpoints, max_seconds: float | None) -> None:
        self._checkpoints = checkpoints
        self._max_seconds = max_seconds
        self._started, self._elapsed_before = time.monotonic(), 0.0
        self._received = 0
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._receive)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches or trainer.is_last_batch:
            return  # at an epoch's last batch the validation comes first
        reason = self._agreed(trainer)
        if reason == _TIME_IS_UP:
            trainer.should_stop = True
        elif reason:
            self._checkpoints.save(trainer)
            raise StoppedError(reason, trainer.global_step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        reason = self._agreed(trainer)
        if reason == _TIME_IS_UP:
            trainer.should_stop = True
        elif reason:
            raise StoppedError(reason, trainer.global_step)  # the epoch's checkpoint has been written

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._restore()

    def state_dict(self) -> dict[str, Any]:
        return {"elapsed_s": self._elapsed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._elapsed_before = state_dict["elapsed_s"]

    def _elapsed(self) -> float:
        """Wall time of training with its validations, in seconds, earlier starts counted in."""
        return self._elapsed_before + time.monotonic() - self._started

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        if number != signal.SIGUSR1:
            signal.signal(number, self._previous[number])

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _agreed(self, trainer: pl.Trainer) -> int:
        """Return the signal that any rank received, or that the time is up; the same on all ranks."""
        reason = self._received
        if not reason and self._max_seconds is not None and self._elapsed() >= self._max_seconds:
            reason = _TIME_IS_UP
        if trainer.world_size == 1:
            return reason
        code = torch.tensor(float(reason), device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(code, reduce_op="max"))
