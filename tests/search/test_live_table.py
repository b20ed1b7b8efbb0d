from __future__ import annotations

from io import StringIO
from pathlib import Path

import optuna
import pytest
from rich.console import Console

from convoy.config.options import Options
from convoy.runs.records import Monitor
from convoy.search.journal import open_study
from convoy.search.live_table import live_table
from convoy.search.run_study import Workplace
from convoy.search.study_config import study_of

SPACE = {
    "optimizer.lr": {"log_float": [0.001, 1.0]},
    "scheduler.lr": {"float": [0.1, 0.9]},
    "model.layers": {"choice": [["CONV3-16", "CONV3-16", "POOL2", "FC-10"], ["CONV3-64", "POOL2", "FC-10"]]},
}


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    study = study_of("one", {"space": SPACE, "trials": 20})
    return Workplace(tmp_path, study, Monitor("val/top1", "max", frozenset({"top1"})), [], Options(), 2)


def test_it_fits_into_80_columns_and_shows_what_runs_and_the_best(place: Workplace) -> None:
    study = open_study(place.folder, place.study, place.monitor)
    for number, value in enumerate([0.5, 0.9, 0.7, None]):
        trial = study.ask()
        for parameter in place.study.space:
            parameter.suggest(trial)
        trial.set_user_attr("overrides", [])
        if value is not None:
            study.tell(number, value)
    refused = study.ask()
    refused.set_user_attr("refused", "params 10 > 1")
    study.tell(refused, state=optuna.trial.TrialState.FAIL)
    study.enqueue_trial({})  # a point of a grid that has not begun
    run = place.run_of(3)
    run.path.mkdir(parents=True)
    run.config.write_text("trainer: {max_epochs: 4}\n")
    run.metrics.write_text("epoch,step,val/top1\n1,10,0.25\n2,20,0.625\n")
    console = Console(width=80, file=StringIO(), force_terminal=False)
    console.print(live_table(study, place))
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("3 of 20 trials, 1 running, about ")
    assert lines[0].endswith(" left, 1 candidates refused")
    assert lines.pop(1) == "best so far: 90.00% (trial 1)"
    assert [line.split()[:2] for line in lines[2:]] == [
        ["3", "62.50%"],
        ["1", "90.00%"],
        ["2", "70.00%"],
        ["0", "50.00%"],
    ]
    assert lines[2].split()[3:5] == ["s", "running"]  # 2 of 4 epochs are left
    assert "optimizer.lr=" in lines[2]  # two parameters are named lr
