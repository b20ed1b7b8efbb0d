"""Lock of a run's folder, against other processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import TINY, Run

from convoy.config.faults import UserError
from convoy.runs.lock import RunLock

HOLD = "import sys\nfrom pathlib import Path\nfrom convoy.runs.lock import RunLock\nlock = RunLock(Path(sys.argv[1]))\n"
HOLD += "lock.acquire()\nprint('held', flush=True)\nsys.stdin.read()\n"


def test_a_second_process_is_refused_with_the_holder_and_a_killed_one_leaves_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"is being trained by process {holder.pid} on "):
            RunLock(tmp_path).acquire()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    lock = RunLock(tmp_path)
    lock.acquire()
    lock.release()


def test_a_run_that_is_being_trained_is_not_resumed(convoy: Callable[..., Run]) -> None:
    assert convoy("train", *TINY, "trainer.max_steps=2").code == 0
    before = Path("run/overrides.yaml").read_text()
    lock = RunLock(Path("run").absolute())
    lock.acquire()
    refused = convoy("train", "resume=run", "trainer.max_steps=4")
    assert refused.code == 2
    assert f"is being trained by process {os.getpid()}" in refused.err
    assert Path("run/overrides.yaml").read_text() == before
    lock.release()
    assert convoy("train", "resume=run", "trainer.max_steps=4").code == 0
