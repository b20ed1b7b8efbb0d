"""Sweep: one process per point, run sequentially, and a table of the completed points.

Each point is a separate process, since Lightning starts data-parallel ranks by running the command again, W&B supports
one run per process, and a failing point must not end the others.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType

from rich.console import Console

from convoy.commands import sweep_table
from convoy.commands.sweep_folds import fold_table, folds_of, write_folds
from convoy.commands.sweep_table import Point
from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.config.sweep_points import points, varied
from convoy.runs.layout import RunFolder, shown
from convoy.runtime import stop_signals
from convoy.runtime.rank_watch import PARENT
from convoy.training import preflight


class _Points:
    """Processes of the points, which receive the stop signals of the sweep.

    Attributes:
        received: first signal that this process has received; 0 if none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Run a point's process to its end and return its exit code."""
        with subprocess.Popen(command, env=environment) as process:
            self._process = process
            if self.received:
                process.send_signal(self.received)
            code = process.wait()
            self._process = None
        return 128 - code if code < 0 else code

    @contextmanager
    def handling_signals(self) -> Iterator[None]:
        """Forward stop signals to the point. A terminal also sends Ctrl-C to the point, which counts it once."""
        previous = stop_signals.install(self._pass_on)
        try:
            yield
        finally:
            stop_signals.restore(previous)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        if self._process is not None:
            self._process.send_signal(number)


def run(overrides: Sequence[str], options: Options) -> int:
    """Check all points, run them one by one, and print and write their table; return 1 if any failed."""
    combinations = points(overrides, options)
    _check(combinations, options)
    keys = varied(overrides, options)
    config = preflight.read(combinations[0], options)
    folder = Path(config.output_root) / "sweeps" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{secrets.token_hex(3)}"
    # A log file has no width, so the table is not cut.
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
    done: list[Point] = []
    processes = _Points()
    with processes.handling_signals():
        for index, combination in enumerate(combinations):
            if processes.received:
                break
            chosen = [text for text in combination if text.partition("=")[0] in keys]
            point = Point(combination, folder / _folder_name(index, chosen))
            console.print(f"\n[{index + 1}/{len(combinations)}] {' '.join(chosen)}", style="bold", markup=False)
            code = _run_point(point, options, folder.name, processes)
            done.append(Point(combination, point.folder, code))
            sweep_table.write_csv(folder / "sweep.csv", keys, done)
            if code - 128 in stop_signals.SIGNALS:  # stopped by the user, which also stops the sweep
                break
    if processes.received or len(done) < len(combinations):
        return _stopped(done, len(combinations), processes.received, folder, console)
    console.print()
    console.print(sweep_table.printed(keys, done))
    console.print(f"{folder}/sweep.csv", markup=False)
    if folds := folds_of(keys, done):
        console.print()
        console.print(fold_table(folds))
        write_folds(folder / "folds.csv", folds)
        console.print(f"{folder}/folds.csv", markup=False)
    failed = [point for point in done if point.exit_code]
    for point in failed:
        console.print(f"failed: convoy train {' '.join(point.overrides)}", style="bold red", markup=False)
    return 1 if failed else 0


def _stopped(done: Sequence[Point], num_points: int, received: int, folder: Path, console: Console) -> int:
    """Print the last line of a sweep that was stopped, and return its exit code."""
    code = 128 + received if received else done[-1].exit_code or 1
    whole = sum(point.exit_code is not None and point.exit_code < 128 for point in done)
    last = RunFolder(done[-1].folder) if done else None
    text = f"sweep stopped by {signal.Signals(code - 128).name} after {whole} of {num_points} points"
    if done:
        text += f"; kept: {folder}/sweep.csv"
    if last is not None and last.last.is_file() and whole < len(done):
        text += f"; to resume the point that was stopped: convoy train resume={shown(last.path)}"
    console.print(text, style="bold red", markup=False)
    return code


def _check(combinations: Sequence[Sequence[str]], options: Options) -> None:
    """Check the config of each point before the first is run; a fault of several points is reported once."""
    faults: dict[Fault, None] = {}
    for combination in combinations:
        keys = [text.partition("=")[0] for text in combination]
        for own in ("folder", "resume"):
            if own in keys:
                faults[Fault(own, "applies to a single run, not to a sweep", f"omit {own}")] = None
        try:
            preflight.check_launch(preflight.read(combination, options))
        except UserError as error:
            faults.update(dict.fromkeys(error.faults))
    if faults:
        raise UserError(*faults)


def _run_point(point: Point, options: Options, group: str, processes: _Points) -> int:
    flags = ["--config-dir", str(options.folder)] if options.folder else []
    command = [sys.executable, "-m", "convoy.commands.main", "train", *flags, *point.overrides]
    added = {"WANDB_RUN_GROUP": os.environ.get("WANDB_RUN_GROUP", group), PARENT: str(os.getpid())}
    return processes.run([*command, f"folder={json.dumps(str(point.folder))}"], {**os.environ, **added})


def _folder_name(index: int, chosen: Sequence[str]) -> str:
    """Return a folder name such as `0_model=vgg16,optimizer.lr=0.1`, with special characters replaced."""
    text = ",".join(chosen)
    return f"{index}_{re.sub(r'[^A-Za-z0-9_.=,+-]', '-', text)}"[:120]
