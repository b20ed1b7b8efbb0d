"""Runs below an output root, with an index that makes listing ten thousand of them fast. Imports no torch.

The index is a cache next to the runs: a row per run with the modification times of the files that it was read from. A
row whose times differ is read again. An index that is damaged, missing or of another version is built again, and one
that can't be written is not used. Processes replace the file as a whole, so that the last one counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from convoy.runs.run_facts import RunFacts, is_run, read_facts

INDEX = ".runs-index.json"
"""File of the index in the output root."""

_VERSION = 1
_DEPTH = 3
"""Folders of runs are at most this deep below the output root: sweeps/<sweep>/<point>."""
_RECENT_S = 2.0
"""Rows of files that changed within this time are not kept: a later change could leave the same time."""
_STALE_S = 3600.0
_WATCHED = ("", "/checkpoints", "/metrics.csv", "/summary.json")
"""Files and folders whose times show that a run changed. A file that is replaced changes the time of its folder."""

_Rows = dict[str, tuple[list[int], list[Any]]]


def read_runs(output_root: Path) -> list[RunFacts]:
    """Return the facts of all runs below an output root, ordered by path."""
    index = output_root / INDEX
    known, found = _read(index), []
    kept: _Rows = {}
    settled = (time.time() - _RECENT_S) * 1e9
    for path, times in sorted(_folders(os.fspath(output_root), "", _DEPTH, known)):
        before, row = known.get(path, ([], []))
        facts = _from_row(row) if before == times else None
        if facts is None:
            facts = read_facts(output_root / path, path)
            row = facts.as_row()
        found.append(facts)
        if max(times) < settled:
            kept[path] = times, row
    if kept != known:
        _write(index, kept)
    return found


def modified(folder: str, names: Sequence[str] = _WATCHED) -> list[int]:
    """Return the modification times of a run's files in nanoseconds; 0 for a file that does not exist."""
    times = []
    for name in names:
        try:
            times.append(os.stat(folder + name).st_mtime_ns)  # noqa: PTH116
        except OSError:
            times.append(0)
    return times


def _folders(root: str, below: str, depth: int, known: _Rows) -> Iterator[tuple[str, list[int]]]:
    """Yield the folders of runs relative to the root, with their times. Run folders are not searched for more."""
    try:
        with os.scandir(f"{root}/{below}") as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except OSError:
        return
    for name in names:
        path = f"{below}{name}"
        times = modified(f"{root}/{path}")
        if (path in known and known[path][0] == times) or is_run(f"{root}/{path}"):
            yield path, times
        elif depth > 1:
            yield from _folders(root, f"{path}/", depth - 1, known)


def _from_row(row: list[Any]) -> RunFacts | None:
    try:
        return RunFacts.from_row(row)
    except (TypeError, ValueError, IndexError):
        return None


def _read(index: Path) -> _Rows:
    """Return the rows of the index by path; empty if it is missing, damaged or of another version."""
    try:
        head, _, body = index.read_bytes().partition(b"\n")
        if head != _head(body):
            return {}
        return {path: (times, row) for path, (times, row) in json.loads(body).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(index: Path, rows: _Rows) -> None:
    """Replace the index, if its folder can be written."""
    body = json.dumps(rows, separators=(",", ":")).encode()
    prefix = f"{INDEX}."
    with contextlib.suppress(OSError):
        for left in index.parent.glob(f"{prefix}*"):  # of a process that was killed
            if time.time() - left.stat().st_mtime > _STALE_S:
                left.unlink(missing_ok=True)
        partial = index.with_name(f"{prefix}{os.getpid()}-{os.urandom(3).hex()}")
        try:
            partial.write_bytes(_head(body) + b"\n" + body)
            partial.replace(index)
        finally:
            partial.unlink(missing_ok=True)


def _head(body: bytes) -> bytes:
    return f"convoy runs {_VERSION} {zlib.crc32(body):08x}".encode()
