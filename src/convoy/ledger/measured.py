"""Measured times and memory as columns of a ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from convoy.ledger.rows import LedgerRows, Row

Call = tuple[str, int]
"""Name of a module, and the number of its call in a forward pass, from 1."""


@dataclass(frozen=True)
class Measured:
    """Measurements of one call of a layer; None if not measured.

    Attributes:
        forward_time_ms: Forward time of a micro batch, median over steps.
        backward_time_ms: Time of the operations that compute the gradients of inputs and weights, likewise.
        allocated_bytes: Memory allocated by CUDA's caching allocator after the forward pass of the layer.
    """

    forward_time_ms: float
    backward_time_ms: float | None = None
    allocated_bytes: int | None = None


def with_measured(
    ledger: LedgerRows, calls: Mapping[Call, Measured], what: str, optimizer_time_ms: float | None = None
) -> LedgerRows:
    """Return the ledger with the measurements in the rows of the measured modules.

    Args:
        ledger: Ledger of the same model.
        calls: Measurements by module and call.
        what: Description of the measurement, for the convention below the table.
        optimizer_time_ms: Time of the optimizer per micro batch.
    """
    rows = tuple(_joined(row, calls.get((row.module, row.call))) for row in ledger.rows)
    return replace(ledger, rows=rows, measured=what, optimizer_time_ms=optimizer_time_ms)


def _joined(row: Row, measured: Measured | None) -> Row:
    # The row of a function has the name of the calling module, which has children and is not measured.
    if measured is None:
        return row
    return replace(
        row,
        forward_time_ms=measured.forward_time_ms,
        backward_time_ms=measured.backward_time_ms,
        allocated_bytes=measured.allocated_bytes,
    )
