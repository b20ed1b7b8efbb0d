"""Lock of a run's folder: one process trains in it at a time. Imports no torch."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from datetime import datetime
from pathlib import Path
from typing import IO

from convoy.config.faults import Fault, UserError

LEASE_FILE = Path("slurm", "alive")
"""File in a run's folder that the ranks of a Slurm job touch."""

LEASE_S = 8.0
"""Age in seconds of the lease's file from which the ranks that touched it are regarded as gone."""


_TRIES = 20
_PAUSE_S = 0.05
"""`is_being_trained` holds a lock for microseconds: a lock that is refused is tried again."""


class RunLock:
    """Exclusive `flock` on `<run folder>/.lock`, from the start of a run to its end.

    The kernel releases the lock at every end of the process, so a lock can't be left behind. The file contains the
    holder's host, process id and start.

    Args:
        folder: folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".lock"
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Take the lock, if it is not held by this object already.

        Raises:
            UserError: if another process holds it; the message has its host, process id and start.
        """
        if self._file is not None:
            return
        file = self._path.open("a+", encoding="utf-8")
        for tries_left in reversed(range(_TRIES)):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if not tries_left:
                    file.close()
                    raise UserError(self._fault()) from error
                time.sleep(_PAUSE_S)
            except OSError:  # a file system without locks
                file.close()
                return
        if not _is_at(file, self._path):
            file.close()
            rule, remedy = "has just been removed by convoy runs clean", "start a new run"
            raise UserError(Fault("resume", rule, remedy, str(self._path.parent)))
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        file.truncate(0)
        file.write(json.dumps({"host": platform.node(), "pid": os.getpid(), "started": started}))
        file.flush()
        self._file = file

    def release(self) -> None:
        """Release the lock, if it is held."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _fault(self) -> Fault:
        try:
            holder = json.loads(self._path.read_text(encoding="utf-8"))
            who = f"process {holder['pid']} on {holder['host']}, started {holder['started']}"
        except (OSError, ValueError, KeyError, TypeError):
            who = "another process"
        rule = f"is being trained by {who}"
        return Fault("resume", rule, "wait until it ends, or stop it first", str(self._path.parent))


def _is_at(file: IO[str], path: Path) -> bool:
    """Return whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def is_being_trained(folder: Path) -> bool:
    """Return whether a process holds the lock of a run's folder, or a Slurm job its lease."""
    return is_locked(folder) or has_lease(folder)


def is_locked(folder: Path | str) -> bool:
    """Return whether a process holds the lock of a run's folder."""
    try:
        descriptor = os.open(f"{folder}/.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def has_lease(folder: Path | str) -> bool:
    """Return whether the ranks of a Slurm job train in a run's folder."""
    try:
        return time.time() - Path(folder, LEASE_FILE).stat().st_mtime < LEASE_S
    except OSError:
        return False
