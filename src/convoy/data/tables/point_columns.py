"""Columns of key points: `<point>_x`, `<point>_y` and optionally `<point>_visible`. Imports neither torch nor NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.data.tables.columns import Columns
from convoy.data.targets import KEYPOINTS, Targets, listed

_VISIBLE = ("_visible", "_visibility", "_v")


class PointColumns(NamedTuple):
    """Columns of one point; None for a point without a column of its visibility."""

    name: str
    x: str
    y: str
    visible: str | None


def point_columns(data: DataConfig, header: Sequence[str]) -> list[PointColumns]:
    """Return the columns of the points in `data.target_column`, or of all points of a table.

    Raises:
        UserError: if there are none, or a point lacks a column.
    """
    all_names = [column[: -len("_x")] for column in header if column.endswith("_x") and f"{column[:-1]}y" in header]
    given = data.target_column
    names = all_names if given is None else [given] if isinstance(given, str) else [str(name) for name in given]
    if given is None and (lone := _without_counterpart(header, all_names)):
        rule = f"{data.file} has the column {lone[0]}, and not {lone[1]}"
        remedy = f"add it, or name the points: data.target_column=[{','.join(all_names)}]"
        raise UserError(Fault("data.target_column", rule, remedy, "null"))
    if not names:
        rule = f"{data.file} has no columns <point>_x and <point>_y; it has {listed(header)}"
        raise UserError(Fault("data.target_column", rule, "rename the columns of the coordinates"))
    for name in names:
        if name not in all_names:
            near = did_you_mean(name, all_names, f"the points are {listed(all_names) or 'none'}")
            raise UserError(
                Fault("data.target_column", f"{data.file} has no columns {name}_x and {name}_y", near, name)
            )
    return [
        PointColumns(
            name, f"{name}_x", f"{name}_y", next((name + end for end in _VISIBLE if name + end in header), None)
        )
        for name in names
    ]


def _without_counterpart(header: Sequence[str], points: Sequence[str]) -> tuple[str, str] | None:
    """Return a column of x or y whose point has no other coordinate, and the missing column, if there are points."""
    pairs = [(column, f"{column[:-1]}{'y' if column.endswith('_x') else 'x'}") for column in header]
    lone = [(own, other) for own, other in pairs if own.endswith(("_x", "_y")) and other not in header]
    return lone[0] if lone and points else None


def read_points(data: DataConfig, columns: Columns, header: Sequence[str]) -> tuple[Targets, list[tuple[float, ...]]]:
    """Return the points and, per row, x, y and 1 (known) or 0 (unknown) of each; faults are added to `columns`.

    A point is unknown if its cells are empty or NaN, or its visibility is 0.
    """
    found = point_columns(data, header)
    parts: list[list[tuple[float, ...]]] = []
    for point in found:
        across = columns.texts("data.target_column", point.x, _coordinate)
        down = columns.texts("data.target_column", point.y, _coordinate)
        seen = [1.0] * len(across)
        if point.visible is not None:
            seen = columns.texts("data.target_column", point.visible, _coordinate)
        if columns.faults:
            continue
        parts.append([_point(*values) for values in zip(across, down, seen, strict=True)])
    targets = Targets(KEYPOINTS, tuple(point.name for point in found))
    if columns.faults:
        return targets, []
    return targets, [tuple(value for part in row for value in part) for row in zip(*parts, strict=True)]


def _point(x: float, y: float, visible: float) -> tuple[float, ...]:
    is_known = math.isfinite(x) and math.isfinite(y) and visible > 0
    return (x, y, 1.0) if is_known else (0.0, 0.0, 0.0)


def _coordinate(cell: str) -> float:
    """Return a number, NaN for an empty cell."""
    written = cell.strip()
    if written.lower() in ("", "nan", "na"):
        return math.nan
    try:
        value = float(written)
    except ValueError:
        raise ValueError("is not a number") from None
    if math.isinf(value):
        raise ValueError("must be a finite number")
    return value
