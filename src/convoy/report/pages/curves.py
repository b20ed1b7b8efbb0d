"""Curves of a run: metrics of train and val, and the learning rate."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from convoy.report.pages.document import Figure
from convoy.report.pages.line_chart import line_chart, line_points


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
    by_metric: dict[str, list[str]] = {}
    for name in dict.fromkeys(key for row in rows for key, value in row.items() if value):
        split, _, metric = name.partition("/")
        if metric and split in ("train", "val") and metric not in hidden:
            by_metric.setdefault(metric, []).append(split)
    figures = []
    for metric in sorted(by_metric, key=lambda metric: (metric != "loss", len(by_metric[metric]) == 1)):
        points = [point for split in by_metric[metric] for point in line_points(rows, f"{split}/{metric}", split)]
        if points:
            figures.append(line_chart(titles.get(metric, metric), _marked(points, best_step)))
    if rates := line_points(rows, "lr", "learning rate"):
        figures.append(line_chart("learning rate", rates, scale="log" if min(_values(rates)) > 0 else "linear"))
    return figures


def _values(points: Sequence[Mapping[str, Any]]) -> list[float]:
    return [point["value"] for point in points]


def _marked(points: list[dict[str, Any]], best_step: int | None) -> list[dict[str, Any]]:
    """Return the points, of which the best one and the last one of val are marked."""
    val = [point["step"] for point in points if point["line"] == "val"]
    last = val[-1] if val else None
    marks = {last: "last", best_step: "best"} if last != best_step else {last: "best and last"}
    return [
        point | {"mark": marks[point["step"]]} if point["line"] == "val" and point["step"] in marks else point
        for point in points
    ]
