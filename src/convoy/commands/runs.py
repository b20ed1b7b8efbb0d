"""convoy runs: table of the runs below an output root."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from convoy.cluster.run_states import ListedRun
from convoy.commands.declaration.run_verbs import RunFilterVerb
from convoy.commands.declaration.verb import AtLeast
from convoy.report import run_table
from convoy.runtime.stop_signals import StopSignal

_SHOWN = 30


@dataclass(frozen=True)
class Runs(RunFilterVerb):
    """List runs with their states and best results.

    The states are running, finished, failed, queued and preempted (in Slurm), and
    stopped. "best" is the best value of the monitored metric, the age is counted
    from the last start. See docs/runs.md.

      convoy runs
      convoy runs state=failed model='resnet*'
      convoy runs sort=best limit=5 format=md
      convoy runs --watch
      convoy runs show latest
      convoy runs diff <run> <run>
      convoy runs clean state=failed
    """

    sort: Literal["age", "best", "epoch", "size", "name", "task", "model", "data", "state"] = "age"
    """Order: the newest, best, longest or largest first; names by alphabet."""
    limit: Annotated[int, AtLeast(0)] | None = None
    """Number of runs to list; 0 for all; null for 30 in a table and for all in
    the other formats."""
    watch: bool = False
    """Print the table again when it changes, until Ctrl-C."""
    every_s: Annotated[float, AtLeast(0.1)] = 2.0
    """Seconds between two looks at the runs with watch."""
    format: Literal["table", "md", "csv", "json"] = "table"
    """Format of the list."""


ARGUMENTS = Runs


def run(given: Runs) -> int:
    """Print the list of runs, once or until a signal."""
    if not given.watch:
        print(_text(given, *_shown(given)))
        return 0
    try:
        _watch(given)
    except StopSignal as stop:
        if stop.number != signal.SIGINT:
            raise
    return 0


def _watch(given: Runs) -> None:
    """Keep the table on a terminal; elsewhere, print it whenever a run has changed."""
    is_live, before = sys.stdout.isatty() and given.format == "table", None
    while True:
        found = _shown(given)
        if is_live:
            height = shutil.get_terminal_size().lines
            head = f"every {given.every_s:g} s, Ctrl-C ends: {time.strftime('%H:%M:%S')}"
            lines = [head, "", *_text(given, *found).splitlines()][: height - 1]
            start = "\033[2J\033[H" if before is None else "\033[H"
            sys.stdout.write(start + "".join(f"{line}\033[K\n" for line in lines) + "\033[J")
        elif found != before:
            print(_text(given, *found))
        sys.stdout.flush()
        before = found
        time.sleep(given.every_s)


def _shown(given: Runs) -> tuple[list[ListedRun], int]:
    """Return the runs to print, in order, and the number of all that the filters allow."""
    now = time.time()
    found = run_table.ordered(given.chosen(now), given.sort, now)
    limit = given.limit if given.limit is not None else _SHOWN if given.format == "table" else 0
    return found[: limit or None], len(found)


def _text(given: Runs, shown: Sequence[ListedRun], num_found: int) -> str:
    now = time.time()
    if given.format != "table":
        write = {"md": run_table.markdown, "csv": run_table.csv_text, "json": run_table.json_text}[given.format]
        return write(shown, now)
    if not shown:
        return f"no such runs under {given.output_root}"
    text = run_table.text_table(shown, now, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
    return text if len(shown) == num_found else f"{text}\n{len(shown)} of {num_found:,} runs; limit=0 lists all"
