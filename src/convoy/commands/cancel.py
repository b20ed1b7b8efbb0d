"""convoy cancel: end jobs without requeueing them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from convoy.cluster import slurm_commands
from convoy.commands.declaration.verb import Verb
from convoy.commands.jobs import current
from convoy.config.faults import Fault, UserError


@dataclass(frozen=True)
class Cancel(Verb):
    """Cancel queued or running jobs.

    A cancelled run saves a checkpoint if possible and is not requeued;
    convoy train resume=<folder> resumes it.

      convoy cancel 1234       a job, or a whole array
      convoy cancel 1234_7     one task of an array
      convoy cancel all        all pending and running jobs of output_root
    """

    jobs: list[str] = field(default_factory=list)
    """Job ids, or all."""
    output_root: Path = Path("outputs")
    """Folder with the runs of the jobs."""

    words = "jobs"

    def faults(self) -> Iterator[Fault]:
        """Yield a fault for each word that is not a job id."""
        if not self.jobs:
            yield Fault("jobs", "must be named", "convoy jobs lists them; convoy cancel all cancels all")
        for word in self.jobs:
            if word != "all" and not re.fullmatch(r"\d+(_\d+)?", word):
                yield Fault(word, "is not a job id", "convoy jobs lists them")


ARGUMENTS = Cancel

_UNDER_WAY = ("waiting", "requeued", "running", "configuring", "completing", "suspended")


def run(given: Cancel) -> int:
    """Cancel the jobs."""
    slurm_commands.require("scancel")
    ids = [word for word in given.jobs if word != "all"]
    if "all" in given.jobs:
        ids += [row.job_id for row in current(given.output_root) if row.state in _UNDER_WAY]
    if not ids:
        print("nothing to cancel")
        return 0
    refusal = slurm_commands.cancel(ids)
    if refusal is not None:
        raise UserError(Fault("scancel", f"Slurm reports: {refusal}", "convoy jobs lists the jobs"))
    print(f"cancelled {' '.join(ids)}")
    return 0
