"""Charts of a study, compared with Optuna."""

from __future__ import annotations

import optuna
import pytest
import vl_convert

from convoy.report.pages.study_charts import study_charts
from convoy.runs.records import Monitor

MONITOR = Monitor("val/top1", "max", frozenset({"top1"}))


@pytest.fixture
def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(1))
    for _ in range(30):
        trial = made.ask()
        rate, width = trial.suggest_float("optimizer.lr", 0.001, 1, log=True), trial.suggest_int("width", 1, 64)
        made.tell(trial, [0.9 - abs(rate - 0.1) - 0.001 / width, 100.0 * width])
    return made


def test_the_front_is_optunas_and_the_important_parameter_comes_first(study: optuna.Study) -> None:
    history, front, importance = study_charts(study, ["params"], MONITOR)
    assert {int(row[0].text) for row in front.chart.rows} == {trial.number for trial in study.best_trials}
    assert importance.chart.rows[0][0].text == "optimizer.lr"
    values = [trial.values[0] for trial in study.trials]
    assert [row[2].order for row in history.chart.rows] == [max(values[: index + 1]) for index in range(30)]


def test_each_chart_can_be_drawn(study: optuna.Study) -> None:
    for figure in study_charts(study, ["params"], MONITOR):
        spec = {**figure.chart.spec, "width": 300, "height": 200}
        assert vl_convert.vegalite_to_png(spec)[:4] == b"\x89PNG"


def test_a_study_without_results_has_no_charts() -> None:
    assert study_charts(optuna.create_study(), [], MONITOR) == []
