"""The tests that need a CUDA device (`pytest -m gpu`); on a machine without one they are skipped."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator


def figures(_device: str) -> Iterator[tuple[str, object]]:
    """Yield the number of tests by outcome, and the names of those that failed.

    Raises:
        SystemExit: if a test failed, or none was found.
    """
    program = [sys.executable, "-m", "pytest", "tests", "-m", "gpu", "-q", "-rf", "-p", "no:cacheprovider"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    outcomes = {kind: int(number) for number, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    yield from outcomes.items()
    failed = re.findall(r"^FAILED (\S+)", done.stdout, re.M)
    if failed:
        yield "failed tests", " ".join(failed)
    if done.returncode not in (0, 5) or not outcomes:
        raise SystemExit(f"pytest ended with exit code {done.returncode}")
