"""Batch step of a job that trains trials of a study: starts one worker, and requeues the job if trials may be left.

The trials are resumed by any worker, so that the job needs no lease: the locks of the trials are enough.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import MutableMapping, Sequence

from convoy.cluster import slurm_commands
from convoy.cluster.allocation import Allocation
from convoy.cluster.reports import Report
from convoy.cluster.requeue_policy import Restarts, decide
from convoy.cluster.supervisor import WAIT_FOR_REQUEUE_S, log

_KEPT = ("SLURM_CONF", "SLURM_CPUS_PER_TASK")


def run_worker(words: Sequence[str], allocation: Allocation, *, max_restarts: int, hang_s: int) -> int:
    """Run a worker to its end and return the exit code of the batch step.

    Args:
        words: of `convoy slurm worker`.
        allocation: of this job.
        max_restarts: largest number of times that the job is requeued.
        hang_s: seconds without a step after which a trial's rank exits.
    """
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)  # Slurm also sends it to the worker
    cpus = (allocation.cpus_per_task or 1) * allocation.tasks_per_node
    step = ["srun", "--nodes=1", "--ntasks=1", f"--cpus-per-task={cpus}", "--cpu-bind=cores"]
    command = [*step, sys.executable, "-m", "convoy.commands.main", "slurm", "worker", *words]
    environment = {**os.environ, "CONVOY_HANG_S": str(hang_s)}
    code = subprocess.run(command, env=environment, check=False).returncode
    code = 128 - code if code < 0 else code
    decision = decide(
        code,
        slurm_commands.job_state(allocation.job_id),
        [Report("stopped" if code > 128 else "error", f"exit code {code}")] if code else [],
        ranks=1,
        progressed=True,
        restarts=Restarts(allocation.restarts, max_restarts),
    )
    log(decision.reason)
    if decision.requeue:
        refusal = slurm_commands.requeue(allocation.job_id)
        if refusal is None:
            time.sleep(WAIT_FOR_REQUEUE_S)  # Slurm ends this script within that time
        log(f"Slurm did not requeue the job: {refusal}")
    return decision.exit_code(code)


def leave_job(environment: MutableMapping[str, str]) -> None:
    """Remove Slurm's variables from an environment, so that trials are not taken for ranks of the job."""
    for name in [name for name in environment if name.startswith("SLURM_") and name not in _KEPT]:
        del environment[name]
