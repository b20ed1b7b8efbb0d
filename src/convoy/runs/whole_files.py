"""Files that are written whole or not at all and survive a loss of power. Imports no torch.

A file is written next to its target as `.<name>.partial`, synchronized with the disk, and renamed. A process that dies
leaves the target as it was. The files of a study or a sweep may have several writers (`replace_shared`), those of a run
have one. Nothing passes through the temporary folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


class WriteError(OSError):
    """Failure of the operating system to write a file.

    Attributes:
        needed_bytes: size of the file that was to be written; None if unknown.
    """

    needed_bytes: int | None = None


def encoded(text: str) -> bytes:
    """Return a text in UTF-8, with escapes as in JSON for the bytes of file names that are not UTF-8."""
    return text.encode(errors="backslashreplace")


def replace_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, see `encoded`.

    Raises:
        WriteError: the file can't be written; it is then unchanged.
    """
    content = encoded(text)
    publish(write_partial(path, lambda file: file.write(content), len(content)), path)


def replace_shared(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, where several processes may write it at the same time: one of them is last.

    Raises:
        WriteError: the file can't be written; it is then unchanged.
    """
    # Two processes that write the same partial file would rename each other's.
    own = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.partial")
    with _removing_after_error(own), _naming(path, len(content)), own.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    publish(own, path)


def append_text(path: Path, text: str) -> None:
    """Append to a text file, see `encoded`; it reaches the disk with the next `synchronize`, or when the system writes.

    Raises:
        WriteError: the text can't be appended; the file is then as it was.
    """
    rest = memoryview(encoded(text))
    with _naming(path, len(rest)), path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(size)
            raise


def write_partial(path: Path, write: Callable[[BinaryIO], object], needed_bytes: int | None = None) -> Path:
    """Write the partial file of `path` and synchronize it with the disk.

    Args:
        path: target, which is not changed.
        write: writes the content into the open file.
        needed_bytes: size of the content, for the message of an error.

    Returns:
        The partial file, for `publish`.

    Raises:
        WriteError: the file can't be written. What was written of it is removed.
    """
    partial = _partial_of(path)
    with _removing_after_error(partial), _naming(path, needed_bytes), partial.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    return partial


def copy_partial(source: Path, path: Path) -> Path:
    """Make the partial file of `path` a copy of `source`: a hard link, or a second file if there are no hard links.

    Args:
        source: file that is complete and synchronized.
        path: target, which is not changed.

    Returns:
        The partial file, for `publish`.

    Raises:
        WriteError: the copy can't be written. What was written of it is removed.
    """
    partial = _partial_of(path)
    with _naming(path, None):
        partial.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        os.link(source, partial)
        return partial
    with _naming(path, None):
        size = source.stat().st_size
    with source.open("rb") as file:
        return write_partial(path, lambda copy: shutil.copyfileobj(file, copy), size)


def publish(partial: Path, path: Path) -> None:
    """Rename a partial file to its target, and synchronize the folder, so that the new name survives a loss of power.

    Raises:
        WriteError: the file can't be renamed. The partial file is removed.
    """
    with _removing_after_error(partial), _naming(path, None):
        partial.replace(path)
    synchronize(path.parent)


def synchronize(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; do nothing if the path does not exist.

    Raises:
        WriteError: the content of a file can't be written.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    is_folder = path.is_dir()
    try:
        with _naming(path, None):
            os.fsync(descriptor)
    except WriteError:
        if not is_folder:  # some file systems can't synchronize a folder
            raise
    finally:
        os.close(descriptor)


def remove_partials(folder: Path) -> None:
    """Remove the partial files in a folder that killed processes have left."""
    for path in folder.glob(".*.partial"):
        with _naming(path, None):
            path.unlink(missing_ok=True)


def _partial_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


@contextmanager
def _naming(path: Path, needed_bytes: int | None) -> Iterator[None]:
    """Raise each OSError as a WriteError with the path: the error of a write has none."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        named = WriteError(error.errno, error.strerror or str(error), str(path))
        named.needed_bytes = needed_bytes
        raise named from error


@contextmanager
def _removing_after_error(partial: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
