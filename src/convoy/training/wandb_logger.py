"""Rows of metrics to W&B, whose own process may be gone before the run is."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only


class RecordLogger(WandbLogger):
    """Lightning's logger for W&B, without the power to end a run.

    Slurm's SIGTERM goes to every process of a step, and W&B's leaves at once, while the run has a step to end and
    a checkpoint to write. What W&B raises from then on is told once; the rows stand in metrics.csv.
    """

    _lost = False

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self._lost:
            return
        try:
            super().log_metrics(dict(metrics), step)
        except Exception as error:
            self._lost = True
            told = str(error).strip().splitlines() or [type(error).__name__]
            logging.getLogger("convoy.run").warning("W&B's record ends at step %s (%s)", step, told[0])
