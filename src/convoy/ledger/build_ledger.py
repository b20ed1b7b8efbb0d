"""Construction of a model's ledger from two traced passes, whose difference is the cost of one image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn
from torch.optim import Optimizer

from convoy.ledger.forward_recorder import Output, Pass, Step
from convoy.ledger.ledger_object import Ledger
from convoy.ledger.naming import name_of
from convoy.ledger.optimizer import state_of
from convoy.ledger.rows import Row, UntraceableError
from convoy.ledger.trace import trace
from convoy.ledger.windows import Field, pair_text, window_remainder

_BATCHES = (2, 4)
"""Batch sizes of the passes. In training, batch norm refuses a batch of one if a channel has one position."""


def build_ledger(
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    name: str = "",
    precision: str = "32",
    on_cuda: bool = True,
    optimizer: Callable[[nn.Module], Optimizer] | None = None,
    micro_batch_size: int = 1,
) -> Ledger:
    """Build the ledger of a model in training. The model is not changed, and no memory is allocated.

    Args:
        model: Network that takes a batch of inputs, on any device, including meta (see `without_weights`).
        input_shape: (channels, height, width) of an image.
        name: Name of the model.
        precision: "32", "bf16-mixed" or "16-mixed".
        on_cuda: Whether mixed precision follows the rules of CUDA; otherwise those of the CPU.
        optimizer: Function that builds the optimizer of a model; None if the model is not trained.
        micro_batch_size: Samples per rank per forward pass.

    Returns:
        The ledger.

    Raises:
        UntraceableError: The model needs tensor values to run, or its layers differ between batch sizes.
    """
    small, large = trace(model, input_shape, _BATCHES, precision, on_cuda=on_cuda)
    state, optimizer_name = state_of(model, optimizer)
    rows = tuple(rows_of(small, large, model))
    return Ledger(name, tuple(input_shape), precision, optimizer_name, micro_batch_size, rows, state)


def rows_of(small: Pass, large: Pass, model: nn.Module) -> list[Row]:
    """Return the rows from two passes of the same model with different batch sizes."""
    if [_identity(step) for step in small.steps] != [_identity(step) for step in large.steps]:
        raise UntraceableError("its layers differ from one batch size to another")
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    fields = _fields(large.steps)
    images = large.batch - small.batch
    rows = [
        _row(one, other, field, images, small.batch, sizes)
        for one, other, field in zip(small.steps, large.steps, fields, strict=True)
    ]
    return rows + _unused(large.unused, sizes)


def _identity(step: Step) -> tuple[str, str, int, int]:
    return (step.module, step.function, step.call, len(step.outputs))


def _row(small: Step, large: Step, field: Field | None, images: int, batch: int, sizes: dict[str, int]) -> Row:
    name = large.module or large.function or "the model"

    def each(one: int, other: int) -> int:
        """Return the increase per image."""
        if (other - one) % images:
            raise UntraceableError(f"the memory or work of {name} does not grow linearly with the batch size")
        return (other - one) // images

    shapes = [_per_image(one, other, images) for one, other in zip(small.outputs, large.outputs, strict=True)]
    macs, backward = each(small.macs, large.macs), each(small.backward_macs, large.backward_macs)
    saved = each(small.saved_bytes, large.saved_bytes)
    fixed = small.saved_bytes - batch * saved
    if fixed < 0:
        raise UntraceableError(f"the memory saved by {name} does not grow linearly with the batch size")
    is_input = not large.module and large.layer is None and not large.function
    return Row(
        layer="INPUT" if is_input else name_of(large, shapes[0][-1] if shapes and shapes[0] else 1),
        module=large.module,
        output_shape=" + ".join(map(_shape_text, shapes)),
        output_elements=each(_elements(small.outputs), _elements(large.outputs)),
        output_bytes=each(*(sum(output.bytes for output in step.outputs) for step in (small, large))),
        params=sum(sizes[name] for name in large.parameters),
        params_without_bias=sum(sizes[name] for name in large.parameters if not name.endswith("bias")),
        # Work that does not depend on the batch, such as a bias computed from weights, is needed for one image too.
        macs=macs + small.macs - batch * macs,
        saved_bytes=saved,
        call=large.call,
        written_bytes=each(_written(small), _written(large)),
        saved_index_bytes=each(small.saved_index_bytes, large.saved_index_bytes),
        saved_fixed_bytes=fixed,
        weight_copy_bytes=small.weight_copy_bytes,
        training_macs=macs + backward + small.macs + small.backward_macs - batch * (macs + backward),
        receptive_field=pair_text(field.size) if field else "",
        stride=pair_text(field.stride) if field else "",
        storage=_storage(large),
        note="; ".join(filter(None, map(window_remainder, large.windows))),
    )


def _elements(outputs: Sequence[Output]) -> int:
    total = 0
    for output in outputs:
        count = 1
        for side in output.shape:
            count *= side
        total += count
    return total


def _written(step: Step) -> int:
    """Return the bytes of the new storages that hold the step's outputs, each counted once."""
    return sum(step.writes[key] for key in {output.storage for output in step.outputs} & step.writes.keys())


def _storage(step: Step) -> str:
    held = {output.storage for output in step.outputs}
    if held & step.writes.keys():
        return "own"
    return "in place" if held & step.changes else "view"


def _per_image(small: Output, large: Output, images: int) -> tuple[int, ...]:
    """Return a shape without the batch and with channels last; a side that grows with the batch is per image."""
    if len(small.shape) != len(large.shape):
        return large.shape
    pairs = zip(small.shape, large.shape, strict=True)
    sides = [side if side == other else (other - side) // images for side, other in pairs]
    if sides and sides[0] == 1 and small.shape[0] != large.shape[0]:
        sides = sides[1:]
        if len(sides) == 3 and not large.channels_last:
            sides = [sides[1], sides[2], sides[0]]
    return tuple(sides)


def _shape_text(shape: Sequence[int]) -> str:
    """Format a shape as height x width x channels; a vector as 1x1xC."""
    return "x".join(map(str, (1, 1, *shape) if len(shape) == 1 else shape)) or "1"


def _unused(names: Sequence[str], sizes: dict[str, int]) -> list[Row]:
    """Return a row for each module with parameters that the pass did not use, so that the parameters add up."""
    modules = dict.fromkeys(name.rpartition(".")[0] for name in names)
    rows = []
    for module in modules:
        own = [name for name in names if name.rpartition(".")[0] == module]
        without = sum(sizes[name] for name in own if not name.endswith("bias"))
        note = "has parameters that training does not use"
        rows.append(Row("UNUSED", module, "", 0, 0, sum(sizes[name] for name in own), without, note=note))
    return rows


def _fields(steps: Sequence[Step]) -> list[Field | None]:
    """Return the receptive field of each step's output, or None if it does not follow from windows alone."""
    known: dict[int, Field | None] = {}
    found: list[Field | None] = []
    for index, step in enumerate(steps):
        field = Field() if index == 0 else _field(step, known)
        found.append(field)
        for key in (*step.writes, *step.changes):
            known[key] = field
    return found


def _field(step: Step, known: dict[int, Field | None]) -> Field | None:
    inputs = [known[key] for key in step.reads if key in known]
    # A flattened feature map keeps its storage but is no longer a feature map.
    is_map = bool(step.outputs) and all(len(output.shape) == 4 for output in step.outputs)
    if not inputs or not is_map or (step.mixes and not step.windows):
        return None
    field: Field | None = None
    for one in inputs:
        if one is None:
            return None
        field = one if field is None else field.joined(one)
    for window in step.windows:
        field = field.through(window) if field else None
    return field
