"""Division of a global batch over ranks and accumulation steps."""

from __future__ import annotations

from dataclasses import dataclass

from convoy.config.faults import Fault, UserError


@dataclass(frozen=True)
class BatchSizes:
    """global_batch_size = micro_batch_size x accumulation x world_size, in samples."""

    global_batch_size: int
    micro_batch_size: int
    accumulation: int
    world_size: int


def divide(global_batch_size: int, micro_batch_size: int | None, world_size: int) -> BatchSizes:
    """Divide a global batch evenly.

    Args:
        global_batch_size: samples between two optimizer steps.
        micro_batch_size: samples per rank in one forward pass; None for the largest, without accumulation.
        world_size: data-parallel ranks.

    Raises:
        UserError: if it can't be divided evenly; the message names the nearest sizes that can.
    """
    unit = world_size * (micro_batch_size or 1)
    if global_batch_size % unit:
        below, above = global_batch_size // unit * unit, (global_batch_size // unit + 1) * unit
        by = f"{world_size} ranks" + (f" x micro batch {micro_batch_size}" if micro_batch_size else "")
        nearest = f"{below} or {above}" if below else f"{above}"
        rule = f"doesn't divide by {by} = {unit}"
        raise UserError(
            Fault("trainer.global_batch_size", rule, f"the nearest that do: {nearest}", str(global_batch_size))
        )
    micro = micro_batch_size or global_batch_size // world_size
    return BatchSizes(global_batch_size, micro, global_batch_size // (micro * world_size), world_size)
