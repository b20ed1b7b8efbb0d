"""Sweep: one process per point, and a table of the completed points.

Each point is a separate process, since Lightning starts data-parallel ranks by running the command again, W&B supports
one run per process, and a failing point must not end the others.
"""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Sequence
from typing import IO

from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.config.sweep_points import points, varied
from convoy.runs.layout import RunFolder, shown
from convoy.runs.records import metric_text
from convoy.runtime import stop_signals
from convoy.runtime.child_runs import ChildRuns, try_lock, words_of
from convoy.runtime.terminal_output import console
from convoy.search.sweeps import sweep_table
from convoy.search.sweeps.sweep_folds import fold_table, folds_of, write_folds
from convoy.search.sweeps.sweep_record import Sweep, folder_to_resume, new_sweep, resumed_sweep
from convoy.search.sweeps.sweep_table import Point
from convoy.training import preflight

_WORKERS = "workers"
_LOOK_EVERY_S = 0.5


def run(words: Sequence[str], options: Options) -> int:
    """Check all points, run them, and print and write their table; return 1 if any failed.

    Args:
        words: overrides, of which several values are a sweep; or `resume=` with the folder of a sweep.
        options: folders of the options.
    """
    overrides = [text for text in words if text.partition("=")[0] != _WORKERS]
    workers = _workers([text for text in words if text not in overrides])
    folder = folder_to_resume(overrides)
    if folder is not None:
        sweep = resumed_sweep(folder, overrides)
        _check([point.overrides for point in sweep.points], options)
    else:
        combinations = points(overrides, options)
        _check(combinations, options)
        config = preflight.read(combinations[0], options)
        sweep = new_sweep(config.output_root, varied(overrides, options), combinations)
    return _Workers(sweep, options, workers).run()


class _Workers:
    """Workers of a sweep.

    Args:
        sweep: its points.
        options: folders of the options.
        workers: number of points at a time.
    """

    def __init__(self, sweep: Sweep, options: Options, workers: int) -> None:
        self._sweep, self._children, self._codes = sweep, ChildRuns(options, workers), dict[int, int]()
        self._flags = ["--config-dir", str(options.folder)] if options.folder else []
        self._console = console(soft_wrap=True)

    def run(self) -> int:
        """Train the points that have not finished, print the results, and return the exit code."""
        self._children.work(self._work)
        sweep, screen, done = self._sweep, self._console, self._done()
        if self._children.is_stopped:
            return self._stopped(done)
        sweep_table.write_csv(sweep.folder / "sweep.csv", sweep.keys, done)
        screen.print()
        screen.print(sweep_table.printed(sweep.keys, done))
        screen.print(f"{sweep.folder}/sweep.csv", markup=False)
        if folds := folds_of(sweep.keys, done):
            screen.print()
            screen.print(fold_table(folds))
            write_folds(sweep.folder / "folds.csv", folds)
            screen.print(f"{sweep.folder}/folds.csv", markup=False)
        failed = [point for point in done if point.exit_code]
        for point in failed:
            screen.print(f"failed: convoy train {' '.join(point.overrides)}", style="bold red", markup=False)
        return 1 if failed else 0

    def _done(self) -> list[Point]:
        return [Point(one.overrides, one.folder, self._codes[at]) for at, one in self._numbered() if at in self._codes]

    def _numbered(self) -> Sequence[tuple[int, Point]]:
        return list(enumerate(self._sweep.points))

    def _work(self, worker: int) -> None:
        while (taken := self._take()) is not None:
            index, lock = taken
            with lock:
                self._train(index, lock, worker)

    def _take(self) -> tuple[int, IO[str]] | None:
        """Return a point that is not done, and its lock; None if there is none left.

        A point may still be saved by the process of a sweep that was killed, which holds the lock.
        """
        while not self._children.is_stopped:
            are_locked = False
            for index, point in self._numbered():
                if index in self._codes or self._children.is_stopped:
                    continue
                lock = try_lock(self._sweep.folder / f".{index}.lock")
                if lock is not None and index not in self._codes and not point.is_finished():
                    return index, lock
                if lock is None:
                    are_locked = True
                    continue
                self._codes.setdefault(index, 0)
                lock.close()
            if not are_locked:
                return None
            self._children.wait(_LOOK_EVERY_S)
        return None

    def _train(self, index: int, lock: IO[str], worker: int) -> None:
        sweep, point, screen = self._sweep, self._sweep.points[index], self._console
        name = f"[{index + 1}/{len(sweep.points)}] {sweep.chosen(point)}"
        is_alone = self._children.workers == 1
        screen.print(f"\n{name}" if is_alone else f"{name}: started", style="bold", markup=False)
        log = None if is_alone else point.folder.with_name(f"{point.folder.name}.log")
        group = {"WANDB_RUN_GROUP": os.environ.get("WANDB_RUN_GROUP", sweep.folder.name)}
        overrides = [*self._children.threads(), *point.overrides]
        code = self._children.train(words_of(RunFolder(point.folder.absolute()), overrides), worker, lock, group, log)
        if code - 128 in stop_signals.SIGNALS:  # stopped by the user, which also stops the sweep
            self._children.stop(code - 128)
        self._codes[index] = code
        sweep_table.write_csv(sweep.folder / "sweep.csv", sweep.keys, self._done())
        if not is_alone:
            summary = point.summary()
            monitor = str(summary.get("monitor", "val/loss"))
            value = metric_text(monitor, summary.get(monitor), summary.get("percent", ()))
            screen.print(f"{name}: {f'failed ({code}), see {log}' if code else f'{monitor} {value}'}", markup=False)

    def _stopped(self, done: Sequence[Point]) -> int:
        """Print the last line of a sweep that was stopped, and return its exit code."""
        number, folder = self._children.received, self._sweep.folder
        whole = sum(point.exit_code is not None and point.exit_code < 128 for point in done)
        text = f"sweep stopped by {signal.Signals(number).name} after {whole} of {len(self._sweep.points)} points"
        if done:
            text += f"; kept: {folder}/sweep.csv"
        text += f"; to resume: {shlex.join(['convoy', 'train', *self._flags, f'resume={shown(folder)}'])}"
        self._console.print(text, style="bold red", markup=False)
        return 128 + number


def _workers(words: Sequence[str]) -> int:
    text = words[-1].partition("=")[2] if words else "1"
    if not text.isdecimal() or text == "0":
        raise UserError(Fault(_WORKERS, "must be a whole number of at least 1", "", text))
    return int(text)


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
