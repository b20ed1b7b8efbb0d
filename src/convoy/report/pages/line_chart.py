"""Line charts of metrics by step, epoch or time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from convoy.report.pages.document import Cell, Figure, number
from convoy.report.pages.vega import COLORS, ZOOM, Chart

MOST_POINTS = 1_000
"""Largest number of points of a line, about one per pixel."""

_MOST_DOTS = 120
"""Largest number of points of a chart that are drawn as dots."""

_MOST_ROWS = 200
"""Largest number of rows of the table below a chart."""

_GRAY = "#8a8f96"


def reduced(values: Sequence[float], most: int = MOST_POINTS) -> list[int]:
    """Return indices of at most `most` values that keep the shape of a line: of each stretch the extremes.

    Args:
        values: of the line, in order.
        most: largest number of indices, 4 or more.
    """
    if len(values) <= most:
        return list(range(len(values)))
    kept = {0, len(values) - 1}
    for stretch in np.array_split(np.arange(len(values)), most // 2 - 1):
        part = np.asarray(values)[stretch]
        kept |= {int(stretch[part.argmin()]), int(stretch[part.argmax()])}
    return sorted(kept)


def line_points(
    rows: Sequence[Mapping[str, str]], metric: str, line: str, most: int = MOST_POINTS
) -> list[dict[str, Any]]:
    """Return the points of a line: step, epoch, minutes of training, value, and the name of the line.

    Args:
        rows: of metrics.csv.
        metric: column of the values; values that are not finite are left out.
        line: name of the line.
        most: largest number of points.
    """
    times = {int(row["step"]): float(row["seconds"]) / 60 for row in rows if row.get("seconds")}
    known = sorted(times)
    found = [row for row in rows if row.get(metric) and np.isfinite(float(row[metric]))]
    values, steps = [float(row[metric]) for row in found], [int(row["step"]) for row in found]
    minutes = np.interp(steps, known, [times[step] for step in known]) if known else [0.0] * len(steps)
    return [
        {
            "step": steps[index],
            "epoch": float(found[index].get("epoch") or 0),
            "minutes": round(float(minutes[index]), 3),
            "value": values[index],
            "line": line,
        }
        for index in reduced(values, most)
    ]


def line_chart(
    title: str,
    points: Sequence[Mapping[str, Any]],
    *,
    scale: Literal["linear", "log"] = "linear",
    highlighted: str | None = None,
) -> Figure:
    """Return a chart whose horizontal axis the reader chooses. More lines than colors are gray.

    Args:
        title: of the chart and of its vertical axis.
        points: see `line_points`; a `mark` is written at its point.
        scale: of the vertical axis.
        highlighted: line that has a color among gray ones.
    """
    lines = list(dict.fromkeys(point["line"] for point in points))
    color = _color(lines, highlighted)
    dots = {"type": "point", "filled": True, "size": 40, "opacity": 0 if len(points) > _MOST_DOTS else 1}
    layers: list[dict[str, Any]] = [
        {"mark": "line", "encoding": color, "params": [ZOOM]},
        {"mark": dots, "encoding": color},
    ]
    if any("mark" in point for point in points):
        layers.append(
            {
                "transform": [{"filter": "isValid(datum.mark)"}],
                "mark": {"type": "text", "dy": -12, "align": "right"},
                "encoding": {"text": {"field": "mark"}},
            }
        )
    # The padding is room for the marks.
    vertical = {"type": scale, "padding": 18, "nice": False, **({} if scale == "log" else {"zero": False})}
    horizontal = {"zero": False, "nice": False, "padding": 6}
    spec = {
        "data": {"values": list(points)},
        "params": [
            {"name": "by", "value": "step", "bind": {"input": "radio", "options": ["step", "epoch", "minutes"]}}
        ],
        "transform": [{"calculate": "datum[by]", "as": "x"}],
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "axis": {"title": None, "grid": False}, "scale": horizontal},
            "y": {"field": "value", "type": "quantitative", "title": title, "scale": vertical},
            "tooltip": [{"field": name} for name in ("line", "value", "step", "epoch", "minutes")],
        },
        "layer": layers,
    }
    return Figure(title, Chart(spec, _description(title, points, lines), *_data_table(title, points)))


def _color(lines: Sequence[str], highlighted: str | None) -> dict[str, Any]:
    """Return the encoding of the lines' colors."""
    if len(lines) == 1:
        return {"color": {"value": COLORS[0]}}
    if len(lines) <= len(COLORS):
        return {"color": {"field": "line", "type": "nominal", "scale": {"domain": list(lines), "range": list(COLORS)}}}
    chosen = {"test": {"field": "line", "equal": highlighted}, "value": COLORS[1]}
    return {
        "color": {"condition": chosen, "value": _GRAY},
        "opacity": {"condition": {**chosen, "value": 1}, "value": 0.35},
        "detail": {"field": "line"},
    }


def _description(title: str, points: Sequence[Mapping[str, Any]], lines: Sequence[str]) -> str:
    """Return the first and the last value of each line as text, or the number of lines."""
    if len(lines) > len(COLORS):
        return f"Line chart of {title} with {len(lines)} lines."
    parts = []
    for name in lines:
        line = [point for point in points if point["line"] == name]
        first, last = line[0], line[-1]
        parts.append(
            f"{name} {first['value']:.4g} at step {first['step']:,}, {last['value']:.4g} at step {last['step']:,}"
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
            Cell(point["line"]),
            number(point["value"], f"{point['value']:.6g}"),
        )
        for point in shown
    ]
    return ("step", "epoch", "minutes", "line", title), rows
