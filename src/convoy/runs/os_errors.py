"""Faults of the environment, such as a full disk, in one line instead of a stack trace. Imports no torch."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from convoy.runs.whole_files import WriteError

_REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room within the quota",
    errno.EFBIG: "raise the limit of a file's size",
    errno.EROFS: "make it writable",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files",
    errno.EIO: "check the disk",
    errno.ESTALE: "check the file system",
    errno.ENODEV: "check the file system",
    errno.ENXIO: "check the file system",
    errno.EREMOTEIO: "check the file system",
}


def is_fault_of_environment(error: OSError) -> bool:
    """Return whether an error is the environment's: a file that can't be written, or a disk or limit that fails."""
    return isinstance(error, WriteError) or error.errno in _REMEDIES


def described(error: OSError) -> str:
    """Return the file, the cause, and for a full disk the room that is needed and free."""
    cause = os.strerror(error.errno) if error.errno else str(error)
    file = error.filename if isinstance(error.filename, str) else None
    if error.errno == errno.ENOSPC and isinstance(error, WriteError) and file is not None:
        figures = [f"needs {_megabytes(error.needed_bytes)}"] if error.needed_bytes else []
        free = _free_bytes(Path(file).parent)
        figures += [f"{_megabytes(free)} free"] if free is not None else []
        cause = ", ".join([cause, *figures])
    if file is None:
        return cause
    return f"{file} can't be written ({cause})" if isinstance(error, WriteError) else f"{file}: {cause}"


def remedy(error: OSError) -> str:
    """Return what to do before the command is run again, as a clause."""
    return _REMEDIES.get(error.errno or 0, "remove the cause")


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.2f} MB"
