"""Checks across the rows of a table: repeated images, groups in several splits, and classes that can't be split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.data.tables.columns import MOST_LISTED
from convoy.data.tables.settings import target_columns
from convoy.data.tables.table_targets import Row
from convoy.data.targets import CLASS_INDEX, MULTI_HOT, Targets, counted, listed


@dataclass(frozen=True)
class Rows:
    """Columns of a table, converted.

    Attributes:
        paths: image of each row.
        targets: target of each row.
        splits: split of each row, or None.
        groups: group of each row, or None.
        lines: number of each row in the file.
        unit: meaning of `lines`, "line" or "row".
    """

    paths: Sequence[str]
    targets: Sequence[Row]
    splits: Sequence[str] | None
    groups: Sequence[str] | None
    lines: Sequence[int]
    unit: str

    def shown(self, place: int) -> str:
        """Return a row for messages, such as `line 7`."""
        return f"{self.unit} {self.lines[place]}"

    def at(self, places: Sequence[int]) -> Rows:
        """Return the rows at the indices `places`."""

        def chosen(values: Sequence[str]) -> list[str]:
            return [values[place] for place in places]

        return Rows(
            chosen(self.paths),
            [self.targets[place] for place in places],
            None if self.splits is None else chosen(self.splits),
            None if self.groups is None else chosen(self.groups),
            [self.lines[place] for place in places],
            self.unit,
        )


def repeated_rows(data: DataConfig, rows: Rows) -> tuple[list[int], list[str]]:
    """Return the indices of the rows without equal ones, and a note on those that are left out.

    Raises:
        UserError: if rows have the same image, but another target, split or group.
    """
    first_of: dict[str, int] = {}
    kept: list[int] = []
    equal: list[int] = []
    for place, path in enumerate(rows.paths):
        first = first_of.setdefault(path, place)
        if first == place:
            kept.append(place)
            continue
        for values, key in (
            (rows.targets, "data.target_column"),
            (rows.splits, "data.split_column"),
            (rows.groups, "data.group_column"),
        ):
            if values is not None and values[first] != values[place]:
                raise UserError(_contradiction(data, key, rows, first, place))
        equal.append(place)
    if not equal:
        return kept, []
    place = equal[0]
    shown = f"{rows.shown(place)} and {rows.shown(first_of[rows.paths[place]])}"
    were = "was" if len(equal) == 1 else "were"
    return kept, [f"{counted(len(equal), 'row')} of {data.file} repeated an image and {were} left out: {shown}."]


def _contradiction(data: DataConfig, key: str, rows: Rows, first: int, place: int) -> Fault:
    path = rows.paths[place]
    shown = f"{rows.shown(first)} and {rows.shown(place)} have the same image, {path}"
    column = ",".join(target_columns(data)) if key == "data.target_column" else getattr(data, key.partition(".")[2])
    if key == "data.target_column":
        remedy = "keep one row per image"
        if data.target == CLASS_INDEX:
            remedy += ", or for several labels per image write them in one cell and add task=multilabel"
        elif data.target == MULTI_HOT:
            remedy += f", with its labels in one cell, separated by {data.label_separator}"
        return Fault(key, f"{shown}, with different targets", remedy, column)
    noun = "splits" if key == "data.split_column" else "groups"
    return Fault(key, f"{shown}, in different {noun}", "keep one of the rows", column)


def split_faults(data: DataConfig, targets: Targets, rows: Rows) -> Iterator[Fault]:
    """Yield splits without an image, groups in several splits, and classes that train lacks or can't hold out."""
    names = targets.names
    if not names:
        rule = f"no row of {data.file} has a label"
        yield Fault("data.target_column", rule, "name the column of the labels", str(data.target_column))
    if rows.splits is not None and "train" not in rows.splits:
        yield Fault("data.split_column", "has no row for train", "mark the training images train", data.split_column)
        return
    if rows.splits is not None and "val" in rows.splits and data.folds is not None:
        rule = f"{data.file} has rows for val in column {data.split_column}, and a fold would replace them"
        remedy = "write data.folds=null, or mark these rows train"
        yield Fault("data.folds", rule, remedy, str(data.folds))
    yield from _group_faults(data, rows)
    if data.target != CLASS_INDEX:
        return
    if len(names) < 2:
        rule = f"{data.file} has one class, {names[0]}"
        yield Fault("data.target_column", rule, "a classifier needs two or more", str(data.target_column))
    splits = rows.splits or ["train"] * len(rows.targets)
    in_train = Counter(row for row, split in zip(rows.targets, splits, strict=True) if split == "train")
    lacking = [name for label, name in enumerate(names) if label not in in_train]
    if lacking:
        rule = f"no row of train has the class {listed(lacking)}"
        yield Fault("data.split_column", rule, "move one of its images to train, or remove its rows")
    if "val" not in splits:
        yield from _single_faults(data, names, rows, {label for label, count in in_train.items() if count == 1})


def _group_faults(data: DataConfig, rows: Rows) -> Iterator[Fault]:
    if rows.groups is None:
        return
    if rows.splits is None:
        if len(set(rows.groups)) < 2:
            rule = f"all rows have the group {rows.groups[0]}, so nothing can be held out"
            yield Fault("data.group_column", rule, "name a column with several values", data.group_column)
        return
    first_of: dict[str, int] = {}
    for place, group in enumerate(rows.groups):
        first = first_of.setdefault(group, place)
        if rows.splits[first] != rows.splits[place]:
            shown = [f"{rows.shown(one)} ({rows.splits[one]})" for one in (first, place)]
            rule = f"the group {group} is in several splits: {' and '.join(shown)}"
            yield Fault("data.group_column", rule, "move its rows to one split", data.group_column)
            return


def _single_faults(data: DataConfig, names: Sequence[str], rows: Rows, single: set[Row]) -> Iterator[Fault]:
    if not single:
        return
    cells = [
        f"{names[row]} ({rows.shown(place)})"
        for place, row in enumerate(rows.targets)
        if isinstance(row, int) and row in single
    ]
    rule = f"{counted(len(single), 'class', 'classes')} with one image, so none is left for val: "
    remedy = "remove these rows, correct the names, or assign images to splits with data.split_column"
    if all(_is_number(names[label]) for label in single if isinstance(label, int)):
        remedy = f"for numbers write task=regression; for classes, {remedy}"
    yield Fault("data.target_column", rule + listed(cells, MOST_LISTED), remedy, str(data.target_column))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
