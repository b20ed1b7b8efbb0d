"""Image tables: a CSV or TSV file with one row per image. Imports neither torch nor NumPy.

The first line names the columns. One column contains the path of the image; one or several columns contain its
target, read according to `data.target`:

| data.target | data.target_column | cells | names of the targets |
|---|---|---|---|
| class_index | a column | any text | the distinct texts, sorted as text |
| multi_hot | a list of columns | 0 or 1 | the columns |
| multi_hot | a column | labels, separated by `data.label_separator`; empty for none | the distinct labels, sorted |
| values | a column or a list | finite numbers | the columns |
"""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.schema import DataConfig
from convoy.data.folders import irregular_kind
from convoy.data.targets import CLASS_INDEX, MULTI_HOT, Targets, listed

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Split by cell of `data.split_column`, compared without case."""

_MOST_LISTED = 5
_ZERO_OR_ONE = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0}

Row = int | tuple[float, ...]
"""Target of one image: a class index, or one number per label or value."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class ImageTable:
    """Rows of a table that was read and checked.

    Attributes:
        targets: kind and names of the targets.
        paths: image file of each row.
        rows: target of each row.
        splits: split of each row, "train", "val" or "test"; None if the table has no split column.
        lines: line number of each row in the file, counted from 1.
    """

    targets: Targets
    paths: tuple[str, ...]
    rows: tuple[Row, ...]
    splits: tuple[str, ...] | None
    lines: tuple[int, ...]


def read_table(data: DataConfig) -> ImageTable:
    """Read the table at `data.file`.

    Raises:
        UserError: if a setting is missing, the file can't be read, or a cell is invalid; the message names the first
            such cells. Image files are checked by `check_images`.
    """
    header, lines, cells = _read_cells(data)
    columns = target_columns(data)
    used = {"data.image_column": data.image_column, "data.split_column": data.split_column}
    faults = [
        fault
        for key, column in [*used.items(), *(("data.target_column", column) for column in columns)]
        if column is not None
        for fault in _column_faults(key, column, header, str(data.file))
    ]
    if faults:
        raise UserError(*faults)
    reader = _Cells(data, header, lines, cells)
    paths = reader.read("data.image_column", str(data.image_column), _image_path(data))
    splits = None
    if data.split_column is not None:
        splits = tuple(reader.read("data.split_column", data.split_column, _split))
    targets, rows = _read_targets(data, reader, columns)
    if reader.faults:
        raise UserError(*reader.faults)
    table = ImageTable(targets, tuple(paths), tuple(rows), splits, tuple(lines))
    if faults := list(_split_faults(data, table)):
        raise UserError(*faults)
    return table


def setting_faults(data: DataConfig) -> Iterator[Fault]:
    """Yield the faults of the settings of a table; the file is not read."""
    if data.file is None:
        yield Fault("data.file", "is missing", "give a CSV or TSV file with one row per image", "null")
    columns = "" if data.file is None else f"; {_shown_columns(data)}"
    if data.image_column is None:
        yield Fault("data.image_column", "is missing", f"name the column of the image paths{columns}", "null")
    if not target_columns(data):
        remedy = f"name the column of the target, or several as [a,b]{columns}"
        yield Fault("data.target_column", "is missing", remedy, "null")
    elif data.target == CLASS_INDEX and len(target_columns(data)) > 1:
        rule = f"data.target={CLASS_INDEX} reads one column"
        remedy = "name one column, or write task=multilabel or task=regression"
        yield Fault("data.target_column", rule, remedy, f"[{','.join(target_columns(data))}]")
    if not data.label_separator:
        yield Fault("data.label_separator", "must not be empty", "write a character such as '|'")


def target_columns(data: DataConfig) -> tuple[str, ...]:
    """Return the names in `data.target_column`, which is one name or a list of names."""
    column = data.target_column
    if column is None:
        return ()
    return (column,) if isinstance(column, str) else tuple(map(str, column))


