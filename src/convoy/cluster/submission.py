"""Record of one `convoy submit`: its tasks with their resolved configs, and the job's id."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from convoy.config.faults import Fault, UserError
from convoy.runs.whole_files import replace_text

FOLDER = "submitted"
"""Folder under output_root that holds one folder per submission."""


@dataclass(frozen=True)
class Task:
    """One run of a submission.

    Attributes:
        title: Values of the sweep's point, or the run's name outside of a sweep.
        overrides: Overrides as typed.
        config: Name of the file with the resolved config.
        folder: Run folder, with {job} in place of the id that sbatch returns.
        resumes: Whether the folder is that of a run to resume, with the overrides.
    """

    title: str
    overrides: list[str]
    config: str
    folder: str
    resumes: bool = False

    def folder_of(self, job_id: str) -> str:
        """Return the run folder for a job id."""
        return self.folder.replace("{job}", job_id)


@dataclass(frozen=True)
class Submission:
    """One call of sbatch: a job, or a job array with one task per point of a sweep.

    Attributes:
        name: Name of the job.
        submitted: Time of submission in ISO 8601.
        start_folder: Folder that relative paths refer to.
        tasks: One task, or one per point of a sweep.
        is_array: True for a job array, including a sweep of one point.
        flags: `--config-dir` with its value, if given.
        git: Commit of the checkout and whether it was clean; None outside of a checkout.
        job_id: Id that sbatch returned; None before submission.
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
        """Return the task at an index of the array; None means 0.

        Raises:
            UserError: If the index is out of range.
        """
        number = index or 0
        if number >= len(self.tasks):
            rule = f"the submission has {len(self.tasks)} points, counted from 0"
            raise UserError(Fault("--array", rule, f"write --array=0-{len(self.tasks) - 1}", str(number)))
        return self.tasks[number]

    def part(self, indices: Sequence[int], first_job_id: str | None) -> Submission:
        """Return a submission of some of the tasks, whose folders are next to those of the sweep's first array.

        Args:
            indices: Indices of the tasks.
            first_job_id: Job id of the first array; None for that array itself.
        """
        tasks = [self.tasks[index] for index in indices]
        if first_job_id is not None:
            tasks = [replace(task, folder=task.folder_of(first_job_id)) for task in tasks]
        return replace(self, tasks=tasks)

    def with_job(self, job_id: str) -> Submission:
        """Return a copy with the id that sbatch returned."""
        return replace(self, job_id=job_id)

    def write(self, folder: Path) -> None:
        """Write submission.json atomically into the submission's folder."""
        replace_text(folder / "submission.json", json.dumps(asdict(self), indent=2) + "\n")

    @staticmethod
    def read(folder: Path) -> Submission:
        """Read submission.json from a submission's folder.

        Raises:
            UserError: If the file is missing or can't be parsed.
        """
        try:
            content = json.loads((folder / "submission.json").read_text(encoding="utf-8"))
            tasks = [Task(**task) for task in content.pop("tasks")]
            return Submission(tasks=tasks, **content)
        except (OSError, ValueError, TypeError, KeyError) as error:
            rule = f"submission.json can't be read ({error})"
            raise UserError(Fault("--submission", rule, "submit the job again", str(folder))) from error


def all_under(output_root: Path) -> Iterator[tuple[Path, Submission]]:
    """Yield the folder and record of each readable submission, oldest first."""
    for path in sorted((output_root / FOLDER).glob("*/submission.json")):
        try:
            yield path.parent, Submission.read(path.parent)
        except UserError:
            continue


def array_sizes(num_tasks: int, max_array_size: int | None, max_queued: int | None) -> list[int]:
    """Return the numbers of tasks of the arrays that a sweep is split into, as equal as possible.

    Args:
        num_tasks: Number of points.
        max_array_size: Largest number of tasks of one array; None for no limit.
        max_queued: Largest number of waiting jobs; None for no limit.
    """
    most = min(num_tasks, *(limit for limit in (max_array_size, max_queued) if limit is not None), num_tasks)
    count = -(-num_tasks // most)
    return [num_tasks // count + (index < num_tasks % count) for index in range(count)]


def array_of(num_tasks: int, max_parallel: int | None) -> str:
    """Return the indices of a job array for sbatch, such as 0-5%2."""
    return f"0-{num_tasks - 1}" + (f"%{max_parallel}" if max_parallel else "")
