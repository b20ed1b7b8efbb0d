"""Studies whose processes are killed at random end with each trial trained exactly once."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from convoy.search.journal import JOURNAL, storage_of
from tests.conftest import command
from tests.faults.runs import Tally

SEED, EPOCHS = 20261129, 3
TRAIN = (
    "model.layers=[CONV3-4,POOL4,FC-10]",
    "logger=csv",
    "trainer.gpus=0",
    "trainer.precision=32",
    f"trainer.max_epochs={EPOCHS}",
    "trainer.checkpoint_every_steps=5",
    "hardware.cpu_threads=1",
)
KINDS = ("worker", "trial", "all", "prepared process")


def worker(folder: Path, num_trials: int) -> subprocess.Popen[bytes]:
    words = ["search", f"resume={folder}", f"trials={num_trials}"]
    with (folder / "workers.log").open("ab") as log:
        return subprocess.Popen(command(words), stdout=log, stderr=log, start_new_session=True)


def children_of(pid: int) -> list[int]:
    """Return the processes that the threads of a process have started."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended
            found += [int(text) for text in path.read_text().split()]
    return found


def victims(process: subprocess.Popen[bytes], kind: str) -> list[int]:
    """Return the processes to kill: a worker, its trial, the process that the trial is forked from, or all of them."""
    worker, prepared = [process.pid], children_of(process.pid)
    trials = [pid for parent in prepared for pid in children_of(parent)]
    return {"worker": worker, "trial": trials, "all": trials and worker + prepared + trials}.get(kind, prepared)


def strike(process: subprocess.Popen[bytes], kind: str) -> None:
    """Kill a worker, its trial, the process that the trial was forked from, or all of them."""
    for pid in victims(process, kind):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("num_workers", "num_kills", "num_trials"),
    [pytest.param(2, 4, 5, marks=pytest.mark.slow), pytest.param(4, 20, 60, marks=pytest.mark.faults)],
)
def test_each_trial_is_trained_exactly_once(num_workers: int, num_kills: int, num_trials: int, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    first = subprocess.Popen(
        command(["search", *TRAIN, "optimizer.lr=interval(0.01,0.2)", "sampler=random", f"trials={num_trials}"]),
        start_new_session=True,
    )
    while not list(tmp_path.glob(f"outputs/searches/*/{JOURNAL}")):
        assert first.poll() is None
    (folder,) = tmp_path.glob("outputs/searches/*")
    processes = [first, *(worker(folder, num_trials) for _ in range(num_workers - 1))]
    tally = Counter(dict.fromkeys(KINDS, 0))
    try:
        while all(process.poll() in (None, 0, -signal.SIGKILL) for process in processes):
            if all(process.poll() == 0 for process in processes):
                if tally.total() == num_kills:
                    break
                num_trials += 5  # the trials ended before the last kill
                processes = [worker(folder, num_trials) for _ in processes]
            time.sleep(chance.uniform(0.5, 4))  # the moment of a kill is random
            if tally.total() < num_kills:
                kind, index = KINDS[tally.total() % len(KINDS)], chance.randrange(num_workers)
                if processes[index].poll() is None and victims(processes[index], kind):
                    strike(processes[index], kind)
                    tally[kind] += 1
            for index, process in enumerate(processes):
                if process.poll() == -signal.SIGKILL:
                    processes[index] = worker(folder, num_trials)
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    log = (folder / "workers.log").read_text()
    assert [process.returncode for process in processes] == [0] * num_workers, log
    assert tally.total() == num_kills
    trials = optuna.load_study(study_name="study", storage=storage_of(folder)).get_trials()
    assert (folder / "report.html").is_file()
    lost = [f"trial {trial.number} is {trial.state.name}" for trial in trials if trial.state != TrialState.COMPLETE]
    for run in sorted(folder.glob("trials/[0-9]*/")):
        with (run / "metrics.csv").open() as file:
            epochs = [int(row["epoch"]) for row in csv.DictReader(file) if row["val/top1"]]
        if epochs != list(range(1, EPOCHS + 1)):
            lost.append(f"trial {run.name} has the epochs {epochs}")
    Tally(f"kills of a study, {dict(tally)}", num_kills, lost).show()
    assert not lost, log
    assert [trial.number for trial in trials] == list(range(num_trials))
