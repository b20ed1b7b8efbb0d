"""convoy submit: check, price and queue a run as a Slurm job, or a sweep as a job array."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

from convoy.cluster import kernels, script, slurm_commands
from convoy.cluster.checks import check_config, check_request
from convoy.cluster.cost import cost_of, cost_text
from convoy.cluster.request import Request, request_of, the_cluster
from convoy.cluster.submission import Submission, Task, array_of, array_sizes
from convoy.commands.declaration.verb import AtLeast, Call, Verb
from convoy.commands.submission.submit_plan import memory_lines
from convoy.commands.submission.submit_steps import (
    composed,
    new_folder,
    run_to_resume,
    send,
    submission_of,
    test_script,
    with_cluster,
    without_lookup,
    write_submission,
)
from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.config.schema import Config
from convoy.config.sweep_points import points, varied
from convoy.runs.layout import shown
from convoy.training.resume import is_resume


@dataclass(frozen=True)
class Submit(Verb):
    """Check a run or a sweep, print its cost, and queue it.

    A run becomes a Slurm job, a sweep a job array. account, time, partition, mem
    and the other keys of cluster.job are written without their prefix;
    convoy train --help cluster lists them. Store personal defaults in
    conf/cluster/local.yaml, which is used if it exists. A study becomes a job
    array whose tasks take trials from it until none is left.

      convoy submit model=resnet50 hardware=a100_80gb trainer.nodes=2 time=12:00:00
      convoy submit -m model=vgg16,resnet50 optimizer.lr=0.1,0.01 hardware=v100
      convoy submit resume=outputs/resnet50/<run> hardware=a100
      convoy submit study=mine.yaml workers=4 hardware=v100 trainer.gpus=1
    """

    dry_run: bool = False
    """Print the script and the cost without queueing the job."""
    wait: bool = False
    """Wait until the job has ended, and print its log."""
    max_parallel: Annotated[int, AtLeast(1)] | None = None
    """With -m: number of tasks that run at the same time; null for all."""

    study: str | None = None
    """Study as in convoy search, or the folder of one that exists."""
    trials: Annotated[int, AtLeast(1)] | None = None
    """With study: number of trials; null for that of the study."""
    workers: Annotated[int, AtLeast(1)] | None = None
    """With study: number of tasks, each of which trains one trial at a time;
    null for 1."""

    overrides = None
    flags = ("--multirun",)

    def faults(self) -> Iterator[Fault]:
        """Yield the faults of keys that belong to a study."""
        for key in ("trials", "workers"):
            if self.study is None and getattr(self, key) is not None:
                remedy = "write max_parallel=… for the tasks at the same time" if key == "workers" else "omit it"
                yield Fault(
                    key, "applies to a study", f"{remedy}, or add study=<file or name>", str(getattr(self, key))
                )


ARGUMENTS = Submit


@dataclass(frozen=True)
class _Point:
    """Overrides of one run, and the composed config."""

    overrides: list[str]
    config: Config


def run(given: Submit, call: Call) -> int:
    """Check the config, print the cost, and queue the job."""
    if given.study is not None:
        from convoy.commands.submission.submit_study import StudyArray, submit_study

        asked = StudyArray(given.study, given.trials, given.workers or 1, given.max_parallel)
        return submit_study(asked, call, dry_run=given.dry_run, waits=given.wait)
    overrides = with_cluster(call.overrides, call.options)
    is_array = call.multirun
    if is_array and is_resume(overrides):
        raise UserError(Fault("resume", "applies to a single run, not to a sweep", "omit -m"))
    combinations = points(overrides, call.options) if is_array else [overrides]
    found = _checked(combinations, call.options)
    request = _the_request(found)
    config = found[0].config
    cluster = the_cluster(config)
    cost = cost_text(request, cost_of(request, cluster, len(found)), len(found))
    name = config.name if len({point.config.name for point in found}) == 1 else "sweep"
    limit = cluster.partitions[request.partition].max_queued
    parts = _parts(found, array_sizes(len(found), cluster.max_array_size, limit))
    first = new_folder(config.output_root)
    folders = [first.with_name(f"{first.name}.{number}") if number else first for number in range(len(parts))]
    texts = []
    for part, folder in zip(parts, folders, strict=True):
        array = array_of(len(part), given.max_parallel) if is_array else None
        texts.append(script.job(request, cluster, name, str(Path.cwd()), str(folder), array))
    if given.dry_run:
        print("\n".join([*texts, cost]))
        return 0
    slurm_commands.require()
    memory = memory_lines([point.config for point in found])
    print(cost)
    for line in memory:
        print(line)
    test_script(texts[0])
    keys = varied(overrides, call.options) if is_array else []
    tasks = [_task(index, point, keys, is_array=is_array) for index, point in enumerate(found)]
    whole = submission_of(name, tasks, call, is_array=is_array)
    sent: list[tuple[str, Path]] = []
    num_queued = 0
    for part, folder, text in zip(parts, folders, texts, strict=True):
        configs = [point.config for point in part]
        indices = range(num_queued, num_queued + len(part))
        submission = whole.part(indices, sent[0][0] if sent else None)
        num_queued += len(part)
        reason = f"above the {limit} waiting jobs of {request.partition}"
        if limit is None or num_queued <= limit:
            try:
                if sent:
                    test_script(text)  # answers at once where sbatch waits for minutes, as in a full queue
                sent.append((send(submission, configs, text, folder), folder))
                _print_job(submission, *sent[-1])
                continue
            except UserError as error:
                if not sent:
                    raise
                reason = str(error)
        write_submission(submission, configs, text, folder)
        print(f"later   sbatch {shown(folder)}/job.sbatch ({reason})")
    if given.wait:
        from convoy.commands.submission.submit_wait import wait

        return max(wait(job_id, folder) for job_id, folder in sent)
    return 0


def _parts(found: Sequence[_Point], sizes: Sequence[int]) -> list[list[_Point]]:
    """Return the points of each array."""
    rest = iter(found)
    return [list(islice(rest, size)) for size in sizes]


def _checked(combinations: Sequence[list[str]], options: Options) -> list[_Point]:
    """Return the config of every point; the faults of all points are reported together, each once."""
    found: list[_Point] = []
    faults: dict[Fault, None] = {}
    torch_version, account = kernels.installed_torch(), os.environ.get("SBATCH_ACCOUNT")
    for combination in combinations:
        try:
            config = composed(combination, options)
            own = list(check_config(config))
            own += check_request(request_of(config), config, torch_version, account)
            found.append(_Point(list(combination), config))
        except UserError as error:
            own = list(error.faults)
        faults.update(dict.fromkeys(own))
    if faults:
        raise UserError(*faults)
    return found


def _the_request(found: Sequence[_Point]) -> Request:
    """Return the request of all points, which must be the same for all tasks of a job array."""
    requests = [request_of(point.config) for point in found]
    differing = [
        name for name in Request.__dataclass_fields__ if len({getattr(request, name) for request in requests}) > 1
    ]
    if differing:
        rule = f"the points of a job array must request the same; these differ in {', '.join(differing)}"
        raise UserError(Fault("-m", rule, "submit one sweep for each value"))
    return requests[0]


def _task(index: int, point: _Point, keys: Sequence[str], *, is_array: bool) -> Task:
    config = point.config
    run = run_to_resume(point.overrides)
    if run is not None:
        return Task(config.name, without_lookup(point.overrides), "0.yaml", str(run.path), resumes=True)
    if not is_array:
        return Task(config.name, point.overrides, "0.yaml", f"{config.output_root}/{config.name}/slurm-{{job}}")
    chosen = [text for text in point.overrides if text.partition("=")[0] in keys]
    # Characters that are invalid in folder names are replaced, and the length is limited.
    name = re.sub(r"[^A-Za-z0-9_.=,+-]", "-", f"{index}_{','.join(chosen)}")[:120]
    folder = f"{config.output_root}/sweeps/slurm-{{job}}/{name}"
    return Task(" ".join(chosen), point.overrides, f"{index}.yaml", folder)


def _print_job(submission: Submission, job_id: str, folder: Path) -> None:
    print(f"job     {job_id}" + (f", an array of {len(submission.tasks)}" if submission.is_array else ""))
    for task in submission.tasks:
        print(f"folder  {task.folder_of(job_id)}")
    log = f"{job_id}_<task>.log" if submission.is_array else f"{job_id}.log"
    print(f"log     {shown(folder)}/{log}")
    if submission.is_array:
        print(f"repeat one task: sbatch --array=<task> {shown(folder)}/job.sbatch")
