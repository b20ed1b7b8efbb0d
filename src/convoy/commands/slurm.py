"""convoy slurm: rendering of the scripts in slurm/, and the commands that they call in a job."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from convoy.cluster import allocation as allocations
from convoy.cluster import kernels
from convoy.cluster.allocation import Allocation
from convoy.cluster.node_local_data import copy_to_nodes
from convoy.cluster.run_lease import adopt, hash_of, take, wait_for_the_start_before
from convoy.cluster.study_worker import leave_job, run_worker
from convoy.cluster.submission import Submission, Task
from convoy.cluster.supervisor import log, supervise
from convoy.commands.declaration import arguments
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.schema import Config
from convoy.config.trust import TRUST
from convoy.report.pages.run_page import write_at_end
from convoy.runs.layout import RunFolder, git_state
from convoy.runtime.rank_watch import LOST
from convoy.runtime.stop_signals import StopSignal
from convoy.training import preflight

_HELP = """\
usage: convoy slurm render [cluster=carc] [folder=slurm] [key=value ...]

Write one script per card, one per further partition, and their shared part:

  convoy slurm render                                     slurm/ as published
  convoy slurm render cluster=local folder=slurm/local    with your own settings

In a job the scripts call `convoy slurm run`, which starts `convoy slurm rank`
on each GPU."""

_ACTIONS = ("render", "run", "rank", "worker")


def run(words: Sequence[str]) -> int:
    """Render the scripts, or run the batch step, a rank or a study's worker of a job."""
    action, rest = (words[0], list(words[1:])) if words else ("--help", [])
    if action in ("-h", "--help"):
        print(_HELP)
        return 0
    if action == "render":
        return _render(rest)
    if action == "run":
        return _run(rest)
    if action == "rank":
        return _rank(rest[1:] if rest[:1] == ["--"] else rest)
    if action == "worker":
        return _worker(rest)
    near = did_you_mean(action, _ACTIONS, "convoy slurm --help lists the actions")
    raise UserError(Fault(f"convoy slurm {action}", "no such action", near))


def _render(words: Sequence[str]) -> int:
    from convoy.commands.slurm_render import render

    return render(arguments.parse(words))


@dataclass
class _RunWords:
    """Words of a script for `convoy slurm run`: a card and overrides, a submission, or a study."""

    card: str | None = None
    submission: Path | None = None
    study: Path | None = None
    config_dir: str | None = None
    max_restarts: int = 0
    hang_s: int = 0
    fast_disk: Path | None = None
    overrides: list[str] = field(default_factory=list)


def _run(words: Sequence[str]) -> int:
    """Run the batch step, which reports all faults before any rank imports torch."""
    asked = _read(words)
    allocation = allocations.read(os.environ)
    if allocation is None:
        remedy = "submit a script: sbatch slurm/a100.sbatch …, or convoy submit …"
        raise UserError(Fault("convoy slurm run", "is the batch step of a job", remedy))
    if asked.study is not None:
        flags = ["--config-dir", asked.config_dir] if asked.config_dir else []
        words = [str(asked.study), *flags]
        return run_worker(words, allocation, max_restarts=asked.max_restarts, hang_s=asked.hang_s)
    wanted: Path | None = None
    group: str | None = None
    task: Task | None = None
    if asked.submission is not None:
        typed, task, group = _of_submission(asked.submission, allocation)
        wanted = Path(task.folder_of(allocation.array_id))
    else:
        typed = _completed(asked, allocation)
    config = _config(typed)
    _check(config, allocation, asked.card)
    if config.trainer.gpus == "auto" and config.hardware.accelerator != "cpu":
        typed.append(f"trainer.gpus={allocation.tasks_per_node}")
        config = _config(typed)  # whose global batch must divide by that number
    wanted = wanted or Path(config.output_root) / config.name / f"slurm-{allocation.job_id}"
    digest = _hash_of_config(config) if asked.submission else hash_of({"words": typed})
    if task is not None and task.resumes:
        folder, claim = adopt(wanted, allocation.job_id, digest)
    else:
        folder, claim = take(wanted.absolute(), allocation.job_id, digest, allocation.restarts)
    log(f"job {allocation.job_id}, start {claim.start}, folder {folder.path}")
    if wait_for_the_start_before(folder):
        log("waited for the ranks of an earlier start to exit")
    if folder.is_finished():
        log("the run has been finished by an earlier start")
        run = RunFolder(folder.path)
        if config.report and not run.report.is_file():
            log(write_at_end(run))
        return 0
    path = json.dumps(str(folder.path))
    train = [*TRUST.words, f"resume={path}"] if RunFolder(folder.path).last.is_file() else [*typed, f"folder={path}"]
    if task is not None and task.resumes:
        gpus = [f"trainer.gpus={config.trainer.gpus}"] if config.hardware.accelerator != "cpu" else []
        train += [*gpus, *task.overrides]
    if asked.fast_disk is not None and config.data.root is not None and "://" not in config.data.root:
        copied = copy_to_nodes(Path(config.data.root).expanduser(), asked.fast_disk, allocation)
        train.append(f"data.root={json.dumps(str(copied))}")
    return supervise(
        train, allocation, folder, claim, max_restarts=asked.max_restarts, hang_s=asked.hang_s, group=group
    )


