"""Batch step of a job: starts the ranks, waits for them, and requeues the job if the policy says so.

Nothing else requeues a job: Lightning's requeue is off (`training/trainer.py`), and the ranks only save and exit.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import FrameType

from convoy.cluster import reports, slurm_commands
from convoy.cluster.allocation import Allocation
from convoy.cluster.requeue_policy import Restarts, decide
from convoy.cluster.run_lease import Claim, JobFolder

_FIRST_PORT, _NUM_PORTS = 20000, 10000
WAIT_FOR_REQUEUE_S = 120


def supervise(
    words: Sequence[str],
    allocation: Allocation,
    folder: JobFolder,
    claim: Claim,
    *,
    max_restarts: int,
    hang_s: int,
    group: str | None = None,
) -> int:
    """Run the ranks to their end and return the exit code of the batch step.

    Args:
        words: Arguments of `convoy train`, the same for every rank.
        allocation: Allocation of this job.
        folder: Run folder.
        claim: Claim of this start on the folder.
        max_restarts: Largest number of times that the job may requeue itself.
        hang_s: Seconds without a step after which a rank exits.
        group: W&B group of the run; None for no group.
    """
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _ignore)
    environment = rank_environment(os.environ, allocation, folder, claim, hang_s, group)
    code = subprocess.run(srun_words(allocation, words), env=environment, check=False).returncode
    code = 128 - code if code < 0 else code
    decision = decide(
        code,
        slurm_commands.job_state(allocation.job_id),
        list(reports.read(folder, claim.start).values()),
        ranks=allocation.nodes * allocation.tasks_per_node,
        progressed=folder.checkpoint_time() > claim.checkpoint,
        restarts=Restarts(claim.requeues, max_restarts, claim.stalled),
        finished=folder.is_finished(),
    )
    log(decision.reason)
    if decision.done:
        return 0
    latest = folder.claim()
    if latest is not None and latest.start != claim.start:
        return decision.exit_code(code)  # another start has the folder now
    folder.alive.unlink(missing_ok=True)  # all ranks have ended, so the next start does not have to wait
    folder.write(replace(claim, requeues=claim.requeues + decision.requeue, stalled=decision.stalled))
    if decision.requeue:
        refusal = slurm_commands.requeue(allocation.job_id)
        if refusal is None:
            time.sleep(WAIT_FOR_REQUEUE_S)  # Slurm ends this script within that time
        log(f"Slurm did not requeue the job: {refusal}")
    return decision.exit_code(code)


def srun_words(allocation: Allocation, words: Sequence[str]) -> list[str]:
    """Return the srun command that starts one rank per GPU.

    Since Slurm 22.05, srun does not inherit --cpus-per-task from the batch script, so it is repeated. A rank that
    fails ends the others (--kill-on-bad-exit), which would otherwise wait for it forever.
    """
    cpus = [f"--cpus-per-task={allocation.cpus_per_task}", "--cpu-bind=cores"] if allocation.cpus_per_task else []
    ranks = [f"--nodes={allocation.nodes}", f"--ntasks-per-node={allocation.tasks_per_node}"]
    command = [sys.executable, "-m", "convoy.commands.main", "slurm", "rank", "--", *words]
    return ["srun", *ranks, *cpus, "--kill-on-bad-exit=1", *command]


def rank_environment(
    own: Mapping[str, str], allocation: Allocation, folder: JobFolder, claim: Claim, hang_s: int, group: str | None
) -> dict[str, str]:
    """Return the environment of the ranks: rendezvous address and port, run folder, and number of this start."""
    added = {
        reports.FOLDER: str(folder.path),
        reports.START: str(claim.start),
        "CONVOY_HANG_S": str(hang_s),
        "MASTER_ADDR": own.get("MASTER_ADDR") or slurm_commands.first_host(allocation.node_list),
        "MASTER_PORT": own.get("MASTER_PORT") or str(free_port(allocation.job_id, claim.start)),
        # A NumPy or OpenMP thread pool of the default size next to torch's would oversubscribe the rank's CPUs.
        "OMP_NUM_THREADS": own.get("OMP_NUM_THREADS") or str(allocation.cpus_per_task or 1),
    }
    if group is not None:
        added["WANDB_RUN_GROUP"] = group
    return {**own, **added}


def free_port(job_id: str, start: int) -> int:
    """Return a port derived from the job's id, or the next one that is free on this node, the job's first."""
    number = int("".join(character for character in job_id if character.isdigit())) * 7 + start
    for offset in range(100):
        port = _FIRST_PORT + (number + offset) % _NUM_PORTS
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    return _FIRST_PORT + number % _NUM_PORTS


def log(text: str) -> None:
    """Print a line with Convoy's prefix to the job's log."""
    print(f"convoy: {text}", flush=True)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Ignore a signal that Slurm also sends to the ranks; the batch step waits for their end."""
