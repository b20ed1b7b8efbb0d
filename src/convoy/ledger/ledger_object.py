"""Ledger with its tables for a terminal, a notebook, pandas and Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType

from convoy.ledger import ledger_table, text_formats
from convoy.ledger.notebook_table import NotebookTable
from convoy.ledger.rows import LedgerRows


class Ledger(LedgerRows, NotebookTable):
    """Memory, parameters and work of one model, by layer, shown as a table."""

    def rich_table(self, width: int) -> RenderableType:
        """Return the table with the totals, the summary sentences and the convention."""
        return ledger_table.rendered(self, width)

    def cells(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        """Return the table of the Markdown format."""
        return text_formats.cells(self)

    def to_markdown(self) -> str:
        """Return a Markdown table, with the totals, the summary sentences and the convention below."""
        return text_formats.markdown_text(self)
