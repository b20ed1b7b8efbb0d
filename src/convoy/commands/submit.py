"""convoy submit: check, price and queue a run as a Slurm job, or a sweep as a job array."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

from omegaconf import OmegaConf

from convoy.cluster import kernels, script, slurm_commands
from convoy.cluster.checks import check_config, check_request
from convoy.cluster.cost import cost_of, cost_text
from convoy.cluster.request import Request, job_keys, request_of, the_cluster
from convoy.cluster.submission import FOLDER, Submission, Task, array_of
from convoy.commands.submit_plan import memory_lines
from convoy.commands.verb import AtLeast, Call, Verb
from convoy.config.compose import OverrideError, compose
from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.config.schema import Config
from convoy.config.sweep_points import points, varied
from convoy.runs.layout import git_state, shown
from convoy.training import preflight

_DEFAULT_CLUSTERS = ("local", "carc")


@dataclass(frozen=True)
class Submit(Verb):
    """Check a run or a sweep, print its cost, and queue it.

    A run becomes a Slurm job, a sweep a job array. account, time, partition, mem
    and the other keys of cluster.job are written without their prefix;
    convoy train --help cluster lists them. Store personal defaults in
    conf/cluster/local.yaml, which is used if it exists.

      convoy submit model=resnet50 hardware=a100_80gb trainer.nodes=2 time=12:00:00
      convoy submit -m model=vgg16,resnet50 optimizer.lr=0.1,0.01 hardware=v100
    """

    dry_run: bool = False
    """Print the script and the cost without queueing the job."""
    wait: bool = False
    """Wait until the job has ended, and print its log."""
    max_parallel: Annotated[int, AtLeast(1)] | None = None
    """With -m: number of tasks that run at the same time; null for all."""

    overrides = None
    flags = ("--multirun",)


ARGUMENTS = Submit


@dataclass(frozen=True)
class _Point:
    """Overrides of one run, and the composed config."""

    overrides: list[str]
    config: Config


def run(given: Submit, call: Call) -> int:
    """Check the config, print the cost, and queue the job."""
    overrides = with_cluster(call.overrides, call.options)
    is_array = call.multirun
    combinations = points(overrides, call.options) if is_array else [overrides]
    found = _checked(combinations, call.options)
    request = _the_request(found)
    config = found[0].config
    cluster = the_cluster(config)
    cost = cost_text(request, cost_of(request, cluster, len(found)), len(found))
    root = Path(config.output_root).absolute() / FOLDER
    folder = root / f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{secrets.token_hex(3)}"
    name = config.name if len({point.config.name for point in found}) == 1 else "sweep"
    array = array_of(len(found), given.max_parallel) if is_array else None
    text = script.job(request, cluster, name, cluster.python or sys.executable, str(Path.cwd()), str(folder), array)
    if given.dry_run:
        print(f"{text}\n{cost}")
        return 0
    slurm_commands.require()
    memory = memory_lines([point.config for point in found])
    print(cost)
    for line in memory:
        print(line)
    _test(text)
    keys = varied(overrides, call.options) if is_array else []
    submission = Submission(
        name=name,
        submitted=datetime.now().astimezone().isoformat(timespec="seconds"),
        start_folder=str(Path.cwd()),
        tasks=[_task(index, point, keys, is_array=is_array) for index, point in enumerate(found)],
        is_array=is_array,
        flags=list(call.config_flags),
        git=git_state(Path(__file__).resolve().parent),
    )
    job_id = _send(submission, found, text, folder)
    _print_job(submission, job_id, folder)
    if given.wait:
        from convoy.commands.submit_wait import wait

        return wait(job_id, folder)
    return 0


def with_cluster(overrides: Sequence[str], options: Options) -> list[str]:
    """Return the overrides with full keys (cluster.job.time=… for time=…) and a default cluster."""
    words = []
    for text in overrides:
        key = text.partition("=")[0]
        words.append(f"cluster.job.{text}" if key in job_keys() else text)
    if not any(text.startswith("cluster=") for text in words):
        there = options.of("cluster")
        words.insert(0, f"cluster={next(name for name in _DEFAULT_CLUSTERS if name in there)}")
    return words


def _checked(combinations: Sequence[list[str]], options: Options) -> list[_Point]:
    """Return the config of every point; the faults of all points are reported together, each once."""
    found: list[_Point] = []
    faults: dict[Fault, None] = {}
    torch_version, account = kernels.installed_torch(), os.environ.get("SBATCH_ACCOUNT")
    for combination in combinations:
        try:
            config = _composed(combination, options)
            own = list(check_config(config))
            own += check_request(request_of(config), config, torch_version, account, len(combinations))
            found.append(_Point(list(combination), config))
        except UserError as error:
            own = list(error.faults)
        faults.update(dict.fromkeys(own))
        if any(fault.key == "-m" for fault in own):
            break  # too many points: stop before composing each of them
    if faults:
        raise UserError(*faults)
    return found


def _composed(overrides: Sequence[str], options: Options) -> Config:
    """Return the config that `convoy train` composes on a node of the cluster, with auto and null resolved."""
    faults: list[Fault] = []
    try:
        composed = compose(overrides, options)
    except OverrideError as error:
        faults, composed = list(error.faults), error.config
    card = OmegaConf.select(composed, f"cluster.cards.{composed.hardware.name}")
    if card is not None and not any(text.startswith("hardware.gpus_per_node=") for text in overrides):
        composed.hardware.gpus_per_node = card.gpus_per_node
    if card is not None and composed.trainer.gpus == "auto" and composed.hardware.accelerator != "cpu":
        composed.trainer.gpus = card.gpus_per_node
    return preflight.checked(composed, faults)


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


def _test(text: str) -> None:
    """Check the script with `sbatch --test-only` before writing to the user's folders."""
    with tempfile.TemporaryDirectory(prefix="convoy-") as folder:
        path = Path(folder) / "job.sbatch"
        path.write_text(text, encoding="utf-8")
        print(f"Slurm   {slurm_commands.test_only(path)}")


