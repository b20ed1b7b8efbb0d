"""Image tables: images, targets, splits and groups of the rows. Imports neither torch nor NumPy."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.data.tables.columns import Columns, text
from convoy.data.tables.parquet import ParquetTable
from convoy.data.tables.settings import column_faults
from convoy.data.tables.table_faults import Rows, repeated_rows, split_faults
from convoy.data.tables.table_file import TableFile, open_table
from convoy.data.tables.table_targets import Row, read_targets
from convoy.data.targets import Targets

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Split by cell of `data.split_column`, compared without case."""


@dataclass(frozen=True)
class ImageTable:
    """Rows of a table that was read and checked.

    Attributes:
        targets: kind and names of the targets.
        paths: image file of each row; for images in the table itself, the name of the row.
        rows: target of each row.
        splits: split of each row, "train", "val" or "test"; None if the table has no split column.
        groups: group of each row; None if the table has no group column.
        lines: number of each row in the file, counted from 1.
        unit: meaning of `lines`, "line" or "row".
        notes: facts that a user may not expect, one sentence each.
        file: the file, if the images are in it.
    """

    targets: Targets
    paths: tuple[str, ...]
    rows: tuple[Row, ...]
    splits: tuple[str, ...] | None
    groups: tuple[str, ...] | None
    lines: tuple[int, ...]
    unit: str = "line"
    notes: tuple[str, ...] = ()
    file: TableFile | None = field(default=None, compare=False)


def read_table(data: DataConfig) -> ImageTable:
    """Read the table at `data.file`, without the images. The last table is kept, since a run reads it several times.

    Raises:
        UserError: if a setting is missing, the file can't be read, or a cell is invalid; the message names the first
            such cells. Image files are checked by `listed_images`.
    """
    try:
        status = Path(str(data.file)).expanduser().stat()
    except OSError:
        return _read(data)
    key = repr((data, status.st_mtime_ns, status.st_size, status.st_ino))
    if _last.get("key") != key:
        _last.clear()
        _last.update(table=_read(data), key=key)
    table: ImageTable = _last["table"]
    return table


_last: dict[str, Any] = {}
"""The last table, with the settings and the state of the file from which it was read."""


def _read(data: DataConfig) -> ImageTable:
    table = open_table(data)
    if faults := list(column_faults(data, table.header)):
        raise UserError(*faults)
    columns = Columns(data, table)
    in_table = isinstance(table, ParquetTable) and _has_images(data, table)
    if in_table:
        paths = [f"{data.file}, row {row}" for row in table.lines]
    else:
        paths = columns.texts("data.image_column", str(data.image_column), _image_path(data))
    splits = groups = None
    if data.split_column is not None:
        splits = columns.texts("data.split_column", data.split_column, _split)
    if data.group_column is not None:
        groups = columns.texts("data.group_column", data.group_column, text)
    targets, rows, notes = read_targets(data, columns, table.header)
    if columns.faults:
        raise UserError(*columns.faults)
    found = Rows(paths, rows, splits, groups, table.lines, table.unit)
    kept, repeated = repeated_rows(data, found)
    read = found.at(kept)
    if faults := list(split_faults(data, targets, read)):
        raise UserError(*faults)
    return ImageTable(
        targets,
        tuple(read.paths),
        tuple(read.targets),
        None if read.splits is None else tuple(read.splits),
        None if read.groups is None else tuple(read.groups),
        tuple(read.lines),
        table.unit,
        (*notes, *repeated),
        table if in_table else None,
    )


def _has_images(data: DataConfig, table: ParquetTable) -> bool:
    """Return whether the image column has images instead of paths.

    Raises:
        UserError: if it has neither.
    """
    column = str(data.image_column)
    kind = table.image_kind(column)
    if kind is None:
        rule = f"has values of type {table.type_of(column)}"
        remedy = "name a column of paths, of bytes, or of {bytes, path} as Hugging Face writes them"
        raise UserError(Fault("data.image_column", rule, remedy, column))
    return kind == "bytes"


def image_root(data: DataConfig) -> str:
    """Return the folder that the paths of a table are relative to."""
    return str(Path(str(data.file)).expanduser().parent if data.root is None else Path(data.root).expanduser())


def _image_path(data: DataConfig) -> Callable[[str], str]:
    """Return the function that converts an image cell to the file's path."""
    folder = image_root(data)

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
