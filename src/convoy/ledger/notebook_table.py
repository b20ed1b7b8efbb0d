"""Base class of results that a terminal and a notebook show as a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType

from convoy.ledger.text_formats import markdown_table

if TYPE_CHECKING:
    import pandas as pd


class NotebookTable(ABC):
    """Result with a table for rich, for notebooks, for pandas and in Markdown."""

    @abstractmethod
    def rich_table(self, width: int) -> RenderableType:
        """Return the table for a terminal of `width` columns."""

    @abstractmethod
    def records(self) -> list[dict[str, Any]]:
        """Return a dictionary with exact values per row."""

    @abstractmethod
    def cells(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        """Return the head and the rows of the table as text."""

    def to_pandas(self) -> pd.DataFrame:
        """Return the records as a data frame.

        Raises:
            UserError: if pandas is not installed.
        """
        from convoy.runs.data_frames import data_frame

        return data_frame(self.records())

    def to_markdown(self) -> str:
        """Return a Markdown table."""
        head, rows = self.cells()
        return markdown_table(head, rows, left=1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Any:
        yield self.rich_table(options.max_width)

    def __repr__(self) -> str:
        from convoy.runtime.terminal_output import console, printed

        screen = console()
        return printed(self.rich_table(screen.width), screen).rstrip("\n")

    def _repr_html_(self) -> str:
        head, rows = self.cells()
        columns = "".join(f"<th>{escape(name)}</th>" for name in head)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        return f"<table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table>"
