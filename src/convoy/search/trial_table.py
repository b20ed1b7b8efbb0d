"""Results of a study as a table, and as search.csv."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from convoy.runs.records import Monitor, metric_text
from convoy.runs.whole_files import encoded, replace_shared
from convoy.search.architecture.candidate import TEXT
from convoy.search.candidates import cost_text
from convoy.search.run_study import reason_of, started, state_of
from convoy.search.study_config import StudyConfig

MOST_ROWS = 15
"""Largest number of trials in the printed table."""


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the best trial, or with several objectives those of the Pareto front, the best metric first."""
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return []
    if len(study.directions) == 1:
        return [study.best_trial]
    sign = -1 if study.directions[0].name == "MAXIMIZE" else 1
    return sorted(study.best_trials, key=lambda trial: sign * trial.values[0])


def ordered(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials, complete ones first, the best first, then by number."""
    sign = -1 if study.directions[0].name == "MAXIMIZE" else 1
    return sorted(
        started(study),
        key=lambda trial: (0, sign * trial.values[0]) if trial.state == TrialState.COMPLETE else (1, trial.number),
    )


def table(study: optuna.Study, config: StudyConfig, monitor: Monitor) -> Table:
    """Return the best trials as a table."""
    keys = _keys(config)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("trial", monitor.name, *config.objectives, *keys, ""):
        shown.add_column(name, justify="right" if name and name not in keys else "left")
    for trial in ordered(study)[:MOST_ROWS]:
        values = trial.values or [None] * len(study.directions)
        costs = [cost_text(name, value) for name, value in zip(config.objectives, values[1:], strict=True)]
        first = metric_text(monitor.name, values[0], monitor.percent)
        note = "" if state_of(trial) == "done" else state_of(trial)
        shown.add_row(
            str(trial.number), first, *costs, *(text_of(_values(trial, config).get(key)) for key in keys), note
        )
    return shown


def _keys(config: StudyConfig) -> list[str]:
    """Return the columns of the parameters; the decisions of an architecture are one."""
    return [*(one.key for one in config.space), *([TEXT] if config.architecture is not None else [])]


def _values(trial: FrozenTrial, config: StudyConfig) -> dict[str, Any]:
    """Return the values of the columns of a trial."""
    given = {one.key: one.value_of(trial.params[one.key]) for one in config.space if one.key in trial.params}
    return {**given, TEXT: trial.user_attrs.get(TEXT, "")}


def parameters_text(trial: FrozenTrial, config: StudyConfig, *, short: bool = False) -> str:
    """Return the parameters of a trial in one line.

    Args:
        trial: the trial.
        config: of the study.
        short: whether a key is written without its group if no other parameter has the same name.
    """
    values, keys = _values(trial, config), _keys(config)
    names = {key: key for key in keys}
    if short:
        last = [key.rpartition(".")[2] for key in keys]
        names = {key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)}
    return "  ".join(f"{names[key]}={text_of(values[key])}" for key in keys if key in values)


def text_of(value: Any) -> str:
    """Return the value of a parameter, for people."""
    if value is None:
        return "–"
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_csv(path: Path, study: optuna.Study, config: StudyConfig, monitor: Monitor) -> None:
    """Write one row per trial: number, state, values, parameters, and the reason of a failed or refused trial."""
    keys = _keys(config)
    file = StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["trial", "state", monitor.name, *config.objectives, *keys, "reason"])
    for trial in started(study):
        values: Sequence[Any] = trial.values or [""] * len(study.directions)
        row = [
            trial.number,
            state_of(trial),
            *values,
            *(_values(trial, config).get(key, "") for key in keys),
            reason_of(trial),
        ]
        writer.writerow(row)
    replace_shared(path, encoded(file.getvalue()))
