"""convoy jobs: state of submitted jobs."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from convoy.cluster import slurm_commands
from convoy.cluster.job_table import Row, known_jobs, queue_of, row, waiting_scripts
from convoy.commands.declaration.verb import Verb
from convoy.config.faults import Fault, UserError
from convoy.runtime.terminal_output import console

_SHOWN = 30


@dataclass(frozen=True)
class Jobs(Verb):
    """List submitted jobs and their states.

    Lists the last 30 jobs of convoy submit and of the scripts in slurm/ that have
    their runs in output_root. The states are waiting, running, requeued, done,
    failed and cancelled. Each job has its epoch, the best value of the monitored
    metric, and the reason if the job waits or has failed.

      convoy jobs
      convoy jobs all=true
    """

    all: bool = False
    """List all jobs instead of the last 30."""
    output_root: Path = Path("outputs")
    """Folder with the runs of the jobs."""


ARGUMENTS = Jobs


def run(given: Jobs) -> int:
    """Print a table of the jobs."""
    slurm_commands.require("squeue")
    root = given.output_root
    rows = current(root)[0 if given.all else -_SHOWN :]
    if not rows:
        print(f"no jobs under {root}")
        return 0
    console(soft_wrap=True).print(_table(rows))
    return 0


def current(root: Path) -> list[Row]:
    """Return the current state of each job with a run below `root`.

    Raises:
        UserError: if Slurm doesn't answer.
    """
    jobs = known_jobs(root)
    rows = slurm_commands.squeue(f"--user={getpass.getuser()}", "--array", "--format=%i|%T|%R|%M|%j")
    if rows is None:
        raise UserError(Fault("squeue", "Slurm doesn't answer", "try again in a minute"))
    queue = queue_of(rows)
    jobs += waiting_scripts(queue, jobs)
    ended = [job.job_id for job in jobs if job.job_id not in queue]
    accounted = {line[0]: line[1] for line in slurm_commands.sacct(ended, "JobID,State") if len(line) > 1}
    for job_id in ended:
        if job_id not in accounted and (remembered := slurm_commands.job_state(job_id)):
            accounted[job_id] = remembered  # the job ended recently, and Slurm has no accounting
    return [row(job, queue.get(job.job_id), accounted.get(job.job_id)) for job in jobs]


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("job", "state", "starts", "epoch", "best", "run", "folder", ""):
        table.add_column(name, justify="right" if name in ("starts", "epoch", "best") else "left")
    for entry in rows:
        table.add_row(
            entry.job_id,
            entry.state,
            str(entry.starts or "–"),
            entry.epoch or "–",
            entry.best or "–",
            entry.what,
            str(entry.folder or "–"),
            entry.reason,
        )
    return table
