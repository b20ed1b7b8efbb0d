"""Lightning callback that ends a run in good order after a stop signal, or when its time is up."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from convoy.records.console import Console
from convoy.runtime import stop_signals
from convoy.runtime.rank_store import RankStore
from convoy.runtime.stop_signals import StopSignal
from convoy.training.checkpoints import Checkpoints
from convoy.training.stop_agreement import StopAgreement

_TIME_IS_UP = 1
"""Code of an end without a signal. That of a signal is its number + 1, so that the highest of all ranks is a signal."""


class StoppedError(Exception):
    """A signal ended the run after a whole step, and last.ckpt holds that step.

    Attributes:
        signal: its number.
        step: optimizer steps done.
    """

    def __init__(self, number: int, step: int) -> None:
        self.signal, self.step = number, step
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}")


class GracefulStop(Checkpoint):
    """Handlers only set a flag; all ranks agree on it after an optimizer step, save, and leave together.

    A validation, which belongs to the epoch before it, is finished first. A second signal raises `StopSignal` at once;
    a second SIGUSR1 says no more than the first. Must be the last of the callbacks, since it saves the others' states;
    see `Checkpoints`, whose checkpoint at the end of an epoch records whether the run ends with it.

    Args:
        checkpoints: writes the checkpoint.
        console: of the run.
        max_seconds: after which training ends with a whole validation and test, as if it were done.
        store: of the ranks, through which they agree.
    """

    def __init__(self, checkpoints: Checkpoints, console: Console, max_seconds: float | None, store: RankStore) -> None:
        self._checkpoints, self._console = checkpoints, console
        self._agreement = StopAgreement(store)
        self._max_seconds = max_seconds
        self._started, self._elapsed_before = time.monotonic(), 0.0
        self._received = 0
        self._is_announced = False
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.monotonic()
        self._agreement.start(trainer.global_rank, trainer.world_size)
        self._previous = stop_signals.install(self._receive)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches or trainer.is_last_batch:
            return  # at an epoch's last batch the validation comes first
        code = self._agreement.at_step(self._code())
        if code == _TIME_IS_UP:
            trainer.should_stop = True
        elif code:
            self._checkpoints.save(trainer)
            raise StoppedError(code - 1, trainer.global_step)

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        if self._received and not self._is_announced:
            self._is_announced = True
            name = signal.Signals(self._received).name
            self._console.say(f"{name} received: the run stops after this validation; a second one ends it at once")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        code = self._agreement.at_epoch_end(self._code())
        if code == _TIME_IS_UP:
            trainer.should_stop = True
        is_signal = code > _TIME_IS_UP
        self._checkpoints.end_epoch(trainer, pl_module, is_left=is_signal)
        if is_signal:
            raise StoppedError(code - 1, trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore()
        if self._received:  # after the last time that the ranks agreed
            raise StopSignal(self._received)

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
        if not stop_signals.counts() or (number == signal.SIGUSR1 and self._received):
            return
        if not self._received:
            self._received = number
            return
        stop_signals.end_at_once()
        raise StopSignal(number)

    def _restore(self) -> None:
        stop_signals.restore(self._previous)
        self._previous = {}

    def _code(self) -> int:
        """Return the code of a signal that this rank received, or of the time; 0 to continue."""
        if self._received:
            return self._received + 1
        is_over = self._max_seconds is not None and self._elapsed() >= self._max_seconds
        return _TIME_IS_UP if is_over else 0
