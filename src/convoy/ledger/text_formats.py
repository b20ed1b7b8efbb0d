"""A ledger as csv, json and Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from convoy.ledger.rows import COLUMNS, Ledger, as_dict
from convoy.ledger.summary_text import convention, headline, memory, summary, where


def csv_text(ledger: Ledger) -> str:
    """A row a layer, the input first; counts and bytes as plain integers, what was not measured left empty."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(as_dict(row) for row in ledger.rows)
    return file.getvalue()


def json_text(ledger: Ledger) -> str:
    """The rows as csv has them, with the totals and the convention."""
    content = {
        "model": ledger.model,
        "input_shape": list(ledger.input_shape),
        "precision": ledger.precision,
        "optimizer": ledger.optimizer,
        "micro_batch_size": ledger.micro_batch_size,
        "measured": ledger.measured,
        "convention": convention(ledger),
        "totals": ledger.totals(),
        "rows": [as_dict(row) for row in ledger.rows],
    }
    return json.dumps(content, indent=2) + "\n"


def markdown_text(ledger: Ledger) -> str:
    """A table to be read, with the totals, the sentences and the convention below it."""
    head = ("Layer", "Module", "Output", "Elements", "Memory", "Kept", "Parameters", "MACs", "Field", "Stride")
    rows = [
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
        "**total**",
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
    notes = [f"- {row.layer} {row.module}: {row.note}" for row in ledger.rows if row.note]
    parts = [f"# {headline(ledger)}", markdown_table(head, [*rows, sums], left=3), "\n".join(notes)]
    parts.append("\n".join(f"- {name or 'and'}: {text}" for name, text in summary(ledger)))
    parts += [" ".join(where(ledger)), " ".join(convention(ledger))]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """A table whose first `left` columns are aligned to the left, the others to the right."""
    rules = ["---" if index < left else "---:" for index in range(len(head))]
    lines = [head, rules, *([_escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
