"""Exit codes of runs with two ranks: a thread that Python ends in C++ code turns one in some runs into SIGABRT."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.conftest import TINY
from tests.training import forking_driver

WORDS = (*TINY, "trainer.max_steps=5", "trainer.test=false")


@pytest.mark.parametrize(
    "runs", [pytest.param(10, marks=pytest.mark.slow), pytest.param(150, marks=pytest.mark.faults)]
)
def test_exit_codes_are_true(runs: int) -> None:
    """150 runs show a fault of 2 % of the runs with a probability of 95 %."""
    done = subprocess.run(
        [sys.executable, forking_driver.__file__, str(runs), *WORDS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = Counter(tuple(line.split("\t")) for line in done.stdout.splitlines())
    right = {(way, *map(str, codes)) for way, codes in forking_driver.WAYS.items()}
    wrong = {codes: number for codes, number in found.items() if codes not in right}
    print(f"{runs} runs, {sum(wrong.values())} with a wrong exit code")
    logs = "\n".join(path.read_text()[-300:] for path in Path().glob("*.log")) if wrong else ""
    assert not wrong, f"{wrong}\n{logs}"
    assert found.total() == runs


HANGING = """
import datetime, threading, torch.distributed
from convoy.runtime.process_end import end_with

def run():
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, timeout=datetime.timedelta(seconds=3))
    threading.Thread(target=lambda: store.get("never"), daemon=True).start()
    return 3

end_with(run)
"""


def test_a_thread_that_hangs_does_not_change_the_exit_code() -> None:
    """With sys.exit instead, two of three such processes end by SIGABRT."""
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
