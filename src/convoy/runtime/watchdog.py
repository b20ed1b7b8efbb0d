"""Lightning callback that ends a rank that hangs, and prints the stacks of all its threads.

It uses the timer of `faulthandler`, a thread that does not need the GIL, so it fires even while the main thread is
stuck in a collective operation, a data loader or a driver.
"""

from __future__ import annotations

import faulthandler
import os
import time
from typing import Any

import pytorch_lightning as pl

from convoy.runtime.rank_watch import HANG_S, WATCH

_REARM_EVERY_S = 1.0


class Watchdog(pl.Callback):
    """Lightning callback that exits with code 1 after `seconds` without a batch of training, validation or test.

    It does nothing if `rank_watch` monitors the ranks.

    Args:
        seconds: Longest time that a batch, a checkpoint or the start up to the first batch may take.
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
        if WATCH.has_ranks:
            return
        now = time.monotonic()
        if now - self._armed_at >= min(_REARM_EVERY_S, self._seconds / 4):
            self._armed_at = now
            faulthandler.dump_traceback_later(self._seconds, exit=True)


def watchdog() -> list[pl.Callback]:
    """Return the watchdog for a rank of a job, where `convoy slurm run` sets CONVOY_HANG_S; elsewhere empty."""
    seconds = os.environ.get(HANG_S)
    return [Watchdog(float(seconds))] if seconds else []
