"""A job's own folder: found again by the job's id, and taken up only when it is this job's and holds this config.

In the run's folder, slurm/ holds what the job remembers from one start to the next: job.json, whose it is and how
its starts went; start-<n>/rank-<r>.json, how each rank ended; alive, touched while ranks of the last start live.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from convoy.cluster import allocation as allocations
from convoy.runs.layout import RunFolder
from convoy.runs.lock import LEASE_FILE, LEASE_S
from convoy.runs.records import read_summary
from convoy.runs.whole_files import replace_text

_NOT_THE_RUNS = ("folder", "resume", "cluster", "output_root")


@dataclass(frozen=True)
class Claim:
    """Record of a job in its run's folder.

    Attributes:
        job_id: as scontrol takes it.
        asked: hash of what the job was asked to run; ids are used again, and then another job finds this folder.
        start: which start this is, counted from 1.
        requeues: how often the job has requeued itself.
        stalled: starts in a row that were cut off by a fault and wrote no checkpoint.
        checkpoint: when last.ckpt was written, as this start found it; 0: there was none.
    """

    job_id: str
    asked: str
    start: int = 0
    requeues: int = 0
    stalled: int = 0
    checkpoint: int = 0


@dataclass(frozen=True)
class JobFolder:
    """A run's folder as the job sees it."""

    path: Path

    @property
    def claim_file(self) -> Path:
        return self.path / "slurm" / "job.json"

    @property
    def alive(self) -> Path:
        return self.path / LEASE_FILE

    def reports(self, start: int) -> Path:
        """Return the folder of the reports of one start's ranks."""
        return self.path / "slurm" / f"start-{start}"

    def claim(self) -> Claim | None:
        """Return the job that has claimed the folder; None if there is none."""
        try:
            return Claim(**json.loads(self.claim_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, claim: Claim) -> None:
        self.claim_file.parent.mkdir(parents=True, exist_ok=True)
        replace_text(self.claim_file, json.dumps(asdict(claim), indent=2) + "\n")

    def checkpoint_time(self) -> int:
        """When last.ckpt was written, in nanoseconds; 0 where there is none."""
        try:
            return RunFolder(self.path).last.stat().st_mtime_ns
        except OSError:
            return 0

    def is_finished(self) -> bool:
        """Return whether the run has been trained and tested to its end."""
        return bool(read_summary(RunFolder(self.path).summary).get("status") == "finished")


def is_this_jobs(path: Path) -> bool:
    """Return whether this process's Slurm job has claimed a folder."""
    allocation, claim = allocations.read(os.environ), JobFolder(path).claim()
    return allocation is not None and claim is not None and claim.job_id == allocation.job_id


def hash_of(asked: Mapping[str, Any]) -> str:
    """Return the hash of a resolved config without its folder and cluster, or of a script's words."""
    content = {key: value for key, value in asked.items() if key not in _NOT_THE_RUNS}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def take(wanted: Path, job_id: str, digest: str, restarts: int) -> tuple[JobFolder, Claim]:
    """Find or make this job's folder, and count one more start in it.

    A job that starts for the first time never takes up a folder that is there: Slurm uses ids again. One that
    was started before takes up the newest that is its own.

    Args:
        wanted: the folder that goes with the job's id; where another job has it, a number is added.
        job_id: as scontrol takes it.
        digest: `hash_of` what the job is to run.
        restarts: how often Slurm has started it before.
    """
    there: list[JobFolder] = []
    while wanted_with(wanted, len(there)).exists():
        there.append(JobFolder(wanted_with(wanted, len(there))))
    for folder in reversed(there) if restarts else ():
        claim = folder.claim()
        if claim is not None and (claim.job_id, claim.asked) == (job_id, digest):
            return folder, _started(folder, claim)
    folder = JobFolder(wanted_with(wanted, len(there)))
    return folder, _started(folder, Claim(job_id, digest))


def wanted_with(wanted: Path, others: int) -> Path:
    """Return the folder's name if `others` have had it before."""
    return wanted.with_name(f"{wanted.name}.{others + 1}") if others else wanted


def wait_for_the_start_before(folder: JobFolder, limit_s: float = 60.0) -> bool:
    """Wait until its ranks are gone: a node that Slurm has lost may still be writing. Whether there was a wait."""
    waited, end = False, time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            age = time.time() - folder.alive.stat().st_mtime
        except OSError:
            return waited
        if age > LEASE_S:
            return waited
        waited = True
        time.sleep(0.5)
    return waited


def _started(folder: JobFolder, claim: Claim) -> Claim:
    claim = replace(claim, start=claim.start + 1, checkpoint=folder.checkpoint_time())
    folder.write(claim)
    folder.reports(claim.start).mkdir(parents=True, exist_ok=True)
    return claim
