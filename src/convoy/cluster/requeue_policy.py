"""What becomes of a job whose ranks have ended: done, failed, requeued, or left to Slurm."""

from __future__ import annotations

import signal
from collections.abc import Collection
from dataclasses import dataclass

from convoy.cluster.reports import Report

_MOST_STALLED = 2
_TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Verdict:
    """What is to be done, and why.

    Attributes:
        requeue: whether the job starts again.
        reason: one line for the log.
        stalled: starts in a row, this one included, that a fault cut off without a new checkpoint.
        done: whether all ranks came to their end.
        failed: whether a rank told of a program error.
    """

    requeue: bool
    reason: str
    stalled: int = 0
    done: bool = False
    failed: bool = False

    def exit_code(self, code: int) -> int:
        """Of the batch step, from srun's: 1 for a program error, behind which srun shows the kill of other ranks."""
        if self.done:
            return 0
        return 1 if self.failed else code or 1


def decide(
    code: int,
    job_state: str | None,
    reports: Collection[Report],
    *,
    progressed: bool,
    stalled: int,
    requeues: int,
    max_restarts: int,
) -> Verdict:
    """Judge the end of a start.

    Args:
        code: of srun: the highest of the ranks'. A rank that stopped behind a checkpoint gives 0, so that srun
            doesn't kill the others while they leave.
        job_state: Slurm's own word; None where it can't be asked.
        reports: of the ranks that could tell how they ended.
        progressed: whether last.ckpt is newer than this start.
        stalled: starts before this one, in a row, that a fault cut off without a checkpoint.
        requeues: how often the job has requeued itself.
        max_restarts: how often it may.
    """
    stopped = any(report.kind == "stopped" for report in reports)
    if code == 0 and not stopped:
        return Verdict(False, "done", done=True)
    if job_state is not None and job_state != "RUNNING":
        # scancel, or a requeue of Slurm's own. To requeue now would bring a cancelled job back to life.
        return Verdict(False, f"Slurm has ended this start ({job_state})")
    errors = [report.text for report in reports if report.kind == "error"]
    if errors:
        return Verdict(False, f"failed: {errors[0]}", failed=True)
    if stopped:
        cause = "stopped behind a checkpoint"
    elif code == _TERMINATED:
        cause = "ended by SIGTERM before it could save"  # preempted while it was starting: no fault of its own
    else:
        stalled = 0 if progressed else stalled + 1
        cause = f"cut off (srun's exit code {code})"
        if stalled >= _MOST_STALLED:
            return Verdict(False, f"{cause}, {stalled} times in a row without a new checkpoint: given up", stalled)
        return _within_budget(cause, stalled, requeues, max_restarts)
    return _within_budget(cause, 0 if progressed else stalled, requeues, max_restarts)


def _within_budget(cause: str, stalled: int, requeues: int, max_restarts: int) -> Verdict:
    if requeues >= max_restarts:
        return Verdict(False, f"{cause}; the budget of {max_restarts} restarts is spent", stalled)
    return Verdict(True, f"{cause}; requeued ({requeues + 1} of at most {max_restarts})", stalled)
