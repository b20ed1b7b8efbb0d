"""Reports of the ranks on how they ended; srun's exit code is only the highest of all.

A rank that is killed or hangs writes no report. When one rank fails with a program error, srun kills the others and
returns the exit code of a kill; the report of the rank that failed gives the cause.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from convoy.cluster.run_lease import JobFolder
from convoy.runs.os_errors import described
from convoy.runs.whole_files import WriteError, replace_text

FOLDER, START = "CONVOY_RUN_FOLDER", "CONVOY_SLURM_START"
"""Environment variables that `convoy slurm run` sets for its ranks: the run folder and the number of this start."""

_HEARTBEAT_S = 2.0

_LOST = re.compile(r"by peer|broken pipe|socket|timed? ?out|NCCL|gloo", re.IGNORECASE)
_LOST_TYPES = ("DistBackendError", "DistNetworkError", "DistStoreError")


@dataclass(frozen=True)
class Report:
    """End of one rank.

    Attributes:
        kind: "done", "stopped" (by a signal, after a checkpoint), "terminated" (by a signal, before it could save),
            "lost" (the connection to another rank) or "error".
        text: Cause in one line.
    """

    kind: str
    text: str = ""


class Rank:
    """One rank of a start: reports its end, and exits when a later start has taken the run folder.

    Args:
        environment: Environment of a process that `convoy slurm run` started with srun.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.folder = JobFolder(Path(environment[FOLDER]))
        self.start = int(environment[START])
        self.number = int(environment.get("SLURM_PROCID", "0"))
        self._file = self.folder.reports(self.start) / f"rank-{self.number}.json"

    def begin(self) -> None:
        """Start a thread that keeps the lease of the run folder."""
        threading.Thread(target=self._keep_lease, name="convoy-lease", daemon=True).start()

    def end(self, report: Report) -> bool:
        """Write the report of this rank, without which srun's exit code is all there is; return whether that worked."""
        try:
            replace_text(self._file, json.dumps(asdict(report)) + "\n")
        except WriteError as error:
            print(f"rank {self.number}: {described(error)}", flush=True)
            return False
        return True

    def is_first_to_report_loss(self) -> bool:
        """Return whether no other rank of this start has asked. Of the ranks that have lost one, it prints the line."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            (self._file.parent / "lost").touch(exist_ok=False)
        except FileExistsError:
            return False
        except OSError:  # a full or read-only disk
            return True
        return True

    def _keep_lease(self) -> None:
        while True:
            claim = self.folder.claim()
            if claim is not None and claim.start > self.start:
                print(f"rank {self.number}: start {claim.start} has taken over this run; exiting", flush=True)
                os._exit(1)
            with contextlib.suppress(OSError):  # a full or read-only disk; the next touch may succeed
                self.folder.alive.touch()
            time.sleep(_HEARTBEAT_S)


def of_code(code: int) -> Report:
    """Return the report of a command that ended with an exit code."""
    if code == 0:
        return Report("done")
    return Report("stopped", f"signal {code - 128}") if code > 128 else Report("error", f"exit code {code}")


def of_exception(error: BaseException) -> Report:
    """Return the report of an exception: "lost" if it only signals that another rank is gone, else "error"."""
    text = traceback.format_exception_only(error)[-1].strip().splitlines()[0]
    is_lost = type(error).__name__ in _LOST_TYPES or (isinstance(error, RuntimeError) and _LOST.search(str(error)))
    return Report("lost" if is_lost else "error", text[:300])


def read(folder: JobFolder, start: int) -> dict[int, Report]:
    """Return the reports of a start by rank; ranks without a readable report are left out."""
    found = {}
    for path in folder.reports(start).glob("rank-*.json"):
        try:
            found[int(path.stem.partition("-")[2])] = Report(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
    return found
