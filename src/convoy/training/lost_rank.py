"""Loss of a rank, as the other ranks see it: an error of the connection in the middle of an operation."""

from __future__ import annotations

import os

from convoy.cluster import reports
from convoy.config.faults import one_line
from convoy.runtime.rank_watch import LOST, WATCH, Loss

_WAIT_S = 5.0
"""Longest time from an error of the connection to the end of the lost rank's process."""


def lost_rank(error: Exception) -> Loss | None:
    """Return the loss behind an error of a data-parallel run; None if the error is this rank's.

    In a Slurm job its exit code is LOST: the rank reports a loss, and the batch step requeues the job.
    """
    if reports.of_exception(error).kind != "lost":
        return None
    cause = one_line(error).partition(". ")[0]  # gloo adds advice
    text = f"the connection to another rank is lost ({cause})"
    if reports.START in os.environ:
        rank = reports.Rank(os.environ)
        rank.end(reports.of_exception(error))  # now, since srun soon ends this rank with SIGTERM
        return Loss(text if rank.is_first_to_report_loss() else "", LOST)
    is_watched = WATCH.has_ranks
    loss = WATCH.take_over(_WAIT_S)
    if loss is None and is_watched and "LOCAL_RANK" in os.environ and os.environ["LOCAL_RANK"] != "0":
        return Loss("", LOST)  # the first rank knows which one is lost
    return loss or Loss(text)
