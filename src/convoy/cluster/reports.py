"""How each rank of a start ended, as it tells itself: srun's exit code is only the highest of all.

A rank that is killed, or hangs, tells nothing. When one rank fails with a program error srun kills the others, so
that srun's code is a kill's; the report of the one that failed is what counts.
"""

from __future__ import annotations

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

FOLDER, START = "CONVOY_RUN_FOLDER", "CONVOY_SLURM_START"
"""What `convoy slurm run` hands its ranks: the run's folder and which start this is."""

_BEAT_S = 2.0

_LOST = re.compile(r"by peer|broken pipe|socket|timed? ?out|NCCL|gloo", re.IGNORECASE)
_LOST_TYPES = ("DistBackendError", "DistNetworkError", "DistStoreError")


@dataclass(frozen=True)
class Report:
    """How a rank ended.

    Attributes:
        kind: "done", "stopped" (by a signal, behind a checkpoint), "lost" (another rank) or "error".
        text: what it was, in one line.
    """

    kind: str
    text: str = ""


class Rank:
    """This process as one rank of a start: reports its end, and leaves when a later start has taken the folder.

    Args:
        environment: of a process that `convoy slurm run` started with srun.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.folder = JobFolder(Path(environment[FOLDER]))
        self.start = int(environment[START])
        self.number = int(environment.get("SLURM_PROCID", "0"))
        self._file = self.folder.reports(self.start) / f"rank-{self.number}.json"

    def begin(self) -> None:
        """Keep the folder's lease in a thread of its own, from now on."""
        threading.Thread(target=self._beat, name="convoy-lease", daemon=True).start()

    def end(self, report: Report) -> None:
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(report)) + "\n", encoding="utf-8")
        partial.replace(self._file)

    def _beat(self) -> None:
        while True:
            claim = self.folder.claim()
            if claim is not None and claim.start > self.start:
                print(f"rank {self.number}: start {claim.start} has taken this run over; leaving", flush=True)
                os._exit(1)
            self.folder.alive.touch()
            time.sleep(_BEAT_S)


def of_code(code: int) -> Report:
    """The report of a command that ended by itself with an exit code."""
    if code == 0:
        return Report("done")
    return Report("stopped", f"signal {code - 128}") if code > 128 else Report("error", f"exit code {code}")


def of_exception(error: BaseException) -> Report:
    """The report of an exception: one that only says that another rank is gone is not this program's error."""
    text = traceback.format_exception_only(error)[-1].strip().splitlines()[0]
    is_lost = type(error).__name__ in _LOST_TYPES or (isinstance(error, RuntimeError) and _LOST.search(str(error)))
    return Report("lost" if is_lost else "error", text[:300])


def read(folder: JobFolder, start: int) -> dict[int, Report]:
    """The reports of a start, by rank."""
    found = {}
    for path in folder.reports(start).glob("rank-*.json"):
        try:
            found[int(path.stem.partition("-")[2])] = Report(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
    return found
