"""Shares of the time of a step on the page of a run."""

from __future__ import annotations

from torch import nn

from convoy.ledger.build_ledger import build_ledger
from convoy.ledger.measured import Measured, with_measured
from convoy.report.pages.document import Figure
from convoy.report.pages.time_section import time_parts


def test_shares_are_those_of_a_micro_batch() -> None:
    ledger = build_ledger(nn.Sequential(nn.Conv2d(1, 2, 3)), (1, 8, 8), micro_batch_size=10)
    ledger = with_measured(ledger, {("0", 1): Measured(20.0, 35.0)}, "a test", optimizer_time_ms=8.0)
    # 10 images at 100 per second: 100 ms.
    summary = {"seconds": 60.0, "images_per_s": 100.0, "data_wait": 0.1, "logging_share": 0.02}
    (shares,) = (part for part in time_parts(summary, ledger) if isinstance(part, Figure))
    expected = "data 10%, forward 20%, backward 35%, optimizer 8%, logging 2%, metrics, launches and other 25%."
    assert shares.chart.text.endswith(expected)
