"""What a ledger holds: a row a layer, the totals, and in which convention they were counted. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


class UntraceableError(Exception):
    """A model that can't be followed without data: its shapes or its course depend on values."""


@dataclass(frozen=True)
class Row:
    """A call of a layer, or a function called outside of one. Counts and bytes are per image.

    The order of the fields is that of the columns.

    Attributes:
        layer: in the notation of the field: CONV3-64, POOL2, FC-4096.
        module: its name in the model; of a function, the module that called it.
        output_shape: height x width x channels; 1x1xC where there is no height and width; several joined by +.
        output_elements: numbers that come out, wherever they are stored.
        output_bytes: of these.
        params: parameters, counted where they are used first.
        params_without_bias: those not called bias, as the table is taught.
        macs: multiply-accumulates of a forward pass of one image.
        saved_bytes: what autograd keeps for the backward pass of what this layer wrote, index tensors included.
        call: which call of the module this is, counted from 1.
        written_bytes: output bytes in memory of their own: 0 of a view and of an in-place layer.
        saved_index_bytes: of saved_bytes, tensors of integers or booleans, as of max pooling.
        saved_fixed_bytes: kept besides saved_bytes whatever the batch, as a batch norm's statistics.
        weight_copy_bytes: kept besides: low-precision copies that autocast makes of weights, whatever the batch.
        training_macs: of forward and backward, for the weights' and the inputs' gradients that are needed.
        receptive_field: side of the square of input pixels, or height x width, that a place sees; empty where it
            is the whole image or is not defined by windows.
        stride: input pixels from one place to the next, likewise.
        storage: own, in place (of its input) or view.
        note: where a window doesn't fit its input.
        forward_time_ms: measured median of a micro batch, like the two that follow; None where it was not.
        backward_time_ms: measured, without the sum of gradients over a parameter's uses.
        allocated_bytes: measured, of CUDA's caching allocator, when the layer's forward is done.
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
"""The columns of which a total is the sum."""


@dataclass(frozen=True)
class State:
    """What a model and its training hold whatever the batch, in bytes.

    Attributes:
        trainable_params: parameters that get a gradient, a count.
        param_bytes: of all parameters.
        gradient_bytes: of their gradients.
        optimizer_bytes: of the optimizer's state after a step; None where it can't be found without data.
        buffer_bytes: running statistics and the like.
    """

    trainable_params: int = 0
    param_bytes: int = 0
    gradient_bytes: int = 0
    optimizer_bytes: int | None = 0
    buffer_bytes: int = 0


@dataclass(frozen=True)
class Ledger:
    """The account of one model.

    Attributes:
        model: what it is called.
        input_shape: channels, height and width of an image.
        precision: 32, bf16-mixed or 16-mixed.
        optimizer: what it is called; empty where there is none.
        micro_batch_size: samples a rank in one forward pass, for the sentences that tell of a whole batch.
        rows: the input first.
        state: what is held whatever the batch.
        measured: on what the measured columns were measured; empty where they were not.
    """

    model: str
    input_shape: tuple[int, ...]
    precision: str
    optimizer: str
    micro_batch_size: int
    rows: tuple[Row, ...]
    state: State
    measured: str = ""

    def total(self, column: str) -> int:
        """The sum of a column."""
        return sum(getattr(row, column) for row in self.rows)

    def totals(self) -> dict[str, int | None]:
        """Every total by name: the sums of the columns, then the state."""
        sums: dict[str, int | None] = {column: self.total(column) for column in SUMMED}
        return sums | {field.name: getattr(self.state, field.name) for field in fields(State)}


def as_dict(row: Row) -> dict[str, Any]:
    """A row by column, in the columns' order."""
    return {column: getattr(row, column) for column in COLUMNS}
