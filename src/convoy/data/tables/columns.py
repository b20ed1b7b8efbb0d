"""Columns of a table converted to values, with the faults of their cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault
from convoy.data.tables.table_file import Cell, TableFile, cell_of
from convoy.data.targets import counted, listed

MOST_LISTED = 5
Value = TypeVar("Value")


class Columns:
    """Reader of columns.

    Attributes:
        table: the table.
        faults: faults found so far, one per column.
    """

    def __init__(self, data: DataConfig, table: TableFile) -> None:
        self.table = table
        self.faults: list[Fault] = []
        self._data = data

    def texts(self, key: str, column: str, read: Callable[[str], Value]) -> list[Value]:
        """Return the values of a column of texts; lists are faults. See `cells`."""

        def read_text(cell: Cell) -> Value:
            if not isinstance(cell, str):
                raise ValueError("has a list instead of text")
            return read(cell)

        return self.cells(key, column, read_text)

    def cells(self, key: str, column: str, read: Callable[[Cell], Value]) -> list[Value]:
        """Return the values of a column. `read` raises ValueError with the violated rule."""
        values: list[Value] = []
        wrong: list[tuple[int, Cell, str]] = []
        for line, value in zip(self.table.lines, self.table.column(column), strict=True):
            cell: Cell = ""
            try:
                cell = cell_of(value)
                values.append(read(cell))
            except ValueError as error:
                wrong.append((line, cell, str(error)))
        if wrong:
            cells = [
                f"{self.table.unit} {line} {rule}" + (f" ({cell!r})" if cell else "") for line, cell, rule in wrong
            ]
            remedy = f"correct {counted(len(wrong), 'cell')} of column {column} in {self._data.file}"
            self.faults.append(Fault(key, listed(cells, MOST_LISTED), remedy, column))
        return values


def text(cell: str) -> str:
    """Return the text of a cell that must not be empty.

    Raises:
        ValueError: if it is empty.
    """
    if not cell:
        raise ValueError("is empty")
    return cell
