"""Results of a run's test: tables of its task as charts, values per target, and the worst predictions."""

from __future__ import annotations

import base64
import csv
import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convoy.report.pages.document import Cell, Figure, Gallery, Picture, Table, number
from convoy.report.pages.vega import COLORS, Chart
from convoy.runs.layout import read_json
from convoy.runs.records import metric_text

MOST_CELLS = 30
"""Largest number of classes of a confusion matrix that is drawn with numbers."""

_MOST_PAIRS = 100
_MOST_SHOWN = 10_000


def per_target(summary: Mapping[str, Any]) -> list[Figure | Table]:
    """Return charts or tables of the results per class, label or value in a summary.json."""
    found: list[Figure | Table] = []
    for key, values in summary.items():
        if not key.startswith(("test/", "val/")) or not isinstance(values, dict):
            continue
        split, name = key.split("/", 1)
        is_fraction = name.endswith("per_class") or name.startswith("accuracy")
        shown = name.replace("_", " ").replace("iou", "IoU")
        title = f"{shown}, {split}"
        rows = [
            (Cell(target), number(value, metric_text("", value, ("",) if is_fraction else ())))
            for target, value in values.items()
        ]
        table = Table(title, ("target", shown), rows, is_long=len(rows) > MOST_CELLS)
        found.append(_bars(title, values, table, is_fraction=is_fraction) if len(rows) <= MOST_CELLS else table)
    return found


def task_tables(folder: Path, tables: Mapping[str, str]) -> list[Any]:
    """Return charts of the tables that the task wrote to the run's folder.

    Args:
        folder: of the run.
        tables: kind of each table by name (`ReportTable.kind`).
    """
    parts: list[Any] = []
    for name, kind in tables.items():
        columns, rows = _read(folder / f"{name}.csv")
        if not rows:
            continue
        if kind == "matrix":
            parts += confusion(columns[1:], np.array([row[1:] for row in rows], dtype=np.int64))
        elif kind == "calibration":
            parts.append(reliability(columns, rows))
        else:
            cells = [[_cell(text) for text in row] for row in rows]
            parts.append(Table(name.replace("_", " "), columns, cells, is_long=len(rows) > MOST_CELLS))
    return parts


def confusion(names: Sequence[str], matrix: NDArray[np.int64]) -> list[Any]:
    """Return a confusion matrix as a chart, as an image if there are many classes, and the most frequent confusions.

    Args:
        names: of the classes.
        matrix: images or pixels by true class (rows) and predicted class (columns).
    """
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    parts: list[Any] = []
    if len(names) <= MOST_CELLS:
        parts.append(_heat_map("confusion matrix", names, matrix))
    else:
        note = f"Each of {len(names)} x {len(names)} pixels is a pair of classes, darker for a larger share of the row."
        picture = Picture(_share_image(matrix), "confusion matrix of all classes", width=700, is_pixelated=True)
        parts.append(Gallery("confusion matrix: true classes down, predicted ones across", [picture], note))
        most = np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:MOST_CELLS]
        most = np.sort(most)
        chosen = [names[index] for index in most]
        parts.append(_heat_map("the classes with most confusions", chosen, matrix[np.ix_(most, most)]))
    pairs = [(int(wrong[i, j]), i, j) for i, j in zip(*np.nonzero(wrong), strict=True)]
    pairs.sort(key=lambda pair: -pair[0])
    totals = matrix.sum(1)
    rows = [
        (Cell(names[i]), Cell(names[j]), number(count), number(count / totals[i], f"{count / totals[i]:.1%}"))
        for count, i, j in pairs[:_MOST_PAIRS]
    ]
    if rows:
        columns = ("true class", "predicted class", "count", "share of the true class")
        parts.append(Table("most frequent confusions", columns, rows, is_long=len(rows) > 12))
    return parts


