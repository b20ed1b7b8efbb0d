"""HTML page of a ledger, with a bar chart of memory and parameters by layer."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from convoy.ledger.rows import SUMMED, LedgerRows, Row
from convoy.ledger.summary_text import (
    convention,
    described,
    headline,
    memory,
    short,
    shortened,
    summary,
    summary_sentences,
)

_WIDTH, _NAMES, _BAR, _GAP = 960, 340, 210, 100
"""Sizes in pixels: the chart, the layer names, the longest bar, and the number behind a bar."""

# Okabe & Ito's palette, which people with colour vision deficiency can distinguish.
_STYLE = """
:root { --ground: #ffffff; --ink: #1c1c1c; --soft: #5c5c5c; --line: #d9d9d9; --memory: #0072b2; --params: #c24e00 }
@media (prefers-color-scheme: dark) {
  :root { --ground: #16181b; --ink: #e8e8e8; --soft: #a6a6a6; --line: #3a3d42; --memory: #56b4e9; --params: #e69f00 }
}
body { background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 1100px; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.memory { color: var(--memory) } .params { color: var(--params) }
p.claim { font-size: 1.05rem; font-weight: 600; margin: .3rem 0 }
p.small { color: var(--soft); font-size: .9rem }
svg { display: block; height: auto; max-width: 100%; margin: 1rem 0 }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif } svg text.soft { fill: var(--soft) }
svg text.head { font-weight: 600 }
svg .memory { fill: var(--memory) } svg .params { fill: var(--params) } svg line { stroke: var(--line) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem } dd { margin: 0 } dt { font-weight: 600 }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: .85rem }
th, td { border-bottom: 1px solid var(--line); padding: .2rem .6rem; text-align: right; white-space: nowrap }
th:nth-child(-n+3), td:nth-child(-n+3) { text-align: left } tfoot { font-weight: 600 }
"""

_COLUMNS = (
    "layer",
    "module",
    "output_shape",
    "output_elements",
    "written_bytes",
    "saved_bytes",
    "saved_index_bytes",
    "params",
    "params_without_bias",
    "macs",
    "receptive_field",
    "stride",
    "note",
)


def html_text(ledger: LedgerRows) -> str:
    """Return the page, which needs no other file."""
    claims = "".join(
        f'<p class="claim {kind}">{escape(text)}</p>'
        for text, kind in zip(summary_sentences(ledger), ("memory", "params"), strict=False)
    )
    totals = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in summary(ledger))
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(ledger.model)}: memory and parameters</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(headline(ledger))}</h1>",
            claims,
            picture(ledger),
            f"<h2>Totals</h2><dl>{totals}</dl>",
            f'<h2>Every layer</h2><div class="scroll">{layer_table(ledger)}</div>',
            f'<p class="small">{escape(" ".join(convention(ledger)))}</p>',
            "</body></html>\n",
        ]
    )


def picture(ledger: LedgerRows) -> str:
    """Return the bars as SVG: one line per layer, without views; lines are thinner if there are many layers."""
    rows = [row for row in ledger.rows if row.storage != "view"]
    step = 20 if len(rows) <= 80 else 14 if len(rows) <= 250 else 5
    columns = (("saved_bytes", "memory", _NAMES), ("params", "params", _NAMES + _BAR + _GAP))
    top, height = 34, 34 + step * len(rows) + 10
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img" aria-labelledby="chart-title chart-text">',
        f'<title id="chart-title">Memory and parameters of {escape(ledger.model)} by layer</title>',
        f'<desc id="chart-text">{escape(" ".join(summary_sentences(ledger)))}</desc>',
        f'<text class="head" x="{_NAMES}" y="18">saved for backward, per image</text>',
        f'<text class="head" x="{_NAMES + _BAR + _GAP}" y="18">parameters</text>',
    ]
    for column, kind, left in columns:
        parts.append(f'<line x1="{left - 2}" y1="26" x2="{left - 2}" y2="{height - 4}"/>')
        parts += _bars(rows, column, kind, left, top, step)
    if step >= 14:
        parts += [_label(row, top + step * index + step - 5) for index, row in enumerate(rows)]
    return "\n".join([*parts, "</svg>"])


def _bars(rows: Sequence[Row], column: str, kind: str, left: int, top: int, step: int) -> list[str]:
    largest = max(getattr(row, column) for row in rows) or 1
    parts = []
    for index, row in enumerate(rows):
        value = getattr(row, column)
        if not value:
            continue
        text = memory(value) if column == "saved_bytes" else short(value)
        width, y = max(1.0, value / largest * _BAR), top + step * index
        shape = f'<rect class="{kind}" x="{left}" y="{y}" width="{width:.1f}" height="{max(3, step - 4)}">'
        parts.append(f"{shape}<title>{escape(described(row))}: {text}</title></rect>")
        if step >= 14:
            parts.append(f'<text class="soft" x="{left + width + 6:.1f}" y="{y + step - 6}">{text}</text>')
    return parts


def _label(row: Row, y: int) -> str:
    return (
        f'<text x="0" y="{y}">{escape(row.layer)}</text>'
        f'<text class="soft" x="118" y="{y}">{escape(shortened(row.module, 18))}</text>'
        f'<text class="soft" x="{_NAMES - 12}" y="{y}" text-anchor="end">{escape(row.output_shape)}</text>'
    )


def layer_table(ledger: LedgerRows) -> str:
    """Return a table with one row per layer and the totals."""
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in _COLUMNS)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(getattr(row, name))}</td>" for name in _COLUMNS) + "</tr>" for row in ledger.rows
    )
    sums = (_cell(ledger.total(name)) if name in SUMMED else "" for name in _COLUMNS[1:])
    foot = "<td>total</td>" + "".join(f"<td>{text}</td>" for text in sums)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody><tfoot><tr>{foot}</tr></tfoot></table>"


def _cell(value: str | int) -> str:
    return f"{value:,}" if isinstance(value, int) else escape(value)
