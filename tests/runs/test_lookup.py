"""Lookup of runs by folder, name and latest, and of their checkpoints."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from convoy.config.faults import UserError
from convoy.runs.layout import RunFolder
from convoy.runs.lock import RunLock
from convoy.runs.lookup import find_checkpoint, find_run, run_of


@pytest.fixture(autouse=True)
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs, each one second older than the one before: two of lenet5, and a sweep's of vgg16."""
    monkeypatch.chdir(tmp_path)
    for age, folder in enumerate(("lenet5/new", "sweeps/first/vgg16", "lenet5/old")):
        last = Path("outputs", folder, "checkpoints/last.ckpt")
        last.parent.mkdir(parents=True)
        (last.parents[1] / "config.yaml").touch()
        last.touch()
        os.utime(last, (1e9 - age, 1e9 - age))


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("latest", "lenet5/new"),
        ("lenet5", "lenet5/new"),
        ("lenet5/old", "lenet5/old"),
        ("outputs/lenet5/old", "lenet5/old"),
        ("outputs/lenet5/old/checkpoints/last.ckpt", "lenet5/old"),
        ("sweeps/first/vgg16", "sweeps/first/vgg16"),
    ],
)
def test_a_run_is_found_by_folder_name_and_latest(text: str, folder: str) -> None:
    assert find_run(text, "outputs").path == Path("outputs", folder).absolute()


def test_resume_by_latest_or_name_ignores_running_runs() -> None:
    locks = [RunLock(Path("outputs", folder)) for folder in ("lenet5/new", "sweeps/first/vgg16", "lenet5/old")]
    locks[0].acquire()
    assert find_run("latest", "outputs").path.name == "new"
    assert find_run("latest", "outputs", is_idle=True).path.name == "vgg16"
    assert find_run("lenet5", "outputs", is_idle=True).path.name == "old"
    locks[1].acquire()
    locks[2].acquire()
    with pytest.raises(UserError, match="each run under outputs is being trained"):
        find_run("latest", "outputs", "resume", is_idle=True)
    locks[0].release()
    assert find_run("latest", "outputs", is_idle=True).path.name == "new"


def test_a_slurm_job_that_is_alive_is_training() -> None:
    alive = Path("outputs/lenet5/new/slurm/alive")
    alive.parent.mkdir()
    alive.touch()
    assert find_run("latest", "outputs", is_idle=True).path.name == "vgg16"
    os.utime(alive, (1e9, 1e9))
    assert find_run("latest", "outputs", is_idle=True).path.name == "new"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("nowhere", "runs=nowhere: no such run"),
        ("outputs", "is not a run's folder"),
        ("outputs/lenet5", "is not a run's folder (no config.yaml); name one that has it, such as outputs/lenet5/old"),
        ("outputs/lenet5/neww", "no such run"),
        ("photo.png", "is not in a run's folder"),
    ],
)
def test_the_fault_names_the_key_and_the_value(text: str, rule: str) -> None:
    Path("photo.png").touch()
    with pytest.raises(UserError) as caught:
        find_run(text, "outputs", "runs")
    assert rule in str(caught.value)


def test_an_empty_folder_of_runs_has_no_latest() -> None:
    with pytest.raises(UserError, match="no run with a checkpoint under elsewhere"):
        find_run("latest", "elsewhere")


def test_a_checkpoint_is_best_last_or_a_file() -> None:
    run = find_run("latest", "outputs")
    assert find_checkpoint(run, "last") == run.last
    with pytest.raises(UserError, match="checkpoint=best: no such file; choose last"):
        find_checkpoint(run, "best")
    run.last.unlink()
    with pytest.raises(UserError, match="has no checkpoint yet"):
        find_checkpoint(run, "best")


def test_a_checkpoint_belongs_to_the_run_of_its_folder() -> None:
    last = Path("outputs/lenet5/old/checkpoints/last.ckpt")
    assert run_of(last) == RunFolder(last.absolute().parents[1])
    copy = Path("outputs/lenet5/old/copies/last.ckpt")
    copy.parent.mkdir()
    copy.touch()
    assert run_of(copy) is None
