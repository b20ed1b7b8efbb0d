"""Ledger as CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from convoy.ledger.rows import COLUMNS, LedgerRows, as_dict
from convoy.ledger.summary_text import convention, headline, memory, summary, summary_sentences


def csv_text(ledger: LedgerRows) -> str:
    """Return one row per layer, the input first, with plain integers; values that were not measured are empty."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(as_dict(row) for row in ledger.rows)
    return file.getvalue()


def json_text(ledger: LedgerRows) -> str:
    """Return the rows of the CSV with the totals and the convention as JSON."""
    content = {
        "model": ledger.model,
        "input_shape": list(ledger.input_shape),
        "precision": ledger.precision,
        "optimizer": ledger.optimizer,
        "micro_batch_size": ledger.micro_batch_size,
        "measured": ledger.measured,
        "optimizer_time_ms": ledger.optimizer_time_ms,
        "convention": convention(ledger),
        "totals": ledger.totals(),
        "rows": [as_dict(row) for row in ledger.rows],
    }
    return json.dumps(content, indent=2) + "\n"


def markdown_text(ledger: LedgerRows) -> str:
    """Return a Markdown table, with the totals, the summary sentences and the convention below."""
    head, rows = cells(ledger)
    rows[-1] = [f"**{rows[-1][0]}**", *rows[-1][1:]]
    notes = [f"- {row.layer} {row.module}: {row.note}" for row in ledger.rows if row.note]
    parts = [f"# {headline(ledger)}", markdown_table(head, rows, left=3), "\n".join(notes)]
    parts.append("\n".join(f"- {name or 'work'}: {text}" for name, text in summary(ledger)))
    parts += [" ".join(summary_sentences(ledger)), " ".join(convention(ledger))]
    return "\n\n".join(part for part in parts if part) + "\n"


def cells(ledger: LedgerRows) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Return the head and the rows of a table, the sums last."""
    head = ("Layer", "Module", "Output", "Elements", "Memory", "Saved", "Parameters", "MACs", "Field", "Stride")
    rows: list[Sequence[str]] = [
        (
            row.layer,
            row.module,
            row.output_shape,
            f"{row.output_elements:,}",
            memory(row.written_bytes) if row.storage == "own" else row.storage,
            memory(row.saved_bytes),
            f"{row.params:,}",
            f"{row.macs:,}",
            row.receptive_field,
            row.stride,
        )
        for row in ledger.rows
    ]
    sums = (
        "total",
        "",
        "",
        "",
        memory(ledger.total("written_bytes")),
        memory(ledger.total("saved_bytes")),
        f"{ledger.total('params'):,}",
        f"{ledger.total('macs'):,}",
        "",
        "",
    )
    return head, [*rows, sums]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Return a table whose first `left` columns are left-aligned and the others right-aligned."""
    rules = ["---" if index < left else "---:" for index in range(len(head))]
    lines = [head, rules, *([_escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