def check_images(data: DataConfig, table: ImageTable) -> None:
    """Check that the image files of a table exist.

    Raises:
        UserError: if files are missing; the message names the line of the first one and their number.
    """
    missing = [place for place, path in enumerate(table.paths) if not os.path.isfile(path)]  # noqa: PTH113 (speed)
    if missing:
        first = missing[0]
        path, images = table.paths[first], f"{_count(len(missing), 'image')} of {len(table.paths):,}"
        rule = f"{path} does not exist ({images} missing)"
        if os.path.exists(path):  # noqa: PTH110
            rule = f"{path} is a {irregular_kind(os.stat(path).st_mode)} ({images} are no files)"  # noqa: PTH116
        remedy = "paths are relative to data.root, which is the table's folder by default"
        raise UserError(Fault("data.image_column", f"line {table.lines[first]}: {rule}", remedy, data.image_column))


class _Cells:
    """Columns of a table, with the faults found so far."""

    def __init__(
        self, data: DataConfig, header: Sequence[str], lines: Sequence[int], cells: Sequence[Sequence[str]]
    ) -> None:
        self._data = data
        self._header = header
        self._lines = lines
        self._cells = cells
        self.faults: list[Fault] = []

    def read(self, key: str, column: str, read: Callable[[str], Value]) -> list[Value]:
        """Return the values of a column. `read` raises ValueError with the violated rule."""
        place = self._header.index(column)
        values: list[Value] = []
        wrong: list[tuple[int, str, str]] = []
        for line, row in zip(self._lines, self._cells, strict=True):
            try:
                values.append(read(row[place]))
            except ValueError as error:
                wrong.append((line, row[place], str(error)))
        if wrong:
            cells = [f"line {line} {rule}" + (f" ({cell!r})" if cell else "") for line, cell, rule in wrong]
            remedy = f"correct {_count(len(wrong), 'cell')} of column {column} in {self._data.file}"
            self.faults.append(Fault(key, listed(cells, _MOST_LISTED), remedy, column))
        return values


def _read_cells(data: DataConfig) -> tuple[list[str], list[int], list[list[str]]]:
    """Return the header, and the line number and the cells of each row that isn't empty."""
    path = Path(str(data.file)).expanduser()
    delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    lines: list[int] = []
    cells: list[list[str]] = []
    try:
        if (kind := irregular_kind(path.stat().st_mode)) is not None:
            raise UserError(Fault("data.file", f"is a {kind}", "give a CSV or TSV file", str(data.file)))
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(reader, [])]
            for row in reader:
                stripped = [cell.strip() for cell in row]
                if not any(stripped):
                    continue
                if len(stripped) != len(header):
                    rule = f"line {reader.line_num} has {_count(len(stripped), 'cell')}, the header {len(header)}"
                    raise UserError(Fault("data.file", rule, "quote cells that contain the separator", str(data.file)))
                lines.append(reader.line_num)
                cells.append(stripped)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"can't be read ({error})"
        raise UserError(Fault("data.file", reason, "give a CSV or TSV file in UTF-8", str(data.file))) from error
    if not cells:
        raise UserError(Fault("data.file", "has no rows below its header", "add one row per image", str(data.file)))
    return header, lines, cells


def _column_faults(key: str, column: str, header: Sequence[str], file: str) -> Iterator[Fault]:
    count = header.count(column)
    if count == 0:
        near = did_you_mean(column, header)
        remedy = f"{near} The columns are {', '.join(header)}" if near else f"the columns are {', '.join(header)}"
        yield Fault(key, f"{file} has no such column", remedy, column)
    elif count > 1:
        yield Fault(key, f"{file} has {count} columns of that name", "rename one of them", column)


def _shown_columns(data: DataConfig) -> str:
    try:
        header, _, _ = _read_cells(data)
    except UserError:
        return "see its first line"
    return f"{data.file} has {', '.join(header)}"


