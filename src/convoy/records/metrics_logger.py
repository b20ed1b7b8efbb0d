"""Lightning callback that writes metrics to every logger and measures the training time."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl

from convoy.runtime.devices import synchronize


class MetricsLogger(pl.Callback):
    """Lightning callback that logs training metrics every few steps, and val and test metrics after each evaluation.

    A training row is also logged before each validation. Its values are means over all ranks since the previous row.

    Args:
        every_steps: Optimizer steps between two training rows.
        steps_per_epoch: Optimizer steps per epoch.
        global_batch_size: Samples per optimizer step.

    Attributes:
        seconds: Wall time of training in s, including earlier starts, without validation and checkpoints.
        images_per_s: Training samples per second in this start; None before it is known.
        data_wait: Fraction of this start's training time in which this rank waited for batches; None before it is
            known.
        logging_share: Fraction of this start's training time in which loggers wrote rows; None before it is known.
    """

    def __init__(self, every_steps: int, steps_per_epoch: int, global_batch_size: int) -> None:
        self._every_steps = every_steps
        self._steps_per_epoch = steps_per_epoch
        self._global_batch_size = global_batch_size
        self._step = self._first_step = self._row_step = 0
        self._row_seconds = self._before = self.seconds = 0.0
        self._running_since: float | None = None
        self._is_timed = True
        self._waited = self._row_waited = self._waited_before = 0.0
        self._logged = self._logged_before = 0.0

    def pause_timing(self) -> None:
        """Stop measuring images/s, because something other than training slows the next steps."""
        self._is_timed = False

    def restart_timing(self, step: int) -> None:
        """Restart measuring images/s after `step` optimizer steps, and discard earlier measurements."""
        self._tick()
        self._is_timed = True
        self._first_step = self._row_step = step
        self._before = self._row_seconds = self.seconds
        self._waited_before = self._row_waited = self._waited
        self._logged_before = self._logged

    @property
    def logging_share(self) -> float | None:
        """Fraction of this start's training time in which loggers wrote rows; None before it is known."""
        seconds = self.seconds - self._before
        return (self._logged - self._logged_before) / seconds if self._is_timed and seconds else None

    @property
    def data_wait(self) -> float | None:
        """Fraction of this start's training time spent waiting for batches; None before it is known."""
        seconds = self.seconds - self._before
        return (self._waited - self._waited_before) / seconds if self._is_timed and seconds else None

    @property
    def images_per_s(self) -> float | None:
        """Training samples per second in this start; None before it is known."""
        if not self._is_timed:
            return None
        steps, seconds = self._step - self._first_step, self.seconds - self._before
        return steps * self._global_batch_size / seconds if steps > 0 and seconds else None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._step = self._first_step = self._row_step = trainer.global_step
        self._before = self._row_seconds = self.seconds

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._running_since = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self._step:
            return  # in the middle of an accumulation
        self._step = trainer.global_step
        if self._step % self._every_steps == 0 or trainer.is_last_batch:
            self._write_training_row(trainer, pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._write_training_row(trainer, pl_module)
        self._running_since = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._write_row(trainer, {name: value for name, value in pl_module.latest.items() if "val/" in name})

    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._step = trainer.global_step  # not set yet if a resumed run has only its test left
        values = {name: value for name, value in pl_module.latest.items() if "test/" in name}
        if values:
            self._write_row(trainer, values)

    def state_dict(self) -> dict[str, Any]:
        self._tick()
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = state_dict["seconds"]

    def _write_training_row(self, trainer: pl.Trainer, pl_module: Any) -> None:
        values = pl_module.running.take()
        if not values:
            return
        pl_module.raise_if_broken(values.pop("first_bad_step", None))
        synchronize(trainer.strategy.root_device)
        self._tick()
        steps, seconds = self._step - self._row_step, self.seconds - self._row_seconds
        self._waited = getattr(trainer.datamodule, "waited_s", 0.0)  # type: ignore[attr-defined]
        if steps and seconds and self._is_timed:
            values["images_per_s"] = steps * self._global_batch_size / seconds
            values["data_wait"] = (self._waited - self._row_waited) / seconds
        self._row_step, self._row_seconds, self._row_waited = self._step, self.seconds, self._waited
        pl_module.latest.update(values)
        began = time.perf_counter()
        self._write_row(trainer, {**values, "lr": pl_module.learning_rate(), "seconds": self.seconds})
        self._logged += time.perf_counter() - began

    def _write_row(self, trainer: pl.Trainer, values: dict[str, float]) -> None:
        if trainer.is_global_zero and values:
            row = {"epoch": round(self._step / self._steps_per_epoch, 4), **values}
            for logger in trainer.loggers:
                logger.log_metrics(row, step=self._step)

    def _tick(self) -> None:
        if self._running_since is not None:
            now = time.perf_counter()
            self.seconds += now - self._running_since
            self._running_since = now