def _worker(words: Sequence[str]) -> int:
    """Train trials of a study until there are none left to take."""
    from convoy.commands.search import work
    from convoy.search.study_folder import open_study_folder

    leave_job(os.environ)
    parsed = arguments.parse(words)
    folder, *typed = parsed.overrides
    place = open_study_folder(Path(folder), None, parsed.options, typed)
    return work(replace(place, waits=False))


def _config(typed: Sequence[str]) -> Config:
    parsed = arguments.parse(typed)
    return preflight.read(parsed.overrides, parsed.options, parsed.saved)


def _hash_of_config(config: Config) -> str:
    """Return the hash of a submission's config, which was resolved when it was submitted.

    The job of a script is identified by its words instead, so that it resumes its run, with the saved config, even if
    conf/ was edited between two starts.
    """
    return hash_of(asdict(config))


def _check(config: Config, allocation: Allocation, card: str | None) -> None:
    from convoy.cluster.checks import kernel_faults

    faults = list(allocations.mismatches(allocation, config, card))
    if config.hardware.accelerator != "cpu":
        faults += kernel_faults(config, kernels.installed_torch())
    if config.folder is not None or config.resume is not None:
        faults.append(Fault("folder", "a job's folder is named by its id", "omit folder and resume"))
    if faults:
        raise UserError(*faults)


def _read(words: Sequence[str]) -> _RunWords:
    read, rest = _RunWords(), list(words)
    while rest:
        flag = rest.pop(0)
        if flag == "--":
            read.overrides = rest
            break
        value = rest.pop(0) if rest else ""
        if flag == "--card":
            read.card = value
        elif flag == "--submission":
            read.submission = Path(value)
        elif flag == "--study":
            read.study = Path(value)
        elif flag == "--config-dir":
            read.config_dir = value
        elif flag == "--fast-disk":
            read.fast_disk = Path(value)
        elif flag == "--max-restarts":
            read.max_restarts = int(value)
        elif flag == "--hang-s":
            read.hang_s = int(value)
        else:
            raise UserError(Fault(flag, "no such flag", "render the scripts again: convoy slurm render"))
    return read


def _completed(asked: _RunWords, allocation: Allocation) -> list[str]:
    """Return the overrides of a script, completed with defaults from its card and the allocation."""
    keys = {text.partition("=")[0] for text in asked.overrides}
    given = [] if "hardware" in keys or asked.card is None else [f"hardware={asked.card}"]
    if "trainer.nodes" not in keys:
        given.append(f"trainer.nodes={allocation.nodes}")
    if "hardware.gpus_per_node" not in keys:
        given.append(f"hardware.gpus_per_node={allocation.tasks_per_node}")
    return [*given, *asked.overrides]


def _of_submission(path: Path, allocation: Allocation) -> tuple[list[str], Task, str | None]:
    """Return the words of this task of a submission, the task, and its W&B group."""
    submission = Submission.read(path)
    task = submission.task(allocation.task)
    before, now = submission.git, git_state(Path(__file__).resolve().parent)
    if before is not None and now is not None and before["commit"] != now["commit"]:
        log(f"note: the code was at {before['commit'][:9]} when this was submitted, it is at {now['commit'][:9]} now")
    group = f"slurm-{allocation.array_id}" if allocation.task is not None else None
    # The saved config alone declares no target, and no folder for downloads.
    typed = [text for text in task.overrides if "_target_" in text or text.startswith("data.root=")]
    declaring = [*submission.flags, *typed]
    return [*declaring, "--from", str(path / task.config)], task, group


def _rank(words: Sequence[str]) -> int:
    """Run one rank: train, and write a report of the result."""
    from convoy.cluster import reports
    from convoy.commands.main import error_text

    rank = reports.Rank(os.environ)
    rank.begin()
    from convoy.commands import train

    try:
        code = train.run(words)
    except UserError as error:
        rank.end(reports.Report("error", str(error).splitlines()[0]))
        if rank.number == 0:
            print(error_text(error), file=sys.stderr)
        return 2
    except StopSignal as stop:
        if rank.number == 0:
            print(stop, file=sys.stderr)
        rank.end(reports.Report("terminated", str(stop)))
        return stop.exit_code  # so that srun ends the ranks that wait for this one
    except BaseException as error:
        rank.end(reports.of_exception(error))
        raise
    report = reports.Report("lost", "another rank was lost") if code == LOST else reports.of_code(code)
    is_reported = rank.end(report)
    # 0 too where a signal stopped it: the batch step reads the report, and srun must not kill the others.
    return 0 if report.kind == "done" or (report.kind == "stopped" and is_reported) else 1
