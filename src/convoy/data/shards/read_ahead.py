"""Read-ahead of parts of shards: requested from the kernel for a local file, fetched in threads from a store."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary, finalize

from convoy.config.faults import Fault, UserError
from convoy.data.shards.storage import LocalFolder, Storage

FETCHING_THREADS = 4
"""Concurrent requests to a store."""


class Block(Protocol):
    """Range of a shard."""

    def bytes_at(self, begin: int, end: int) -> bytearray | memoryview:
        """Return the bytes begin .. end - 1 of the shard; writing to them does not change the file."""
        ...


OpenBlock = Callable[[str, int, int], Block]
"""Function of (file, begin, end) that returns a block and starts to read it."""


def damaged(root: str, file: str, what: str) -> UserError:
    """Return the error of a missing or damaged file of a packed data set."""
    remedy = f"convoy pack verify={root} checks all files; copy the file again, or repeat convoy pack or convoy index"
    return UserError(Fault("data.root", f"{file} {what}", remedy, root))


class BlockSource:
    """Blocks of the files of a data set.

    As a context manager, it waits for running requests on exit, and cancels pending ones after an exception.
    """

    def __init__(self, storage: Storage, mapped: bool) -> None:
        """Store the settings; no file is opened.

        Args:
            storage: storage of the data set.
            mapped: whether local blocks are mapped into memory instead of read.
        """
        self._storage = storage
        self._mapped = mapped
        self._pool: ThreadPoolExecutor | None = None
        self._opened: WeakValueDictionary[str, _OpenFile] = WeakValueDictionary()

    def __enter__(self) -> BlockSource:
        if self._storage.is_remote:
            self._pool = ThreadPoolExecutor(FETCHING_THREADS, thread_name_prefix="convoy-fetch")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=kind is not None)

    def open(self, file: str, begin: int, end: int) -> Block:
        """See `OpenBlock`.

        Raises:
            UserError: if a local file is missing or too short.
        """
        if self._pool is not None:
            return _FetchedBlock(self._pool.submit(self._fetch, file, begin, end), begin)
        short = damaged(self._storage.root, file, "is too short")
        try:
            return _FileBlock(self._local(file), short, begin, end)
        except FileNotFoundError as error:
            raise damaged(self._storage.root, file, "is missing") from error
        except ValueError as error:  # an empty file can't be mapped
            raise short from error

    def _local(self, file: str) -> _OpenFile:
        assert isinstance(self._storage, LocalFolder), "storage is either remote or a folder"
        opened = self._opened.get(file)
        if opened is None:
            opened = self._opened[file] = _OpenFile(self._storage.path / file, self._mapped)
        return opened

    def _fetch(self, file: str, begin: int, end: int) -> bytes:
        try:
            content = self._storage.read_range(file, begin, end)
        except FileNotFoundError as error:
            raise damaged(self._storage.root, file, "is missing") from error
        if len(content) != end - begin:
            raise damaged(self._storage.root, file, "is too short")
        return content


class _FetchedBlock:
    def __init__(self, content: Future[bytes], begin: int) -> None:
        self._content = content
        self._begin = begin

    def bytes_at(self, begin: int, end: int) -> bytearray:
        return bytearray(memoryview(self._content.result())[begin - self._begin : end - self._begin])


class _OpenFile:
    """Open shard, shared by its blocks and closed with the last of them."""

    def __init__(self, path: Path, mapped: bool) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)
        # Not in __del__: another thread can still obtain the object from a weak reference while __del__ runs.
        finalize(self, os.close, self.descriptor)
        self.memory: memoryview | None = None
        if mapped:
            # Copied on write: torch requires writable memory.
            self.memory = memoryview(mmap.mmap(self.descriptor, 0, access=mmap.ACCESS_COPY))


class _FileBlock:
    """Block of a local file, read by offset (which releases the GIL) or mapped; the kernel reads it ahead."""

    def __init__(self, file: _OpenFile, short: UserError, begin: int, end: int) -> None:
        self._file = file
        self._short = short
        if hasattr(os, "posix_fadvise"):  # not on macOS
            os.posix_fadvise(file.descriptor, begin, end - begin, os.POSIX_FADV_WILLNEED)

    def bytes_at(self, begin: int, end: int) -> bytearray | memoryview:
        content: bytearray | memoryview
        if self._file.memory is not None:
            content = self._file.memory[begin:end]
            num_read = len(content)
        else:
            content = bytearray(end - begin)
            num_read = os.preadv(self._file.descriptor, [content], begin)
        if num_read != end - begin:
            raise self._short
        return content
