"""A run's rows to W&B, whose record is opened after the first batch and whose process may be gone before the run is."""

from __future__ import annotations

import logging
import time
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from convoy.records.metrics_logger import MetricsLogger
from convoy.records.wandb_run import WandbRun


class RecordLogger(Logger):
    """A logger for W&B without the power to end a run.

    Lightning's own opens its record before training. And Slurm's SIGTERM goes to every process of a step: W&B's leaves
    at once, while the run has a step to end and a checkpoint to write. What W&B raises from then on is told once; the
    rows stand in metrics.csv.

    Args:
        record: gets the rows.
    """

    def __init__(self, record: WandbRun) -> None:
        super().__init__()
        self._record = record
        self._is_lost = False

    @property
    def name(self) -> str:
        return "wandb"

    @property
    def version(self) -> None:
        return None

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the record begins with the whole config."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self._is_lost:
            return
        run = self._record.run
        try:
            run.log({**metrics, "trainer/global_step": step})
        except Exception as error:
            self._is_lost = True
            told = str(error).strip().splitlines() or [type(error).__name__]
            logging.getLogger("convoy.run").warning("W&B's record ends at step %s (%s)", step, told[0])


class OpenRecord(pl.Callback):
    """Opens W&B's record after the first batch, which it would put off by a second. Must come before the recorder.

    Args:
        record: is opened, unless something has opened it already.
        recorder: leaves that time out of the training's.
    """

    def __init__(self, record: WandbRun, recorder: MetricsLogger) -> None:
        self._record, self._recorder = record, recorder

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        if not self._record.is_open:
            began = time.perf_counter()
            self._record.open()
            self._recorder.leave_out(time.perf_counter() - began)
