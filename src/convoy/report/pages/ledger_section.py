"""Memory and parameters of a run's network by layer, and predicted beside measured memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convoy.ledger.html_page import layer_table, picture
from convoy.ledger.rows import LedgerRows
from convoy.ledger.summary_text import convention, summary, summary_sentences
from convoy.report.pages.document import Cell, Fact, Facts, Markup, Table, number

_MEMORY = (("allocated", "allocated tensors"), ("reserved", "reserved by PyTorch"), ("device", "used on the device"))


def ledger_parts(ledger: LedgerRows, run_summary: Mapping[str, Any]) -> list[Any]:
    """Return the ledger's picture, totals and table, and the run's GPU memory.

    Args:
        ledger: of the run.
        run_summary: content of summary.json.
    """
    from html import escape

    claims = "".join(
        f'<p class="claim {kind}">{escape(text)}</p>'
        for text, kind in zip(summary_sentences(ledger), ("memory", "params"), strict=False)
    )
    image = picture(ledger).replace("<svg ", '<svg class="ledger" ', 1)
    table = f'<div class="scroll long" tabindex="0" role="region" aria-label="Every layer">{layer_table(ledger)}</div>'
    note = f'<p class="note">{escape(" ".join(convention(ledger)))}</p>'
    return [
        *_memory(run_summary),
        Markup(f'{claims}<div class="scroll" tabindex="0" role="region" aria-label="Layers">{image}</div>'),
        Facts([Fact(name or "work", text) for name, text in summary(ledger)]),
        Markup(f"<details><summary>Every layer</summary>{table}{note}</details>"),
    ]


def _memory(run_summary: Mapping[str, Any]) -> list[Table]:
    rows = []
    for name, heading in _MEMORY:
        measured = run_summary.get(f"memory/{name}_measured_bytes")
        if measured is None:
            continue
        predicted = run_summary.get(f"memory/{name}_predicted_bytes")
        error = run_summary.get(f"memory/{name}_error_percent")
        rows.append(
            (
                Cell(heading),
                number(measured, f"{measured / 2**30:.2f} GiB"),
                number(predicted, None if predicted is None else f"{predicted / 2**30:.2f} GiB"),
                number(error, None if error is None else f"{error:+.1f} %"),
            )
        )
    if not rows:
        return []
    return [Table("Peak memory of the GPU", ("memory", "measured", "predicted", "error of the prediction"), rows)]
