"""Writes the rows of metrics to every logger, and times the training."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch


class MetricsLogger(pl.Callback):
    """A row of training metrics every few steps and before each validation, a row of val and test metrics after.

    A training row's values are means since the row before, over all ranks.

    Args:
        every_steps: optimizer steps between two training rows.
        steps_per_epoch: of one epoch.
        global_batch_size: samples of one optimizer step.

    Attributes:
        seconds: wall time of training so far, validation and checkpoints left out, earlier starts counted in.
        images_per_s: training samples per second of that time, this start only.
        data_wait: share of that time, this start only, for which this rank waited for its batches; None before it is
            known.
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

    def hold_timing(self) -> None:
        """From now on steps are slowed by something else than training, and no images/s are told."""
        self._is_timed = False

    def leave_out(self, seconds: float) -> None:
        """Of the time since the last row, in which something else was done than training."""
        if self._running_since is not None:
            self._running_since += seconds

    def begin_timing(self, step: int) -> None:
        """Images/s count from now on, after `step` optimizer steps, with nothing of what came before."""
        self._tick()
        self._is_timed = True
        self._first_step = self._row_step = step
        self._before = self._row_seconds = self.seconds
        self._waited_before = self._row_waited = self._waited

    @property
    def data_wait(self) -> float | None:
        seconds = self.seconds - self._before
        return (self._waited - self._waited_before) / seconds if self._is_timed and seconds else None

    @property
    def images_per_s(self) -> float | None:
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
        self._step = trainer.global_step  # not yet known where a resumed run has only its test left
        self._write_row(trainer, {name: value for name, value in pl_module.latest.items() if "test/" in name})

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
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        self._tick()
        steps, seconds = self._step - self._row_step, self.seconds - self._row_seconds
        self._waited = getattr(trainer.datamodule, "waited_s", 0.0)  # type: ignore[attr-defined]
        if steps and seconds and self._is_timed:
            values["images_per_s"] = steps * self._global_batch_size / seconds
            values["data_wait"] = (self._waited - self._row_waited) / seconds
        self._row_step, self._row_seconds, self._row_waited = self._step, self.seconds, self._waited
        pl_module.latest.update(values)
        self._write_row(trainer, {**values, "lr": pl_module.learning_rate(), "seconds": self.seconds})

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
