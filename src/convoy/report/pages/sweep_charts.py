"""Charts of a sweep: the metric against each parameter and each cost, and the importance of the parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from convoy.report.pages.document import Cell, Figure, number
from convoy.report.pages.sweep_records import Sweep, SweepPoint
from convoy.report.pages.vega import COLORS, Chart

LEAST_FOR_IMPORTANCE = 12
"""Smallest number of finished points from which importances are estimated."""

COST_TITLES = {"params": "parameters", "macs": "MACs per image", "saved_bytes": "saved bytes per image"}


def label_of(point: SweepPoint) -> str:
    """Return the number and the values of a point as its name in charts."""
    values = " ".join(f"{key.rpartition('.')[2]}={short_text(value)}" for key, value in point.values.items())
    return f"{number_of(point)}: {values}" if values else point.name


def number_of(point: SweepPoint) -> str:
    """Return the number of a point, with which its folder begins."""
    return point.name.partition("_")[0]


def short_text(text: str) -> str:
    """Return a value for people: a number with more than six characters has four digits."""
    value = as_number(text)
    return text if value is None or len(text) <= 6 else f"{value:.4g}"


def as_number(text: str) -> float | None:
    """Return a finite number from its text; None for other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def known_points(sweep: Sweep) -> list[tuple[SweepPoint, float]]:
    """Return the points that have a value of the metric, and their values."""
    return [(point, value) for point in sweep.points if (value := sweep.value(point)) is not None]


def against_keys(sweep: Sweep) -> list[Figure]:
    """Return a chart of the metric against each key that differs."""
    figures = []
    for key in sweep.keys:
        data: list[dict[str, Any]] = [
            {"x": point.values[key], "y": value, "point": label_of(point)} for point, value in known_points(sweep)
        ]
        numbers = [as_number(one["x"]) for one in data]
        axis: dict[str, Any] = {"type": "nominal", "sort": None}
        if data and all(value is not None for value in numbers):
            data = [{**one, "x": value} for one, value in zip(data, numbers, strict=True)]
            axis = number_axis([value for value in numbers if value is not None])
        figures.append(_scatter(sweep, f"{sweep.monitor.name} against {key}", key, data, axis))
    return figures


def against_costs(sweep: Sweep) -> list[Figure]:
    """Return a chart of the metric against each cost that differs."""
    figures = []
    for name, title in COST_TITLES.items():
        data: list[dict[str, Any]] = [
            {"x": point.costs[name], "y": value, "point": label_of(point)}
            for point, value in known_points(sweep)
            if name in point.costs
        ]
        if len({one["x"] for one in data}) > 1:
            axis = number_axis([float(one["x"]) for one in data])
            figures.append(_scatter(sweep, f"{sweep.monitor.name} against {title}", title, data, axis))
    return figures


def number_axis(values: Sequence[float]) -> dict[str, Any]:
    """Return the axis of numbers: logarithmic if they are positive and span more than a factor of 20."""
    is_log = bool(values) and min(values) > 0 and max(values) > 20 * min(values)
    scale = {"type": "log", "nice": False, "padding": 10} if is_log else {"zero": False, "nice": False, "padding": 10}
    return {
        "type": "quantitative",
        "scale": scale,
        # "g" on a linear axis has only the digits in which the ticks differ, such as 1.3e+2.
        "axis": {"format": "~g" if is_log else "~f" if max(values, default=0) < 1000 else "~s"},
    }


def _scatter(sweep: Sweep, title: str, name: str, data: list[dict[str, Any]], axis: dict[str, Any]) -> Figure:
    percent = sweep.monitor.name.rsplit("/", 1)[-1] in sweep.monitor.percent
    y = {"scale": {"zero": False, "nice": False, "padding": 10}, "axis": {"format": ".1%"} if percent else {}}
    spec = {
        "data": {"values": data},
        "mark": {"type": "point", "filled": True, "size": 60, "opacity": 0.7, "color": COLORS[0]},
        "encoding": {
            "x": {"field": "x", "title": name, **axis},
            "y": {"field": "y", "type": "quantitative", "title": sweep.monitor.name, **y},
            "tooltip": [{"field": "point"}, {"field": "y", "title": sweep.monitor.name}, {"field": "x", "title": name}],
        },
    }
    return Figure(title, Chart(spec, f"Scatter plot of {title}, {len(data)} points."))


