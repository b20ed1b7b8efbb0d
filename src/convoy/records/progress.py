"""Progress of training: a live bar on a terminal, plain lines in a log file or batch job."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from convoy.records.console import Console
from convoy.records.metrics_logger import MetricsLogger
from convoy.records.progress_bars import NotebookBar, ProgressBar, TerminalBar
from convoy.runs.records import duration
from convoy.tasks.task import Task

_LINE_EVERY_S = 30.0
_REFRESH_EVERY_S = 0.25


class ProgressLines(pl.Callback):
    """Lightning callback that prints a line per epoch and, in between, a bar or a line every 30 s without a terminal.

    A line has the training losses and metrics and, after validation, val/loss and the monitored metric. For
    classification it fits 80 columns.

    Args:
        terminal: Console to print to.
        recorder: Metrics logger, which measures images/s.
        total_steps: Optimizer steps of the run; None if only a time limit ends it.
        steps_per_epoch: Optimizer steps per epoch.
    """

    def __init__(
        self, terminal: Console, recorder: MetricsLogger, total_steps: int | None, steps_per_epoch: int
    ) -> None:
        self._terminal = terminal
        self._recorder = recorder
        self._total_steps = total_steps
        self._steps_per_epoch = steps_per_epoch
        self._bar: ProgressBar | None = None
        self._started = self._shown = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = self._shown = time.monotonic()
        self._first_step = trainer.global_step
        if self._terminal.is_live:
            self._bar = TerminalBar(self._terminal.console, self._total_steps)
        elif self._terminal.is_notebook:
            self._bar = NotebookBar(self._total_steps)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        now = time.monotonic()
        if now - self._shown < (_REFRESH_EVERY_S if self._bar else _LINE_EVERY_S):
            return
        self._shown = now
        step = trainer.global_step
        # Reading the sums synchronizes with the device; at this rate the cost is negligible.
        values = {**pl_module.latest, **pl_module.running.peek()}
        shown = [
            f"loss {values['train/loss']:.3f}" if "train/loss" in values else "",
            *(f"{name.removeprefix('train/')} {text}" for name, text in _training_texts(pl_module.task, values)),
            self._speed(),
            self._left(step),
        ]
        where = self._where(step)
        text = "  ".join(part for part in shown if part)
        if self._bar is not None:
            self._bar.update(step, where, text)
        else:
            self._terminal.say(f"{where}  step {step}  {text}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        values, step = pl_module.latest, trainer.global_step
        parts = [self._where(step)]
        if "train/loss" in values:
            texts = " ".join(text for _, text in _training_texts(pl_module.task, values))
            parts.append(f"train {values['train/loss']:.3f} {texts}".rstrip())
        if "val/loss" in values:
            monitor = pl_module.task.monitor
            best = "" if monitor == "val/loss" else f" {pl_module.task.text(monitor, values.get(monitor))}"
            parts.append(f"val {values['val/loss']:.3f}{best}")
        parts += [self._speed(), self._left(step)]
        self._terminal.say("  ".join(part for part in parts if part))
        self._shown = time.monotonic()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _where(self, step: int) -> str:
        """Return the current epoch and the number of epochs, such as "epoch 2/10"."""
        epoch = max(1, -(-step // self._steps_per_epoch))
        if self._total_steps is None:
            return f"epoch {epoch}"
        return f"epoch {epoch}/{-(-self._total_steps // self._steps_per_epoch)}"

    def _speed(self) -> str:
        speed = self._recorder.images_per_s
        return f"{speed:,.0f} img/s" if speed else ""

    def _left(self, step: int) -> str:
        done = step - self._first_step
        if self._total_steps is None or done <= 0 or step >= self._total_steps:
            return ""
        seconds = (time.monotonic() - self._started) / done * (self._total_steps - step)
        return f"{duration(seconds)} left"


def _training_texts(task: Task, values: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return the names and formatted values of the training metrics that are fractions."""
    names = [name for name in values if name.startswith("train/") and name.removeprefix("train/") in task.percent]
    return [(name, f"{values[name]:.1%}") for name in names]
