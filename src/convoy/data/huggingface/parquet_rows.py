"""Rows of a split in Parquet files, read by column and by row group without converting them. Imports no torch.

Files are local, or on the Hub (hf://…), where only the requested parts are fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from itertools import accumulate
from typing import Any

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError, one_line
from convoy.data.huggingface.split_rows import encoded_image

REQUESTS = 8
"""Files whose footers or targets are read at the same time before training."""

AHEAD_BYTES = 256 << 20
MOST_AHEAD = 8
"""Number of row groups that are read in advance, less if they have more than `AHEAD_BYTES` together; at least 1."""


class ParquetRows:
    """Rows of a split in Parquet files. See `SplitRows`."""

    def __init__(self, data: DataConfig, files: Sequence[str], features: Mapping[str, Any] | None) -> None:
        """Read the footers of the files.

        Args:
            data: the data config.
            files: local paths, or addresses hf://….
            features: features of the columns; None for those of the first file.

        Raises:
            UserError: if a file can't be read.
        """
        self._data = data
        self._files = files
        # One for all threads, since it caches the list of the files.
        self._hub = import_module("huggingface_hub").HfFileSystem() if "://" in files[0] else None

        def read(name: str) -> tuple[Any, Any]:
            with self._opened(name) as file:
                return file.metadata, file.schema_arrow

        found = self._of_each(read, files)
        self.footers = [footer for footer, _ in found]
        """`pyarrow.parquet.FileMetaData` of each file."""
        # As `datasets` does.
        self.features = features or import_module("datasets").Features.from_arrow_schema(found[0][1])

    def __len__(self) -> int:
        return sum(footer.num_rows for footer in self.footers)

    def column(self, name: str) -> list[Any]:
        """See `SplitRows`."""
        parts = self._of_each(lambda number: self.read(number, None, name).to_pylist(), range(len(self._files)))
        return [value for part in parts for value in part]

    def contents(self, column: str) -> None:
        """See `SplitRows`."""

    def blocks(self, column: str) -> RowGroups:
        """See `SplitRows`."""
        return RowGroups(self, column)

    def read(self, number: int, group: int | None, column: str) -> Any:
        """Return a column of a file as a `pyarrow.ChunkedArray`, with the type that `datasets` gives it.

        Args:
            number: index of the file.
            group: row group; None for all.
            column: name of the column.

        Raises:
            UserError: if the file can't be read, or has no such column.
        """
        name = self._files[number]
        with self._opened(name, self.footers[number]) as file:
            groups = range(file.num_row_groups) if group is None else [group]
            table = file.read_row_groups(groups, columns=[column], use_threads=False)
            if column not in table.column_names:
                rule = f"{name} has no column {column}, but other files do"
                raise UserError(Fault("data.root", rule, "remove the file, or add the column", self._data.root))
            schema = import_module("datasets").Features({column: self.features[column]}).arrow_schema
            return import_module("datasets.table").table_cast(table, schema).column(column)

    def _of_each(self, read: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
        with ThreadPoolExecutor(REQUESTS, thread_name_prefix="convoy-read") as pool:
            return list(pool.map(read, values))

    @contextmanager
    def _opened(self, name: str, footer: Any = None) -> Iterator[Any]:
        parquet = import_module("pyarrow.parquet")
        try:
            with ExitStack() as stack:
                # pyarrow joins the ranges of a request (pre_buffer), so that a cache would only read too much.
                source = name if self._hub is None else stack.enter_context(self._hub.open(name, cache_type="none"))
                yield stack.enter_context(parquet.ParquetFile(source, metadata=footer, pre_buffer=True))
        except (UserError, MemoryError):
            raise
        # Exceptions of pyarrow, of `datasets`, and of the client of the Hub.
        except Exception as error:
            remedy = "give complete Parquet files" if self._hub is None else "check the connection to the Hub"
            rule = f"{name} can't be read ({one_line(error)})"
            raise UserError(Fault("data.root", rule, remedy, self._data.root)) from error


class RowGroups:
    """Row groups of all files of a split, in which its images are read. See `ImageBlocks`."""

    def __init__(self, rows: ParquetRows, column: str) -> None:
        self._rows = rows
        self._column = column
        self._places = [
            (number, group) for number, footer in enumerate(rows.footers) for group in range(footer.num_row_groups)
        ]
        found = [rows.footers[number].row_group(group) for number, group in self._places]
        self.sizes: Sequence[int] = [group.num_rows for group in found]
        self.largest_bytes = max((_num_bytes(group, column) for group in found), default=0)
        self.ahead = max(1, min(MOST_AHEAD, AHEAD_BYTES // max(1, self.largest_bytes)))
        self._ends = list(accumulate(self.sizes))

    def read(self, block: int) -> Callable[[int], bytes]:
        """See `ImageBlocks`."""
        number, group = self._places[block]
        values = self._rows.read(number, group, self._column)
        begin = self._ends[block] - self.sizes[block]
        return lambda row: encoded_image(values[row - begin].as_py(), self._column, row)


def _num_bytes(group: Any, column: str) -> int:
    """Return the bytes of a column in a row group, uncompressed."""
    parts = [group.column(index) for index in range(group.num_columns)]
    return sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] == column)
