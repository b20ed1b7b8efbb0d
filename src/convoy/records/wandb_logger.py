"""Lightning logger for W&B that opens its record after the first batch and survives the end of W&B's process."""

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
    """Lightning logger for W&B whose errors never end a run.

    Lightning's WandbLogger opens its record before training. In addition, Slurm sends SIGTERM to every process of a
    step: W&B's process exits at once, while the run still finishes its step and writes a checkpoint. The first error
    that W&B raises is logged; later rows are only in metrics.csv.

    Args:
        record: W&B run that receives the rows.
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
        """Do nothing: the record is opened with the whole config."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self._is_lost:
            return
        run = self._record.run
        try:
            run.log({**metrics, "trainer/global_step": step})
        except Exception as error:
            self._is_lost = True
            lines = str(error).strip().splitlines() or [type(error).__name__]
            logging.getLogger("convoy.run").warning("W&B's record ends at step %s (%s)", step, lines[0])


class OpenRecord(pl.Callback):
    """Lightning callback that opens W&B's record after the first batch, which it would delay by a second.

    Must come before `MetricsLogger`.

    Args:
        record: W&B run to open, unless it is open already.
        recorder: Metrics logger, which leaves that time out of the training time.
    """

    def __init__(self, record: WandbRun, recorder: MetricsLogger) -> None:
        self._record, self._recorder = record, recorder

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        if not self._record.is_open:
            began = time.perf_counter()
            self._record.open()
            self._recorder.exclude(time.perf_counter() - began)
