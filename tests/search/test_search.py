"""Studies with real trials: their results, constraints, pruning, and what a kill leaves."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from tests.conftest import Run, command

from convoy.search.journal import storage_of
from convoy.search.run_study import Study

TRAIN = (
    "model.layers=[CONV3-4,POOL4,FC-10]",
    "logger=csv",
    "trainer.gpus=0",
    "trainer.precision=32",
    "trainer.max_epochs=1",
    "hardware.cpu_threads=1",
)


def written(path: Path, **keys: object) -> Path:
    lines = [f"train: [{', '.join(repr(word) for word in TRAIN)}]", *(f"{key}: {value}" for key, value in keys.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


def trials_of(folder: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="study", storage=storage_of(folder)).get_trials()


def the_study(tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "outputs" / "searches").iterdir()
    return folder


@pytest.mark.slow
def test_a_study_finds_the_learning_rate_that_trains(convoy: Callable[..., Run], tmp_path: Path) -> None:
    written(tmp_path / "lr.yaml", space="{optimizer.lr: {choice: [1.0e-9, 0.1]}}", sampler="grid", trials=2)
    done = convoy("search", "study=lr.yaml", folder=None)
    assert done.code == 0, done.err
    (best,) = re.findall(r"^trial \d: (convoy train .*)$", done.out, re.MULTILINE)
    assert "optimizer.lr=0.1" in best
    assert "CONVOY" not in best
    folder = the_study(tmp_path)
    with (folder / "search.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["done", "done"]
    for trial in trials_of(folder):
        run = folder / "trials" / f"{trial.number:04d}"
        values = [float(row["val/top1"]) for row in csv.DictReader((run / "metrics.csv").open()) if row["val/top1"]]
        assert trial.value == pytest.approx(max(values))
        assert not any(row.get("test/loss") for row in csv.DictReader((run / "metrics.csv").open()))
    assert "convoy train" in (folder / "report.html").read_text()


def test_candidates_that_break_a_constraint_cost_no_training(convoy: Callable[..., Run], tmp_path: Path) -> None:
    space = "{model.layers: {choice: [[CONV3-4, FC-10], [CONV3-64, FC-10]]}}"
    written(tmp_path / "small.yaml", space=space, constraints="{params: 10}", trials=2, sampler="random")
    done = convoy("search", "study=small.yaml", folder=None)
    assert done.code == 1
    assert "too many candidates in a row break the constraints" in done.out
    folder = the_study(tmp_path)
    states = {(trial.state, "params" in trial.user_attrs) for trial in trials_of(folder)}
    assert states == {(TrialState.FAIL, True)}
    # 3x3x1x4 + 4 of the convolution, 32x32x4x10 + 10 of the layer; and the same for 64 channels.
    assert {trial.user_attrs["params"] for trial in trials_of(folder)} == {41_010, 656_010}
    assert list((folder / "trials").iterdir()) == []


def test_refused_points_of_a_grid_are_not_replaced_by_others(convoy: Callable[..., Run], tmp_path: Path) -> None:
    space = "{model.layers: {choice: [[CONV3-4, FC-10], [CONV3-64, FC-10]]}}"
    written(tmp_path / "grid.yaml", space=space, constraints="{params: 10}", trials=2, sampler="grid")
    assert convoy("search", "study=grid.yaml", folder=None).code == 1
    assert [trial.state for trial in trials_of(the_study(tmp_path))] == [TrialState.FAIL] * 2


@pytest.mark.slow
def test_the_space_may_be_in_the_words(convoy: Callable[..., Run], tmp_path: Path) -> None:
    words = [*TRAIN, "optimizer.lr=tag(log,interval(0.01,0.2))", "seed=1,2", "sampler=random", "trials=2"]
    done = convoy("search", *words, folder=None)
    assert done.code == 0, done.err
    for trial in trials_of(the_study(tmp_path)):
        assert trial.state == TrialState.COMPLETE
        assert trial.distributions["optimizer.lr"] == optuna.distributions.FloatDistribution(0.01, 0.2, log=True)
        assert trial.distributions["seed"] == optuna.distributions.CategoricalDistribution((1, 2))


@pytest.mark.slow
def test_a_pruned_trial_ends_early(convoy: Callable[..., Run], tmp_path: Path) -> None:
    written(tmp_path / "prune.yaml", space="{optimizer.lr: {choice: [0.1, 1.0e-9]}}", sampler="grid", trials=2)
    with (tmp_path / "prune.yaml").open("a") as file:
        file.write("pruner: successive_halving\n")
    done = convoy("search", "study=prune.yaml", "trainer.max_epochs=4", folder=None)
    assert done.code == 0, done.err
    by_state = {trial.state: trial for trial in trials_of(the_study(tmp_path))}
    assert set(by_state) == {TrialState.COMPLETE, TrialState.PRUNED}
    assert len(by_state[TrialState.PRUNED].intermediate_values) < 4


@pytest.mark.slow
def test_costs_are_objectives_and_the_page_has_the_front(convoy: Callable[..., Run], tmp_path: Path) -> None:
    space = "{model.layers: {choice: [[CONV3-4, POOL4, FC-10], [CONV3-16, POOL4, FC-10]]}}"
    written(tmp_path / "front.yaml", space=space, sampler="grid", objectives="[params]", trials=2)
    done = convoy("search", "study=front.yaml", folder=None)
    assert done.code == 0, done.err
    folder = the_study(tmp_path)
    trials = trials_of(folder)
    # 3x3x1xC + C of the convolution, 8x8xCx10 + 10 of the layer
    assert sorted(trial.values[1] for trial in trials) == [2_610.0, 10_410.0]
    assert "layers=[CONV3-4,POOL4,FC-10]" in done.out
    names = ("report.html", "report_history_of_the_search.png", "report_pareto_front_of_val_top1_and_params.png")
    before = {name: (folder / name).read_bytes() for name in names}
    again = convoy("report", f"study={folder}", folder=None)
    assert again.code == 0, again.err
    assert {name: (folder / name).read_bytes() for name in names} == before
    assert b"Pareto front of val/top1 and params" in before["report.html"]


@pytest.mark.slow
def test_killed_workers_lose_nothing_and_train_nothing_twice(tmp_path: Path) -> None:
    written(tmp_path / "kill.yaml", space="{optimizer.lr: {log_float: [0.01, 0.2]}}", sampler="random", trials=9)
    words = ["search", "study=kill.yaml", "trainer.max_epochs=2", "trials=3"]
    for _ in range(3):
        process = subprocess.Popen(command(words), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if (tmp_path / "outputs").exists() and words[1].startswith("resume"):
            process.stdout.readline()  # a trial has ended
        else:
            while not list(tmp_path.glob("outputs/searches/*/trials/*/config.yaml")):
                assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        words = ["search", f"resume={the_study(tmp_path)}"]
    two = [subprocess.Popen(command(words), cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=600) for process in two] == [0, 0]
    folder = the_study(tmp_path)
    trials = trials_of(folder)
    assert Counter(trial.state for trial in trials) == {TrialState.COMPLETE: 3}
    for trial in trials:
        rows = list(csv.DictReader((folder / "trials" / f"{trial.number:04d}" / "metrics.csv").open()))
        epochs = [row["epoch"] for row in rows if row["val/top1"]]
        assert epochs == ["1", "2"]


def test_a_trial_that_ended_before_its_worker_could_report_it_is_reported(
    convoy: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_and_die(workers: Study, *given: Any) -> None:
        assert workers._train(*given) == 0
        workers.children.stop()

    with monkeypatch.context() as patched:
        patched.setattr(Study, "_finish", train_and_die)
        convoy("search", *TRAIN, "optimizer.lr=interval(0.01,0.2)", "trials=1", folder=None)
    folder = the_study(tmp_path)
    assert [trial.state for trial in trials_of(folder)] == [TrialState.RUNNING]
    done = convoy("search", f"resume={folder}", folder=None)
    assert done.code == 0, done.err
    (trial,) = trials_of(folder)
    summary = json.loads((folder / "trials" / "0000" / "summary.json").read_text())
    assert (trial.state, trial.value) == (TrialState.COMPLETE, summary["val/top1"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "study: must be set, or the overrides must have a space"),
        (("optimizer.lr=interval(0.1,0.01)",), "the first end must be below the second"),
        (("optimizer.lr=interval(0.01,0.1)", "sampler=ax"), "sampler=ax: no such sampler; choose from tpe"),
        (
            ("study=digits_lr", "sampler=Bayesian", "pruner=asha"),
            "pruner=asha: no such pruner; write successive_halving",
        ),
        (
            ("optimizer.lr=0.1,0.2", "objectives=[macs]"),
            "objectives: is not an override; write it in a file for study=",
        ),
        (("study=digits_lr", "constraints.macs=1e6"), "constraints: is not an override; write it in the study's file"),
        (("study=nothing",), "no such study; choose from digits_cells, digits_chain, digits_enas, digits_lr"),
        (("study=nothing.yaml",), "no such file"),
        (("study=digits_lr", "resume=outputs"), "can't be combined with resume"),
        (("resume=nowhere",), "has no study.yaml"),
        (("study=digits_lr", "optimizer.lrr=1"), "optimizer.lrr=1: no such key"),
        (("study=digits_lr", "workers=0"), "workers=0"),
    ],
)
def test_mistakes_are_answered_before_anything_is_written(
    convoy: Callable[..., Run], tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    done = convoy("search", *words, folder=None)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "outputs").exists()


def test_the_ends_of_all_parameters_are_checked_first(convoy: Callable[..., Run], tmp_path: Path) -> None:
    space = "{trainer.global_batch_size: {choice: [32, 0]}, optimizer.lrr: {float: [0.1, 0.2]}}"
    written(tmp_path / "bad.yaml", space=space)
    done = convoy("search", "study=bad.yaml", folder=None)
    assert done.code == 2
    assert "trainer.global_batch_size=0" in done.err
    assert "optimizer.lrr" in done.err
    assert not (tmp_path / "outputs").exists()


def test_without_optuna_the_error_says_what_to_install(
    convoy: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convoy.search.study_folder.find_spec", lambda _: None)
    done = convoy("search", "study=digits_lr", folder=None)
    assert done.code == 2
    assert "pip install 'convoy[search]'" in done.err


def test_the_folder_of_a_study_is_data(convoy: Callable[..., Run], tmp_path: Path) -> None:
    """Code is named in the overrides of all trials, in the space, and in the overrides of the command line."""
    folder = tmp_path / "received"
    folder.mkdir()
    space = {"callback.mine": {"choice": [{"_target_": "os.system", "command": "touch broken"}]}}
    keys = {"train": ["model._target_=mynet.MyNet"], "space": space}
    (folder / "study.yaml").write_text(json.dumps(keys))
    (folder / "command.json").write_text(json.dumps({"overrides": ["data.root=${oc.env:HOME}"], "trials": 1}))
    before = sorted(folder.iterdir())
    done = convoy("search", f"resume={folder}", folder=None)
    assert done.code == 2
    for text in ("model._target_=mynet.MyNet", "callback.mine={", "data.root=${oc.env:HOME}"):
        assert f"type it again: {text}" in done.err
    done = convoy("search", f"resume={folder}", "seed=1", folder=None)
    assert (done.code, "seed: is not part of the study" in done.err) == (2, True)
    assert sorted(folder.iterdir()) == before
    assert not (tmp_path / "broken").exists()


@pytest.mark.slow
def test_a_study_is_resumed_with_its_targets_typed_again(convoy: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "quiet.py").write_text("from pytorch_lightning import Callback\n\n\nclass Quiet(Callback):\n    pass\n")
    target = "+callback.mine={_target_:quiet.Quiet}"
    done = convoy("search", "optimizer.lr=interval(0.01,0.1)", *TRAIN, target, "trials=1", folder=None)
    assert done.code == 0, done.err
    done = convoy("search", f"resume={the_study(tmp_path)}", "trials=2", target, folder=None)
    assert done.code == 0, done.err
    assert [trial.state for trial in trials_of(the_study(tmp_path))] == [TrialState.COMPLETE] * 2
