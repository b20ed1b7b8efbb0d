"""Classes of masks: names, and colors where masks are pictures. Imports neither torch nor NumPy.

A table has a column `name` and, for color masks, `red`, `green` and `blue` (or `r`, `g`, `b`), one class per row. A
class named void, ignore, ignored or unlabeled is not counted.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.data.targets import IGNORED

Color = tuple[int, int, int]

_COLORS = ("red", "green", "blue")
_NOT_COUNTED = ("void", "ignore", "ignored", "unlabeled", "unlabelled")
_REMEDY = "write data.classes=[sky,road,…] in the order of the values in the masks, or the path of a class table"


@dataclass(frozen=True)
class MaskClasses:
    """Classes of masks.

    Attributes:
        names: names of the classes that are counted.
        values: value in index masks of each of them.
        colors: color of each in color masks; None for index masks.
        ignored_values: values in index masks that are not counted.
        ignored_colors: colors that are not counted.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    colors: tuple[Color, ...] | None = None
    ignored_values: tuple[int, ...] = ()
    ignored_colors: tuple[Color, ...] = ()


def mask_classes(data: DataConfig) -> MaskClasses:
    """Return the classes of `data.classes` (names, values by name, or a table), or of `data.num_classes` without names.

    Raises:
        UserError: if there are none, or the table can't be used.
    """
    classes = data.classes
    if isinstance(classes, str):
        return _read(classes, data.root)
    if classes is None:
        if data.num_classes is None:
            raise UserError(Fault("data.classes", "is missing", _REMEDY, "null"))
        classes = [str(index) for index in range(data.num_classes)]
    if isinstance(classes, Mapping):
        return _with_values({str(name): value for name, value in classes.items()})
    if not isinstance(classes, Sequence):
        raise UserError(Fault("data.classes", "must be names, or the path of a class table", _REMEDY, str(classes)))
    return _counted([str(name) for name in classes], None)


def _with_values(values: Mapping[str, Any]) -> MaskClasses:
    wrong = [f"{name}: {value}" for name, value in values.items() if type(value) is not int or not 0 <= value < IGNORED]
    if wrong or len(set(values.values())) < len(values):
        rule = f"{wrong[0]} is no value of a mask" if wrong else "gives two classes the same value"
        raise UserError(Fault("data.classes", rule, "give each class its own whole number from 0 to 254"))
    return MaskClasses(tuple(values), tuple(values.values()))


def _counted(names: Sequence[str], colors: Sequence[Color] | None) -> MaskClasses:
    """Return the classes that are counted."""
    if repeated := [name for index, name in enumerate(names) if name in names[:index]]:
        raise UserError(Fault("data.classes", f"has {repeated[0]} twice", "give each class its own name"))
    kept = [index for index, name in enumerate(names) if name.lower() not in _NOT_COUNTED]
    others = [index for index in range(len(names)) if index not in kept]
    return MaskClasses(
        tuple(names[index] for index in kept),
        tuple(kept),
        None if colors is None else tuple(colors[index] for index in kept),
        tuple(others),
        () if colors is None else tuple(colors[index] for index in others),
    )


def _read(name: str, root: str | None) -> MaskClasses:
    places = [Path(name).expanduser(), *([Path(root).expanduser() / name] if root else [])]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(Fault("data.classes", "no such file", _REMEDY, name))
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(Fault("data.classes", f"can't be read ({error})", "write it in UTF-8", name)) from error
    separator = max(",;\t", key=text.partition("\n")[0].count)
    rows = [
        {(key or "").strip().lower(): (value or "").strip() for key, value in row.items() if key is not None}
        for row in csv.DictReader(text.splitlines(), delimiter=separator)
    ]
    if not rows or "name" not in rows[0]:
        rule = f"{path} has no column name" if rows else f"{path} has no rows"
        raise UserError(Fault("data.classes", rule, "begin it with the line name or name,red,green,blue", name))
    names = [row["name"] for row in rows]
    columns = [next((key for key in (color, color[0]) if key in rows[0]), None) for color in _COLORS]
    if None in columns:
        return _counted(names, None)
    try:
        colors = [(int(row[columns[0] or ""]), int(row[columns[1] or ""]), int(row[columns[2] or ""])) for row in rows]
    except ValueError as error:
        rule = f"{path} has a color that is not a whole number ({error})"
        raise UserError(Fault("data.classes", rule, "write red, green and blue as 0 to 255", name)) from error
    if len(set(colors)) < len(colors):
        rule = f"{path} gives two classes the same color"
        raise UserError(Fault("data.classes", rule, "give each class its own color", name))
    return _counted(names, colors)
