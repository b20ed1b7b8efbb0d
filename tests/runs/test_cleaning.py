"""Removal of runs: only what the rules name, and never through a link or below a running process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.runs.test_lock import HOLD
from tests.runs.test_run_index import make_run, set_age

from convoy.config.faults import UserError
from convoy.runs import cleaning
from convoy.runs.cleaning import FOLDER, LAST, NotRemovedError, Removal, removal_of, remove
from convoy.runs.lock import RunLock
from convoy.runs.run_facts import read_facts


def planned(root: Path, path: str, state: str) -> Removal | None:
    return removal_of(root, read_facts(root / path, path), state)


def write_checkpoint(path: Path, size: int = 1000) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data", bytes(size))


def make_finished(folder: Path) -> Path:
    make_run(folder, age_s=0)
    for name in ("best", "last"):
        write_checkpoint(folder / "checkpoints" / f"{name}.ckpt")
    (folder / "summary.json").touch()
    set_age(folder, 86400)
    return folder


def test_a_failed_run_without_a_checkpoint_is_removed_as_a_whole(tmp_path: Path) -> None:
    make_run(tmp_path / "net" / "1", status=None)
    other = make_run(tmp_path / "net" / "2", status=None)
    found = planned(tmp_path, "net/1", "failed")
    assert found is not None
    assert (found.what, found.size_bytes) == (FOLDER, read_facts(tmp_path / "net" / "1", "").size_bytes)
    remove(tmp_path, found)
    assert list((tmp_path / "net").iterdir()) == [other]


@pytest.mark.parametrize("state", ["running", "queued", "preempted", "finished"])
def test_a_run_in_another_state_keeps_its_folder(tmp_path: Path, state: str) -> None:
    make_run(tmp_path / "net" / "1", status=None)
    assert planned(tmp_path, "net/1", state) is None


@pytest.mark.parametrize("name", ["checkpoints/last.ckpt", "checkpoints/step-5.ckpt", "net.onnx", "mine/weights.ckpt"])
def test_a_failed_run_with_weights_stays(tmp_path: Path, name: str) -> None:
    folder = make_run(tmp_path / "net" / "1", status=None)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).touch()
    set_age(folder, 86400)
    assert planned(tmp_path, "net/1", "failed") is None


def test_a_failed_run_with_another_run_below_it_stays(tmp_path: Path) -> None:
    make_run(tmp_path / "net", status=None)
    make_finished(tmp_path / "net" / "inner" / "1")
    set_age(tmp_path / "net", 86400)
    assert planned(tmp_path, "net", "failed") is None


def test_a_run_that_changed_a_minute_ago_stays(tmp_path: Path) -> None:
    """A run that ran out of memory starts again without a lock for some seconds."""
    make_run(tmp_path / "net" / "1", status=None, age_s=60)
    assert planned(tmp_path, "net/1", "failed") is None


def test_the_last_checkpoint_of_a_finished_run_is_removed(tmp_path: Path) -> None:
    folder = make_finished(tmp_path / "net" / "1")
    found = planned(tmp_path, "net/1", "finished")
    assert found is not None
    assert (found.what, found.size_bytes) == (LAST, (folder / "checkpoints" / "last.ckpt").stat().st_size)
    remove(tmp_path, found)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["best.ckpt"]
    assert planned(tmp_path, "net/1", "finished") is None


def test_the_last_copy_of_the_best_checkpoint_stays(tmp_path: Path) -> None:
    folder = make_finished(tmp_path / "net" / "1")
    best, last = (folder / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    whole = best.read_bytes()
    assert planned(tmp_path, "net/1", "finished") is not None

    def stays() -> bool:
        set_age(folder, 86400)
        return planned(tmp_path, "net/1", "finished") is None

    best.unlink()
    assert stays()
    best.write_bytes(whole[: len(whole) // 2])  # cut by a full disk
    assert stays()
    best.unlink()
    best.symlink_to(last)
    assert stays()
    best.unlink()
    os.link(last, best)
    assert stays()
    best.unlink()
    best.write_bytes(whole)
    (folder / "summary.json").write_text(json.dumps({"status": "finished", "steps": 10, "best_step": None}))
    assert stays()


def test_a_checkpoint_that_is_newer_than_the_summary_stays(tmp_path: Path) -> None:
    """A run that was made longer and died may have its best step in last.ckpt alone."""
    folder = make_finished(tmp_path / "net" / "1")
    later = (folder / "summary.json").stat().st_mtime + 5
    os.utime(folder / "checkpoints" / "last.ckpt", (later, later))
    assert planned(tmp_path, "net/1", "finished") is None


def test_a_run_that_is_trained_meanwhile_stays(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "net" / "1", status=None)
    (folder / ".lock").touch()
    set_age(folder, 86400)
    found = planned(tmp_path, "net/1", "failed")
    assert found is not None
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(NotRemovedError, match="is being trained"):
            remove(tmp_path, found)
        holder.communicate()
    assert (folder / "config.yaml").is_file()


@pytest.mark.parametrize("changed", ["config.yaml", "metrics.csv", "new", "checkpoints/last.ckpt"])
def test_a_run_that_has_changed_meanwhile_stays(tmp_path: Path, changed: str) -> None:
    folder = make_run(tmp_path / "net" / "1", status=None)
    found = planned(tmp_path, "net/1", "failed")
    assert found is not None
    (folder / changed).write_text("changed")
    with pytest.raises(NotRemovedError, match="has changed meanwhile"):
        remove(tmp_path, found)
    assert (folder / changed).is_file()


def test_a_run_of_a_job_that_has_started_stays(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "net" / "1", status=None)
    (folder / "slurm").mkdir()
    (folder / "slurm" / "alive").touch()
    set_age(folder, 86400)
    found = planned(tmp_path, "net/1", "failed")
    assert found is not None
    os.utime(folder / "slurm" / "alive", (time.time(), time.time()))
    with pytest.raises(NotRemovedError, match="has changed meanwhile"):
        remove(tmp_path, found)


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Neither a run that is a link, nor a folder on its way, nor one within it."""
    root, outside = tmp_path / "outputs", tmp_path / "outside"
    precious = outside / "precious"
    precious.parent.mkdir(parents=True)
    precious.write_text("x")
    elsewhere = make_run(tmp_path / "elsewhere" / "1", status=None)
    folder = make_run(root / "net" / "1", status=None)
    (folder / "wandb").symlink_to(outside)
    set_age(folder, 0)
    (root / "linked").symlink_to(elsewhere)
    (root / "way").symlink_to(elsewhere.parent)
    for path in ("linked", "way/1"):
        found = planned(root, path, "failed")
        assert found is not None
        with pytest.raises(NotRemovedError):
            remove(root, found)
    assert (elsewhere / "config.yaml").is_file()
    times = cleaning._times(str(folder))
    remove(root, Removal("net/1", FOLDER, 0, times))
    assert not folder.exists()
    assert precious.read_text() == "x"


