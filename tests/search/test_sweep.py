"""Sweeps: stop signals, the table, and what is left behind."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.conftest import TINY, Run, command

POINTS = ("train", "-m", *TINY, "trainer.max_epochs=1,900,2")
"""The second point is the one that is stopped."""


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not what():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def trains_second_point() -> bool:
    return any(len(path.read_text().splitlines()) > 3 for path in Path("outputs/sweeps").glob("*/1_*/metrics.csv"))


def table() -> list[dict[str, str]]:
    found = list(Path("outputs/sweeps").glob("*/sweep.csv"))
    if not found:
        return []
    with found[0].open(newline="") as file:
        return list(csv.DictReader(file))


def processes_of(session: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, own = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(own) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize(
    ("number", "to_group"),
    [
        pytest.param(signal.SIGTERM, False, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, False, marks=pytest.mark.faults),
        pytest.param(signal.SIGINT, False, marks=pytest.mark.faults),
        pytest.param(signal.SIGINT, True, marks=pytest.mark.faults),
    ],
)
def test_a_sweep_that_is_stopped_stops_its_point(number: int, to_group: bool) -> None:
    """A signal to the sweep alone, and one to its group, as a terminal sends it."""
    process = start(*POINTS)
    wait_for(trains_second_point, process)
    assert [row["exit_code"] for row in table()] == ["0"]  # written while the second point trains
    (os.killpg if to_group else os.kill)(process.pid, number)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + number, out
    assert "Traceback" not in out, out
    name = signal.Signals(number).name
    (folder,) = Path("outputs/sweeps").iterdir()
    assert f"sweep stopped by {name} after 1 of 3 points; kept: {folder}/sweep.csv; to resume: convoy" in out
    assert out.rstrip().endswith(f"convoy train resume={folder}")
    assert out.count(f"stopped by {name} after step") == 1
    assert [row["exit_code"] for row in table()] == ["0", str(128 + number)]
    assert not processes_of(process.pid)


@pytest.mark.faults
def test_a_point_whose_sweep_is_killed_stops_and_is_saved() -> None:
    process = start(*POINTS)
    wait_for(trains_second_point, process)
    process.kill()
    out, _ = process.communicate(timeout=120)  # the point has the pipe open until it ends
    assert "stopped by SIGTERM after step" in out
    deadline = time.monotonic() + 10
    while processes_of(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "workers", [pytest.param(1, marks=pytest.mark.faults), pytest.param(2, marks=pytest.mark.slow)]
)
def test_a_sweep_that_is_killed_resumes_and_ends_as_without_the_kill(workers: int, tmp_path: Path) -> None:
    words = ("-m", *TINY, "trainer.max_epochs=1,30,2", "trainer.checkpoint_every_steps=3", "report=false")
    whole = tmp_path / "whole"
    whole.mkdir()
    assert subprocess.run(command(["train", *words]), cwd=whole, capture_output=True).returncode == 0
    process = start("train", *words, f"workers={workers}")
    wait_for(lambda: bool(list(Path("outputs").glob("sweeps/*/1_*/checkpoints/last.ckpt"))), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (folder,) = Path("outputs/sweeps").iterdir()
    finished = [path.parent for path in folder.glob("*/summary.json")]
    before = {path: (path / "metrics.csv").stat().st_mtime_ns for path in finished}
    had_checkpoint = {path.parents[1] for path in folder.glob("*/checkpoints/last.ckpt")}
    again = start("train", f"resume={folder}", f"workers={workers}")
    out, _ = again.communicate(timeout=300)
    assert again.returncode == 0, out
    assert {path: (path / "metrics.csv").stat().st_mtime_ns for path in finished} == before
    for path in had_checkpoint - set(finished):
        assert (path / "overrides.yaml").read_text().count("resume=") == 1
    (other,) = whole.glob("outputs/sweeps/*/sweep.csv")
    assert rows_of(folder / "sweep.csv") == rows_of(other)


def rows_of(path: Path) -> list[dict[str, str]]:
    """Return the rows of sweep.csv without times, and with folders relative to it."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{**row, "seconds": "", "folder": Path(row["folder"]).name} for row in rows]


def test_the_record_of_a_sweep_is_data(convoy: Callable[..., Run], tmp_path: Path) -> None:
    words = ["model._target_=mynet.MyNet", "seed=1"]
    record = {"keys": ["seed"], "points": [{"folder": "0_seed=1", "overrides": words}]}
    (tmp_path / "sweep.json").write_text(json.dumps(record))
    done = convoy("train", f"resume={tmp_path}")
    assert done.code == 2
    assert "type it again: model._target_=mynet.MyNet" in done.err
    done = convoy("train", f"resume={tmp_path}", words[0], "seed=2")
    assert done.code == 2
    assert "seed: is not part of the sweep" in done.err
    assert list(tmp_path.iterdir()) == [tmp_path / "sweep.json"]


@pytest.mark.parametrize(
    "num_points", [pytest.param(10, marks=pytest.mark.slow), pytest.param(200, marks=pytest.mark.faults)]
)
def test_a_sweep_leaves_nothing_behind(num_points: int, tmp_path: Path) -> None:
    """No process, shared-memory segment, temporary file, file descriptor or megabyte."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    segments = set(Path("/dev/shm").iterdir())
    words = ("-m", *TINY, "trainer.max_steps=2", "trainer.test=false", f"seed=range({num_points})")
    usage: dict[int, tuple[int, int]] = {}
    with Path("log").open("wb") as log:
        process = subprocess.Popen(
            command(("train", *words)),
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(temporary)},
        )
        while process.poll() is None:
            number = len(table())
            now = num_descriptors(process.pid), resident_bytes(process.pid)
            usage[number] = min(usage.get(number, now), now)
            time.sleep(0.05)
    assert process.returncode == 0, Path("log").read_text()
    counts = sorted(number for number in usage if 2 <= number < num_points)
    early, late = usage[counts[0]], usage[counts[-1]]
    print(f"{num_points} points: {early[0]} and {late[0]} descriptors, {late[1] - early[1]:+,} bytes")
    # A point in progress has a log and a connection; if each point left a descriptor, there would be more.
    assert late[0] - early[0] < counts[-1] - counts[0]
    assert late[1] - early[1] < 2**20
    assert not processes_of(process.pid)
    assert not [path for path in set(Path("/dev/shm").iterdir()) - segments if not is_open(path)]
    assert not list(temporary.iterdir())


def num_descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def is_open(path: Path) -> bool:
    """Return True if a process has mapped a file: it is another program's."""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            if str(path) in maps.read_text():
                return True
    return False
