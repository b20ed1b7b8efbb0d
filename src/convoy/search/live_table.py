"""Table of a study while its trials are trained: what runs, the best trials, and the time that is left."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState
from rich.console import Group
from rich.table import Table
from rich.text import Text

from convoy.runs.records import duration, metric_text, progress
from convoy.search.run_study import Workplace, counted, started, state_of
from convoy.search.trial_table import best_trials, ordered, parameters_text

_MOST_ROWS = 8
"""Largest number of trials that have ended in the table."""


def live_table(study: optuna.Study, place: Workplace) -> Group:
    """Return the table, which fits into 80 columns."""
    trials = ordered(study)
    running = [trial for trial in trials if state_of(trial) == "running"]
    ended = [trial for trial in trials if state_of(trial) in ("done", "pruned", "failed")]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("trial", place.monitor.name, "time left"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("parameters")  # the only column that gets narrower
    for trial in [*running, *ended[:_MOST_ROWS]]:
        value, left = _progress(trial, place) if trial in running else (trial.values[0] if trial.values else None, None)
        metric = metric_text(place.monitor.name, value, place.monitor.percent)
        text = duration(left) if left is not None else ""
        parameters = Text(parameters_text(trial, place.study, short=True), no_wrap=True, overflow="ellipsis")
        table.add_row(str(trial.number), metric, text, state_of(trial), parameters)
    return Group(_headline(study, place, len(ended), len(running)), table)


def _headline(study: optuna.Study, place: Workplace, num_ended: int, num_running: int) -> str:
    text = f"{num_ended} of {place.study.num_trials} trials, {num_running} running"
    spans = [
        (trial.datetime_complete - trial.datetime_start).total_seconds()
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        if trial.datetime_complete and trial.datetime_start
    ]
    left = place.study.num_trials - num_ended
    if spans and left > 0:
        text += f", about {duration(fmean(spans) * left / max(place.workers, num_running))} left"
    refused = len(started(study)) - counted(study)
    if refused > 0:
        text += f", {refused} candidates refused"
    if best := best_trials(study):
        value = metric_text(place.monitor.name, best[0].values[0], place.monitor.percent)
        text += f"\nbest so far: {value} (trial {best[0].number})"
    return text


def _progress(trial: FrozenTrial, place: Workplace) -> tuple[float | None, float | None]:
    """Return the best value so far of a trial that is running, and the seconds that are left."""
    run = place.run_of(trial.number)
    try:
        epoch, value = progress(run.metrics, place.monitor)
        share = float(epoch or 0) / _max_epochs(run.config)
    except (OSError, ValueError, TypeError, ZeroDivisionError):  # not started yet, or limited by other than epochs
        return None, None
    if trial.datetime_start is None or not 0 < share <= 1:
        return value, None
    return value, (datetime.now() - trial.datetime_start).total_seconds() * (1 - share) / share


@cache
def _max_epochs(config: Path) -> float:
    content: Mapping[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))
    return float(content["trainer"]["max_epochs"])
