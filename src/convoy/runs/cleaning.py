"""Removal of runs and checkpoints that are of no more use. Imports no torch.

Two things are removed: the folder of a run that failed or was stopped and has no checkpoint, and last.ckpt of a
finished run, whose best.ckpt stays. A run that changed within the last ten minutes is never touched: its process may
start again, without holding the lock for some seconds.

A folder is opened part by part without following links, and everything is removed relative to the open folder. The
lock of the run is held from the last check to the end, so that no process starts in it meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from convoy.runs.layout import EXPORT_SUFFIXES, RunFolder
from convoy.runs.lock import has_lease
from convoy.runs.records import read_summary
from convoy.runs.run_facts import RunFacts, is_run
from convoy.runs.run_index import modified

SETTLED_S = 600.0
"""Time in seconds for which a run must not have changed."""

_WATCHED = ("", "/checkpoints", "/config.yaml", "/metrics.csv", "/summary.json", "/run.log", "/slurm/job.json")

FOLDER, LAST = "the folder", "last.ckpt"
_KEPT_SUFFIXES = (".ckpt", *EXPORT_SUFFIXES.values())
_LAST_REMOVED = ("config.yaml", "environment.json", ".lock")
"""Files by which a run is recognized. They are removed last, so that the next removal completes an interrupted one."""


@dataclass(frozen=True)
class Removal:
    """Part of a run that can be removed.

    Attributes:
        path: folder of the run, relative to the output root.
        what: `FOLDER` or `LAST`.
        size_bytes: bytes that become free.
        times: modification times of the run's files, which must be the same when it is removed.
    """

    path: str
    what: str
    size_bytes: int
    times: tuple[int, ...]


class NotRemovedError(Exception):
    """Reason for which a run was left as it is."""


def removal_of(output_root: Path, facts: RunFacts, state: str) -> Removal | None:
    """Return what can be removed of a run; None if everything must stay.

    Args:
        output_root: folder of all runs.
        facts: facts of the run.
        state: state of the run.
    """
    folder = output_root / facts.path
    times = _times(os.fspath(folder))
    if max(times) > (time.time() - SETTLED_S) * 1e9:
        return None
    if state in ("failed", "stopped") and not facts.has_checkpoint and not _has_anything_to_keep(folder):
        return Removal(facts.path, FOLDER, facts.size_bytes, times)
    size = _size_of_last(RunFolder(folder)) if state == "finished" else 0
    return Removal(facts.path, LAST, size, times) if size else None


def remove(output_root: Path, removal: Removal) -> None:
    """Remove a part of a run.

    Raises:
        NotRemovedError: the run has changed, is being trained, or can't be removed.
    """
    try:
        with _opened(output_root, removal.path) as (parent, folder), _locked(folder, removal):
            if removal.what == LAST:
                checkpoints = os.open("checkpoints", _AS_FOLDER, dir_fd=folder)
                try:
                    os.unlink("last.ckpt", dir_fd=checkpoints)
                finally:
                    os.close(checkpoints)
                return
            names = os.listdir(folder)  # noqa: PTH208
            for name in sorted(names, key=lambda name: name in _LAST_REMOVED):
                _remove_entry(name, folder)
            os.rmdir(removal.path.rsplit("/", 1)[-1], dir_fd=parent)
    except OSError as error:
        raise NotRemovedError(error.strerror or str(error)) from error


def _times(folder: str) -> tuple[int, ...]:
    return tuple(modified(folder, _WATCHED))


_AS_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def _opened(output_root: Path, path: str) -> Iterator[tuple[int, int]]:
    """Open a run's folder and its parent without following a link below the output root."""
    with contextlib.ExitStack() as stack:

        def opened(name: str, at: int | None = None, flags: int = _AS_FOLDER) -> int:
            descriptor = os.open(name, flags, dir_fd=at)
            stack.callback(os.close, descriptor)
            return descriptor

        parts = path.split("/")
        if ".." in parts:
            raise NotRemovedError("is not below the output root")
        parent = opened(os.fspath(output_root), flags=_AS_FOLDER & ~os.O_NOFOLLOW)
        for part in parts[:-1]:
            parent = opened(part, parent)
        yield parent, opened(parts[-1], parent)


@contextmanager
def _locked(folder: int, removal: Removal) -> Iterator[None]:
    """Hold the lock of a run that has not changed since its removal was planned."""
    here = f"/proc/self/fd/{folder}"
    if not Path(here).exists():  # macOS
        raise NotRemovedError("can't be checked without /proc; remove its folder by hand")
    if _times(here) != removal.times or not is_run(here) or has_lease(here):
        raise NotRemovedError("has changed meanwhile")
    lock = os.open(".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=folder)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotRemovedError("is being trained") from None
        # The folder's own time has changed if it had no lock.
        if _times(here)[1:] != removal.times[1:]:
            raise NotRemovedError("has changed meanwhile")
        yield
    finally:
        os.close(lock)


def _remove_entry(name: str, folder: int) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        shutil.rmtree(name, dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)


def _has_anything_to_keep(folder: Path) -> bool:
    """Return whether a folder has weights, another run, or links to folders."""
    for path, names, files in os.walk(folder):
        if any(name.endswith(_KEPT_SUFFIXES) for name in files):
            return True
        if any(is_run(f"{path}/{name}") for name in names):
            return True
    return False


def _size_of_last(run: RunFolder) -> int:
    """Return the size of a finished run's last.ckpt; 0 if it must stay, or if its removal would free nothing."""
    if read_summary(run.summary).get("best_step") is None:
        return 0
    try:
        best, last = run.best.lstat(), run.last.lstat()
        written = run.summary.lstat()
    except OSError:
        return 0
    are_files = stat.S_ISREG(best.st_mode) and stat.S_ISREG(last.st_mode)
    # A checkpoint of a later start could be the only one of a new best step. Removing a hard link frees nothing.
    if not are_files or last.st_nlink > 1 or last.st_mtime_ns > written.st_mtime_ns or not zipfile.is_zipfile(run.best):
        return 0
    return last.st_size
