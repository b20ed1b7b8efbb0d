"""Time of `convoy runs`, start of the process included, below an output root with many runs.

Each run folder is a copy of the records of a short run that was trained first, with two files in place of checkpoints.

    python -m benchmarks.run_list --runs 10000
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import Goal, Result
from benchmarks.rounds import machine
from convoy.runs.run_index import INDEX

BOUND_S = 1.0
"""Upper bound in seconds for a list with an index."""

_TRAIN = ("model=lenet5", "data=digits", "logger=csv", "trainer.gpus=0", "trainer.max_epochs=10", "folder=one")
_DAY_S = 86_400


def make_runs(root: Path, number: int) -> None:
    """Train a run and copy its records into run folders, all as old as a day."""
    subprocess.run([sys.executable, "-m", "convoy", "train", *_TRAIN], cwd=root, check=True, capture_output=True)
    records = {path.name: path.read_bytes() for path in (root / "one").iterdir() if path.is_file()}
    then = time.time() - _DAY_S
    for index in range(number):
        run = root / "outputs" / f"net{index % 20}" / f"2026-01-02_03-04-05-{index:06x}"
        (run / "checkpoints").mkdir(parents=True)
        files = {run / name: content for name, content in records.items()}
        files |= {run / "checkpoints" / f"{name}.ckpt": b"" for name in ("best", "last")}
        for path, content in files.items():
            path.write_bytes(content)
        for path in (*files, run / "checkpoints", run):
            os.utime(path, (then, then))


def seconds_of(root: Path, *words: str) -> float:
    """Return the wall time of a list of all runs."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "convoy", "runs", "limit=0", *words]
    subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main(words: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000, help="number of run folders")
    parser.add_argument("--rounds", type=int, default=5, help="lists with an index")
    given = parser.parse_args(words)
    print(machine())
    root = Path(tempfile.mkdtemp())
    try:
        make_runs(root, given.runs)
        first = [seconds_of(root)]
        again = [seconds_of(root) for _ in range(given.rounds)]
        size = (root / "outputs" / INDEX).stat().st_size / 2**20
    finally:
        shutil.rmtree(root)
    named = f"{given.runs:,} runs"
    results = [
        Result("time of convoy runs, without an index", named, None, first, unit="s"),
        Result("time of convoy runs", named, None, again, goal=Goal(BOUND_S, at_least=False), unit="s"),
        Result("size of the index", named, None, [size], unit="MiB", digits=1),
    ]
    for result in results:
        print(result.line())
    return results


if __name__ == "__main__":
    main()
