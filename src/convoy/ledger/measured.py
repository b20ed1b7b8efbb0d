"""Times and memory measured on a device, as columns beside what is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from convoy.ledger.rows import Ledger, Row

Call = tuple[str, int]
"""A module's name, and which of its calls in a forward pass, from 1."""


@dataclass(frozen=True)
class Measured:
    """What a call of a layer took; None where it was not measured.

    Attributes:
        forward_time_ms: of a micro batch, the median of the steps.
        backward_time_ms: likewise, of the operations that make the gradients of its inputs and weights.
        allocated_bytes: of CUDA's caching allocator when its forward is done.
    """

    forward_time_ms: float
    backward_time_ms: float | None = None
    allocated_bytes: int | None = None


def with_measured(ledger: Ledger, calls: Mapping[Call, Measured], what: str) -> Ledger:
    """The ledger with what was measured in the rows of the modules that it was measured for.

    Args:
        ledger: of the same model.
        calls: by module and call.
        what: on what it was measured, for the convention.
    """
    rows = tuple(_joined(row, calls.get((row.module, row.call))) for row in ledger.rows)
    return replace(ledger, rows=rows, measured=what)


def _joined(row: Row, measured: Measured | None) -> Row:
    # A function's row bears the name of the module that called it, which has children and is not measured.
    if measured is None:
        return row
    return replace(
        row,
        forward_time_ms=measured.forward_time_ms,
        backward_time_ms=measured.backward_time_ms,
        allocated_bytes=measured.allocated_bytes,
    )
