"""convoy runs clean: removal of failed runs without a checkpoint, and of last checkpoints that are not needed."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from convoy.commands.declaration.run_verbs import RunFilterVerb
from convoy.config.faults import printable
from convoy.report.run_table import size_text
from convoy.runs.cleaning import NotRemovedError, Removal, removal_of, remove


@dataclass(frozen=True)
class RunsClean(RunFilterVerb):
    """Remove runs and checkpoints that are of no more use.

    These are the folders of runs that failed or were stopped before their first
    checkpoint, and last.ckpt of finished runs, whose best.ckpt stays. Without
    --yes, only lists them. Runs that are running or queued, that changed within
    the last ten minutes, or whose Slurm job may start again are left as they are.

      convoy runs clean
      convoy runs clean state=failed older_days=7
      convoy runs clean state=failed older_days=7 --yes
    """

    yes: bool = False
    """Remove what is listed."""


ARGUMENTS = RunsClean


def run(given: RunsClean) -> int:
    """List what can be removed, and remove it with --yes."""
    removals = [
        removal
        for run in given.chosen(time.time())
        if not run.may_start and (removal := removal_of(given.output_root, run.facts, run.state)) is not None
    ]
    if not removals:
        print(f"nothing to remove under {given.output_root}")
        return 0
    if given.yes:
        return _remove(given, removals)
    for one in removals:
        print(f"{one.size_bytes:>15,}  {one.what:<10}  {printable(one.path)}")
    print(f"{_total(removals):,} bytes ({size_text(_total(removals))}) in {len(removals)}; --yes removes them")
    return 0


def _remove(given: RunsClean, removals: Sequence[Removal]) -> int:
    removed = []
    for one in removals:
        try:
            remove(given.output_root, one)
        except NotRemovedError as reason:
            print(f"not removed: {printable(one.path)}: {reason}", file=sys.stderr)
        else:
            removed.append(one)
            print(f"removed: {one.what} of {printable(one.path)}")
    print(f"{_total(removed):,} bytes ({size_text(_total(removed))}) are free")
    return 0 if len(removed) == len(removals) else 1


def _total(removals: Sequence[Removal]) -> int:
    return sum(one.size_bytes for one in removals)