def _task(index: int, point: _Point, keys: Sequence[str], *, is_array: bool) -> Task:
    config = point.config
    if not is_array:
        return Task(config.name, point.overrides, "0.yaml", f"{config.output_root}/{config.name}/slurm-{{job}}")
    chosen = [text for text in point.overrides if text.partition("=")[0] in keys]
    # Characters that are invalid in folder names are replaced, and the length is limited.
    name = re.sub(r"[^A-Za-z0-9_.=,+-]", "-", f"{index}_{','.join(chosen)}")[:120]
    folder = f"{config.output_root}/sweeps/slurm-{{job}}/{name}"
    return Task(" ".join(chosen), point.overrides, f"{index}.yaml", folder)


def _send(submission: Submission, found: Sequence[_Point], text: str, folder: Path) -> str:
    """Write the submission's folder and queue its script. The folder is removed if Slurm rejects the script."""
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        fault = Fault("output_root", f"can't be written ({error.strerror})", "choose another folder", str(folder))
        raise UserError(fault) from error
    try:
        for task, point in zip(submission.tasks, found, strict=True):
            (folder / task.config).write_text(_snapshot(point.config), encoding="utf-8")
        (folder / "job.sbatch").write_text(text, encoding="utf-8")
        submission.write(folder)
        job_id = slurm_commands.sbatch(folder / "job.sbatch")
    except UserError:
        shutil.rmtree(folder)
        raise
    submission.with_job(job_id).write(folder)
    return job_id


def _snapshot(config: Config) -> str:
    """Return the resolved config as YAML, without the cluster, which is part of the script."""
    return OmegaConf.to_yaml(OmegaConf.structured(replace(config, cluster=None)), resolve=True)


def _print_job(submission: Submission, job_id: str, folder: Path) -> None:
    print(f"job     {job_id}" + (f", an array of {len(submission.tasks)}" if submission.is_array else ""))
    for task in submission.tasks:
        print(f"folder  {task.folder_of(job_id)}")
    log = f"{job_id}_<task>.log" if submission.is_array else f"{job_id}.log"
    print(f"log     {shown(folder)}/{log}")
    if submission.is_array:
        print(f"repeat one task: sbatch --array=<task> {shown(folder)}/job.sbatch")
