"""The jobs of a folder of runs: what Slurm says of them, and what their runs have written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convoy.cluster.run_lease import JobFolder
from convoy.cluster.submission import all_under
from convoy.runs.records import metric_text, progress, read_monitor


@dataclass(frozen=True)
class Queued:
    """Job in the output of squeue.

    Attributes:
        state: State in Slurm's terms, such as PENDING.
        reason: Reason for waiting, or the nodes of a running job.
        elapsed: Time since this start.
        name: Name of the job.
    """

    state: str
    reason: str
    elapsed: str
    name: str = ""


@dataclass(frozen=True)
class Known:
    """Job that was submitted with an output root.

    Attributes:
        job_id: 1234, or 1234_7 for a task of an array.
        what: Values of a sweep's point, or the name of a single run.
        folder: Folder of the run, which may not exist yet; None if the job has not chosen it.
    """

    job_id: str
    what: str
    folder: Path | None


@dataclass(frozen=True)
class Row:
    """Row of `convoy jobs`; a value is None if the run has not reached it."""

    job_id: str
    state: str
    what: str
    folder: Path | None
    epoch: str | None = None
    best: str | None = None
    starts: int = 0
    reason: str = ""


def known_jobs(output_root: Path) -> list[Known]:
    """Return the jobs of `convoy submit`, from their records, and of the scripts, from their folders, oldest first."""
    found: dict[str, Known] = {}
    for _, submission in all_under(output_root):
        if submission.job_id is None:
            continue
        for index, task in enumerate(submission.tasks):
            job_id = f"{submission.job_id}_{index}" if submission.is_array else submission.job_id
            found[job_id] = Known(job_id, task.title, Path(task.folder_of(submission.job_id)))
    for path in [*output_root.glob("*/slurm-*/slurm/job.json"), *output_root.glob("sweeps/slurm-*/*/slurm/job.json")]:
        folder = JobFolder(path.parent.parent)
        claim = folder.claim()
        if claim is not None and (claim.job_id not in found or folder.path.name.count(".")):
            before = found.get(claim.job_id)
            found[claim.job_id] = Known(claim.job_id, before.what if before else folder.path.parent.name, folder.path)
    return sorted(found.values(), key=lambda job: [int(part) for part in job.job_id.split("_") if part.isdigit()])


def waiting_scripts(queue: Mapping[str, Queued], known: Sequence[Known]) -> list[Known]:
    """Return the jobs of the scripts in slurm/, recognized by name, that have not created their run's folder."""
    ids = {job.job_id for job in known}
    return [
        Known(job_id, job.name, None)
        for job_id, job in queue.items()
        if job_id not in ids and job.name.startswith("convoy-")
    ]


def row(job: Known, queued: Queued | None, accounted: str | None) -> Row:
    """Return the row of a job.

    Args:
        job: The job.
        queued: The job in the output of squeue; None if it is not queued.
        accounted: State reported by sacct or scontrol; None if neither reports one.
    """
    if job.folder is None:
        word = state(queued, accounted, 0, finished=False)
        return Row(job.job_id, word, job.what, None, reason=queued.reason if queued else "")
    folder = JobFolder(job.folder)
    claim = folder.claim()
    starts = claim.start if claim else 0
    monitor = read_monitor(job.folder / "config.yaml")
    epoch, value = progress(job.folder / "metrics.csv", monitor)
    best = None if value is None or monitor is None else metric_text(monitor.name, value, monitor.percent)
    return Row(
        job.job_id,
        state(queued, accounted, starts, finished=folder.is_finished()),
        job.what,
        job.folder,
        epoch,
        best,
        starts,
        queued.reason if queued else _ended_by(job.folder, starts),
    )


def state(queued: Queued | None, accounted: str | None, starts: int, *, finished: bool) -> str:
    """Return the state of a job in one word. The run's records are used if Slurm has no record of the job."""
    if queued is not None:
        if queued.state == "PENDING":
            return "requeued" if starts else "waiting"
        return queued.state.lower()
    if finished:
        return "done"
    words = (accounted or "").split()
    return {"COMPLETED": "done", "": "ended"}.get(words[0] if words else "", words[0].lower() if words else "ended")


def queue_of(rows: Sequence[Sequence[str]]) -> Mapping[str, Queued]:
    """Return squeue's rows (id, state, reason, elapsed time and name) by id."""
    return {row[0]: Queued(*row[1:]) for row in rows if len(row) == 5}


def _ended_by(folder: Path, start: int) -> str:
    """Return the error of the first rank that failed in a run's last start."""
    for path in sorted(JobFolder(folder).reports(start).glob("rank-*.json")):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if report.get("kind") == "error":
            return str(report.get("text", ""))
    return ""
