"""convoy sync: send the W&B records that jobs stored in the folders of their runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from convoy.commands.declaration.verb import Verb
from convoy.config.faults import Fault, UserError
from convoy.config.schema import WandbConfig
from convoy.records.wandb_run import check_wandb


@dataclass(frozen=True)
class Sync(Verb):
    """Send W&B records that were stored offline and not sent yet.

    Run this command on a login node after jobs on nodes without a network
    connection. The records of a requeued run become one W&B run.

      convoy sync
      convoy sync outputs/vgg16
    """

    folders: list[str] = field(default_factory=lambda: ["outputs"])
    """Folders with runs."""

    words = "folders"

    def faults(self) -> Iterator[Fault]:
        """Yield a fault for each folder that doesn't exist."""
        for folder in self.folders:
            if not Path(folder).is_dir():
                yield Fault(folder, "no such folder", "give a folder that contains runs")


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
    # One call for all records, so that the records of a run, one per start, are sent in the order of writing.
    done = subprocess.run([sys.executable, "-m", "wandb", "sync", *map(str, records)], check=False)
    left = len(unsent(folders))
    print(f"sent {len(records) - left} of {len(records)}")
    return 1 if done.returncode or left else 0


def unsent(folders: Sequence[Path]) -> list[Path]:
    """Return the offline records that `wandb sync` has not marked as sent, the oldest first."""
    found = [
        record
        for folder in folders
        for record in folder.glob("**/wandb/offline-run-*")
        if record.is_dir() and not list(record.glob("*.wandb.synced"))
    ]
    return sorted(found, key=lambda record: record.name)
