"""Steps of `convoy submit`: from overrides to a job in Slurm's queue."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from convoy.cluster import slurm_commands
from convoy.cluster.request import job_keys
from convoy.cluster.submission import FOLDER, Submission, Task
from convoy.commands.declaration.verb import Call
from convoy.config.compose import OverrideError, compose, from_saved, overlay
from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.config.schema import Config
from convoy.runs.layout import RunFolder, git_state, new_name
from convoy.runs.lock import is_being_trained
from convoy.runs.lookup import find_run
from convoy.runs.records import is_finished
from convoy.training import preflight
from convoy.training.resume import is_resume

_DEFAULT_CLUSTERS = ("local", "carc")


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


def composed(overrides: Sequence[str], options: Options) -> Config:
    """Return the config that `convoy train` composes on a node of the cluster, with auto and null resolved."""
    faults: list[Fault] = []
    try:
        run = run_to_resume(overrides)
        base = compose(overrides, options) if run is None else _resumed(run, overrides, options)
    except OverrideError as error:
        faults, base = list(error.faults), error.config
    card = OmegaConf.select(base, f"cluster.cards.{base.hardware.name}")
    if card is not None and not any(text.startswith("hardware.gpus_per_node=") for text in overrides):
        base.hardware.gpus_per_node = card.gpus_per_node
    if card is not None and base.trainer.gpus == "auto" and base.hardware.accelerator != "cpu":
        base.trainer.gpus = card.gpus_per_node
    return preflight.checked(base, faults)


def run_to_resume(overrides: Sequence[str]) -> RunFolder | None:
    """Return the run that `resume=` names; None if there is none.

    Raises:
        UserError: There is no such run, or a job can't resume it.
    """
    given = {key: value for key, _, value in (text.partition("=") for text in overrides)}
    if not is_resume(overrides):
        return None
    name = given["resume"].strip("'\"")
    run = find_run(name, given.get("output_root", "outputs"), "resume", is_idle=True)
    if not run.last.is_file():
        raise UserError(Fault("resume", "has no checkpoint to resume from", "submit the run again", name))
    if is_finished(run.summary):
        raise UserError(Fault("resume", "is finished", "name another run", name))
    if is_being_trained(run.path):
        raise UserError(Fault("resume", "is being trained", "wait until it ends, or stop it first", name))
    return run


def without_lookup(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that change a run that is resumed in a job."""
    return [text for text in overrides if not text.startswith(("resume=", "output_root=", "cluster=", "cluster."))]


def _resumed(run: RunFolder, overrides: Sequence[str], options: Options) -> DictConfig:
    saved = from_saved(run.saved_config())
    saved.folder = None
    on_cluster = [text for text in overrides if text.startswith(("cluster=", "cluster."))]
    return overlay(saved, [*on_cluster, *without_lookup(overrides)], options)


def new_folder(output_root: str) -> Path:
    """Return the folder of a new submission."""
    name = new_name()
    return Path(output_root).absolute() / FOLDER / name


def submission_of(name: str, tasks: list[Task], call: Call, *, is_array: bool) -> Submission:
    """Return the record of a submission from this folder at this time."""
    return Submission(
        name=name,
        submitted=datetime.now().astimezone().isoformat(timespec="seconds"),
        start_folder=str(Path.cwd()),
        tasks=tasks,
        is_array=is_array,
        flags=list(call.config_flags),
        git=git_state(Path(__file__).resolve().parent),
    )


def test_script(text: str) -> None:
    """Check the script with `sbatch --test-only` before writing to the user's folders."""
    with tempfile.TemporaryDirectory(prefix="convoy-") as folder:
        path = Path(folder) / "job.sbatch"
        path.write_text(text, encoding="utf-8")
        print(f"Slurm   {slurm_commands.test_only(path)}")


def send(submission: Submission, configs: Sequence[Config], text: str, folder: Path) -> str:
    """Write the submission's folder and queue its script. The folder is removed if Slurm rejects the script."""
    write_submission(submission, configs, text, folder)
    try:
        job_id = slurm_commands.sbatch(folder / "job.sbatch")
    except UserError:
        shutil.rmtree(folder)
        raise
    submission.with_job(job_id).write(folder)
    return job_id


def write_submission(submission: Submission, configs: Sequence[Config], text: str, folder: Path) -> None:
    """Write the submission's folder: its record, script and resolved configs."""
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        fault = Fault("output_root", f"can't be written ({error.strerror})", "choose another folder", str(folder))
        raise UserError(fault) from error
    for task, config in zip(submission.tasks, configs, strict=False):  # the tasks of a study have none
        (folder / task.config).write_text(_snapshot(config), encoding="utf-8")
    (folder / "job.sbatch").write_text(text, encoding="utf-8")
    submission.write(folder)


def _snapshot(config: Config) -> str:
    """Return the resolved config as YAML, without the cluster, which is part of the script."""
    return OmegaConf.to_yaml(OmegaConf.structured(replace(config, cluster=None)), resolve=True)
