"""convoy sync: sends the W&B records that jobs kept in their runs' folders."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from convoy.commands.verb import Verb
from convoy.config.faults import Fault, UserError
from convoy.config.schema import WandbConfig
from convoy.records.wandb_run import check_wandb


@dataclass(frozen=True)
class Sync(Verb):
    """Send every W&B record that was kept offline and not sent since: on a login
    node, after jobs on nodes without network. A run that was requeued has
    several records; they become one W&B run.

      convoy sync
      convoy sync outputs/vgg16
    """

    folders: list[str] = field(default_factory=lambda: ["outputs"])
    """Folders with runs."""

    words = "folders"

    def faults(self) -> Iterator[Fault]:
        """Yield the folders that don't exist."""
        for folder in self.folders:
            if not Path(folder).is_dir():
                yield Fault(folder, "no such folder", "name one with runs in it")


ARGUMENTS = Sync


def run(given: Sync) -> int:
    """Send the records; return 1 if some could not be sent."""
    folders = [Path(folder) for folder in given.folders]
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
