"""A study of 60 trials in a real Slurm, whose tasks are killed, requeued and preempted at random (`make soak`)."""

from __future__ import annotations

import csv
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from tests.cluster import faults
from tests.cluster.conftest import ENDED, HERE, SMALL, Site
from tests.conftest import Run
from tests.faults.runs import Tally

from convoy.search.journal import storage_of

pytestmark = pytest.mark.soak

SEED, TASKS, TRIALS, FAULTS, EPOCHS = 20261130, 4, 60, 20, 12
KINDS = (faults.kill, faults.usr1, faults.requeue, faults.preempt)
TRAIN = (
    *SMALL,
    *HERE,
    f"trainer.max_epochs={EPOCHS}",
    "trainer.checkpoint_every_steps=5",
    "trainer.gpus=1",
    "hardware=a100",
    "account=class_1246",
    "memory_per_gpu_gib=8",
)


def strike(site: Site, job: str, chance: random.Random) -> Counter[str]:
    """Inject the faults, each into a random task that has started anew since its last one; return their kinds."""
    done: Counter[str] = Counter()
    struck = dict.fromkeys((f"{job}_{index}" for index in range(TASKS)), -1)
    end = time.monotonic() + 1200
    while done.total() < FAULTS:
        assert time.monotonic() < end, f"{done}\n{site.log(job)}"
        time.sleep(chance.uniform(0.2, 5))  # so that a fault hits any moment of a start
        task = chance.choice(list(struck))
        state = site.host.job(task)
        assert state["JobState"] not in ENDED, f"{task} has ended after {done}\n{site.log(job)}"
        steps = site.host.call("squeue", "--steps", "--noheader", f"--jobs={task}", "--format=%i").split()
        works = any(step.partition(".")[2].isdigit() for step in steps)
        if state["JobState"] == "RUNNING" and works and int(state["Restarts"]) > struck[task]:
            fault = KINDS[done.total() % len(KINDS)]
            struck[task] = int(state["Restarts"])
            fault(site, task)
            done[fault.__name__] += 1
    return done


def processes_below(folder: Path) -> list[str]:
    """Return the command lines of the processes that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve().is_relative_to(folder):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended
            continue
    return [line for line in found if " convoy" in line or "convoy." in line]


def test_each_trial_of_an_array_is_trained_exactly_once(site: Site, convoy: Callable[..., Run], tmp_path: Path) -> None:
    study = tmp_path / "lr.yaml"
    study.write_text(f"space: {{optimizer.lr: {{log_float: [0.01, 0.2]}}}}\nsampler: random\ntrials: {TRIALS}\n")
    done = convoy("submit", f"study={study}", *TRAIN, f"workers={TASKS}", folder=None)
    assert done.code == 0, done.err
    job = done.out.partition("job     ")[2].partition(",")[0]
    (folder,) = Path("outputs/searches").iterdir()
    kinds = strike(site, job, random.Random(SEED))
    for index in range(TASKS):
        assert site.wait_for(f"{job}_{index}", seconds=900) == "COMPLETED", site.log(job)
    trials = optuna.load_study(study_name="study", storage=storage_of(folder)).get_trials()
    lost = [f"trial {trial.number} is {trial.state.name}" for trial in trials if trial.state != TrialState.COMPLETE]
    for run in sorted(folder.glob("trials/[0-9]*/")):
        with (run / "metrics.csv").open() as file:
            epochs = [int(row["epoch"]) for row in csv.DictReader(file) if row["val/top1"]]
        if epochs != list(range(1, EPOCHS + 1)):
            lost.append(f"trial {run.name} has the epochs {epochs}")
    Tally(f"faults of a study in Slurm, {dict(kinds)}", FAULTS, lost).show()
    assert not lost, site.log(job)
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert (folder / "report.html").is_file()
    site.wait_until(lambda: not processes_below(tmp_path), job, seconds=20)
