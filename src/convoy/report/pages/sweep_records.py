"""Records of a sweep: its points with their values, results and costs."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from convoy.config.faults import Fault, UserError
from convoy.runs.layout import RunFolder, read_json
from convoy.runs.records import Monitor, read_metrics, read_monitor, read_summary

_COSTS = ("params", "macs", "saved_bytes")


@dataclass(frozen=True)
class SweepPoint:
    """Run of a sweep.

    Attributes:
        name: of its folder.
        run: its folder, which may be missing for a point that failed early.
        overrides: of the command line.
        values: values of the keys that differ between points.
        summary: content of summary.json; empty for a run that has not finished.
        costs: params, macs and saved_bytes of its network per image, from its ledger.
        error: last message of a run that failed; empty otherwise.
    """

    name: str
    run: RunFolder
    overrides: Sequence[str]
    values: Mapping[str, str]
    summary: Mapping[str, Any]
    costs: Mapping[str, int]
    error: str = ""

    @property
    def status(self) -> str:
        """State of the run, for people."""
        return str(self.summary.get("status") or ("failed" if self.error else "not finished"))

    def rows(self) -> list[dict[str, str]]:
        """Return the rows of metrics.csv."""
        return read_metrics(self.run.metrics)


@dataclass(frozen=True)
class Sweep:
    """Points of a sweep.

    Attributes:
        folder: of the sweep.
        keys: keys whose values differ between points.
        points: in the order of their numbers.
        monitor: metric that the points are compared by.
    """

    folder: Path
    keys: Sequence[str]
    points: Sequence[SweepPoint]
    monitor: Monitor

    def value(self, point: SweepPoint) -> float | None:
        """Return the best value of the monitored metric of a point; None if it has none."""
        value = point.summary.get(self.monitor.name)
        return float(value) if isinstance(value, int | float) else None

    def best(self) -> SweepPoint | None:
        """Return the point with the best value; None if no point has one."""
        known = [(value, point) for point in self.points if (value := self.value(point)) is not None]
        if not known:
            return None
        sign = 1 if self.monitor.mode == "max" else -1
        return max(known, key=lambda pair: sign * pair[0])[1]


def read_sweep(folder: Path) -> Sweep:
    """Return the points of a sweep's folder, or of any folder of runs.

    Raises:
        UserError: there is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise UserError(Fault("sweep", "no such folder", "name the folder of a sweep's sweep.csv", str(folder)))
    failed = _exit_codes(folder / "sweep.csv")
    runs = [path for path in folder.iterdir() if (path / "config.yaml").is_file() or str(path) in failed]
    runs.sort(key=lambda path: (_number(path.name), path.name))
    if not runs:
        remedy = "name the folder of a sweep's sweep.csv, or write run= for a single run"
        raise UserError(Fault("sweep", "contains no run", remedy, str(folder)))
    overrides = {path: _overrides(RunFolder(path).overrides) for path in runs}
    values = {path: dict(word.split("=", 1) for word in words if "=" in word) for path, words in overrides.items()}
    keys = [
        key
        for key in dict.fromkeys(key for one in values.values() for key in one)
        if key != "folder" and len({one.get(key) for one in values.values()}) > 1
    ]
    monitors = [found for path in runs if (found := read_monitor(path / "config.yaml"))]
    points = [_point(path, overrides[path], {key: values[path].get(key, "") for key in keys}) for path in runs]
    return Sweep(folder, keys, points, monitors[0] if monitors else Monitor("val/loss", "min"))


def _point(path: Path, overrides: Sequence[str], values: Mapping[str, str]) -> SweepPoint:
    run = RunFolder(path)
    summary = read_summary(run.summary)
    totals = read_json(run.ledger_json).get("totals") or {}
    costs = {name: int(totals[name]) for name in _COSTS if isinstance(totals.get(name), int)}
    error = "" if summary.get("status") == "finished" else _last_line(run.log)
    return SweepPoint(path.name, run, overrides, values, summary, costs, error)


def _overrides(path: Path) -> list[str]:
    """Return the overrides of a run's first start."""
    try:
        starts = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return []
    return [str(word) for word in starts[0]] if isinstance(starts, list) and starts else []


def _exit_codes(path: Path) -> dict[str, str]:
    """Return the exit codes of a sweep.csv by the folder of the point, those of failed points only."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("exit_code") not in ("0", None)]
    except OSError:
        return {}
    return {str(path.parent / Path(row["folder"]).name): row["exit_code"] for row in rows}


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return "no run.log"
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _number(name: str) -> int:
    found = re.match(r"\d+", name)
    return int(found[0]) if found else 0
