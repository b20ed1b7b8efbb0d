"""Targets in the columns of a table, read according to `data.target`.

| data.target | data.target_column | cells | names of the targets |
|---|---|---|---|
| class_index | a column | any text | the distinct texts, sorted as text |
| multi_hot | a list of columns | 0 or 1 | the columns |
| multi_hot | a column | labels, as a list or separated by `data.label_separator` | the distinct labels, sorted |
| values | a column or a list | finite numbers | the columns |
| keypoints | null or a list of points | see `point_columns` | the points |
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from convoy.config.data_schema import DataConfig
from convoy.data.tables.columns import MOST_LISTED, Columns, text
from convoy.data.tables.point_columns import read_points
from convoy.data.tables.settings import target_columns
from convoy.data.tables.table_file import Cell
from convoy.data.targets import CLASS_INDEX, KEYPOINTS, MULTI_HOT, Targets, counted, listed

_ZERO_OR_ONE = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0}
_WHOLE_NUMBER = re.compile(r"[+-]?\d+(\.0*)?")

Row = int | tuple[float, ...]
"""Target of one image: a class index, or one number per label or value."""


def read_targets(data: DataConfig, columns: Columns, header: Sequence[str]) -> tuple[Targets, list[Row], list[str]]:
    """Return the targets, the target of each row, and notes; faults are added to `columns`.

    Args:
        data: the data config.
        columns: reader of the table's columns.
        header: names of the columns.
    """
    key = "data.target_column"
    names = target_columns(data)
    if data.target == CLASS_INDEX:
        notes: list[str] = []
        texts = _whole_numbers(columns.texts(key, names[0], text), notes, names[0])
        counts = Counter(texts)
        notes += _similar_names(counts, names[0])
        classes = sorted(counts)
        index = {name: place for place, name in enumerate(classes)}
        return Targets(CLASS_INDEX, tuple(classes)), [index[text] for text in texts], notes
    if data.target == KEYPOINTS:
        targets, points = read_points(data, columns, header)
        return targets, list(points), []
    if data.target == MULTI_HOT and isinstance(data.target_column, str):
        sets = columns.cells(key, names[0], lambda cell: _labels(cell, data.label_separator))
        found = Counter(label for labels in sets for label in labels)
        labels = sorted(found)
        rows: list[Row] = [tuple(float(label in present) for label in labels) for present in sets]
        return Targets(MULTI_HOT, tuple(labels)), rows, list(_similar_names(found, names[0]))
    read = _zero_or_one if data.target == MULTI_HOT else _number
    by_column = [columns.texts(key, name, read) for name in names]
    return Targets(data.target, names), [] if columns.faults else list(zip(*by_column, strict=True)), []


def _whole_numbers(texts: list[str], notes: list[str], column: str) -> list[str]:
    """Return the names 1, 2, … for classes written as 1.0, 2.0, …, as pandas writes integers beside empty cells."""
    names = set(texts)
    written = next((name for name in sorted(names) if "." in name), None)
    if written is None or not all(_WHOLE_NUMBER.fullmatch(name) for name in names):
        return texts
    short = {name: name.partition(".")[0] for name in names}
    notes.append(f"the classes of column {column} are read as whole numbers: {written} as {short[written]}.")
    return [short[text] for text in texts]


def _similar_names(counts: Counter[str], column: str) -> Iterator[str]:
    """Yield a note if names differ only by case or spaces."""
    by_form: dict[str, list[str]] = {}
    for name in sorted(counts):
        by_form.setdefault("".join(name.casefold().split()), []).append(name)
    pairs = [
        " and ".join(f"{name} ({counted(counts[name], 'image')})" for name in names)
        for names in by_form.values()
        if len(names) > 1
    ]
    if pairs:
        yield f"names in column {column} differ only by case or spaces: {listed(pairs, MOST_LISTED)}."


def _labels(cell: Cell, separator: str) -> set[str]:
    parts: Sequence[str] = cell.split(separator) if isinstance(cell, str) else cell
    return {label.strip() for label in parts if label.strip()}


def _zero_or_one(cell: str) -> float:
    value = _ZERO_OR_ONE.get(text(cell).lower())
    if value is None:
        raise ValueError("must be 0 or 1")
    return value


def _number(cell: str) -> float:
    try:
        value = float(text(cell))
    except ValueError:
        raise ValueError("is not a number" if cell else "is empty") from None
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value
