"""convoy submit study=…: a job array whose tasks train trials of one study."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convoy.cluster import kernels, script, slurm_commands
from convoy.cluster.checks import check_config, check_request
from convoy.cluster.cost import cost_of, cost_text
from convoy.cluster.request import Request, request_of, the_cluster
from convoy.cluster.submission import Task, array_of
from convoy.commands.submission.submit_plan import memory_lines
from convoy.commands.submission.submit_steps import (
    composed,
    new_folder,
    send,
    submission_of,
    test_script,
    with_cluster,
)
from convoy.config.faults import Fault, UserError
from convoy.config.run_overrides import must_be_typed
from convoy.config.schema import Config
from convoy.runs.layout import shown
from convoy.search.study_folder import (
    STUDY,
    Asked,
    all_overrides,
    create_study_folder,
    first_overrides,
    new_study,
    open_study_folder,
    require_optuna,
)

if TYPE_CHECKING:
    from convoy.commands.declaration.verb import Call
    from convoy.search.run_study import Workplace

_CLUSTER = ("cluster=", "cluster.")


@dataclass(frozen=True)
class StudyArray:
    """Job array of a study.

    Attributes:
        study: option of conf/search, YAML file, or the folder of a study.
        trials: number of trials; None for that of the study.
        workers: number of tasks.
        max_parallel: number of tasks that run at the same time; None for all.
    """

    study: str
    trials: int | None
    workers: int
    max_parallel: int | None


def submit_study(given: StudyArray, call: Call, *, dry_run: bool, waits: bool) -> int:
    """Check a study, print the cost of its tasks, and queue them."""
    require_optuna()
    if call.multirun:
        raise UserError(Fault("-m", "a study has its own space", "omit -m: several values are part of the space"))
    words = with_cluster(call.overrides, call.options)
    place, keys = _place(given, [text for text in words if not text.startswith(_CLUSTER)], call)
    config = composed([*first_overrides(place), *(text for text in words if text.startswith(_CLUSTER))], call.options)
    request = _checked_request(config)
    cluster = the_cluster(config)
    limits = cluster.max_array_size, cluster.partitions[request.partition].max_queued
    most = min([limit for limit in limits if limit is not None], default=given.workers)
    if given.workers > most:
        rule = f"an array of partition {request.partition} has at most {most} tasks"
        remedy = f"write workers={most}: each task takes trials until none is left"
        raise UserError(Fault("workers", rule, remedy, str(given.workers)))
    cost = cost_text(request, cost_of(request, cluster, given.workers), given.workers)
    folder = new_folder(config.output_root)
    array = array_of(given.workers, given.max_parallel)
    again = [text for text in all_overrides(place.study, place.words) if must_be_typed(text)]
    study = [str(place.folder), *call.config_flags, *again]
    text = script.job(request, cluster, place.study.name, str(Path.cwd()), str(folder), array, study)
    if dry_run:
        print(f"{text}\n{cost}")
        return 0
    slurm_commands.require()
    print("\n".join([cost, *memory_lines([config])]))
    test_script(text)
    tasks = [Task(f"worker of {place.study.name}", list(place.words), "", str(place.folder))] * given.workers
    if keys is not None:
        create_study_folder(place, keys)
    try:
        job_id = send(submission_of(place.study.name, tasks, call, is_array=True), [], text, folder)
    except UserError:
        if keys is not None:
            shutil.rmtree(place.folder)
        raise
    print(f"job     {job_id}, an array of {given.workers}\nfolder  {shown(place.folder)}\nlog     {shown(folder)}/")
    print(f"add workers: convoy submit study={shown(place.folder)} workers=…")
    if waits:
        from convoy.commands.submission.submit_wait import wait

        return wait(job_id, folder)
    return 0


def _place(given: StudyArray, overrides: Sequence[str], call: Call) -> tuple[Workplace, dict[str, Any] | None]:
    """Return the study, and the keys of a new one."""
    if not (Path(given.study) / STUDY).is_file():
        output_root = next((text.partition("=")[2] for text in overrides if text.startswith("output_root=")), "outputs")
        return new_study(Asked(given.study, given.trials), overrides, Path(output_root), call.options)
    return open_study_folder(Path(given.study), given.trials, call.options, overrides), None


def _checked_request(config: Config) -> Request:
    request, account = request_of(config), os.environ.get("SBATCH_ACCOUNT")
    faults = [*check_config(config), *check_request(request, config, kernels.installed_torch(), account)]
    if request.nodes > 1:
        faults.append(Fault("trainer.nodes", "a trial trains on one node", "write trainer.nodes=1", str(request.nodes)))
    if faults:
        raise UserError(*faults)
    return request
