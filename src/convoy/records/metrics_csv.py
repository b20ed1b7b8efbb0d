"""Lightning logger that writes metrics.csv, with one row per set of metrics."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from convoy.runs.records import read_metrics
from convoy.runs.whole_files import append_text, replace_text

_FIRST_COLUMNS = ("step", "epoch")


class MetricsFile(Logger):
    """Lightning logger that appends rows to a CSV file, each as soon as it is logged.

    A metric that is logged for the first time adds a column; the file is then replaced atomically.

    Args:
        path: Path of the file.
        from_step: Optimizer step that a resumed run continues from; later rows are dropped, since they are written
            again. None for a new run.
    """

    def __init__(self, path: Path, from_step: int | None = None) -> None:
        super().__init__()
        self._path = path
        self._from_step = from_step
        self._columns: list[str] = []

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the config is in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = {"step": step, **{name: value for name, value in metrics.items() if value is not None}}
        if not self._columns:
            rows = self._kept_rows()
            self._columns = list(dict.fromkeys((*_FIRST_COLUMNS, *(rows[0] if rows else ()))))
            self._write_whole(rows)
        if added := [name for name in row if name not in self._columns]:
            rows = read_metrics(self._path)
            self._columns += added
            self._write_whole(rows)
        written = {name: _written(value) for name, value in row.items()}
        append_text(self._path, self._text([written]))

    def _kept_rows(self) -> list[dict[str, str]]:
        """Return the rows up to the step that the run resumes from, without those of a test."""
        if self._from_step is None:
            return []
        return [row for row in read_metrics(self._path) if int(row["step"]) <= self._from_step and not _is_test(row)]

    def _write_whole(self, rows: Sequence[Mapping[str, str]]) -> None:
        header = dict(zip(self._columns, self._columns, strict=True))
        replace_text(self._path, self._text([header, *rows]))

    def _text(self, rows: Sequence[Mapping[str, Any]]) -> str:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns, extrasaction="ignore").writerows(rows)
        return text.getvalue()


def _is_test(row: Mapping[str, str]) -> bool:
    return any(value for name, value in row.items() if name.startswith("test/"))


def _written(value: Any) -> Any:
    return f"{value:.9g}" if isinstance(value, float) else value
