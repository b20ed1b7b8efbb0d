"""Ends a rank that hangs: Python's own timer prints the stacks of all threads and leaves.

The timer is a thread of the interpreter's that needs no lock of Python's, so it fires while the main thread is
stuck in a collective operation, a loader or a driver.
"""

from __future__ import annotations

import faulthandler
import os
import time
from typing import Any

import pytorch_lightning as pl

HANG_S = "CONVOY_HANG_S"
"""Seconds without a step after which a rank of a job is taken for hung; set by `convoy slurm run`."""

_REARM_EVERY_S = 1.0


class Watchdog(pl.Callback):
    """Exits with code 1 after `seconds` without a batch of training, validation or test.

    Args:
        seconds: the longest that a batch, a checkpoint or the way to the first batch may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._armed_at = float("-inf")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._arm()

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        self._arm()

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        self._arm()

    def on_test_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        self._arm()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        faulthandler.cancel_dump_traceback_later()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        faulthandler.cancel_dump_traceback_later()

    def _arm(self) -> None:
        now = time.monotonic()
        if now - self._armed_at >= min(_REARM_EVERY_S, self._seconds / 4):
            self._armed_at = now
            faulthandler.dump_traceback_later(self._seconds, exit=True)


def watchdog() -> list[pl.Callback]:
    """The watchdog of a job's rank; none elsewhere, where one may stop a run in a debugger for an hour."""
    seconds = os.environ.get(HANG_S)
    return [Watchdog(float(seconds))] if seconds else []
