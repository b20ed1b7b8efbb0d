"""Policy for a job whose ranks have ended: done, failed, requeued, or left to Slurm."""

from __future__ import annotations

import signal
from collections.abc import Collection
from dataclasses import dataclass

from convoy.cluster.reports import Report

_MAX_STALLED = 2
_TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Decision:
    """Decision about a job after its ranks have ended.

    Attributes:
        requeue: True to requeue the job.
        reason: Reason in one line, for the log.
        stalled: Consecutive starts, including this one, that a fault ended without a new checkpoint.
        done: True if the results are complete.
        failed: True if a rank reported a program error.
    """

    requeue: bool
    reason: str
    stalled: int = 0
    done: bool = False
    failed: bool = False

    def exit_code(self, code: int) -> int:
        """Return the exit code of the batch step for an exit code of srun.

        It is 1 after a program error, where srun returns the code of the ranks that it killed.
        """
        if self.done:
            return 0
        return 1 if self.failed else code or 1


@dataclass(frozen=True)
class Restarts:
    """Restarts of a job so far, and their limit.

    Attributes:
        requeues: Number of times the job has requeued itself.
        limit: Largest number of times that it may (`max_restarts`).
        stalled: Consecutive starts, up to the last one, that a fault ended without a new checkpoint.
    """

    requeues: int
    limit: int
    stalled: int = 0


def decide(
    code: int,
    job_state: str | None,
    reports: Collection[Report],
    *,
    ranks: int,
    progressed: bool,
    restarts: Restarts,
    finished: bool = False,
) -> Decision:
    """Decide whether a job is requeued after a start has ended.

    Args:
        code: Exit code of srun, the highest of all ranks, and not that of the rank that failed first: srun ends the
            others with SIGTERM, so a crash (139) can read as 143. A rank that stopped after a checkpoint exits with
            0, so that srun does not kill the others while they exit.
        job_state: Slurm's state of the job; None if Slurm does not answer.
        reports: Reports of the ranks that wrote one.
        ranks: Number of ranks that srun started. One without a report was killed, has crashed or did not start.
        progressed: True if last.ckpt is newer than this start.
        restarts: Restarts of the job before this start.
        finished: True if the results of the run are complete.
    """
    kinds = {report.kind for report in reports}
    if code == 0 and not kinds & {"stopped", "terminated"}:
        return Decision(False, "done", done=True)
    errors = [report.text for report in reports if report.kind == "error"]
    if finished and not errors:
        return Decision(False, f"done; then a rank was ended (exit code {code} of srun)", done=True)
    if job_state is not None and job_state != "RUNNING":
        # scancel, or a requeue by Slurm. Requeueing here would restart a cancelled job.
        return Decision(False, f"Slurm has ended this start ({job_state})")
    if errors:
        return Decision(False, f"failed: {errors[0]}", failed=True)
    is_lost = "lost" in kinds or (code != 0 and 0 < len(reports) < ranks)
    stalled = 0 if progressed else restarts.stalled
    if not is_lost and "stopped" in kinds:
        cause = "stopped after a checkpoint"
    elif not is_lost and ("terminated" in kinds or code == _TERMINATED):
        cause = "ended by a signal before it could save"  # preempted while starting: not a fault
    else:
        stalled = 0 if progressed else restarts.stalled + 1
        cause = f"{'lost a rank' if is_lost else 'ended unexpectedly'} (exit code {code} of srun)"
        if stalled >= _MAX_STALLED:
            return Decision(False, f"{cause}, {stalled} times in a row without a new checkpoint; not requeued", stalled)
    if restarts.requeues >= restarts.limit:
        return Decision(False, f"{cause}; not requeued: max_restarts={restarts.limit} is reached", stalled)
    return Decision(True, f"{cause}; requeued ({restarts.requeues + 1} of at most {restarts.limit})", stalled)
