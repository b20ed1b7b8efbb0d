"""Studies of architectures: what is read, what resumes, and the option that is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import yaml
from tests.conftest import Run

from convoy.config.faults import UserError
from convoy.runs.records import Monitor
from convoy.search.architecture.candidate import ChainFilter, config_keys
from convoy.search.journal import open_study, sampler_of
from convoy.search.space import chosen_values
from convoy.search.study_config import StudyConfig, overrides_of, read_study
from convoy.training import preflight

CHAIN = {"chain": ["CONV(1|3|5|7)-(2|4)", "(POOL2|POOL4)", {"repeat": [0, 1], "of": ["(BN|RELU)"]}, "FC-{num_classes}"]}
SAMPLERS = ["random", "tpe", "evolution", "reinforce", "lstm"]


def study_of(path: Path, **keys: object) -> StudyConfig:
    path.write_text(yaml.safe_dump({"train": ["data=digits"], "architecture": CHAIN, **keys}))
    return read_study(path)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_resumed_study_chooses_the_networks_of_one_that_was_not_stopped(tmp_path: Path, sampler: str) -> None:
    """Each network is rated by a number that depends on it alone, and one process or five ask for twenty of them."""
    settings = {"evolution": {"population": 5, "sample": 3}, "lstm": {"learning_rate": 0.1}}

    def chosen_by(processes: int) -> list[object]:
        folder = tmp_path / f"{processes}"
        folder.mkdir()
        named = {sampler: settings[sampler]} if sampler in settings else sampler
        found = []
        for number in range(20):
            if number % (20 // processes) == 0:
                config = study_of(folder / "study.yaml", sampler=named, space={"optimizer.lr": {"float": [0.1, 1.0]}})
                study = open_study(folder, config, Monitor("val/top1", "max"))
            study.sampler = sampler_of(config, number)
            trial = study.ask()
            keys = dict(config_keys(config.architecture, dict(chosen_values(list(config.parameters), trial))))
            found.append(keys)
            study.tell(trial, len(str(keys["model.layers"])) + keys["optimizer.lr"])
        return found

    alone = chosen_by(1)
    assert set(alone[0]) == {"model.layers", "optimizer.lr"}
    assert len({str(keys) for keys in alone}) > 10
    assert chosen_by(5) == alone


@pytest.mark.slow
def test_a_study_trains_networks_and_writes_the_best_as_an_option(convoy: Callable[..., Run], tmp_path: Path) -> None:
    words = ["data=digits", "trainer.max_epochs=1", "logger=csv", "trainer.gpus=0", "hardware.cpu_threads=1"]
    chain = ["CONV3-(4|64)", "POOL4", "FC-{num_classes}"]
    content = {"train": words, "architecture": {"chain": chain}, "constraints": {"params": 10_000}, "trials": 1}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**content, "sampler": {"evolution": {"population": 4}}}))
    done = convoy("search", "study=mine.yaml", folder=None)
    assert done.code == 0, done.err
    (folder,) = (tmp_path / "outputs" / "searches").iterdir()
    option = yaml.safe_load((folder / "model" / "best_model.yaml").read_text())
    assert (option["name"], option["layers"]) == ("best_model", ["CONV3-4", "POOL4", "FC-{num_classes}"])
    assert "CONV3-4, POOL4" in (folder / "search.csv").read_text()
    (line,) = [line for line in done.out.splitlines() if line.startswith("best network: convoy ")]
    command = line.removeprefix("best network: convoy ").split()
    assert command[:2] == ["train", "--config-dir"]
    exported = convoy("export", f"run={folder / 'trials' / '0000'}", folder=None)
    assert exported.code == 0, exported.err
    ledger = convoy("ledger", *command[1:], folder=None)
    assert ledger.code == 0, ledger.err
    assert "2,610" in ledger.out.replace("2.61 K", "2,610")  # 3x3x4 + 4, and 8x8x4x10 + 10


@pytest.mark.parametrize("sampler", ["random", "evolution", "reinforce", "lstm"])
def test_chains_that_break_a_constraint_become_no_trials(tmp_path: Path, sampler: str) -> None:
    """Of four kinds of chains, those of 41 parameters per class and more are drawn again."""
    chain = {"chain": ["CONV3-(1|2|4|64)", "(POOL32|POOL64)", "FC-{num_classes}"]}
    study = study_of(tmp_path / "study.yaml", architecture=chain, sampler=sampler, constraints={"params": 100})
    chains = ChainFilter.of(study, preflight.read(overrides_of(study, [], []), to_run=False))
    assert chains is not None
    opened = open_study(tmp_path, study, Monitor("val/top1", "max"))
    refused = 0
    for number in range(12):
        opened.sampler = sampler_of(study, number, chains.refuses)
        trial = opened.ask()
        keys = dict(config_keys(study.architecture, dict(chosen_values(list(study.parameters), trial))))
        assert keys["model.layers"][1] == "POOL32"  # the other one is larger than the image
        filters = int(keys["model.layers"][0].removeprefix("CONV3-"))
        assert 9 * filters + filters + 10 * filters + 10 <= 100
        refused += opened.trials[number].user_attrs.get("refused_before", 0)
        opened.tell(trial, 1 / filters)
    assert refused > 0


def test_a_study_whose_constraints_leave_nothing_stops(convoy: Callable[..., Run], tmp_path: Path) -> None:
    architecture = {"chain": ["CONV3-(4|8)", "FC-{num_classes}"]}
    study_of(tmp_path / "none.yaml", architecture=architecture, sampler="random", constraints={"params": 10})
    done = convoy("search", "study=none.yaml", folder=None)
    assert done.code == 1
    assert "1 trial: 1 refused; 1,000 candidates refused before becoming a trial" in done.out
    assert "too many candidates in a row break the constraints" in done.out


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"architecture": {"chains": []}}, "no such kind of space; did you mean chain?"),
        ({"architecture": None}, "architecture: needs one kind of space"),
        ({"sampler": {"evolution": {"size": 3}}}, "sampler.evolution.size: no such setting"),
        ({"sampler": {"evolution": {"population": 0}}}, "must be an integer of 1 or more"),
        ({"sampler": {"tpe": {"population": 3}}}, "sampler.tpe.population: no such setting; write sampler: tpe"),
        ({"sampler": "evolution", "objectives": ["params"]}, "compares networks by the monitored metric alone"),
        ({"sampler": "enas"}, "sampler=enas: shares weights among cells alone; write architecture: {cells: …}, or"),
        (
            {"sampler": "enas", "architecture": {"cells": {"combinations": ["add", "concat"]}}},
            "sampler=enas: shares weights among blocks that add; write sampler: lstm, or combinations: [add]",
        ),
        ({"sampler": {"enas": {"update": 3}}}, "sampler.enas.update: no such setting; did you mean updates?"),
        ({"sampler": {"enas": {"epochs": 0}}}, "sampler.enas.epochs=0: must be an integer of 1 or more"),
        ({"sampler": {"evolutio": {}}}, "no such sampler; did you mean evolution?"),
        ({"sampler": "grid", "architecture": {"chain": [{"repeat": 20, "of": ["(BN|)"]}]}}, "has 1,048,576 points"),
    ],
)
def test_faults_of_an_architecture_say_what_to_write(tmp_path: Path, keys: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        study_of(tmp_path / "bad.yaml", **keys)
    assert message in str(error.value)


def test_a_sampler_of_architectures_needs_one(tmp_path: Path) -> None:
    (tmp_path / "lr.yaml").write_text("space: {optimizer.lr: {float: [0.1, 1.0]}}\nsampler: evolution\n")
    with pytest.raises(UserError, match="chooses architectures only; add an architecture block"):
        read_study(tmp_path / "lr.yaml")


def test_a_grid_tries_each_network_once(tmp_path: Path) -> None:
    architecture = {"chain": ["CONV(1|3)-(2|4)", "FC-{num_classes}"]}
    config = study_of(tmp_path / "grid.yaml", sampler="grid", architecture=architecture)
    assert config.num_trials == 4
    study = open_study(tmp_path, config, Monitor("val/top1", "max"))
    found = set()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for _ in range(4):
        trial = study.ask()
        found.add(str(config_keys(config.architecture, dict(chosen_values(list(config.parameters), trial)))))
        study.tell(trial, 0.5)
    assert len(found) == 4
