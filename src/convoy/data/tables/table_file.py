"""Files with one row per image, as columns of cells: CSV, TSV, JSON lines and Parquet, chosen by the file's suffix.

A cell is text without surrounding spaces, a tuple of texts (a list in JSON or Parquet), or bytes (Parquet). Empty text
stands for a missing value: null, NaN, or a key that a JSON object lacks. Imports neither torch nor NumPy; pyarrow is
imported for Parquet files only.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.data.listing.folders import irregular_kind
from convoy.data.tables.parquet import PARQUET_SUFFIXES, ParquetTable
from convoy.data.targets import counted

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
DELIMITERS = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "vertical bar"}
FORMATS = "CSV, TSV, JSON lines (.jsonl) or Parquet"
_OTHER_FORMATS = {
    ".xlsx": "an Excel file",
    ".xls": "an Excel file",
    ".ods": "a spreadsheet",
    ".feather": "a Feather file",
    ".arrow": "an Arrow file",
    ".pkl": "a pickle",
    ".npy": "a NumPy array",
    ".mat": "a MATLAB file",
    ".db": "a database",
    ".sqlite": "a database",
}

Cell = str | tuple[str, ...]


class TableFile(Protocol):
    """Contents of a table.

    Attributes:
        header: names of the columns.
        lines: number of each row, counted from 1: of the line in a text file, of the row in Parquet.
        unit: "line" or "row".
    """

    @property
    def header(self) -> Sequence[str]: ...

    @property
    def lines(self) -> Sequence[int]: ...

    @property
    def unit(self) -> str: ...

    def column(self, name: str) -> Sequence[Any]:
        """Return the values of a column, one per row, for `cell_of`."""
        ...


def open_table(data: DataConfig) -> TableFile:
    """Open the table at `data.file`; columns of a Parquet file are read later.

    Raises:
        UserError: if the file can't be read, or has no rows.
    """
    path = Path(str(data.file)).expanduser()
    suffix = path.suffix.lower()
    try:
        if (kind := irregular_kind(path.stat().st_mode)) is not None:
            remedy = "give one file; a folder of Parquet files is read by data=huggingface data.root=…"
            remedy = remedy if kind == "folder" else f"give a {FORMATS} file"
            raise UserError(Fault("data.file", f"is a {kind}", remedy, str(data.file)))
        if suffix in _OTHER_FORMATS:
            rule = f"is {_OTHER_FORMATS[suffix]}, which is not read"
            raise UserError(Fault("data.file", rule, f"export it as {FORMATS}", str(data.file)))
        if suffix in PARQUET_SUFFIXES:
            return ParquetTable.open(path, str(data.file))
        return _read_json(path, data) if suffix in JSON_SUFFIXES else _read_delimited(path, data)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"can't be read ({error})"
        remedy = f"give a {FORMATS} file" + (" in UTF-8" if isinstance(error, UnicodeDecodeError) else "")
        raise UserError(Fault("data.file", reason, remedy, str(data.file))) from error


def cell_of(value: Any) -> Cell:
    """Return a value of a column as a cell.

    Raises:
        ValueError: if it is a mapping, or bytes.
    """
    if isinstance(value, str):
        return value.strip()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, (list, tuple)):
        return tuple(text for one in value if isinstance(text := cell_of(one), str) and text)
    if isinstance(value, (Mapping, bytes)):
        raise ValueError(f"has {'bytes' if isinstance(value, bytes) else 'an object'} instead of text")
    return str(value)


class _TextTable:
    """Rows of a text file, see `TableFile`."""

    unit = "line"

    def __init__(self, header: Sequence[str], lines: Sequence[int], rows: Sequence[Any], is_json: bool) -> None:
        self.header = header
        self.lines = lines
        self._rows = rows
        self._is_json = is_json

    def column(self, name: str) -> Sequence[Any]:
        if self._is_json:
            return [row.get(name) for row in self._rows]
        place = self.header.index(name)
        return [row[place] for row in self._rows]


def _read_json(path: Path, data: DataConfig) -> TableFile:
    lines: list[int] = []
    rows: list[dict[str, Any]] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, text in enumerate(file, 1):
            if not text.strip():
                continue
            if not rows and text.lstrip().startswith("["):
                rule = "is a JSON array"
                raise UserError(Fault("data.file", rule, "write one object per line (JSON lines)", str(data.file)))
            try:
                row = json.loads(text)
            except ValueError as error:
                rule = f"line {number} is not JSON ({error})"
                raise UserError(Fault("data.file", rule, "write one object per line", str(data.file))) from error
            if not isinstance(row, dict):
                rule = f"line {number} is not an object"
                raise UserError(Fault("data.file", rule, 'write {"column": value, …}', str(data.file)))
            lines.append(number)
            rows.append(row)
    if not rows:
        raise UserError(Fault("data.file", "has no rows", "add one object per image", str(data.file)))
    return _TextTable(list(dict.fromkeys(name for row in rows for name in row)), lines, rows, is_json=True)


def _read_delimited(path: Path, data: DataConfig) -> TableFile:
    lines: list[int] = []
    cells: list[list[str]] = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        delimiter = _delimiter(file.readline(), data)
        file.seek(0)
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        header = [name.strip() for name in next(reader, [])]
        for row in reader:
            if not any(map(str.strip, row)):
                continue
            if len(row) != len(header):
                rule = f"line {reader.line_num} has {counted(len(row), 'cell')}, the header {len(header)}"
                remedy = f"quote cells that contain the separator, a {DELIMITERS[delimiter]}"
                raise UserError(Fault("data.file", rule, remedy, str(data.file)))
            lines.append(reader.line_num)
            cells.append(row)
    if not cells:
        raise UserError(Fault("data.file", "has no rows below its header", "add one row per image", str(data.file)))
    return _TextTable(header, lines, cells, is_json=False)


def _delimiter(header: str, data: DataConfig) -> str:
    """Return the delimiter that gives the header the column of the images, or else the most columns."""
    first = "\t" if str(data.file).lower().endswith((".tsv", ".tab")) else ","
    best, most = first, (False, 1)
    for delimiter in (first, *(other for other in DELIMITERS if other != first)):
        try:
            names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
        except csv.Error:
            continue
        if (found := (data.image_column in names, len(names))) > most:
            best, most = delimiter, found
    return best
