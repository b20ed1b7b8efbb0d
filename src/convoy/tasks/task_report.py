"""Results of a test beyond scalar metrics: values and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class ReportTable:
    """A table of a test, written as `<name>.csv` and to W&B.

    Attributes:
        columns: column titles; the first one is the title of the row names.
        rows: cells, each row beginning with its name.
        kind: `matrix` if rows are true classes and columns predicted ones; `calibration` for bins of the confidence
            (lower and upper end, images, mean confidence, accuracy); else `rows`. W&B and the page of the run draw the
            first two as charts.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    kind: Literal["rows", "matrix", "calibration"] = "rows"


@dataclass(frozen=True)
class Report:
    """Results of a test beyond scalar metrics.

    Attributes:
        values: entries of summary.json, such as the accuracy per class.
        tables: tables by name.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, ReportTable] = field(default_factory=dict)
