"""Data of a ledger: one row per layer, the totals, and the conditions of the count."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self


class UntraceableError(Exception):
    """Model whose shapes or control flow depend on tensor values, so that it can't be traced without data."""


@dataclass(frozen=True)
class Row:
    """Call of a layer, or of a function outside a layer. Counts and bytes are per image.

    The order of the fields is the order of the columns.

    Attributes:
        layer: Name in the usual notation: CONV3-64, POOL2, FC-4096.
        module: Name of the module in the model; for a function, of the module that called it.
        output_shape: Height x width x channels; 1x1xC for a vector; several outputs are joined by +.
        output_elements: Number of output elements, including views.
        output_bytes: Bytes of the output elements.
        params: Parameters, counted in the row that uses them first.
        params_without_bias: Parameters that are not called bias.
        macs: Multiply-accumulate operations of a forward pass.
        saved_bytes: Bytes written by this layer that autograd saves for the backward pass, index tensors included.
        call: Number of this call of the module, from 1.
        written_bytes: Output bytes in newly allocated memory; 0 for a view and for an in-place layer.
        saved_index_bytes: Part of `saved_bytes` in integer or boolean tensors, such as the indices of max pooling.
        saved_fixed_bytes: Saved bytes that do not depend on the batch, such as the statistics of batch norm. Not
            part of `saved_bytes`.
        weight_copy_bytes: Low-precision copies of weights that autocast makes. Not part of `saved_bytes`.
        training_macs: MACs of the forward pass and of the gradients of weights and inputs that are needed.
        receptive_field: Side (or height x width) in input pixels of the area that a position depends on; empty if it
            is the whole image or does not follow from windows.
        stride: Distance in input pixels between two neighbouring positions; empty likewise.
        storage: "own", "in place" (in the input's storage) or "view".
        note: Remark about a window that does not fit its input.
        forward_time_ms: Measured forward time of a micro batch, median over steps; None if not measured.
        backward_time_ms: Measured backward time, without the sum of gradients over several uses of a parameter.
        allocated_bytes: Measured memory that CUDA's caching allocator has allocated after the layer's forward pass.
    """

    layer: str
    module: str
    output_shape: str
    output_elements: int
    output_bytes: int
    params: int = 0
    params_without_bias: int = 0
    macs: int = 0
    saved_bytes: int = 0
    call: int = 1
    written_bytes: int = 0
    saved_index_bytes: int = 0
    saved_fixed_bytes: int = 0
    weight_copy_bytes: int = 0
    training_macs: int = 0
    receptive_field: str = ""
    stride: str = ""
    storage: str = "own"
    note: str = ""
    forward_time_ms: float | None = None
    backward_time_ms: float | None = None
    allocated_bytes: int | None = None


COLUMNS = tuple(field.name for field in fields(Row))
SUMMED = tuple(field.name for field in fields(Row) if field.type == "int" and field.name != "call")
"""Columns that have a total."""


@dataclass(frozen=True)
class State:
    """Memory of a model and its training that does not depend on the batch, in bytes.

    Attributes:
        trainable_params: Number of parameters that have a gradient.
        param_bytes: Bytes of all parameters.
        gradient_bytes: Bytes of the gradients.
        optimizer_bytes: Bytes of the optimizer state after a step; None if it can't be found without data.
        buffer_bytes: Bytes of running statistics and other buffers.
    """

    trainable_params: int = 0
    param_bytes: int = 0
    gradient_bytes: int = 0
    optimizer_bytes: int | None = 0
    buffer_bytes: int = 0


@dataclass(frozen=True, repr=False)
class LedgerRows:
    """Memory, parameters and work of one model, by layer.

    Attributes:
        model: Name of the model.
        input_shape: (channels, height, width) of an image.
        precision: "32", "bf16-mixed" or "16-mixed".
        optimizer: Name of the optimizer; empty if there is none.
        micro_batch_size: Samples per rank per forward pass, for the memory of a whole micro batch.
        rows: Rows; the first is the input.
        state: Memory that does not depend on the batch.
        measured: Description of the measurement; empty if nothing was measured.
        optimizer_time_ms: Time per micro batch from the end of the backward pass to that of the optimizer's step, with
            gradient clipping; None if it was not measured.
    """

    model: str
    input_shape: tuple[int, ...]
    precision: str
    optimizer: str
    micro_batch_size: int
    rows: tuple[Row, ...]
    state: State
    measured: str = ""
    optimizer_time_ms: float | None = None

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the ledger of a ledger.json; None if there is none, or another version wrote it."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            totals = found["totals"]
            return cls(
                found["model"],
                tuple(found["input_shape"]),
                found["precision"],
                found["optimizer"],
                found["micro_batch_size"],
                tuple(Row(**row) for row in found["rows"]),
                State(**{field.name: totals[field.name] for field in fields(State)}),
                found["measured"],
                found["optimizer_time_ms"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def records(self) -> list[dict[str, Any]]:
        """Return the columns of each row."""
        return [as_dict(row) for row in self.rows]

    def total(self, column: str) -> int:
        """Return the sum of a column."""
        return sum(getattr(row, column) for row in self.rows)

    def totals(self) -> dict[str, int | None]:
        """Return all totals by name: the sums of the columns, then the state."""
        sums: dict[str, int | None] = {column: self.total(column) for column in SUMMED}
        return sums | {field.name: getattr(self.state, field.name) for field in fields(State)}


def as_dict(row: Row) -> dict[str, Any]:
    """Return the values of a row by column, in the order of the columns."""
    return {column: getattr(row, column) for column in COLUMNS}
