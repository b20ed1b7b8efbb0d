"""Runs do not use cores that other processes keep busy."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.conftest import TINY, Run

from convoy.runtime.cpu_cores import CoreTimes, Imports, cores_of_others
from convoy.runtime.devices import choose
from convoy.training import machine, preflight

needs_stat = pytest.mark.skipif(not Path("/proc/stat").is_file(), reason="cores are counted by Linux's /proc/stat")


@pytest.mark.parametrize(
    ("busy_s", "own_s", "seconds", "cores"),
    [
        (3.0, 2.0, 2.0, 1),  # 1 s of others in 2 s: half a core is rounded up
        (3.0, 2.2, 2.0, 0),
        (6.0, 1.0, 2.0, 3),
        (1.0, 2.0, 2.0, 0),  # what children have done before counts when they end
        (0.5, 0.1, 0.2, 0),  # too short to measure
        (None, 1.0, 2.0, 0),
    ],
)
def test_remaining_busy_time_counts_for_other_processes(
    busy_s: float | None, own_s: float, seconds: float, cores: int
) -> None:
    start = CoreTimes(10.0, None if busy_s is None else 100.0, 7.0)
    end = CoreTimes(10.0 + seconds, None if busy_s is None else 100.0 + busy_s, 7.0 + own_s)
    assert cores_of_others(start, end) == cores


@needs_stat
def test_other_processes_are_counted_and_own_work_is_not() -> None:
    """Two processes each use a core for a second, on a machine that may run others."""
    here = os.sched_getaffinity(0)
    start = CoreTimes.now()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        while time.monotonic() < start.wall_s + 1:
            pass
        end = CoreTimes.now()
        other.kill()
    assert end.busy_s is not None
    assert start.busy_s is not None
    assert 0.8 < end.busy_s - start.busy_s <= 1.1 * len(here)
    assert 0.1 < end.own_s - start.own_s < 1.2
    assert cores_of_others(start, end) >= (1 if len(here) > 1 else 0)


def test_threads_are_the_cores_that_others_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    alone = preflight.read(["trainer.gpus=0"])
    assert [choose(alone, busy).cpu_threads for busy in (0, 1, 4)] == [4, 3, 1]
    assert choose(preflight.read(["trainer.gpus=0", "hardware.cpu_threads=4"]), 3).cpu_threads == 4
    # Processes of one run would take each other for others.
    assert choose(preflight.read(["trainer.gpus=0", "trainer.processes=2"]), 1).cpu_threads == 2


def test_a_run_keeps_the_threads_that_it_began_with(
    convoy: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run keeps its number of threads, since another number changes the last digits of the results."""
    tiny = [word for word in TINY if not word.startswith("hardware")]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(machine, "cores_of_others", lambda *_: 1)
    run = convoy("train", *tiny, "trainer.max_steps=2")
    assert "1 thread, since other processes keep a core busy; hardware.cpu_threads=… asks for more" in run.out
    monkeypatch.setattr(machine, "cores_of_others", lambda *_: 0)
    again = convoy("train", "resume=run", "trainer.max_steps=3")
    assert again.code == 0
    assert yaml.safe_load((run.folder / "config.yaml").read_text())["hardware"]["cpu_threads"] == 1


def test_a_forked_run_watches_others_although_it_imports_nothing(
    convoy: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched_s: list[float] = []

    def watch(start: CoreTimes, end: CoreTimes) -> int:
        watched_s.append(end.wall_s - start.wall_s)
        return 0

    tiny = [word for word in TINY if not word.startswith("hardware")]
    monkeypatch.setattr(machine, "cores_of_others", watch)
    monkeypatch.setattr(Imports, "are_done", True)
    assert convoy("train", *tiny, "trainer.max_steps=1").code == 0
    assert watched_s[0] >= 0.5
