"""Run folder of a job, found by the job's id and config and claimed by one start at a time.

The subfolder slurm/ contains the records that a job needs across starts: job.json, the claim and the result of the
starts; start-<n>/rank-<r>.json, the report of each rank; alive, a file that running ranks touch.
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
from convoy.config.faults import Fault, UserError
from convoy.runs.layout import RunFolder
from convoy.runs.lock import LEASE_FILE, LEASE_S, is_being_trained
from convoy.runs.records import is_finished
from convoy.runs.whole_files import replace_text

_NOT_THE_RUNS = ("folder", "resume", "cluster", "output_root")


@dataclass(frozen=True)
class Claim:
    """Record of a job in its run's folder.

    Attributes:
        job_id: Id as scontrol accepts it.
        asked: Hash of the config or of the script's words, since Slurm reuses ids for other jobs.
        start: Number of this start, counted from 1.
        requeues: Number of times that the job has requeued itself.
        stalled: Consecutive starts that a fault ended without a new checkpoint.
        checkpoint: Time of last.ckpt at this start in nanoseconds; 0 if there was none.
    """

    job_id: str
    asked: str
    start: int = 0
    requeues: int = 0
    stalled: int = 0
    checkpoint: int = 0


@dataclass(frozen=True)
class JobFolder:
    """Run folder with the records of its job."""

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
        """Return the modification time of last.ckpt in nanoseconds; 0 if there is none."""
        try:
            return RunFolder(self.path).last.stat().st_mtime_ns
        except OSError:
            return 0

    def is_finished(self) -> bool:
        """Return whether the run has been trained and tested to its end."""
        return is_finished(RunFolder(self.path).summary)


def is_this_jobs(path: Path) -> bool:
    """Return whether this process's Slurm job has claimed a folder."""
    allocation, claim = allocations.read(os.environ), JobFolder(path).claim()
    return allocation is not None and claim is not None and claim.job_id == allocation.job_id


def hash_of(asked: Mapping[str, Any]) -> str:
    """Return the hash of a resolved config without its folder and cluster, or of a script's words."""
    content = {key: value for key, value in asked.items() if key not in _NOT_THE_RUNS}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def take(wanted: Path, job_id: str, digest: str, restarts: int) -> tuple[JobFolder, Claim]:
    """Find or create the folder of this job, and count one more start in it.

    The first start of a job never uses an existing folder, since Slurm reuses ids. Later starts use the newest folder
    with a claim of the same job.

    Args:
        wanted: Folder for the job's id; a number is added if another job has claimed it.
        job_id: Id as scontrol accepts it.
        digest: Result of `hash_of` for the config or the script's words.
        restarts: Number of earlier starts of the job.
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


def adopt(path: Path, job_id: str, digest: str) -> tuple[JobFolder, Claim]:
    """Claim the folder of a run to resume for this job, and count one more start in it.

    Args:
        path: Folder of the run.
        job_id: Id as scontrol accepts it.
        digest: Result of `hash_of` for the config.

    Raises:
        UserError: If another process or job trains in the folder.
    """
    folder = JobFolder(path)
    claim = folder.claim()
    if claim is None or (claim.job_id, claim.asked) != (job_id, digest):
        if is_being_trained(path):
            rule = "is being trained by another process or job"
            raise UserError(Fault("resume", rule, "wait until it ends, or stop it first", str(path)))
        claim = Claim(job_id, digest, start=claim.start if claim else 0)  # reports of earlier starts stay apart
    return folder, _started(folder, claim)


def wanted_with(wanted: Path, others: int) -> Path:
    """Return the folder's name if `others` have had it before."""
    return wanted.with_name(f"{wanted.name}.{others + 1}") if others else wanted


def wait_for_the_start_before(folder: JobFolder, limit_s: float = 60.0) -> bool:
    """Wait until the ranks of the previous start have exited, and return whether there was a wait.

    Ranks on a node that Slurm considers lost may still be running.
    """
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
