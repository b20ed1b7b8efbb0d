"""Settings of a table: the keys that must be given, and the columns that they name. Only errors read the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.data.tables.table_file import FORMATS, open_table
from convoy.data.targets import CLASS_INDEX, KEYPOINTS


def setting_faults(data: DataConfig) -> Iterator[Fault]:
    """Yield the faults of the settings of a table."""
    if data.file is None:
        yield Fault("data.file", "is missing", f"give a {FORMATS} file with one row per image", "null")
    lacks_targets = not target_columns(data) and data.target != KEYPOINTS
    is_missing = data.image_column is None or lacks_targets
    columns = ""
    if is_missing and data.file is not None:
        try:
            columns = f"; {data.file} has {', '.join(open_table(data).header)}"
        except UserError as error:
            yield from error.faults
    if data.image_column is None:
        yield Fault("data.image_column", "is missing", f"name the column of the image paths{columns}", "null")
    if lacks_targets:
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


def column_faults(data: DataConfig, header: Sequence[str]) -> Iterator[Fault]:
    """Yield a fault for each column that a table lacks or has twice."""
    named = [
        ("data.image_column", data.image_column),
        ("data.split_column", data.split_column),
        ("data.group_column", data.group_column),
    ]
    if data.target != KEYPOINTS:  # whose names are not columns
        named += [("data.target_column", column) for column in target_columns(data)]
    for key, column in named:
        count = 1 if column is None else header.count(column)
        if count == 0:
            near = did_you_mean(str(column), header)
            remedy = f"{near} The columns are {', '.join(header)}" if near else f"the columns are {', '.join(header)}"
            yield Fault(key, f"{data.file} has no such column", remedy, column)
        elif count > 1:
            yield Fault(key, f"{data.file} has {count} columns of that name", "rename one of them", column)
