"""Table of a sweep: one row per point, printed and as sweep.csv."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convoy.runs.records import is_finished, metric_text, read_summary
from convoy.runs.whole_files import encoded, replace_shared

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Point:
    """Combination of a sweep's values, its folder, and the exit code of its process (None if not run)."""

    overrides: list[str]
    folder: Path
    exit_code: int | None = None

    def summary(self) -> dict[str, Any]:
        """Return the run's summary; empty if it ended before writing one."""
        return read_summary(self.folder / "summary.json")

    def is_finished(self) -> bool:
        """Return whether the run was trained to its end."""
        return is_finished(self.folder / "summary.json")


def write_csv(path: Path, keys: Sequence[str], done: Sequence[Point]) -> None:
    """Write one row per point: its values, metrics, exit code and folder."""
    file = StringIO(newline="")
    writer = csv.writer(file)
    names = metrics_of(done)
    writer.writerow([*keys, *names, "exit_code", "folder"])
    for point in done:
        summary = point.summary()
        values = values_of(point.overrides)
        row = [*(values[key] for key in keys), *(summary.get(name, "") for name in names)]
        writer.writerow([*row, point.exit_code, point.folder])
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_shared(path, encoded(file.getvalue()))


def values_of(overrides: Sequence[str]) -> Mapping[str, str]:
    return {key: value for key, _, value in (text.partition("=") for text in overrides)}


def metrics_of(done: Sequence[Point]) -> list[str]:
    """Return the columns of the table: the monitored metric of val and of test, the losses, and the time."""
    monitored = dict.fromkeys(str(point.summary().get("monitor", "val/loss")) for point in done)
    names = [name for monitor in monitored for name in (monitor, monitor.replace("val/", "test/", 1))]
    return list(dict.fromkeys([*names, "val/loss", "test/loss", "seconds"]))


def printed(keys: Sequence[str], done: Sequence[Point]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    names = [name for name in metrics_of(done) if name != "test/loss"]
    for key in keys:
        table.add_column(key)
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("")
    for point in done:
        summary, values = point.summary(), values_of(point.overrides)
        percent = summary.get("percent", ())
        table.add_row(
            *(values[key] for key in keys),
            *(metric_text(name, summary.get(name), percent) for name in names),
            "" if point.exit_code == 0 else f"failed ({point.exit_code})",
        )
    return table
