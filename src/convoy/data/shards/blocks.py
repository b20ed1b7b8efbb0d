"""The parts of shards that are about to be needed: told to the kernel for a local file, fetched from a store."""

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
"""Requests to a store at a time."""


class Block(Protocol):
    """A range of a shard."""

    def bytes_at(self, begin: int, end: int) -> bytearray | memoryview:
        """The bytes begin .. end - 1 of the shard, to be read and written without a change to the file."""
        ...


OpenBlock = Callable[[str, int, int], Block]
"""Gives the block of a file from `begin` to `end`, and sees to it that it is soon at hand."""


def damaged(root: str, file: str, what: str) -> UserError:
    """That a file of a packed set isn't as it was written."""
    remedy = f"convoy pack verify={root} checks all; copy it again, or pack again into the same folder"
    return UserError(Fault("data.root", f"{file} {what}", remedy, root))


class BlockSource:
    """Blocks of a set's files; a context that waits for the requests under way, and gives up the rest if it fails."""

    def __init__(self, storage: Storage, mapped: bool) -> None:
        """`mapped`: whether local blocks are mapped into memory rather than read where they are needed."""
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
            UserError: a local file is gone or too short.
        """
        if self._pool is not None:
            return _FetchedBlock(self._pool.submit(self._fetch, file, begin, end), begin)
        short = damaged(self._storage.root, file, "is shorter than it was packed")
        try:
            return _FileBlock(self._local(file), short, begin, end)
        except FileNotFoundError as error:
            raise damaged(self._storage.root, file, "is gone") from error
        except ValueError as error:  # an empty file can't be mapped
            raise short from error

    def _local(self, file: str) -> _OpenFile:
        assert isinstance(self._storage, LocalFolder), "what isn't remote is a folder"
        opened = self._opened.get(file)
        if opened is None:
            opened = self._opened[file] = _OpenFile(self._storage.path / file, self._mapped)
        return opened

    def _fetch(self, file: str, begin: int, end: int) -> bytes:
        try:
            found = self._storage.read_range(file, begin, end)
        except FileNotFoundError as error:
            raise damaged(self._storage.root, file, "is gone") from error
        if len(found) != end - begin:
            raise damaged(self._storage.root, file, "is shorter than it was packed")
        return found


class _FetchedBlock:
    def __init__(self, content: Future[bytes], begin: int) -> None:
        self._content = content
        self._begin = begin

    def bytes_at(self, begin: int, end: int) -> bytearray:
        return bytearray(memoryview(self._content.result())[begin - self._begin : end - self._begin])


class _OpenFile:
    """A shard that is open for as long as a block of it is held, once for all of them."""

    def __init__(self, path: Path, mapped: bool) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)
        # Not by __del__, during which another thread may still be given the object by a weak reference.
        finalize(self, os.close, self.descriptor)
        self.memory: memoryview | None = None
        if mapped:
            # A private copy as soon as it is written to: torch takes no memory that it may not write.
            self.memory = memoryview(mmap.mmap(self.descriptor, 0, access=mmap.ACCESS_COPY))


class _FileBlock:
    """Read by offsets, which lets go of Python's lock, or mapped; the kernel is told to have the block ready."""

    def __init__(self, file: _OpenFile, short: UserError, begin: int, end: int) -> None:
        self._file = file
        self._short = short
        if hasattr(os, "posix_fadvise"):  # not on macOS
            os.posix_fadvise(file.descriptor, begin, end - begin, os.POSIX_FADV_WILLNEED)

    def bytes_at(self, begin: int, end: int) -> bytearray | memoryview:
        found: bytearray | memoryview
        if self._file.memory is not None:
            found = self._file.memory[begin:end]
            num_read = len(found)
        else:
            found = bytearray(end - begin)
            num_read = os.preadv(self._file.descriptor, [found], begin)
        if num_read != end - begin:
            raise self._short
        return found
