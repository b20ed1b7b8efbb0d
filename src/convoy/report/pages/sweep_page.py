"""Page of a sweep: its points in a table, their curves, and the metric against each parameter and cost."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from convoy.report.pages.document import Cell, Code, Fact, Facts, Figure, Page, Section, Table, number
from convoy.report.pages.line_chart import line_chart, line_points
from convoy.report.pages.sweep_charts import (
    COST_TITLES,
    against_costs,
    against_keys,
    as_number,
    importance,
    label_of,
    number_of,
    parallel,
    short_text,
)
from convoy.report.pages.sweep_records import Sweep, SweepPoint, read_sweep
from convoy.runs.records import duration, metric_text
from convoy.runs.whole_files import encoded, replace_shared
from convoy.search.study_config import TRIAL_OVERRIDES

_MOST_CURVE_POINTS = 20_000
"""Largest number of points of all curves together."""


def write_sweep_report(folder: Path, output: Path | None = None) -> Path:
    """Write the page of a sweep.

    Args:
        folder: of the sweep.
        output: file; None: report.html in the folder.

    Returns:
        The file.

    Raises:
        UserError: there is no such sweep.
        WriteError: the file can't be written.
    """
    path = output or folder / "report.html"
    replace_shared(path, encoded(sweep_page(read_sweep(folder)).html()))
    return path


def sweep_page(sweep: Sweep, search: Section | None = None) -> Page:
    """Return the page of a sweep.

    Args:
        sweep: its points.
        search: section about the search, if the points are trials of a study; None for a sweep.
    """
    best = sweep.best()
    finished = sum(point.status == "finished" for point in sweep.points)
    importances = importance(sweep) if search is None else []  # a study has its own
    sections = [
        Section("Best point", _best(sweep, best) if best else []),
        *([search] if search is not None else []),
        Section("Points", [_table(sweep)]),
        Section("Curves", _curves(sweep, best)),
        Section("Parameters", [*against_keys(sweep), *importances], in_columns=True),
        Section("Combinations", parallel(sweep)),
        Section("Cost", against_costs(sweep), in_columns=True),
        Section("Failed points", _failed(sweep)),
    ]
    subtitle = f"{finished} of {len(sweep.points)} points finished; compared by {sweep.monitor.name}"
    return Page(f"Sweep {sweep.folder.name}", subtitle, sections)


def _text(sweep: Sweep, name: str, value: float | None) -> str:
    return metric_text(name, value, sweep.monitor.percent)


def _best(sweep: Sweep, best: SweepPoint) -> list[Any]:
    facts = [Fact(sweep.monitor.name, _text(sweep, sweep.monitor.name, sweep.value(best)))]
    facts += [Fact(key, short_text(best.values[key])) for key in sweep.keys]
    words = [word for word in best.overrides if word not in TRIAL_OVERRIDES and not word.startswith("folder=")]
    command = shlex.join(["convoy", "train", *words])
    return [Facts(facts, is_large=True), Code(command)]


def _table(sweep: Sweep) -> Table:
    test = sweep.monitor.name.replace("val/", "test/", 1)
    metrics = [name for name in dict.fromkeys([sweep.monitor.name, test, "val/loss"]) if _has(sweep, name)]
    costs = [name for name in COST_TITLES if any(name in point.costs for point in sweep.points)]
    rows = []
    for point in sweep.points:
        seconds = point.summary.get("seconds")
        rows.append(
            (
                Cell(number_of(point) if sweep.keys else point.name, as_number(number_of(point))),
                *(_value_cell(point.values[key]) for key in sweep.keys),
                *(number(point.summary.get(name), _text(sweep, name, point.summary.get(name))) for name in metrics),
                *(number(point.costs.get(name)) for name in costs),
                number(seconds, None if seconds is None else duration(seconds)),
                Cell(point.status),
            )
        )
    columns = ("point", *sweep.keys, *metrics, *(COST_TITLES[name] for name in costs), "time", "state")
    return Table("Points of the sweep", columns, rows, is_long=len(rows) > 25)


def _has(sweep: Sweep, name: str) -> bool:
    return any(isinstance(point.summary.get(name), int | float) for point in sweep.points)


def _value_cell(text: str) -> Cell:
    value = as_number(text)
    return Cell(text or "–") if value is None else number(value, short_text(text))


def _curves(sweep: Sweep, best: SweepPoint | None) -> list[Figure]:
    most = max(8, _MOST_CURVE_POINTS // len(sweep.points))
    points = [
        one
        for point in sweep.points
        for one in line_points(point.rows(), sweep.monitor.name, label_of(point), min(most, 500))
    ]
    return [line_chart(sweep.monitor.name, points, highlighted=label_of(best) if best else None)] if points else []


def _failed(sweep: Sweep) -> list[Table]:
    rows = [
        (Cell(point.name), Cell(point.status), Cell(point.error))
        for point in sweep.points
        if point.status != "finished"
    ]
    return [Table("Points that did not finish", ("point", "state", "last line of run.log"), rows)] if rows else []