def _image_path(data: DataConfig) -> Callable[[str], str]:
    """Return the function that converts an image cell to the file's path."""
    root = Path(str(data.file)).expanduser().parent if data.root is None else Path(data.root).expanduser()
    folder = str(root)

    def read(cell: str) -> str:
        if not cell:
            raise ValueError("has no path")
        return os.path.join(folder, cell)  # noqa: PTH118 (a Path for each of a million rows costs seconds)

    return read


def _split(cell: str) -> str:
    split = SPLITS.get(cell.lower())
    if split is None:
        raise ValueError("must be train, val or test")
    return split


def _read_targets(data: DataConfig, reader: _Cells, columns: Sequence[str]) -> tuple[Targets, list[Row]]:
    key = "data.target_column"
    if data.target == CLASS_INDEX:
        texts = reader.read(key, columns[0], _text)
        classes = sorted(set(texts))
        index = {name: place for place, name in enumerate(classes)}
        return Targets(CLASS_INDEX, tuple(classes)), [index[text] for text in texts]
    if data.target == MULTI_HOT and isinstance(data.target_column, str):
        separator = data.label_separator
        sets = reader.read(
            key, columns[0], lambda cell: {label.strip() for label in cell.split(separator) if label.strip()}
        )
        labels = sorted(set().union(*sets))
        return Targets(MULTI_HOT, tuple(labels)), [tuple(float(label in found) for label in labels) for found in sets]
    by_column = [reader.read(key, column, _zero_or_one if data.target == MULTI_HOT else _number) for column in columns]
    rows: list[Row] = [] if reader.faults else list(zip(*by_column, strict=True))
    return Targets(data.target, tuple(columns)), rows


def _text(cell: str) -> str:
    if not cell:
        raise ValueError("is empty")
    return cell


def _zero_or_one(cell: str) -> float:
    value = _ZERO_OR_ONE.get(_text(cell).lower())
    if value is None:
        raise ValueError("must be 0 or 1")
    return value


def _number(cell: str) -> float:
    try:
        value = float(_text(cell))
    except ValueError:
        raise ValueError("is not a number" if cell else "is empty") from None
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _split_faults(data: DataConfig, table: ImageTable) -> Iterator[Fault]:
    """Yield splits without an image, classes that can't be held out, and classes that train lacks."""
    names = table.targets.names
    if not names:
        rule = f"no row of {data.file} has a label"
        yield Fault("data.target_column", rule, "name the column of the labels", str(data.target_column))
    if table.splits is not None and "train" not in table.splits:
        yield Fault("data.split_column", "has no row for train", "mark the training images train", data.split_column)
        return
    if data.target != CLASS_INDEX:
        return
    if len(names) < 2:
        rule = f"{data.file} has one class, {names[0]}"
        yield Fault("data.target_column", rule, "a classifier needs two or more", str(data.target_column))
    splits = table.splits or ("train",) * len(table.rows)
    in_train = Counter(
        row for row, split in zip(table.rows, splits, strict=True) if split == "train" and isinstance(row, int)
    )
    lacking = [name for label, name in enumerate(names) if label not in in_train]
    if lacking:
        rule = f"no row of train has the class {listed(lacking)}"
        yield Fault("data.split_column", rule, "move one of its images to train, or remove its rows")
    if "val" in splits:
        return
    single = {label for label, count in in_train.items() if count == 1}
    if single:
        rows = [(line, row) for line, row in zip(table.lines, table.rows, strict=True) if row in single]
        cells = [f"{names[int(row)]} (line {line})" for line, row in rows if isinstance(row, int)]
        rule = f"{_count(len(single), 'class', 'classes')} with one image, so none is left for val: "
        remedy = "remove these rows, correct the names, or assign images to splits with data.split_column"
        if all(_is_number(names[label]) for label in single):
            remedy = f"for numbers write task=regression; for classes, {remedy}"
        yield Fault("data.target_column", rule + listed(cells, _MOST_LISTED), remedy, str(data.target_column))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"
