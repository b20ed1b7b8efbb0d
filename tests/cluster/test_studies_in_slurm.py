"""Studies in a real Slurm: tasks share the trials, and take over those of tasks that ended."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from tests.cluster.conftest import HERE, SMALL, Site
from tests.conftest import Run

from convoy.search.journal import storage_of

Convoy = Callable[..., Run]

ASKED = (*SMALL, *HERE, "hardware=a100", "trainer.gpus=1", "account=class_1246", "memory_per_gpu_gib=8")
EPOCHS = 12


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "lr.yaml"
    path.write_text("space: {optimizer.lr: {log_float: [0.01, 0.2]}}\nsampler: random\ntrials: 3\n")
    return path


@pytest.mark.slow
def test_a_trial_whose_task_was_cancelled_or_stopped_is_taken_over(site: Site, convoy: Convoy, study: Path) -> None:
    words = (f"trainer.max_epochs={EPOCHS}", "trainer.checkpoint_every_steps=4", "workers=2")
    done = convoy("submit", f"study={study}", *ASKED, *words)
    assert done.code == 0, done.err
    job = done.out.partition("job     ")[2].partition(",")[0]
    (folder,) = Path("outputs/searches").iterdir()

    def have_checkpoints() -> bool:
        return len(list(folder.glob("trials/*/checkpoints/last.ckpt"))) >= 2

    site.wait_until(have_checkpoints, job, seconds=240)
    assert " running " in convoy("jobs").out
    site.host.call("scancel", f"{job}_0")
    site.host.call("scancel", "--signal=USR1", f"{job}_1")  # as before a time limit: it requeues itself
    assert site.wait_for(f"{job}_1", seconds=240) == "COMPLETED", site.log(job)
    assert int(site.host.job(f"{job}_1")["Restarts"]) == 1
    trials = optuna.load_study(study_name="study", storage=storage_of(folder)).get_trials()
    assert Counter(trial.state for trial in trials) == {TrialState.COMPLETE: 3}, site.log(job)
    for run in sorted(folder.glob("trials/[0-9]*/")):
        with (run / "metrics.csv").open() as file:
            epochs = [int(row["epoch"]) for row in csv.DictReader(file) if row["val/top1"]]
        assert epochs == list(range(1, EPOCHS + 1)), run
        assert not (run / "slurm").exists()
    more = convoy("submit", f"study={folder}", "trials=4", "hardware=v100")
    assert "hardware: is not part of the study, which keeps its overrides" in more.err


def test_a_dry_run_of_a_study_writes_nothing(convoy: Convoy, study: Path, tmp_path: Path) -> None:
    done = convoy("submit", f"study={study}", *ASKED, "workers=3", "dry_run=true", folder=None)
    assert done.code == 0, done.err
    assert "#SBATCH --array=0-2\n" in done.out
    assert " slurm run --study " in done.out
    assert list(tmp_path.iterdir()) == [study]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-m",), "a study has its own space"),
        (("trainer.nodes=2",), "a trial trains on one node"),
        (("optimizer.lrr=1",), "optimizer.lrr=1: no such key"),
        (("workers=101",), "workers=101: an array of partition gpu has at most 100 tasks; write workers=100"),
        (("workers=3", "cluster.max_array_size=2"), "workers=3: an array of partition gpu has at most 2 tasks"),
    ],
)
def test_a_mistake_is_answered_and_nothing_written(
    convoy: Convoy, study: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    done = convoy("submit", f"study={study}", *ASKED, *words, "dry_run=true", folder=None)
    assert done.code == 2
    assert message in done.err
    assert list(tmp_path.iterdir()) == [study]
