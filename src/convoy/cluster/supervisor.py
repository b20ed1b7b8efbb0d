"""The batch step of a job: starts the ranks, waits for them, and requeues the job where that is right.

It is the only one that requeues: Lightning's own requeue is off (`training/trainer.py`), and the ranks only save
and leave.
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
from convoy.cluster.requeue_policy import decide
from convoy.cluster.run_lease import Claim, JobFolder

_FIRST_PORT, _NUM_PORTS = 20000, 10000
_WAIT_FOR_REQUEUE_S = 120


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
    """Run the ranks to their end; the exit code of the batch step.

    Args:
        words: of `convoy train`, for every rank.
        allocation: of this job.
        folder: the run's.
        claim: this start's.
        max_restarts: how often the job may requeue itself.
        hang_s: seconds without a step after which a rank gives up.
        group: of the record in W&B; None: none.
    """
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _outlive)
    environment = rank_environment(os.environ, allocation, folder, claim, hang_s, group)
    code = subprocess.run(srun_words(allocation, words), env=environment, check=False).returncode
    code = 128 - code if code < 0 else code
    verdict = decide(
        code,
        slurm_commands.job_state(allocation.job_id),
        list(reports.read(folder, claim.start).values()),
        progressed=folder.checkpoint_time() > claim.checkpoint,
        stalled=claim.stalled,
        requeues=claim.requeues,
        max_restarts=max_restarts,
    )
    say(verdict.reason)
    if verdict.done:
        return 0
    latest = folder.claim()
    if latest is not None and latest.start != claim.start:
        return verdict.exit_code(code)  # another start has the folder now
    folder.alive.unlink(missing_ok=True)  # srun has seen all ranks end, so the next start need not wait for them
    folder.write(replace(claim, requeues=claim.requeues + verdict.requeue, stalled=verdict.stalled))
    if verdict.requeue:
        refusal = slurm_commands.requeue(allocation.job_id)
        if refusal is None:
            time.sleep(_WAIT_FOR_REQUEUE_S)  # Slurm ends this script within it
        say(f"Slurm did not requeue the job: {refusal}")
    return verdict.exit_code(code)


def srun_words(allocation: Allocation, words: Sequence[str]) -> list[str]:
    """The command that starts a rank on each GPU.

    srun takes --cpus-per-task from the batch script only before Slurm 22.05, so it is said again. A rank that
    fails ends the others, which would wait for it for ever.
    """
    cpus = [f"--cpus-per-task={allocation.cpus_per_task}", "--cpu-bind=cores"] if allocation.cpus_per_task else []
    ranks = [f"--nodes={allocation.nodes}", f"--ntasks-per-node={allocation.tasks_per_node}"]
    command = [sys.executable, "-m", "convoy.commands.main", "slurm", "rank", "--", *words]
    return ["srun", *ranks, *cpus, "--kill-on-bad-exit=1", *command]


def rank_environment(
    own: Mapping[str, str], allocation: Allocation, folder: JobFolder, claim: Claim, hang_s: int, group: str | None
) -> dict[str, str]:
    """The environment of the ranks: where they meet, which folder is theirs, and which start this is."""
    added = {
        reports.FOLDER: str(folder.path),
        reports.START: str(claim.start),
        "CONVOY_HANG_S": str(hang_s),
        "MASTER_ADDR": own.get("MASTER_ADDR") or slurm_commands.first_host(allocation.node_list),
        "MASTER_PORT": own.get("MASTER_PORT") or str(free_port(allocation.job_id, claim.start)),
        # Another NumPy or OpenMP pool beside torch's would take more CPUs than the rank has.
        "OMP_NUM_THREADS": own.get("OMP_NUM_THREADS") or str(allocation.cpus_per_task or 1),
    }
    if group is not None:
        added["WANDB_RUN_GROUP"] = group
    return {**own, **added}


def free_port(job_id: str, start: int) -> int:
    """A port that follows from the job's id, or the next that is free on this node, which is the first."""
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


def say(text: str) -> None:
    """A line of Convoy's own in the job's log."""
    print(f"convoy: {text}", flush=True)


def _outlive(number: int, frame: FrameType | None) -> None:
    """Slurm tells the ranks to leave; the batch step stays to see how they do."""
