"""Totals of several models side by side."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from convoy.ledger.rows import LedgerRows
from convoy.ledger.summary_text import convention, memory, short, shortened
from convoy.ledger.text_formats import markdown_table
from convoy.runtime.terminal_output import console, printed

_HEAD = ("", "params", "param bytes", "optimizer", "written", "saved", "MACs", "training")


def compared(names: Sequence[str], ledgers: Sequence[LedgerRows], format_name: str) -> str:
    """Return one row per model in a format.

    Args:
        names: Name of each model.
        ledgers: Ledger of each model.
        format_name: "terminal", "csv", "json" or "md".
    """
    if format_name == "csv":
        return _csv(names, ledgers)
    if format_name == "json":
        totals = {name: ledger.totals() for name, ledger in zip(names, ledgers, strict=True)}
        return json.dumps(totals, indent=2) + "\n"
    rows = [_cells(name, ledger) for name, ledger in zip(names, ledgers, strict=True)]
    if format_name == "md":
        return markdown_table(_HEAD, rows, left=1) + "\n\n" + " ".join(convention(ledgers[0])) + "\n"
    return _terminal(rows, ledgers[0])


def _cells(name: str, ledger: LedgerRows) -> list[str]:
    state = ledger.state
    return [
        name,
        short(ledger.total("params")),
        memory(state.param_bytes),
        "–" if state.optimizer_bytes is None else memory(state.optimizer_bytes),
        memory(ledger.total("written_bytes")),
        memory(ledger.total("saved_bytes")),
        short(ledger.total("macs")),
        short(ledger.total("training_macs")),
    ]


def _csv(names: Sequence[str], ledgers: Sequence[LedgerRows]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["model", *ledgers[0].totals()])
    for name, ledger in zip(names, ledgers, strict=True):
        writer.writerow([name, *ledger.totals().values()])
    return file.getvalue()


def _terminal(rows: Sequence[Sequence[str]], first: LedgerRows) -> str:
    screen = console()
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for index, heading in enumerate(_HEAD):
        grid.add_column(heading, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        grid.add_row(shortened(row[0], max(12, screen.width - 70)), *row[1:])
    footer = Text(
        "Memory written and saved is per image; optimizer is the size of its state. " + " ".join(convention(first)),
        style="dim",
    )
    return printed(Group(grid, Text(), footer), screen)
