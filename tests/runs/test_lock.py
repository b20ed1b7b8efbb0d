"""Lock of a run's folder, against other processes."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.conftest import TINY, Run, read_rows

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


def test_a_look_at_the_lock_does_not_refuse_the_process_that_takes_it(tmp_path: Path) -> None:
    """`is_being_trained` holds a shared lock for a moment, as a `resume=latest` beside this one does."""
    (tmp_path / ".lock").touch()
    with (tmp_path / ".lock").open() as shared:
        fcntl.flock(shared, fcntl.LOCK_SH)
        threading.Timer(0.2, fcntl.flock, (shared, fcntl.LOCK_UN)).start()
        RunLock(tmp_path).acquire()


@pytest.mark.parametrize(
    "number", [pytest.param(2, marks=pytest.mark.slow), pytest.param(10, marks=pytest.mark.faults)]
)
@pytest.mark.parametrize("text", ["latest", "run"])
def test_of_simultaneous_resumes_one_trains(
    convoy: Callable[..., Run], shell: Callable[..., Run], tmp_path: Path, number: int, text: str
) -> None:
    """The others are refused, and each step is trained once."""
    started = ("trainer.max_steps=3", "trainer.log_every_steps=1", "trainer.test=false")
    assert convoy("train", *TINY, *started, folder="outputs/net/run").code == 0
    root = tmp_path / "outputs/net/run" if text == "run" else text
    with ThreadPoolExecutor(number) as pool:
        words = ("train", f"resume={root}", "trainer.max_epochs=9", "trainer.max_steps=60", "output_root=outputs")
        ended = list(pool.map(lambda _: shell(*words), range(number)))
    codes = sorted(one.code for one in ended)
    assert codes.count(0) >= 1
    assert set(codes) <= {0, 2}
    for one in ended:
        assert "Traceback" not in one.err
        if one.code == 2:
            assert "being trained" in one.err or "has done all its 60 steps" in one.err
    rows = read_rows(tmp_path / "outputs/net/run")
    steps = [row["step"] for row in rows if row["train/loss"]]
    assert steps == [str(step) for step in range(1, 61)]


@pytest.mark.slow
def test_every_rank_of_a_resumed_run_finds_the_run_that_the_first_one_locked(
    convoy: Callable[..., Run], shell: Callable[..., Run]
) -> None:
    words = ("trainer.processes=2", "trainer.max_steps=3", "trainer.test=false")
    assert convoy("train", *TINY, "trainer.max_steps=2", "trainer.test=false", folder="outputs/net/older").code == 0
    assert convoy("train", *TINY, "trainer.max_steps=2", "trainer.test=false", folder="outputs/net/newer").code == 0
    done = shell("train", "resume=latest", *words, "output_root=outputs", folder="outputs/net/newer")
    assert done.code == 0, done.err
    assert done.summary()["steps"] == 3
