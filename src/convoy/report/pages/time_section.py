"""Shares of the time of a training: waiting for data, forward and backward passes, optimizer, logging, and the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convoy.ledger.rows import LedgerRows
from convoy.report.pages.document import Cell, Fact, Facts, Figure, number
from convoy.report.pages.vega import COLORS, Chart
from convoy.runs.records import duration

_REST = "metrics, launches and other"


def time_parts(summary: Mapping[str, Any], ledger: LedgerRows | None) -> list[Any]:
    """Return the duration and rate of a training, and its shares where the layers were timed.

    Args:
        summary: of the run.
        ledger: of the run, with or without measured times.
    """
    if not summary.get("seconds"):
        return []
    rate, wait = summary.get("images_per_s"), summary.get("data_wait")
    facts = [Fact("trained", duration(summary["seconds"]))]
    if rate:
        facts.append(Fact("images per second", f"{rate:,.0f}"))
    if wait is not None:
        facts.append(Fact("waited for data", f"{wait:.1%}"))
    return [Facts(facts), *_shares(rate, wait or 0.0, summary.get("logging_share") or 0.0, ledger)]


def _shares(rate: float | None, wait: float, logging: float, ledger: LedgerRows | None) -> list[Figure]:
    """Return the shares of a step; nothing if the layers were not timed."""
    if ledger is None or not rate:
        return []
    forward = sum(row.forward_time_ms or 0 for row in ledger.rows)
    backward = sum(row.backward_time_ms or 0 for row in ledger.rows)
    step = 1000 * ledger.micro_batch_size / rate
    if not forward or forward + backward > step:
        return []
    optimizer = (ledger.optimizer_time_ms or 0.0) / step
    passes = {"forward": forward / step, "backward": backward / step}
    shares = {"data": wait, **passes, "optimizer": optimizer, "logging": logging}
    shares[_REST] = max(0.0, 1 - sum(shares.values()))
    data = [{"part": part, "share": share, "at": index} for index, (part, share) in enumerate(shares.items())]
    spec = {
        "data": {"values": data},
        "height": 60,
        "mark": "bar",
        "encoding": {
            "x": {"field": "share", "type": "quantitative", "title": None, "stack": "zero", "axis": {"format": "%"}},
            "color": {
                "field": "part",
                "type": "nominal",
                "scale": {"domain": list(shares), "range": list(COLORS[: len(shares)])},
            },
            "order": {"field": "at"},
            "tooltip": [{"field": "part"}, {"field": "share", "format": ".1%"}],
        },
    }
    text = "Shares of the time of a step: " + ", ".join(f"{part} {share:.0%}" for part, share in shares.items()) + "."
    note = f"Forward, backward and optimizer: {ledger.measured}." if ledger.measured else ""
    rows = [(Cell(part), number(share, f"{share:.1%}")) for part, share in shares.items()]
    return [Figure("shares of a step", Chart(spec, text, ("part", "share"), rows), note)]
