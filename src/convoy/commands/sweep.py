"""Sweep: one process per point, one after the other, and a table of all points at the end.

Each point is a separate process because Lightning starts data-parallel ranks by running the command again, W&B keeps
one run per process, and a point that fails must not end the others.
"""

from __future__ import annotations

import csv
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.config.sweep_points import points, varied
from convoy.runs.records import metric_text, read_summary
from convoy.training import preflight


@dataclass(frozen=True)
class Point:
    """One combination of a sweep's values, its folder, and how its process ended (None: not run)."""

    overrides: list[str]
    folder: Path
    exit_code: int | None = None

    def summary(self) -> dict[str, Any]:
        """Return the run's summary; empty if it ended before writing one."""
        return read_summary(self.folder / "summary.json")


def run(overrides: Sequence[str], options: Options) -> int:
    """Check all points, run them one by one, show and write their table. 1 where any failed."""
    combinations = points(overrides, options)
    _check(combinations, options)
    keys = varied(overrides, options)
    config = preflight.read(combinations[0], options)
    folder = Path(config.output_root) / "sweeps" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{secrets.token_hex(3)}"
    # A log file has no width: the table is not cut there.
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
    done: list[Point] = []
    for index, combination in enumerate(combinations):
        chosen = [text for text in combination if text.partition("=")[0] in keys]
        point = Point(combination, folder / _folder_name(index, chosen))
        console.print(f"\n[{index + 1}/{len(combinations)}] {' '.join(chosen)}", style="bold", markup=False)
        code = _run_point(point, options, folder.name)
        done.append(Point(combination, point.folder, code))
        if code in (130, 143):  # stopped by hand: the sweep is, too
            break
    write_table(folder / "sweep.csv", keys, done)
    console.print()
    console.print(_table(keys, done))
    console.print(f"{folder}/sweep.csv", markup=False)
    if len(done) < len(combinations):
        console.print(f"stopped: {len(combinations) - len(done)} points were not run", style="bold red")
        return done[-1].exit_code or 1
    failed = [point for point in done if point.exit_code]
    for point in failed:
        console.print(f"failed: convoy train {' '.join(point.overrides)}", style="bold red", markup=False)
    return 1 if failed else 0


def write_table(path: Path, keys: Sequence[str], done: Sequence[Point]) -> None:
    """Write one row per point: its values, metrics, exit code and folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = _metrics(done)
        writer.writerow([*keys, *names, "exit_code", "folder"])
        for point in done:
            summary = point.summary()
            values = _values(point.overrides)
            row = [*(values[key] for key in keys), *(summary.get(name, "") for name in names)]
            writer.writerow([*row, point.exit_code, point.folder])


def _check(combinations: Sequence[Sequence[str]], options: Options) -> None:
    """Check the config of each point before the first is run; a fault of several points is reported once."""
    faults: dict[Fault, None] = {}
    for combination in combinations:
        keys = [text.partition("=")[0] for text in combination]
        for own in ("folder", "resume"):
            if own in keys:
                faults[Fault(own, "is one run's, not a sweep's", "leave it out")] = None
        try:
            preflight.read(combination, options)
        except UserError as error:
            faults.update(dict.fromkeys(error.faults))
    if faults:
        raise UserError(*faults)


def _run_point(point: Point, options: Options, group: str) -> int:
    flags = ["--config-dir", str(options.folder)] if options.folder else []
    command = [sys.executable, "-m", "convoy.commands.main", "train", *flags, *point.overrides]
    environment = {**os.environ, "WANDB_RUN_GROUP": os.environ.get("WANDB_RUN_GROUP", group)}
    with subprocess.Popen([*command, f"folder={json.dumps(str(point.folder))}"], env=environment) as process:
        while True:
            try:
                code = process.wait()
                return 128 - code if code < 0 else code
            except KeyboardInterrupt:
                # The terminal has sent Ctrl-C to the point as well, which saves its checkpoint first.
                continue


def _folder_name(index: int, chosen: Sequence[str]) -> str:
    """`0_model=vgg16,optimizer.lr=0.1`, without what a folder's name or an override can't hold."""
    text = ",".join(chosen)
    return f"{index}_{re.sub(r'[^A-Za-z0-9_.=,+-]', '-', text)}"[:120]


def _values(overrides: Sequence[str]) -> Mapping[str, str]:
    return {key: value for key, _, value in (text.partition("=") for text in overrides)}


def _metrics(done: Sequence[Point]) -> list[str]:
    """Return the columns of the table: the monitored metric of val and of test, the losses, and the time."""
    monitored = dict.fromkeys(str(point.summary().get("monitor", "val/loss")) for point in done)
    names = [name for monitor in monitored for name in (monitor, monitor.replace("val/", "test/", 1))]
    return list(dict.fromkeys([*names, "val/loss", "test/loss", "seconds"]))


def _table(keys: Sequence[str], done: Sequence[Point]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = [name for name in _metrics(done) if name != "test/loss"]
    for key in keys:
        table.add_column(key)
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("")
    for point in done:
        summary, values = point.summary(), _values(point.overrides)
        percent = summary.get("percent", ())
        table.add_row(
            *(values[key] for key in keys),
            *(metric_text(name, summary.get(name), percent) for name in names),
            "" if point.exit_code == 0 else f"failed ({point.exit_code})",
        )
    return table
