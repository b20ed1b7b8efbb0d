"""Search spaces and study files: what they draw, and what they refuse."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest
import yaml

from convoy.config.faults import UserError
from convoy.config.options import CONF, Options
from convoy.runs.layout import RunFolder
from convoy.runs.records import Monitor
from convoy.runtime.child_runs import words_of
from convoy.search.journal import open_study, sampler_of
from convoy.search.space import chosen_values, read_space
from convoy.search.study_config import TRIAL_OVERRIDES, find_study, override, overrides_of, read_study

SPACE = {
    "optimizer": {"choice": ["sgd", "adamw"]},
    "optimizer.lr": {"log_float": [1e-4, 1.0]},
    "optimizer.momentum": {"float": [0.5, 0.9], "when": {"optimizer": "sgd"}},
    "trainer.max_epochs": {"int": [1, 3]},
    "model.layers": {"choice": [["CONV3-8", "FC-10"], ["CONV3-16", "FC-10"]]},
}


def drawn(count: int, sampler: optuna.samplers.BaseSampler | None = None) -> list[dict[str, object]]:
    parameters, faults = read_space(SPACE)
    assert not faults
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=sampler or optuna.samplers.RandomSampler(0))
    return [dict(chosen_values(parameters, study.ask())) for _ in range(count)]


def test_values_are_within_their_ends_and_conditions() -> None:
    found = drawn(200)
    for one in found:
        assert ("optimizer.momentum" in one) == (one["optimizer"] == "sgd")
        assert 0.5 <= one.get("optimizer.momentum", 0.5) <= 0.9
        assert one["trainer.max_epochs"] in (1, 2, 3)
        assert one["model.layers"] in SPACE["model.layers"]["choice"]
    decades = [math.floor(math.log10(one["optimizer.lr"])) for one in found]
    assert {decades.count(decade) > 25 for decade in (-4, -3, -2, -1)} == {True}


def test_a_grid_tries_each_combination_once(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    space = {"optimizer.lr": {"log_float": [0.01, 1.0], "steps": 3}, "seed": {"int": [1, 2]}}
    path.write_text(yaml.safe_dump({"train": [], "space": space, "sampler": "grid", "trials": 6}))
    config = read_study(path)
    study = open_study(tmp_path, config, Monitor("val/top1", "max"))
    found = []
    for _ in range(6):
        trial = study.ask()
        found.append(tuple(value for _, value in chosen_values(list(config.space), trial)))
        study.tell(trial, 0.5)
    assert [seed for _, seed in sorted(found)] == [1, 2] * 3
    assert [rate for rate, _ in sorted(found)] == pytest.approx([0.01, 0.01, 0.1, 0.1, 1.0, 1.0])


@pytest.mark.parametrize("sampler", ["random", "tpe", "quasi_random", "cma_es"])
def test_each_process_continues_the_draws_of_the_others(tmp_path: Path, sampler: str) -> None:
    path = tmp_path / "draws.yaml"
    space = {"optimizer.lr": {"float": [0.0, 1.0]}, "optimizer.momentum": {"float": [0.0, 1.0]}}
    path.write_text(yaml.safe_dump({"train": [], "space": space, "sampler": sampler}))
    config = read_study(path)

    def drawn_by(folder: Path, processes: int) -> list[float]:
        folder.mkdir()
        studies = [open_study(folder, config, Monitor("val/top1", "max")) for _ in range(processes)]
        found = []
        for number in range(6):
            study = studies[number % processes]
            study.sampler = sampler_of(config, number)
            trial = study.ask()
            found.append(dict(chosen_values(list(config.space), trial))["optimizer.lr"])
            study.tell(trial, found[-1])
        return found

    alone = drawn_by(tmp_path / "alone", 1)
    assert len(set(alone)) == 6
    assert drawn_by(tmp_path / "three", 3) == alone


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ([1, 2], "is a list; write {choice: [1, 2]}"),
        (0.1, "is not a mapping; write optimizer.lr: {choice: [0.1, …]}"),
        ({"logfloat": [1, 2]}, "no such kind of parameter; did you mean log_float?"),
        ({"log_float": [0, 1]}, "must be positive"),
        ({"float": [1, 0]}, "the first end must be below the second"),
        ({"float": [1]}, "must have two ends"),
        ({"int": [0.5, 2]}, "must have two ends"),
        ({"choice": []}, "is not a list of values"),
        ({"int": [1, 2], "choice": [1]}, "needs one kind of values"),
        ({"int": [1, 2], "when": {"later": 1}}, "is not a parameter above this one"),
    ],
)
def test_faults_of_a_parameter_say_what_to_write(node: object, message: str) -> None:
    _, faults = read_space({"optimizer.lr": node})
    assert message in str(faults[0])


def test_a_condition_names_a_value_of_the_other_parameter() -> None:
    space = {
        "optimizer": {"choice": ["sgd", "adamw"]},
        "optimizer.lr": {"float": [0.1, 1], "when": {"optimizer": "adam"}},
    }
    _, faults = read_space(space)
    assert str(faults[0]) == "space.optimizer.lr.when.optimizer=adam: is no value of optimizer; did you mean adamw?"


def test_overrides_that_are_no_list_are_one_fault(tmp_path: Path) -> None:
    path = tmp_path / "text.yaml"
    path.write_text("train: model=lenet5\nspace: {optimizer.lr: {log_float: [0.01, 0.2]}}\n")
    with pytest.raises(UserError, match=r"^train: is not a list of overrides; write train: \[model=lenet5\]$"):
        read_study(path)


def test_all_faults_of_a_study_are_reported_together(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "space: {optimizer.lr: [1]}\nsampler: bayes\npruner: mean\ntrials: 0\nobjectives: [flops]\n"
        "constraints: {params: many, memory: 3}\nspaces: {}\n"
    )
    with pytest.raises(UserError) as error:
        read_study(path)
    assert {fault.key for fault in error.value.faults} == {
        "space.optimizer.lr", "sampler", "pruner", "trials", "objectives", "constraints.params", "constraints.memory",
        "spaces",
    }  # fmt: skip


def test_values_become_overrides(tmp_path: Path) -> None:
    assert override("data.augment.flip", True) == "data.augment.flip=true"
    assert override("model.layers", ["CONV3-8", "FC-10"]) == 'model.layers=["CONV3-8", "FC-10"]'
    path = tmp_path / "one.yaml"
    path.write_text("train: [model=lenet5, seed=3]\nspace: {optimizer.lr: {choice: [0.1]}}\n")
    words = overrides_of(read_study(path), [("optimizer.lr", 0.1)], ["seed=4"])
    assert words == ["model=lenet5", "seed=3", "seed=4", "optimizer.lr=0.1"]  # the last one counts


def test_a_resumed_trial_names_its_targets_again(tmp_path: Path) -> None:
    words = ["model=lenet5", "model._target_=mynet.MyNet", "+callback.mine._target_=mine.Callback", "seed=1"]
    run = RunFolder(tmp_path / "0000")
    run.checkpoints.mkdir(parents=True)
    run.last.touch()
    assert words_of(run, [*words, *TRIAL_OVERRIDES]) == [
        f'resume="{run.path}"',
        "model._target_=mynet.MyNet",
        "callback.mine._target_=mine.Callback",
        "callback.search._target_=convoy.search.pruning.ReportToStudy",
    ]


@pytest.mark.parametrize("path", sorted((CONF / "search").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_studies_are_valid(path: Path) -> None:
    assert read_study(find_study(path.stem, Options())).parameters
