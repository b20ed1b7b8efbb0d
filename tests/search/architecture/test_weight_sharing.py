"""Studies whose networks share weights: their trials, and what a kill of the shared training leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from tests.conftest import Run, command

from convoy.config.faults import UserError
from convoy.config.options import Options
from convoy.runtime.child_runs import ChildRuns
from convoy.search.journal import storage_of
from convoy.search.shared_weights import SharedWeights
from convoy.search.study_config import read_study

TRAIN = [
    "data=digits",
    "data.image_size=8",
    "model.stem=small",
    "model.stem_filters=4",
    "model.cells=1",
    "model.filters=4",
    "trainer.max_epochs=1",
    "trainer.global_batch_size=16",
    "trainer.checkpoint_every_steps=20",
    "optimizer.lr=0.1",
    "logger=csv",
    "trainer.gpus=0",
    "hardware.cpu_threads=1",
]
CELLS = {"blocks": 1, "operations": ["identity", "max", "convolution3"]}


def written(path: Path, **settings: int) -> Path:
    sampler = {"enas": {"epochs": 2, "updates": 4, "drawn": 5, **settings}}
    keys = {"train": TRAIN, "architecture": {"cells": CELLS}, "sampler": sampler, "trials": 1}
    path.write_text(yaml.safe_dump(keys))
    return path


def the_study(folder: Path) -> Path:
    (found,) = (folder / "outputs" / "searches").iterdir()
    return found


def ranked(study: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((study / "candidates.json").read_text())
    return found


def children(pid: int) -> list[int]:
    return [int(text) for file in Path(f"/proc/{pid}/task").glob("*/children") for text in file.read_text().split()]


@pytest.mark.slow
def test_the_trial_is_the_best_network_and_a_kill_changes_none(convoy: Callable[..., Run], tmp_path: Path) -> None:
    """The second study is killed with its shared training within an epoch, and resumed."""
    written(tmp_path / "mine.yaml")
    done = convoy("search", "study=mine.yaml", folder=None)
    assert done.code == 0, done.err
    networks = ranked(the_study(tmp_path))
    accuracies = [one["val/top1"] for one in networks]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len({tuple(one["values"]) for one in networks}) == 5
    trials = optuna.load_study(study_name="study", storage=storage_of(the_study(tmp_path))).get_trials()
    assert trials[0].user_attrs["architecture"] == networks[0]["architecture"]
    assert [trial.state.name for trial in trials] == ["COMPLETE"] + ["WAITING"] * 4

    other = tmp_path / "other"
    other.mkdir()
    written(other / "mine.yaml")
    process = subprocess.Popen(command(["search", "study=mine.yaml"]), cwd=other, stdout=subprocess.DEVNULL)
    while not list(other.glob("outputs/searches/*/shared/checkpoints/last.ckpt")):
        assert process.poll() is None
    started = [pid for child in children(process.pid) for pid in (*children(child), child)]
    for pid in (process.pid, *started):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    resume = ["search", f"resume={the_study(other)}"]
    assert subprocess.run(command(resume), cwd=other, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert ranked(the_study(other)) == networks


def test_a_failed_shared_training_names_its_log(tmp_path: Path) -> None:
    study = read_study(written(tmp_path / "mine.yaml", epochs=1))
    weights = SharedWeights(
        tmp_path, study, ["data=image_folder", "data.root=/nowhere", "data.num_classes=2"], Options()
    )
    with pytest.raises(UserError, match=r"sampler.enas: the training .* failed: .*/nowhere.*; see .*shared.log"):
        weights.ranked(ChildRuns(Options(), 1), 0)
