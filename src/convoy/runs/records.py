"""Readers of a run's records: summary.json, metrics.csv and its task. Imports no torch."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_TAIL_BYTES = 8192


@dataclass(frozen=True)
class Monitor:
    """Metric that chooses a run's best checkpoint.

    Attributes:
        name: such as `val/top1`.
        mode: `max` or `min`.
        percent: names, without split, of metrics that are fractions.
    """

    name: str
    mode: str
    percent: frozenset[str] = frozenset()


def read_summary(path: Path) -> dict[str, Any]:
    """Return a summary.json; empty if the run has not written one yet or the file can't be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def is_finished(path: Path) -> bool:
    """Return whether a summary.json is that of a run that was trained to its end and tested."""
    return bool(read_summary(path).get("status") == "finished")


def concluded_step(path: Path) -> int | None:
    """Return the optimizer steps of a summary.json of a finished run; None if the run was not trained and tested.

    A run that was made longer keeps the summary of the shorter one until it is concluded again.
    """
    return read_summary(path).get("steps") if is_finished(path) else None


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Return the rows of a metrics.csv; empty if there is no file."""
    try:
        return [row for row in csv.DictReader(whole_lines(path)) if (row.get("step") or "").isdigit()]
    except OSError:
        return []


def last_step(path: Path) -> int | None:
    """Return the optimizer steps in the last row of a metrics.csv, of which only the end is read; None without rows."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return None
    steps = (line.partition(b",")[0] for line in reversed(lines))
    return next((int(step) for step in steps if step.isdigit()), None)


def whole_lines(path: Path) -> list[str]:
    """Return the lines of a file with their ends, without a last line that has no end.

    A full disk or a loss of power can truncate a file at any byte, and half a line may look like a valid line.
    """
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return [line for line in file if line.endswith("\n")]


def read_monitor(config: Path) -> Monitor | None:
    """Return the monitored metric of a run's config.yaml; None if it can't be read."""
    try:
        task = yaml.safe_load(config.read_text(encoding="utf-8"))["task"]
        return Monitor(str(task["monitor"]), str(task["mode"]), frozenset(task.get("percent") or ()))
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None


def progress(metrics: Path, monitor: Monitor | None) -> tuple[str | None, float | None]:
    """Return the last epoch of a metrics.csv and the best value of the monitored metric; None if unknown."""
    rows = read_metrics(metrics)
    epochs = [row["epoch"] for row in rows if row.get("epoch")]
    last_epoch = epochs[-1] if epochs else None
    if monitor is None:
        return last_epoch, None
    values = [float(row[monitor.name]) for row in rows if row.get(monitor.name)]
    best = max(values, default=None) if monitor.mode == "max" else min(values, default=None)
    return last_epoch, best


def metric_text(name: str, value: float | None, percent: Collection[str]) -> str:
    """Format a metric: fractions in percent, everything else with four decimals, a missing value as a dash.

    Args:
        name: name of the metric, with or without its split.
        value: value of the metric.
        percent: names without split of metrics that are fractions.
    """
    if value is None:
        return "–"
    return f"{value:.2%}" if name.rsplit("/", 1)[-1] in percent else f"{value:.4f}"


def duration(seconds: float) -> str:
    """Format seconds for display, such as 42 s, 3 min 5 s or 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