def test_a_folder_that_was_replaced_by_a_link_stays(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "net" / "1", status=None)
    found = planned(tmp_path, "net/1", "failed")
    assert found is not None
    shutil.move(folder, tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    with pytest.raises(NotRemovedError):
        remove(tmp_path, found)
    with pytest.raises(NotRemovedError, match="not below"):
        remove(tmp_path / "net", replace(found, path="../moved"))
    assert (tmp_path / "moved" / "config.yaml").is_file()


def test_an_interrupted_removal_is_completed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path / "net" / "1", status=None)
    found = planned(tmp_path, "net/1", "failed")
    assert found is not None
    names: list[str] = []

    def fails(name: str, at: int) -> None:
        names.append(name)
        if len(names) == 2:
            raise OSError(5, "Input/output error")
        whole(name, at)

    whole = cleaning._remove_entry
    with monkeypatch.context() as patched:
        patched.setattr(cleaning, "_remove_entry", fails)
        with pytest.raises(NotRemovedError, match="Input/output error"):
            remove(tmp_path, found)
    set_age(folder, 86400)
    again = planned(tmp_path, "net/1", "failed")
    assert again is not None
    remove(tmp_path, again)
    assert not folder.exists()


def test_a_process_that_waited_for_the_lock_of_a_removed_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(tmp_path / "1", status=None)
    opened = Path.open

    def open_and_remove(path: Path, *given: object, **named: object) -> object:
        file = opened(path, *given, **named)  # type: ignore[call-overload]
        shutil.rmtree(folder)
        return file

    monkeypatch.setattr(Path, "open", open_and_remove)
    with pytest.raises(UserError, match="has just been removed by convoy runs clean; start a new run"):
        RunLock(folder).acquire()
