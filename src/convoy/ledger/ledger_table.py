"""Ledger as a table for the terminal, at least 80 columns wide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from convoy.ledger.rows import LedgerRows, Row
from convoy.ledger.summary_text import convention, headline, memory, short, shortened, summary, summary_sentences

_WIDE = 108
"""Terminal width from which the bars and the receptive fields are shown."""
_BAR = 8
_MEMORY_STYLE, _PARAMS_STYLE = "cyan", "yellow"


def rendered(ledger: LedgerRows, width: int) -> RenderableType:
    """Return the table, the totals, the summary sentences and the convention for a console of `width` columns."""
    totals = Table.grid(padding=(0, 2, 0, 0))
    for name, text in summary(ledger):
        totals.add_row(Text(name, style="bold"), text)
    sentences = Group(
        *(
            Text(text, style=f"bold {style}")
            for text, style in zip(summary_sentences(ledger), (_MEMORY_STYLE, _PARAMS_STYLE), strict=False)
        )
    )
    footer = Text(" ".join([*convention(ledger), _left_out(ledger)]).strip(), style="dim")
    parts: list[RenderableType] = [
        Text(headline(ledger), style="bold"),
        table(ledger, width),
        *_notes(ledger),
        totals,
        sentences,
    ]
    return Group(*(line for part in parts for line in (part, Text())), footer)


def table(ledger: LedgerRows, width: int) -> Table:
    """Return the table: one row per layer, without views; the three largest values of a column are coloured."""
    wide = width >= _WIDE
    grid = Table(box=None, pad_edge=False, padding=(0, 1 if not wide else 2, 0, 0), header_style="bold")
    for heading in ("layer", "module", "output"):
        grid.add_column(heading, no_wrap=True)
    bars = ("", "") if wide else ()
    for heading in ("memory", "saved", *bars[:1], "params", *bars[1:], "MACs"):
        grid.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for heading in ("field", "stride") if wide else ():
        grid.add_column(heading, justify="right", no_wrap=True)
    for heading in ("fwd ms", "bwd ms") if wide and ledger.measured else ():
        grid.add_column(heading, justify="right", no_wrap=True)
    rows = [row for row in ledger.rows if row.storage != "view"]
    room = max(12, width - (64 if not wide else 100)) if width < 200 else 200
    for row in rows:
        grid.add_row(*_cells(row, ledger, rows, wide, room))
    grid.add_row()
    sums = [memory(ledger.total("written_bytes")), memory(ledger.total("saved_bytes")), *bars[:1]]
    sums += [short(ledger.total("params")), *bars[1:], short(ledger.total("macs"))]
    grid.add_row("total", "", "", *sums, style="bold")
    return grid


def _cells(row: Row, ledger: LedgerRows, rows: list[Row], wide: bool, room: int) -> Iterator[Text]:
    largest_kept, largest_params = (_third_largest(rows, name) for name in ("saved_bytes", "params"))
    kept = _MEMORY_STYLE if 0 < largest_kept <= row.saved_bytes else ""
    params = _PARAMS_STYLE if 0 < largest_params <= row.params else ""
    yield Text(row.layer)
    yield Text(shortened(row.module, room), style="dim")
    yield Text(row.output_shape)
    yield Text(memory(row.written_bytes)) if row.storage == "own" else Text(row.storage, style="dim")
    yield Text(memory(row.saved_bytes) if row.saved_bytes else "–", style=kept)
    if wide:
        yield Text(_bar(row.saved_bytes, max(one.saved_bytes for one in rows)), style=_MEMORY_STYLE)
    yield Text(short(row.params) if row.params else "–", style=params)
    if wide:
        yield Text(_bar(row.params, max(one.params for one in rows)), style=_PARAMS_STYLE)
    yield Text(short(row.macs) if row.macs else "–")
    if wide:
        yield Text(row.receptive_field)
        yield Text(row.stride)
    if wide and ledger.measured:
        yield Text(_milliseconds(row.forward_time_ms))
        yield Text(_milliseconds(row.backward_time_ms))


def _third_largest(rows: list[Row], column: str) -> int:
    values = sorted((getattr(row, column) for row in rows), reverse=True)
    return int(values[min(2, len(values) - 1)])


def _bar(value: int, largest: int) -> str:
    """Return a bar with a resolution of an eighth of a character."""
    eighths = round(value / largest * _BAR * 8) if largest else 0
    full, rest = divmod(max(eighths, 1 if value else 0), 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _notes(ledger: LedgerRows) -> list[RenderableType]:
    """Return the notes about windows that do not fit; a note that several layers share is printed once."""
    by_note: dict[str, list[Row]] = {}
    for row in ledger.rows:
        if row.note:
            by_note.setdefault(row.note, []).append(row)
    lines = [
        Text(f"{rows[0].layer} {rows[0].module}{f' and {len(rows) - 1} more' if rows[1:] else ''}: {note}")
        for note, rows in by_note.items()
    ]
    return [Group(*lines)] if lines else []


def _left_out(ledger: LedgerRows) -> str:
    views = Counter(row.layer for row in ledger.rows if row.storage == "view")
    if not views:
        return ""
    names = ", ".join(name for name, _ in views.most_common(4)) + (", …" if len(views) > 4 else "")
    count = views.total()
    return f"In csv and json only: {count} view{'s' if count > 1 else ''} ({names})."
