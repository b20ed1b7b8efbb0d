"""Runs with an injected fault, and their comparison with an undisturbed run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.conftest import read_rows

WORDS = (
    "train",
    "model=lenet5",
    "data=digits",
    "hardware=cpu",
    "hardware.cpu_threads=1",
    "trainer.precision=32",
    "trainer.max_epochs=3",
    "trainer.log_every_steps=1",
    "trainer.checkpoint_every_steps=7",
    "logger=csv",
    "folder=run",
)
"""30 steps with 7 checkpoints."""

RESUME = ("train", "resume=run")

_TIMES = ("seconds", "images_per_s", "data_wait", "logging_share", "elapsed_s")
_NOT_COMPARED = (*_TIMES, "loops", "folder", "best_checkpoint", "pytorch-lightning_version")
"""Times, counters of Lightning's loops that Convoy sets anew (`training/loop_state.py`), and absolute paths."""

_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Ended:
    """End of a command: exit code (negative: signal), file operations, and output."""

    code: int
    operations: list[str]
    out: str


class ForkServer:
    """Client of `fork_server`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.fork_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
            env={**os.environ, **_ENVIRONMENT},
        )
        assert self._process.stdout is not None
        # A fork of a process with several threads may hang.
        assert json.loads(self._process.stdout.readline()) == {"threads": 1}

    def run(self, folder: Path, *words: str, **asked: Any) -> Ended:
        """Run a command in a folder; see `fork_server` for the keywords."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        folder.mkdir(parents=True, exist_ok=True)
        self._process.stdin.write(json.dumps({"words": words, "folder": str(folder), **asked}) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the server."""
        self._process.communicate()


@dataclass
class Tally:
    """Count of injected faults and of those that were survived; prints itself.

    Attributes:
        kind: of the faults.
        injected: number of faults.
        lost: description of each fault after which the run was not as an undisturbed one.
    """

    kind: str
    injected: int
    lost: list[str]

    def show(self) -> None:
        """Print the three numbers and what was lost."""
        survived = self.injected - len(self.lost)
        print(f"\n{self.kind}: {self.injected} injected, {survived} survived, {len(self.lost)} lost")
        for text in self.lost:
            print(f"  {text}")


def differences(whole: Path, other: Path) -> list[str]:
    """Return what differs between two concluded runs: files, tensors, rows and summary, without times."""
    found = []
    names, others = (_names(folder) for folder in (whole, other))
    if names != others:
        found.append(f"files {sorted(names ^ others)}")
    if not (other / "summary.json").is_file():
        return [*found, "no summary.json"]
    for name in ("last", "best"):
        first, second = (_checkpoint(folder, name) for folder in (whole, other))
        found += _unequal(first, second, f"{name}.ckpt")
    if read_rows(whole) != read_rows(other):
        found.append("rows of metrics.csv")
    first, second = (json.loads((folder / "summary.json").read_text()) for folder in (whole, other))
    found += _unequal(first, second, "summary.json")
    matrices = [(folder / "confusion_matrix.csv") for folder in (whole, other)]
    if matrices[1].is_file() and matrices[0].read_bytes() != matrices[1].read_bytes():
        found.append("confusion_matrix.csv")
    return found


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "debug.log"}


def _checkpoint(folder: Path, name: str) -> Any:
    try:
        return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    except (OSError, RuntimeError) as error:
        return str(error)


def _unequal(first: Any, second: Any, where: str) -> list[str]:
    """Return the places at which two nested values differ."""
    if type(first) is not type(second):
        return [f"{where}: {type(first).__name__} and {type(second).__name__}"]
    if isinstance(first, dict):
        if first.keys() != second.keys():
            return [f"{where}: keys {sorted(map(str, first.keys() ^ second.keys()))}"]
        keys = [key for key in first if key not in _NOT_COMPARED]
        return [text for key in keys for text in _unequal(first[key], second[key], f"{where} {key}")]
    if isinstance(first, list | tuple):
        if len(first) != len(second):
            return [f"{where}: length"]
        pairs = enumerate(zip(first, second, strict=True))
        return [text for number, (one, two) in pairs for text in _unequal(one, two, f"{where} {number}")]
    same = torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second
    return [] if same else [where]
