"""Lists of runs: chosen, ordered, and as a table, Markdown, CSV or JSON. Imports no torch."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from convoy.cluster.run_states import STATES, ListedRun
from convoy.config.faults import printable
from convoy.ledger.text_formats import markdown_table
from convoy.runs.records import Monitor, metric_text

_HEAD = ("run", "state", "task", "model", "data", "best", "epoch", "age", "size")
_NARROWEST = {"run": 8, "task": 6, "model": 6, "data": 6}
"""Columns that are shortened on a narrow terminal, with their smallest widths."""
_FIGURES = ("best", "epoch", "age", "size")
_DATA = (
    *("run", "state", "name", "task", "model", "data", "monitor", "best", "epoch", "started", "age_s", "size_bytes"),
    "job",
)


@dataclass(frozen=True)
class RunFilter:
    """Runs to list; an empty list allows every value, and names may have the wildcards * and ?.

    Attributes:
        paths: folders relative to the output root, or the last parts of their names.
        states: states.
        columns: patterns by column: task, model, data and name.
        older_days: smallest age in days; None for any.
    """

    paths: Sequence[str]
    states: Sequence[str]
    columns: Mapping[str, Sequence[str]]
    older_days: float | None = None

    def allows(self, run: ListedRun, now: float) -> bool:
        """Return whether a run is to be listed at a time in seconds since the epoch."""
        if self.states and run.state not in self.states:
            return False
        age = age_s(run, now)
        if self.older_days is not None and (age is None or age < self.older_days * 86400):
            return False
        if self.paths and not any(is_named(run.facts.path, pattern) for pattern in self.paths):
            return False
        return all(
            not patterns or any(fnmatchcase(getattr(run.facts.config, column), pattern) for pattern in patterns)
            for column, patterns in self.columns.items()
        )


def is_named(path: str, pattern: str) -> bool:
    """Return whether a run's folder, relative to the output root, is below `pattern` or ends with it."""
    pattern = pattern.rstrip("/")
    return path.endswith(f"-{pattern}") or any(
        fnmatchcase(path, one) for one in (pattern, f"{pattern}/*", f"*/{pattern}")
    )


def age_s(run: ListedRun, now: float) -> float | None:
    """Return the seconds since the last start of a run; None if the start is unknown."""
    try:
        return max(0.0, now - datetime.fromisoformat(run.facts.started).timestamp())
    except ValueError:
        return None


def _best_first(run: ListedRun) -> Any:
    monitor, best = run.facts.config.monitor, run.facts.best
    if monitor is None or best is None:
        return (1, "", 0.0)
    return (0, monitor.name, -best if monitor.mode == "max" else best)


SORT_KEYS: dict[str, Callable[[ListedRun], Any]] = {
    "best": _best_first,
    "epoch": lambda run: -(run.facts.epoch or 0.0),
    "size": lambda run: -run.facts.size_bytes,
    "state": lambda run: STATES.index(run.state),
    "name": lambda run: run.facts.config.name,
    "task": lambda run: run.facts.config.task,
    "model": lambda run: run.facts.config.model,
    "data": lambda run: run.facts.config.data,
}
"""Orders besides the age. Runs that are equal in one are ordered by age."""


def ordered(runs: Sequence[ListedRun], sort: str, now: float) -> list[ListedRun]:
    """Return the runs by age, the newest first, or by a key of `SORT_KEYS`."""
    oldest = float("inf")
    ages = {run.facts.path: age_s(run, now) for run in runs}
    by_age = sorted(runs, key=lambda run: oldest if (age := ages[run.facts.path]) is None else age)
    return sorted(by_age, key=SORT_KEYS[sort]) if sort in SORT_KEYS else by_age


