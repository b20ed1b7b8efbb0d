"""States of runs: from their locks and records, and from Slurm for the runs of jobs."""

from __future__ import annotations

import getpass
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convoy.cluster import slurm_commands
from convoy.cluster.job_table import Queued, queue_of
from convoy.cluster.submission import FOLDER, Task, all_under
from convoy.runs.lock import has_lease, is_locked
from convoy.runs.run_facts import RunFacts, read_config_facts, read_facts
from convoy.runs.run_index import read_runs

STATES = ("running", "finished", "failed", "queued", "preempted", "stopped")
"""A queued job has not started its run; a preempted one waits in Slurm's queue to resume it, or was ended by Slurm for
another job. A run that ended without a word, such as one that was killed, has failed."""


@dataclass(frozen=True)
class ListedRun:
    """Run with its state.

    Attributes:
        facts: facts of its files.
        state: one of `STATES`.
        may_start: whether a Slurm job may start in its folder at any time.
    """

    facts: RunFacts
    state: str
    may_start: bool = False


def list_runs(output_root: Path) -> list[ListedRun]:
    """Return all runs below an output root, and the queued jobs of `convoy submit` that will start one there."""
    found = read_runs(output_root)
    queue = _queue(output_root, found)
    ended = _accounted(found, queue or {})
    listed = [_listed(f"{output_root}/{facts.path}", facts, queue, ended) for facts in found]
    if queue:
        listed += _waiting(output_root, queue, {facts.job_id for facts in found})
    return listed


def list_run(folder: Path, path: str) -> ListedRun:
    """Return one run with its state.

    Args:
        folder: folder of the run.
        path: name of the folder in tables.
    """
    facts = read_facts(folder, path)
    queue = _queue(None, [facts])
    return _listed(os.fspath(folder), facts, queue, _accounted([facts], queue or {}))


def _queue(output_root: Path | None, found: Sequence[RunFacts]) -> Mapping[str, Queued] | None:
    """Return Slurm's queue by job, empty without jobs; None if there are jobs and Slurm doesn't answer."""
    has_jobs = any(facts.job_id for facts in found)
    if not has_jobs and (output_root is None or not (output_root / FOLDER).is_dir()):
        return {}
    if shutil.which("squeue") is None:
        return None
    rows = slurm_commands.squeue(f"--user={getpass.getuser()}", "--array", "--format=%i|%T|%R|%M|%j")
    return None if rows is None else queue_of(rows)


def _accounted(found: Sequence[RunFacts], queue: Mapping[str, Queued]) -> dict[str, str]:
    """Return the states that Slurm's accounting has of the jobs that ended before their run was finished."""
    ids = [facts.job_id for facts in found if facts.job_id and facts.job_id not in queue and facts.status != "finished"]
    return {row[0]: row[1] for row in slurm_commands.sacct(ids, "JobID,State") if len(row) > 1}


def _listed(
    folder: str, facts: RunFacts, queue: Mapping[str, Queued] | None, accounted: Mapping[str, str]
) -> ListedRun:
    job = queue.get(facts.job_id) if queue and facts.job_id else None
    may_start = facts.job_id is not None and (queue is None or job is not None)
    is_running = is_locked(folder) or (facts.job_id is not None and has_lease(folder))
    if is_running or (job is not None and job.state != "PENDING"):
        return ListedRun(facts, "running", may_start)
    if facts.status == "finished":
        return ListedRun(facts, "finished", may_start)
    if job is not None:
        return ListedRun(facts, "preempted", may_start)
    words = accounted.get(facts.job_id or "", "").split()
    by_slurm = {"PREEMPTED": "preempted", "CANCELLED": "stopped"}.get(words[0] if words else "")
    return ListedRun(facts, by_slurm or ("stopped" if facts.status == "stopped" else "failed"), may_start)


def _waiting(root: Path, queue: Mapping[str, Queued], started: Collection[str | None]) -> Iterator[ListedRun]:
    """Yield the tasks of submissions that wait for their first start."""
    for folder, submission in all_under(root):
        for index, task in enumerate(submission.tasks):
            job_id = f"{submission.job_id}_{index}" if submission.is_array else submission.job_id
            if job_id is not None and job_id in queue and job_id not in started:
                yield _of_task(root, folder, task, submission.job_id or "", submission.submitted)


def _of_task(root: Path, folder: Path, task: Task, job_id: str, submitted: str) -> ListedRun:
    path = os.path.relpath(Path(task.folder_of(job_id)).absolute(), root.absolute())
    facts = RunFacts(path, read_config_facts(folder / task.config), started=submitted, job_id=job_id)
    return ListedRun(facts, "queued", may_start=True)
