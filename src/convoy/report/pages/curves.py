"""Curves of a run: metrics of train and val by step, epoch or time, and the learning rate."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from convoy.report.pages.document import Cell, Figure, number
from convoy.report.pages.vega import COLORS, ZOOM, Chart

MOST_POINTS = 1_000
"""Largest number of points of a line, about one per pixel."""

_MOST_DOTS = 120
"""Largest number of points of a chart that are drawn as dots."""

_MOST_ROWS = 200
"""Largest number of rows of the table below a chart."""

_NO_METRICS = frozenset({"step", "epoch", "lr", "seconds", "images_per_s", "data_wait"})


def curves(
    rows: Sequence[Mapping[str, str]], best_step: int | None, titles: Mapping[str, str], hidden: Collection[str] = ()
) -> list[Figure]:
    """Return a chart per metric, the loss first, and one of the learning rate.

    Args:
        rows: of metrics.csv.
        best_step: step of the best checkpoint, which is marked; None: none.
        titles: printed names of metrics, where they differ.
        hidden: metrics without a chart.
    """
    times = _times(rows)
    names = dict.fromkeys(key for row in rows for key, value in row.items() if value and key not in _NO_METRICS)
    by_metric: dict[str, list[str]] = {}
    for name in names:
        split, _, metric = name.partition("/")
        if metric and split in ("train", "val") and metric not in hidden:
            by_metric.setdefault(metric, []).append(name)
    ordered = sorted(by_metric, key=lambda metric: (metric != "loss", len(by_metric[metric]) == 1))
    figures = [
        _figure(titles.get(metric, metric), _lines(rows, by_metric[metric], times), best_step) for metric in ordered
    ]
    rates = _lines(rows, ["lr"], times)
    return [*figures, _figure("learning rate", rates, None, "log")] if rates else figures


def reduced(values: Sequence[float], most: int = MOST_POINTS) -> list[int]:
    """Return indices of at most `most` values that keep the shape of a line: of each stretch the extremes.

    Args:
        values: of the line, in order.
        most: largest number of indices.
    """
    if len(values) <= most:
        return list(range(len(values)))
    kept = {0, len(values) - 1}
    for stretch in np.array_split(np.arange(len(values)), most // 2 - 1):
        part = np.asarray(values)[stretch]
        kept |= {int(stretch[part.argmin()]), int(stretch[part.argmax()])}
    return sorted(kept)


def _times(rows: Iterable[Mapping[str, str]]) -> dict[int, float]:
    """Return the minutes of training at each step that has a time."""
    return {int(row["step"]): float(row["seconds"]) / 60 for row in rows if row.get("seconds")}


def _lines(rows: Sequence[Mapping[str, str]], names: Sequence[str], times: Mapping[int, float]) -> list[dict[str, Any]]:
    """Return points of lines, with the split as the name of a line."""
    known = sorted(times)
    points = []
    for name in names:
        found = [row for row in rows if row.get(name)]
        values = [float(row[name]) for row in found]
        finite = [index for index, value in enumerate(values) if np.isfinite(value)]
        steps = [int(found[index]["step"]) for index in finite]
        minutes = np.interp(steps, known, [times[step] for step in known]) if known else [0.0] * len(steps)
        for at in reduced([values[index] for index in finite]):
            index = finite[at]
            points.append(
                {
                    "step": steps[at],
                    "epoch": float(found[index].get("epoch") or 0),
                    "minutes": round(float(minutes[at]), 3),
                    "value": values[index],
                    "split": name.partition("/")[0],
                }
            )
    return points


def _figure(title: str, points: list[dict[str, Any]], best_step: int | None, scale: str = "linear") -> Figure:
    splits = list(dict.fromkeys(point["split"] for point in points))
    marked = _marked(points, best_step)
    # The padding is room for the labels of the best and the last point.
    options = {"type": scale, "padding": 18, "nice": False, **({} if scale == "log" else {"zero": False})}
    colors = {"field": "split", "type": "nominal", "scale": {"domain": splits, "range": list(COLORS)}}
    color = {"color": colors if len(splits) > 1 else {"value": COLORS[0]}}
    dots = {"type": "point", "filled": True, "size": 40, "opacity": 0 if len(points) > _MOST_DOTS else 1}
    layers: list[dict[str, Any]] = [
        {"mark": "line", "encoding": color, "params": [ZOOM]},
        {"mark": dots, "encoding": color},
    ]
    if any("mark" in point for point in marked):
        layers.append(
            {
                "transform": [{"filter": "isValid(datum.mark)"}],
                "mark": {"type": "text", "dy": -12, "align": "right"},
                "encoding": {"text": {"field": "mark"}},
            }
        )
    scale_x = {"zero": False, "nice": False, "padding": 6}
    spec = {
        "data": {"values": marked},
        "params": [
            {"name": "by", "value": "step", "bind": {"input": "radio", "options": ["step", "epoch", "minutes"]}}
        ],
        "transform": [{"calculate": "datum[by]", "as": "x"}],
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "axis": {"title": None, "grid": False}, "scale": scale_x},
            "y": {"field": "value", "type": "quantitative", "title": title, "scale": options},
            "tooltip": [{"field": name} for name in ("split", "value", "step", "epoch", "minutes")],
        },
        "layer": layers,
    }
    return Figure(title, Chart(spec, _description(title, points), *_data_table(title, points)))


def _marked(points: list[dict[str, Any]], best_step: int | None) -> list[dict[str, Any]]:
    """Return the points, of which the best one and the last one of val have a label."""
    val = [point for point in points if point["split"] == "val"]
    last = val[-1]["step"] if val else None
    labels = {last: "last", best_step: "best"} if last != best_step else {last: "best and last"}
    return [
        point | {"mark": labels[point["step"]]} if point["split"] == "val" and point["step"] in labels else point
        for point in points
    ]


def _description(title: str, points: Sequence[Mapping[str, Any]]) -> str:
    """Return the first and the last value of each line as text."""
    parts = []
    for split in dict.fromkeys(point["split"] for point in points):
        line = [point for point in points if point["split"] == split]
        first, last = line[0], line[-1]
        parts.append(
            f"{split} {first['value']:.4g} at step {first['step']:,}, {last['value']:.4g} at step {last['step']:,}"
        )
    return f"Line chart of {title}: {'; '.join(parts)}."


def _data_table(title: str, points: Sequence[Mapping[str, Any]]) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
    """Return titles and rows of a table of at most `_MOST_ROWS` points."""
    shown = points[:: -(-len(points) // _MOST_ROWS)] if points else []
    rows = [
        (
            number(point["step"]),
            number(point["epoch"], f"{point['epoch']:g}"),
            number(point["minutes"], f"{point['minutes']:.2f}"),
            Cell(point["split"]),
            number(point["value"], f"{point['value']:.6g}"),
        )
        for point in shown
    ]
    return ("step", "epoch", "minutes", "split", title), rows
