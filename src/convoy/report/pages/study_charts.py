"""Charts of a study: its history, the importance of its parameters, and the trade-off with costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from convoy.report.pages.document import Cell, Figure, number
from convoy.report.pages.sweep_charts import LEAST_FOR_IMPORTANCE, number_axis
from convoy.report.pages.vega import COLORS, Chart
from convoy.runs.records import Monitor


def study_charts(study: optuna.Study, objectives: Sequence[str], monitor: Monitor) -> list[Figure]:
    """Return the charts of a study.

    Args:
        study: with its trials.
        objectives: costs that are minimized beside the metric.
        monitor: metric that is optimized.
    """
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not done:
        return []
    fronts = [_front(done, index + 1, name, monitor) for index, name in enumerate(objectives)]
    return [_history(done, monitor), *fronts, *_importance(study, done)]


def _metric_axis(monitor: Monitor) -> dict[str, Any]:
    percent = monitor.name.rsplit("/", 1)[-1] in monitor.percent
    scale = {"zero": False, "nice": False, "padding": 10}
    return {"type": "quantitative", "title": monitor.name, "scale": scale, "axis": {"format": ".1%"} if percent else {}}


def _history(done: list[FrozenTrial], monitor: Monitor) -> Figure:
    """Return the value of each trial by its number, and the best value so far as a line."""
    better = max if monitor.mode == "max" else min
    best = done[0].values[0]
    data: list[dict[str, Any]] = []
    for trial in done:
        best = better(best, trial.values[0])
        data.append({"trial": trial.number, "value": trial.values[0], "best": best})
    x = {"field": "trial", "type": "quantitative", "title": "trial", "axis": {"tickMinStep": 1, "format": "d"}}
    y = _metric_axis(monitor)
    tooltip = [{"field": "trial"}, {"field": "value", "title": monitor.name}, {"field": "best", "title": "best so far"}]
    points: dict[str, Any] = {"mark": {"type": "point", "filled": True, "size": 60, "opacity": 0.7, "color": COLORS[0]}}
    line: dict[str, Any] = {"mark": {"type": "line", "interpolate": "step-after", "color": COLORS[1]}}
    spec = {
        "data": {"values": data},
        "layer": [
            {**points, "encoding": {"x": x, "y": {"field": "value", **y}, "tooltip": tooltip}},
            {**line, "encoding": {"x": x, "y": {"field": "best", **y}}},
        ],
    }
    text = f"{monitor.name} of {len(data)} trials by number; the best is {best:.4g}."
    rows = [(number(one["trial"]), number(one["value"]), number(one["best"])) for one in data]
    chart = Chart(spec, text, ("trial", monitor.name, "best so far"), rows)
    return Figure("history of the search", chart, "Points are trials, the line is the best value so far.")


def _front(done: list[FrozenTrial], index: int, name: str, monitor: Monitor) -> Figure:
    """Return the metric of all trials against a cost, with the Pareto front of the two as a line."""
    sign = -1 if monitor.mode == "max" else 1
    data: list[dict[str, Any]] = []
    lowest = float("inf")
    for trial in sorted(done, key=lambda one: (one.values[index], sign * one.values[0])):
        is_best = sign * trial.values[0] < lowest
        lowest = min(lowest, sign * trial.values[0])
        data.append({"trial": trial.number, "cost": trial.values[index], "value": trial.values[0], "front": is_best})
    x = {"field": "cost", "title": name, **number_axis([one["cost"] for one in data])}
    encoding = {"x": x, "y": {"field": "value", **_metric_axis(monitor)}}
    tooltip = [{"field": "trial"}, {"field": "value", "title": monitor.name}, {"field": "cost", "title": name}]
    color = {"condition": {"test": "datum.front", "value": COLORS[1]}, "value": COLORS[0]}
    line: dict[str, Any] = {"mark": {"type": "line", "interpolate": "step-after", "color": COLORS[1]}}
    spec = {
        "data": {"values": data},
        "layer": [
            {**line, "transform": [{"filter": "datum.front"}], "encoding": encoding},
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 0.8},
                "encoding": {**encoding, "color": color, "tooltip": tooltip},
            },
        ],
    }
    front = [one for one in data if one["front"]]
    rows = [(number(one["trial"]), number(one["value"]), number(one["cost"])) for one in front]
    text = f"{monitor.name} against {name} of {len(data)} trials; {len(front)} are on the Pareto front."
    chart = Chart(spec, text, ("trial", monitor.name, name), rows)
    return Figure(
        f"Pareto front of {monitor.name} and {name}", chart, "No trial is better in both than one on the line."
    )


def _importance(study: optuna.Study, done: list[FrozenTrial]) -> list[Figure]:
    """Return the share of each parameter in the variance of the metric (functional ANOVA, Hutter et al. 2014)."""
    if len(done) < LEAST_FOR_IMPORTANCE or len({trial.values[0] for trial in done}) < 2:
        return []
    if len(optuna.search_space.intersection_search_space(done)) < 2:
        return []
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator, target=lambda one: one.values[0])
    data: list[dict[str, Any]] = [{"key": key, "importance": value} for key, value in found.items()]
    spec = {
        "data": {"values": data},
        "height": 40 + 24 * len(data),
        "mark": {"type": "bar", "color": COLORS[0]},
        "encoding": {
            "y": {"field": "key", "type": "nominal", "sort": "-x", "title": None, "axis": {"labelLimit": 300}},
            "x": {"field": "importance", "type": "quantitative", "title": "share of the variance"},
            "tooltip": [{"field": "key"}, {"field": "importance", "format": ".3f"}],
        },
    }
    text = "Importance of " + ", ".join(f"{one['key']} {one['importance']:.2f}" for one in data) + "."
    note = (
        "Share of the variance of the metric that a parameter explains alone (functional ANOVA, Hutter et al. 2014),"
        " of the parameters that all trials have."
    )
    rows = [(Cell(str(one["key"])), number(one["importance"], f"{one['importance']:.3f}")) for one in data]
    return [Figure("importance of the parameters", Chart(spec, text, ("key", "share"), rows), note)]
