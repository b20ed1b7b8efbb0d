"""convoy sync: sends the W&B records that jobs kept in their runs' folders."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from convoy.config.faults import Fault, UserError
from convoy.config.schema import WandbConfig
from convoy.records.wandb_run import check_wandb

_HELP = """\
usage: convoy sync [<folder> ...]

Sends every W&B record under outputs/ (or the folders named) that was kept
offline and not sent since: on a login node, after jobs on nodes without
network. A run that was requeued has several; they become one run."""


def run(words: Sequence[str]) -> int:
    """Send what was kept; 1 where some of it could not be."""
    if any(word in ("-h", "--help") for word in words):
        print(_HELP)
        return 0
    folders = [Path(word) for word in words] or [Path("outputs")]
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        raise UserError(*(Fault(str(folder), "no such folder", "name one with runs in it") for folder in missing))
    records = unsent(folders)
    if not records:
        print("nothing to send")
        return 0
    faults = check_wandb(WandbConfig(mode="online"))
    if faults:
        raise UserError(*faults)
    # All in one call: records of one run, a start each, are then sent in the order in which they were written.
    done = subprocess.run([sys.executable, "-m", "wandb", "sync", *map(str, records)], check=False)
    left = len(unsent(folders))
    print(f"sent {len(records) - left} of {len(records)}")
    return 1 if done.returncode or left else 0


def unsent(folders: Sequence[Path]) -> list[Path]:
    """Offline records without the mark that `wandb sync` leaves beside a record's file, the oldest first."""
    found = [
        record
        for folder in folders
        for record in folder.glob("**/wandb/offline-run-*")
        if record.is_dir() and not list(record.glob("*.wandb.synced"))
    ]
    return sorted(found, key=lambda record: record.name)
