"""Parquet files, read by pyarrow (the extra `parquet`). Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from convoy.config.faults import Fault, UserError, one_line

PARQUET_SUFFIXES = (".parquet", ".pq")


def pyarrow_module(name: str, key: str, value: str) -> Any:
    """Import a module of pyarrow.

    Args:
        name: name of the module, such as `pyarrow.parquet`.
        key: setting that names the file, for the error.
        value: its value.

    Raises:
        UserError: if pyarrow is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        remedy = "pip install 'convoy[parquet]'"
        raise UserError(Fault(key, "a Parquet file needs the package pyarrow", remedy, value)) from error


class ParquetTable:
    """Parquet file whose columns are read one by one, see `TableFile`."""

    unit = "row"

    def __init__(self, file: Any, name: str) -> None:
        """Store a `pyarrow.parquet.ParquetFile` and its name for errors."""
        self._file = file
        self._name = name
        self.header: Sequence[str] = list(file.schema_arrow.names)
        self.lines: Sequence[int] = range(1, file.metadata.num_rows + 1)

    @classmethod
    def open(cls, path: Path, name: str) -> ParquetTable:
        """Read the file's schema.

        Raises:
            UserError: if the file is not Parquet or has no rows, or pyarrow is not installed.
        """
        parquet = pyarrow_module("pyarrow.parquet", "data.file", name)
        try:
            table = cls(parquet.ParquetFile(path), name)
        except (OSError, ValueError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise _unreadable(name, error) from error
        if not table.lines:
            raise UserError(Fault("data.file", "has no rows", "add one row per image", name))
        return table

    def column(self, name: str) -> Sequence[Any]:
        """Return the values of a column as Python objects.

        Raises:
            UserError: if the file is damaged.
        """
        try:
            values: list[Any] = self._file.read(columns=[name]).column(name).to_pylist()
        except (OSError, ValueError) as error:
            raise _unreadable(self._name, error) from error
        return values

    def image_kind(self, name: str) -> str | None:
        """Return whether a column has `paths` or `bytes`, or None if it has values of another type."""
        import pyarrow

        types = pyarrow.types
        kind = self._file.schema_arrow.field(name).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        if types.is_string(kind) or types.is_large_string(kind):
            return "paths"
        is_struct = types.is_struct(kind) and "bytes" in {field.name for field in kind}
        return "bytes" if is_struct or types.is_binary(kind) or types.is_large_binary(kind) else None

    def type_of(self, name: str) -> str:
        """Return the name of a column's type."""
        return str(self._file.schema_arrow.field(name).type)


def _unreadable(name: str, error: Exception) -> UserError:
    return UserError(Fault("data.file", f"can't be read ({one_line(error)})", "give a complete Parquet file", name))