def reliability(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Figure:
    """Return a reliability diagram: accuracy by confidence (Guo et al. 2017, arXiv:1706.04599, figure 1).

    Args:
        columns: titles of the table.
        rows: lower and upper end of a bin, its images, mean confidence and accuracy; the last two are empty where
            there are no images.
    """
    bins = [
        {
            "low": float(low),
            "high": float(high),
            "images": int(count),
            "confidence": float(mean),
            "accuracy": float(hit),
        }
        for low, high, count, mean, hit in rows
        if int(count)
    ]
    total = sum(one["images"] for one in bins)
    error = sum(one["images"] * abs(one["accuracy"] - one["confidence"]) for one in bins) / max(1, total)
    percent = {"format": "%"}
    x = {"type": "quantitative", "scale": {"domain": [0, 1]}, "axis": percent}
    spec = {
        "data": {"values": bins},
        "width": 320,
        "height": 320,
        "layer": [
            {
                "data": {"values": [{"at": 0}, {"at": 1}]},
                "mark": {"type": "line", "strokeDash": [4, 4], "color": "#8a8f96"},
                "encoding": {
                    "x": {"field": "at", **x, "title": "confidence"},
                    "y": {"field": "at", **x, "title": "accuracy"},
                },
            },
            {
                "mark": {"type": "bar", "color": COLORS[0], "opacity": 0.75},
                "encoding": {
                    "x": {"field": "low", **x},
                    "x2": {"field": "high"},
                    "y": {"field": "accuracy", **x},
                    "y2": {"datum": 0},
                    "tooltip": [{"field": name} for name in ("low", "high", "images", "confidence", "accuracy")],
                },
            },
        ],
    }
    text = f"Reliability diagram of {len(bins)} bins; expected calibration error {error:.2%}."
    note = (
        f"Expected calibration error {error:.2%}: mean distance between confidence and accuracy. Bars below the dashed"
        " line are predictions that are too confident."
    )
    cells = [[_cell(value) for value in row] for row in rows]
    return Figure("calibration", Chart(spec, text, columns, cells), note)


_PICTURE_WIDTH = 160


def mistakes(path: Path) -> list[Gallery]:
    """Return the images with the worst predictions, from the run's mistakes.json."""
    found = read_json(path)
    pictures = [
        Picture(
            str(one["image"]),
            f"image of {one['target']}",
            (f"target: {one['target']}", *(f"{name}: {value}" for name, value in one["prediction"])),
            width=_PICTURE_WIDTH * int(one["pictures"]),
            is_pixelated=True,
        )
        for one in found.get("images", ())
    ]
    if not pictures:
        return []
    return [Gallery(f"worst predictions, {found['split']}", pictures, str(found["order"]))]


def _bars(title: str, values: Mapping[str, float | None], table: Table, *, is_fraction: bool) -> Figure:
    data = [{"target": target, "value": value} for target, value in values.items() if value is not None]
    axis = {"axis": {"format": "%"}, "scale": {"domain": [0, 1]}} if is_fraction else {}
    spec = {
        "data": {"values": data},
        "height": 40 + 18 * len(data),
        "mark": {"type": "bar", "color": COLORS[0]},
        "encoding": {
            "y": {"field": "target", "type": "nominal", "sort": None, "title": None},
            "x": {"field": "value", "type": "quantitative", "title": None, **axis},
            "tooltip": [{"field": "target"}, {"field": "value"}],
        },
    }
    least = min(data, key=lambda one: one["value"], default=None)  # type: ignore[arg-type, return-value]
    text = f"Bar chart of {title}" + (
        f"; the smallest is {least['value']:.4g} for {least['target']}." if least else "."
    )
    return Figure(title, Chart(spec, text, table.columns, table.rows))


def _heat_map(title: str, names: Sequence[str], matrix: NDArray[np.int64]) -> Figure:
    totals = np.maximum(matrix.sum(1), 1)
    data = [
        {"true": true, "predicted": predicted, "count": int(matrix[i, j]), "share": float(matrix[i, j] / totals[i])}
        for i, true in enumerate(names)
        for j, predicted in enumerate(names)
    ]
    right = int(np.trace(matrix))
    text = f"Heat map of {len(names)} classes; {right:,} of {int(matrix.sum()):,} on the diagonal."
    axis = {"type": "nominal", "sort": None}
    # Larger numbers don't fit into a cell.
    is_short = matrix.max(initial=0) < _MOST_SHOWN
    shown = {"field": "count", "format": "~s"} if is_short else {"field": "share", "format": ".0%"}
    spec = {
        "data": {"values": data},
        "autosize": "pad",
        "width": {"step": 30},
        "height": {"step": 24},
        "encoding": {
            "x": {"field": "predicted", **axis, "title": "predicted", "axis": {"labelAngle": -45, "orient": "top"}},
            "y": {"field": "true", **axis, "title": "true"},
            "tooltip": [{"field": name} for name in ("true", "predicted", "count")]
            + [{"field": "share", "format": ".1%"}],
        },
        "layer": [
            {
                "mark": "rect",
                "encoding": {
                    "color": {
                        "field": "share",
                        "type": "quantitative",
                        "legend": None,
                        "scale": {"scheme": "blues", "domain": [0, 1]},
                    }
                },
            },
            {
                "transform": [{"filter": "datum.count > 0"}],
                "mark": {"type": "text", "fontSize": 10},
                "encoding": {
                    "text": shown,
                    "color": {"condition": {"test": "datum.share > 0.5", "value": "white"}, "value": "black"},
                },
            },
        ],
    }
    cells = [[Cell(true), *(number(int(count)) for count in row)] for true, row in zip(names, matrix, strict=True)]
    return Figure(title, Chart(spec, text, ("true \\ predicted", *names), cells))


def _share_image(matrix: NDArray[np.int64]) -> str:
    """Return a matrix as a grayscale image, one pixel per pair of classes; dark is a large share of the row."""
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    # The square root makes confusions of a few percent visible.
    pixels = (255 * (1 - np.sqrt(shares))).astype(np.uint8)
    return png_url(Image.fromarray(pixels))


def png_url(image: Image.Image) -> str:
    """Return an image as a data URL."""
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return titles and rows of a CSV file; empty if it is missing."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            columns, *rows = csv.reader(file)
    except (OSError, ValueError):
        return [], []
    return columns, rows


def _cell(text: str) -> Cell:
    """Return a cell for a value of a CSV file: whole numbers with separators, others with four digits."""
    try:
        value = float(text)
    except ValueError:
        return Cell(text)
    if math.isnan(value):
        return number(None)
    return number(value, f"{int(text):,}" if text.isdecimal() else f"{value:.4g}")