def text_table(runs: Sequence[ListedRun], now: float, width: int | None = None) -> str:
    """Return a table for a terminal of `width` columns; None for a table that nothing is cut from."""
    monitors = {run.facts.config.monitor for run in runs if run.facts.best is not None}
    shared = next(iter(monitors)) if len(monitors) == 1 else None
    columns = dict(zip(_HEAD, zip(*(_cells(run, now, shared) for run in runs), strict=True), strict=True))
    heads = {name: shared.name if shared is not None and name == "best" else name for name in columns}
    widths = {name: max(map(len, (heads[name], *cells))) for name, cells in columns.items()}
    if width is not None and len(set(columns["task"])) == 1 and _total(widths) > width:
        del widths["task"]
    while width is not None and _total(widths) > width:
        widest = max(_NARROWEST, key=lambda name: widths.get(name, 0) - _NARROWEST[name])
        if widths[widest] <= _NARROWEST[widest]:
            break
        widths[widest] -= 1
    rows = [heads, *(dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True))]
    return "\n".join(_line(row, widths) for row in rows)


def markdown(runs: Sequence[ListedRun], now: float) -> str:
    """Return a Markdown table."""
    return markdown_table(_HEAD, [_cells(run, now, None) for run in runs], left=len(_HEAD) - len(_FIGURES))


def csv_text(runs: Sequence[ListedRun], now: float) -> str:
    """Return a CSV table with a header; values are exact."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _DATA, lineterminator="\n")
    writer.writeheader()
    writer.writerows(as_data(run, now) for run in runs)
    return text.getvalue().rstrip("\n")


def json_text(runs: Sequence[ListedRun], now: float) -> str:
    """Return a JSON list."""
    return json.dumps([as_data(run, now) for run in runs], indent=2, ensure_ascii=False)


def as_data(run: ListedRun, now: float) -> dict[str, Any]:
    """Return the columns of a run with exact values, None for those that are unknown."""
    facts, age = run.facts, age_s(run, now)
    config = facts.config
    values = (
        *(facts.path, run.state, config.name, config.task, config.model, config.data),
        *(config.monitor.name if config.monitor else None, facts.best, facts.epoch),
        *(facts.started or None, None if age is None else round(age), facts.size_bytes, facts.job_id),
    )
    return dict(zip(_DATA, values, strict=True))


def size_text(count: int) -> str:
    """Format bytes in a few characters, with units of 1024: 2.1M."""
    for unit, size in (("T", 2**40), ("G", 2**30), ("M", 2**20), ("K", 2**10)):
        if count >= size:
            return f"{count / size:.{0 if count >= 9.95 * size else 1}f}{unit}"
    return f"{count}B"


def age_text(age: float | None) -> str:
    """Format an age in a few characters: 42s, 5m, 3h or 12d."""
    if age is None:
        return "–"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if age >= size:
            return f"{age / size:.0f}{unit}"
    return f"{age:.0f}s"


def _cells(run: ListedRun, now: float, shared: Monitor | None) -> tuple[str, ...]:
    """Return the cells of a row; the best value has the metric's name unless all runs share it."""
    facts, config = run.facts, run.facts.config
    best = "–"
    if config.monitor is not None and facts.best is not None:
        best = metric_text(config.monitor.name, facts.best, config.monitor.percent)
        best = best if config.monitor == shared else f"{config.monitor.name.removeprefix('val/')} {best}"
    texts = (facts.path, run.state, config.task, config.model, config.data)
    epoch = "–" if facts.epoch is None else f"{facts.epoch:g}"
    return (*map(printable, texts), best, epoch, age_text(age_s(run, now)), size_text(facts.size_bytes))


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + 2 * (len(widths) - 1)


def _line(row: Mapping[str, str], widths: Mapping[str, int]) -> str:
    cells = (
        f"{row[name]:>{width}}" if name in _FIGURES else _cut(row[name], width, keep_end=name == "run")
        for name, width in widths.items()
    )
    return "  ".join(cells).rstrip()


def _cut(text: str, width: int, *, keep_end: bool) -> str:
    """Return a text in `width` characters. The last part of a run's folder, which identifies it, is kept."""
    if len(text) <= width:
        return text.ljust(width)
    end = min(width - 1, len(text.rsplit("-", 1)[-1])) if keep_end else 0
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"
