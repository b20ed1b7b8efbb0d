"""Mean and standard deviation over the folds of a sweep, printed and as folds.csv."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich.table import Table

from convoy.runs.records import metric_text
from convoy.runs.whole_files import encoded, replace_shared
from convoy.search.sweeps.sweep_table import Point, metrics_of, values_of

FOLD = "data.fold"


@dataclass(frozen=True)
class Folds:
    """Completed points of a sweep that differ only by `data.fold`.

    Attributes:
        chosen: values of the other keys of the sweep.
        num_folds: number of completed points.
        mean: mean of each metric over the folds.
        std: standard deviation of each metric, with n - 1 in the denominator; NaN for one fold.
        percent: names of the metrics that are printed in percent.
    """

    chosen: dict[str, str]
    num_folds: int
    mean: dict[str, float]
    std: dict[str, float]
    percent: Sequence[str]


def folds_of(keys: Sequence[str], done: Sequence[Point]) -> list[Folds]:
    """Return the statistics per combination of the other keys; empty if the sweep doesn't vary `data.fold`."""
    if FOLD not in keys:
        return []
    names = metrics_of(done)
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    others = [key for key in keys if key != FOLD]
    for point in done:
        if point.exit_code == 0:
            values = values_of(point.overrides)
            groups.setdefault(tuple(values[key] for key in others), []).append(point.summary())
    found = []
    for chosen, summaries in groups.items():
        by_name = {name: [summary.get(name) for summary in summaries] for name in names}
        known: dict[str, list[Any]] = {
            name: numbers for name, numbers in by_name.items() if all(map(_is_number, numbers))
        }
        found.append(
            Folds(
                dict(zip(others, chosen, strict=True)),
                len(summaries),
                {name: statistics.fmean(numbers) for name, numbers in known.items()},
                {name: statistics.stdev(numbers) if len(numbers) > 1 else math.nan for name, numbers in known.items()},
                summaries[0].get("percent", ()),
            )
        )
    return found


def fold_table(folds: Sequence[Folds]) -> Table:
    """Return the printed table, with one row per combination of the other keys."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = _names(folds)
    for key in folds[0].chosen:
        table.add_column(key)
    table.add_column("folds", justify="right")
    for name in names:
        table.add_column(f"{name}, mean ± std", justify="right")
    for one in folds:
        texts = [
            " ± ".join(metric_text(name, values.get(name), one.percent) for values in (one.mean, one.std))
            for name in names
        ]
        table.add_row(*one.chosen.values(), str(one.num_folds), *texts)
    return table


def write_folds(path: Path, folds: Sequence[Folds]) -> None:
    """Write one row per combination of the other keys: number of folds, and mean and deviation of each metric."""
    file = StringIO(newline="")
    writer = csv.writer(file)
    names = _names(folds)
    columns = [f"{name}_{statistic}" for name in names for statistic in ("mean", "std")]
    writer.writerow([*folds[0].chosen, "folds", *columns])
    for one in folds:
        numbers = [values.get(name, "") for name in names for values in (one.mean, one.std)]
        writer.writerow([*one.chosen.values(), one.num_folds, *numbers])
    replace_shared(path, encoded(file.getvalue()))


def _names(folds: Sequence[Folds]) -> list[str]:
    return list(dict.fromkeys(name for one in folds for name in one.mean if name != "seconds"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
