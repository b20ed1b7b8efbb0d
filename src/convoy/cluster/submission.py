"""What `convoy submit` leaves: the script, the resolved config of each task, and a record to find the job by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from convoy.config.faults import Fault, UserError

FOLDER = "submitted"
"""Under output_root: one folder a submission."""


@dataclass(frozen=True)
class Task:
    """One run of a submission.

    Attributes:
        label: what tells it from the others: the values of a sweep's point, else the run's name.
        overrides: what was typed for it.
        config: name of the file with its resolved config.
        folder: of the run, with {job} for the id that sbatch gives.
    """

    label: str
    overrides: list[str]
    config: str
    folder: str

    def folder_of(self, job_id: str) -> str:
        return self.folder.replace("{job}", job_id)


@dataclass(frozen=True)
class Submission:
    """One call of sbatch: a job, or a job array with a task a point.

    Attributes:
        name: of the job.
        submitted: when, in ISO 8601.
        start_folder: from which relative paths are taken.
        tasks: one, or one a point of a sweep.
        is_array: whether it is a job array, which a sweep of one point is too.
        flags: `--config-dir`, where it was given.
        git: commit of the checkout and whether it was clean; None where there is none.
        job_id: that sbatch printed; None before.
    """

    name: str
    submitted: str
    start_folder: str
    tasks: list[Task]
    is_array: bool
    flags: list[str]
    git: dict[str, Any] | None = None
    job_id: str | None = None

    def task(self, index: int | None) -> Task:
        """The task of an array's index.

        Raises:
            UserError: there is none of that index.
        """
        number = index or 0
        if number >= len(self.tasks):
            rule = f"the submission has {len(self.tasks)} points, counted from 0"
            raise UserError(Fault("--array", rule, f"write --array=0-{len(self.tasks) - 1}", str(number)))
        return self.tasks[number]

    def with_job(self, job_id: str) -> Submission:
        return replace(self, job_id=job_id)

    def write(self, folder: Path) -> None:
        partial = folder / ".submission.partial"
        partial.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        partial.replace(folder / "submission.json")

    @staticmethod
    def read(folder: Path) -> Submission:
        """The record in a submission's folder.

        Raises:
            UserError: there is none that can be read.
        """
        try:
            content = json.loads((folder / "submission.json").read_text(encoding="utf-8"))
            tasks = [Task(**task) for task in content.pop("tasks")]
            return Submission(tasks=tasks, **content)
        except (OSError, ValueError, TypeError, KeyError) as error:
            rule = f"submission.json can't be read ({error})"
            raise UserError(Fault("--submission", rule, "send the job anew", str(folder))) from error


def all_under(output_root: Path) -> Iterator[tuple[Path, Submission]]:
    """Every submission that can be read, the oldest first."""
    for path in sorted((output_root / FOLDER).glob("*/submission.json")):
        try:
            yield path.parent, Submission.read(path.parent)
        except UserError:
            continue


def array_of(num_tasks: int, max_parallel: int | None) -> str:
    """Indices of a job array, such as 0-5%2."""
    return f"0-{num_tasks - 1}" + (f"%{max_parallel}" if max_parallel else "")