def parallel(sweep: Sweep) -> list[Figure]:
    """Return the points as lines across the keys and the metric, each scaled to its range."""
    known = known_points(sweep)
    if len(sweep.keys) < 2 or len(known) < 2:
        return []
    axes = [*sweep.keys, sweep.monitor.name]
    columns: list[Sequence[Any]] = [
        *([point.values[key] for point, _ in known] for key in sweep.keys),
        [value for _, value in known],
    ]
    heights = [_heights(column) for column in columns]
    data = [
        {
            "axis": axis,
            "height": heights[at][index],
            "value": str(columns[at][index]),
            "point": label_of(point),
            "y": value,
        }
        for index, (point, value) in enumerate(known)
        for at, axis in enumerate(axes)
    ]
    color = {"field": "y", "type": "quantitative", "title": sweep.monitor.name, "scale": {"scheme": "viridis"}}
    spec = {
        "data": {"values": data},
        "encoding": {
            "x": {
                "field": "axis",
                "type": "nominal",
                "sort": axes,
                "title": None,
                "axis": {"labelAngle": 0, "labelExpr": "split(datum.label, '.')"},
            },
            "y": {"field": "height", "type": "quantitative", "axis": None},
            "color": {**color, "legend": {"orient": "right"}},
            "detail": {"field": "point"},
            "tooltip": [{"field": "point"}, {"field": "axis"}, {"field": "value"}],
        },
        "layer": [{"mark": {"type": "line", "opacity": 0.6}}, {"mark": {"type": "point", "filled": True}}],
    }
    note = "Each line is a point; each axis goes from its smallest value (bottom) to its largest, names in their order."
    return [Figure("parallel coordinates", Chart(spec, f"Parallel coordinates of {len(known)} points."), note)]


def _heights(column: Sequence[Any]) -> list[float]:
    """Return values of an axis scaled to 0..1: numbers by value or its logarithm, others by their order."""
    found = [as_number(str(value)) for value in column]
    numbers = [value for value in found if value is not None]
    if len(numbers) < len(column):
        order = list(dict.fromkeys(column))
        numbers = [float(order.index(value)) for value in column]
    elif min(numbers) > 0 and max(numbers) > 20 * min(numbers):
        numbers = [math.log(value) for value in numbers]
    low, span = min(numbers), max(numbers) - min(numbers)
    return [(value - low) / span if span else 0.5 for value in numbers]


def importance(sweep: Sweep) -> list[Figure]:
    """Return the importance of each key: the loss of R² of a random forest when its values are permuted."""
    known = known_points(sweep)
    if len(sweep.keys) < 2 or len(known) < LEAST_FOR_IMPORTANCE:
        return []
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    inputs = np.array([_heights([point.values[key] for point, _ in known]) for key in sweep.keys]).T
    targets = np.array([value for _, value in known])
    forest = RandomForestRegressor(200, random_state=0, min_samples_leaf=2).fit(inputs, targets)
    found = permutation_importance(forest, inputs, targets, n_repeats=20, random_state=0)
    data: list[dict[str, Any]] = [
        {"key": key, "importance": float(mean), "deviation": float(std)}
        for key, mean, std in zip(sweep.keys, found.importances_mean, found.importances_std, strict=True)
    ]
    spec = {
        "data": {"values": data},
        "height": 40 + 24 * len(data),
        "mark": {"type": "bar", "color": COLORS[0]},
        "encoding": {
            "y": {"field": "key", "type": "nominal", "sort": "-x", "title": None},
            "x": {"field": "importance", "type": "quantitative", "title": "decrease of R²"},
            "tooltip": [{"field": "key"}, {"field": "importance"}, {"field": "deviation"}],
        },
    }
    note = (
        "Decrease of R² of a random forest, fitted to these points, when the values of a key are permuted"
        " (Breiman 2001). It describes these points only."
    )
    text = "Importance of " + ", ".join(f"{one['key']} {one['importance']:.2f}" for one in data) + "."
    rows = [(Cell(str(one["key"])), number(float(one["importance"]), f"{one['importance']:.3f}")) for one in data]
    return [Figure("importance of the keys", Chart(spec, text, ("key", "decrease of R²"), rows), note)]
