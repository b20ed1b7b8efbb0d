"""Stop signals in each stage of a command, with real processes."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from types import MappingProxyType

import pytest
from tests.conftest import TINY, Run
from tests.training import pausing_driver
from tests.training.test_resume import assert_equal_runs

from convoy.cluster import reports
from convoy.cluster.run_lease import take

Convoy = Callable[..., Run]

WORDS = (*TINY, "trainer.eval_batch_size=32")
"""Several batches of val and test."""

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

STAGES = ("training", "validation", "test", "summary")

SHORT = (("training", signal.SIGHUP), ("validation", signal.SIGTERM), ("test", signal.SIGINT))
"""Stages and signals of the slow suite; `make faults` has all of them."""


def paused(
    stage: str,
    *words: str,
    before: Sequence[str] = (),
    ranks: int = 1,
    call: int = 2,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen[str]:
    """Start a command and return it when each of its ranks has paused in a stage, at a call of its function."""
    process = subprocess.Popen(
        [*before, sys.executable, pausing_driver.__file__, stage, str(call), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )
    deadline = time.monotonic() + 120
    while not all(Path(f"reached-{rank}").exists() for rank in range(ranks)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def ended(process: subprocess.Popen[str], *numbers: int) -> str:
    """Send signals to a paused process, and return its output when it has ended."""
    for number in numbers:
        process.send_signal(number)
    Path("sent").touch()
    out, _ = process.communicate(timeout=120)
    return out


def endings(out: str) -> list[str]:
    assert "Traceback" not in out, out
    return [line for line in out.splitlines() if "stopped by" in line]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("undisturbed")
    words = [sys.executable, "-m", "convoy.commands.main", "train", *WORDS, "folder=run"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return folder / "run"


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        pytest.param(*case, marks=pytest.mark.slow if case in SHORT else pytest.mark.faults)
        for case in product(STAGES, STOPS)
    ],
)
def test_a_run_stopped_in_any_stage_ends_as_an_undisturbed_one(
    stage: str, number: int, shell: Convoy, undisturbed: Path
) -> None:
    process = paused(stage, "train", *WORDS, "folder=run")
    out = ended(process, number)
    assert process.returncode == 128 + number, out
    (line,) = endings(out)
    assert f"stopped by {signal.Signals(number).name}" in line
    assert "to resume: convoy train resume=run" in line
    resumed = shell("train", "resume=run")
    assert resumed.code == 0, resumed.err
    assert_equal_runs(undisturbed, Path("run"))
    assert _results(undisturbed) == _results(Path("run"))


def _results(folder: Path) -> dict[str, float]:
    summary = json.loads((folder / "summary.json").read_text())
    return {name: value for name, value in summary.items() if name.startswith(("val/", "test/", "best_step"))}


@pytest.mark.slow
def test_a_signal_after_the_results_changes_nothing(undisturbed: Path) -> None:
    """The page is written to its end, and a job reports the rank as done, so that it is not requeued."""
    folder, claim = take(Path("run"), "77", "hash", 0)
    job = {reports.FOLDER: str(folder.path.absolute()), reports.START: str(claim.start), "SLURM_JOB_ID": "77"}
    process = paused("page", "slurm", "rank", "--", *WORDS, "folder=run", environment=job)
    out = ended(process, signal.SIGTERM)
    assert process.returncode == 0, out
    assert endings(out) == []
    assert Path("run/report.html").is_file()
    assert reports.read(folder, claim.start) == {0: reports.Report("done")}
    assert_equal_runs(undisturbed, Path("run"))


@pytest.mark.slow
def test_a_signal_before_the_first_step_keeps_nothing() -> None:
    process = paused("start", "train", *WORDS, "folder=run")
    out = ended(process, signal.SIGTERM)
    assert process.returncode == 143, out
    (line,) = endings(out)
    assert line.startswith("stopped by SIGTERM; nothing is kept; to start again: convoy train logger=csv ")
    assert not Path("run").exists()


@pytest.mark.slow
def test_a_signal_to_the_process_and_to_its_group_counts_once() -> None:
    """`timeout` sends two, and a terminal that closes another two."""
    process = paused("training", "train", *WORDS, "folder=run")
    out = ended(process, signal.SIGTERM, signal.SIGHUP, signal.SIGTERM)
    assert process.returncode in (129, 143), out
    (line,) = endings(out)
    assert "after step 2; to resume: convoy train resume=run" in line


@pytest.mark.slow
def test_nohup_keeps_a_run_from_a_closed_terminal() -> None:
    process = paused("training", "train", *WORDS, "folder=run", before=[shutil.which("nohup") or "nohup"])
    out = ended(process, signal.SIGHUP)
    assert process.returncode == 0, out
    assert json.loads(Path("run/summary.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_a_run_is_saved_when_its_terminal_closes() -> None:
    """The terminal is gone, and each write to it fails."""
    pid, terminal = pty.fork()
    if pid == 0:
        words = ("train", *WORDS, "trainer.max_epochs=900", "folder=run")
        os.execv(sys.executable, [sys.executable, "-m", "convoy.commands.main", *words])
    with os.fdopen(terminal, "rb", buffering=0) as screen:
        while b"epoch 1/" not in screen.read(1000):
            pass
    _, status = os.waitpid(pid, 0)
    log = Path("run/run.log").read_text()
    assert os.waitstatus_to_exitcode(status) == 129, log
    assert log.count("stopped by SIGHUP after step") == 1
    assert json.loads(Path("run/summary.json").read_text())["status"] == "stopped"


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.faults),
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.faults),
    ],
)
def test_an_export_that_is_stopped_leaves_nothing(number: int, undisturbed: Path) -> None:
    before = sorted(path.name for path in undisturbed.rglob("*"))
    process = paused("export", "export", f"run={undisturbed}")
    out = ended(process, number)
    assert process.returncode == 128 + number, out
    name = signal.Signals(number).name
    assert endings(out) == [f"stopped by {name}; nothing is kept; to start again: convoy export run={undisturbed}"]
    assert sorted(path.name for path in undisturbed.rglob("*")) == before
