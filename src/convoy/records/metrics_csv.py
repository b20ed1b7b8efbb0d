"""metrics.csv: one row for each set of metrics that is logged, always the same columns."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

COLUMNS = (
    "step",
    "epoch",
    "train/loss",
    "train/top1",
    "lr",
    "images_per_s",
    "data_wait",
    "seconds",
    "val/loss",
    "val/top1",
    "val/top5",
    "val/error",
    "test/loss",
    "test/top1",
    "test/top5",
    "test/error",
)


class MetricsFile(Logger):
    """Appends rows to a CSV file, each flushed as it is written.

    Args:
        path: the file; its first line holds `COLUMNS`.
        from_step: rows after this optimizer step are dropped first: a resumed run writes them again.
    """

    def __init__(self, path: Path, from_step: int | None = None) -> None:
        super().__init__()
        self._path = path
        self._from_step = from_step
        self._started = False

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The config stands in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if not self._started:
            self._start()
        row = {"step": step, **metrics}
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS, extrasaction="ignore").writerow(
                {name: _written(row[name]) for name in COLUMNS if row.get(name) is not None}
            )

    def _start(self) -> None:
        self._started = True
        rows = []
        if self._from_step is not None and self._path.is_file():
            with self._path.open(newline="", encoding="utf-8") as file:
                # A run that was killed may have left half a line: it has no step of its own.
                rows = [row for row in csv.DictReader(file) if (row.get("step") or "").isdigit()]
            rows = [row for row in rows if int(row["step"]) <= self._from_step and not row.get("test/top1")]
        partial = self._path.with_name(f".{self._path.name}.partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(self._path)


def _written(value: Any) -> Any:
    return f"{value:.9g}" if isinstance(value, float) else value
