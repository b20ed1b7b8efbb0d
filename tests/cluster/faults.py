"""Faults that are injected into jobs."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.cluster.conftest import ENDED, SMALL, Site

LONG = (*SMALL, "trainer.max_epochs=30", "trainer.global_batch_size=32", "trainer.checkpoint_every_steps=50")
"""1,200 steps: about six seconds with one rank."""

TOTAL_STEPS = 1200
MARGIN = 150
"""Steps that a run may take between a signal and its observed stop."""

ONE = ("--ntasks-per-node=1", "--gres=gpu:a100:1", "--mem=8G")
TWO_NODES = ("--nodes=2", *ONE)


def usr1(site: Site, job_id: str) -> None:
    """Send the signal of --signal=USR1@120, which precedes the time limit."""
    site.host.call("scancel", "--signal=USR1", job_id)


def term(site: Site, job_id: str) -> None:
    site.host.call("scancel", "--signal=TERM", job_id)


def requeue(site: Site, job_id: str) -> None:
    site.host.call("scontrol", "requeue", job_id)


def preempt(site: Site, job_id: str) -> None:
    """Preempt a job by one in a partition of higher priority."""
    nodes = site.host.job(job_id)["NodeList"]
    count = site.host.job(job_id)["NumNodes"]
    site.host.call(
        "sbatch",
        "--partition=urgent",
        f"--nodelist={nodes}",
        f"--nodes={count}",
        "--exclusive",
        "--time=1",
        "--output=/dev/null",
        "--wrap=sleep 1",
    )


def kill(site: Site, job_id: str) -> None:
    """Kill the process of a rank, so that no handler runs and no checkpoint is written."""
    restarts = int(site.host.job(job_id)["Restarts"])
    steps = site.host.call("squeue", "--steps", "--noheader", f"--jobs={job_id}", "--format=%i").split()
    ranks = [step for step in steps if step.partition(".")[2].isdigit()]
    assert ranks, f"no step of start {restarts + 1} runs"
    site.host.call("scancel", "--signal=KILL", *ranks)


def kill_one_rank(site: Site, job_id: str) -> None:
    """Kill the second rank; the first learns of it from its connection, or from srun, which ends it."""
    of_host = f"SLURM_CONF={site.host.environment['SLURM_CONF']}"
    wanted = {of_host.encode(), f"SLURM_JOB_ID={job_id}".encode(), b"SLURM_PROCID=1"}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted <= set((folder / "environ").read_bytes().split(b"\0")):
                os.kill(int(folder.name), signal.SIGKILL)
                return
    raise AssertionError("no second rank runs")


def lose_node(site: Site, job_id: str) -> None:
    """Kill the first node's slurmd; its ranks keep running, and Slurm requeues the job when it notices."""
    first = site.host.call("scontrol", "show", "hostnames", site.host.job(job_id)["NodeList"]).split()[0]
    site.host.kill_node(first)
    before = int(site.host.job(job_id)["Restarts"])
    site.wait_until(lambda: int(site.host.job(job_id)["Restarts"]) > before, job_id, 120)
    site.host.start_node(first)


Fault = Callable[[Site, str], None]


def strike(site: Site, plans: Mapping[str, Sequence[tuple[Fault, int]]]) -> None:
    """Inject the faults of each job, each one when the start after the previous fault has reached its step."""
    left = {job_id: list(enumerate(plan)) for job_id, plan in plans.items()}
    end = time.monotonic() + 60 * max(map(len, plans.values()))
    while any(left.values()):
        for job_id, waiting in left.items():
            if not waiting:
                continue
            number, (fault, step) = waiting[0]
            job = site.host.job(job_id)
            assert job["JobState"] not in ENDED, f"{job['JobState']} before step {step}\n{site.log(job_id)}"
            assert time.monotonic() < end, f"fault {number} at step {step} of {job}\n{site.log(job_id)}"
            is_here = job["JobState"] == "RUNNING" and int(job["Restarts"]) == number
            if is_here and has_trained(site, job_id, number + 1, step):
                fault(site, job_id)
                waiting.pop(0)
        time.sleep(0.02)


def has_trained(site: Site, job_id: str, start: int, step: int) -> bool:
    """Return whether that start of a job, counted from 1, has trained, and the run has reached that step.

    A start finds the rows of the ones before it in metrics.csv, which may be beyond the step.
    """
    _, _, log = site.log(job_id).rpartition(f", start {start}, folder ")
    return "\nfolder  " in log and site.step(job_id) >= max(step, 1 + max(resumed_steps(log), default=0))


def resumed_steps(log: str) -> list[int]:
    """Return the steps after which the starts of a run resumed."""
    return [int(line.rpartition(" ")[2]) for line in log.splitlines() if line.startswith("resuming after step ")]


def wait_until_cancelled(site: Site, job_id: str) -> None:
    """Wait until a job has been out of the queue for 3 s, so that a requeue would have been observed."""
    site.wait_for(job_id, 60)
    end = time.monotonic() + 3
    site.wait_until(lambda: time.monotonic() > end, job_id)


def folder_bytes(path: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
