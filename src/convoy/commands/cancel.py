"""convoy cancel: ends jobs, which then stay ended."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from convoy.cluster import slurm_commands
from convoy.commands.jobs import current
from convoy.config.faults import Fault, UserError

_HELP = """\
usage: convoy cancel <job> [<job> ...] | all [output_root=outputs]

  convoy cancel 1234       a job, or a whole array
  convoy cancel 1234_7     one task of it
  convoy cancel all        all jobs of output_root that wait or run

A run that is cancelled saves a checkpoint if it can, and is not queued again:
convoy train resume=<folder> goes on with it."""

_UNDER_WAY = ("waiting", "requeued", "running", "configuring", "completing", "suspended")


def run(words: Sequence[str]) -> int:
    """Cancel the jobs that are named."""
    if not words or any(word in ("-h", "--help") for word in words):
        print(_HELP)
        return 0
    root = next((Path(word.partition("=")[2]) for word in words if word.startswith("output_root=")), Path("outputs"))
    named = [word for word in words if not word.startswith("output_root=")]
    wrong = [word for word in named if word != "all" and not re.fullmatch(r"\d+(_\d+)?", word)]
    if wrong:
        raise UserError(*(Fault(word, "is no job's id", "convoy jobs lists them") for word in wrong))
    slurm_commands.require("scancel")
    ids = [word for word in named if word != "all"]
    if "all" in named:
        ids += [row.job_id for row in current(root) if row.state in _UNDER_WAY]
    if not ids:
        print("nothing to cancel")
        return 0
    refusal = slurm_commands.cancel(ids)
    if refusal is not None:
        raise UserError(Fault("scancel", f"Slurm says: {refusal}", "convoy jobs lists what is queued"))
    print(f"cancelled {' '.join(ids)}")
    return 0
