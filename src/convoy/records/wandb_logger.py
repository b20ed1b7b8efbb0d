"""Lightning logger for W&B, whose record is opened after the first batch."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from convoy.records.wandb_record import WandbRecord


class RecordLogger(Logger):
    """Lightning logger for W&B.

    Args:
        record: W&B record that receives the rows.
    """

    def __init__(self, record: WandbRecord) -> None:
        super().__init__()
        self._record = record

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
        self._record.log({**metrics, "trainer/global_step": step})


class OpenRecord(pl.Callback):
    """Lightning callback that opens W&B's record after the first batch: a run that fails before leaves no record.

    Args:
        record: W&B record to open, unless it is open already.
    """

    def __init__(self, record: WandbRecord) -> None:
        self._record = record

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._record.open()
