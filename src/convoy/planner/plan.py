"""From a recorded training to what a card must have: its peak, what is at the peak, and the largest micro batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from convoy.ledger.record import UntraceableError
from convoy.planner.allocator import Allocator, Block, OutOfMemoryError
from convoy.planner.events import Recording

_MOST = 2**20
"""Samples of a micro batch beyond which none is looked for."""


@dataclass(frozen=True)
class Peak:
    """What a replay found.

    Attributes:
        allocated_bytes: the most in blocks in use.
        reserved_bytes: the most in segments.
        categories: bytes in use by category when the most was allocated; they add up to it.
        module: on whose behalf the allocation was made that reached it; empty: none's.
        phase: of that allocation.
        operation: of ATen, that made it.
    """

    allocated_bytes: int
    reserved_bytes: int
    categories: dict[str, int]
    module: str
    phase: str
    operation: str


class Family:
    """A training with micro batches of any size, from two recordings: every storage grows evenly with the batch.

    Raises:
        UntraceableError: the two differ in more than sizes, or a size doesn't grow evenly.
    """

    def __init__(self, small: Recording, large: Recording) -> None:
        if small.events != large.events:
            raise UntraceableError("what its training allocates differs in kind from one batch size to another")
        images = large.batch - small.batch
        slopes = []
        for one, other in zip(small.sizes(), large.sizes(), strict=True):
            slope, rest = divmod(other - one, images)
            if rest or slope < 0 or one < slope * small.batch:
                raise UntraceableError("what its training allocates doesn't grow evenly with the batch")
            slopes.append(slope)
        self._small, self._slopes = small, slopes

    def peak(self, batch: int, limit_bytes: int | None = None, *, expandable: bool = False) -> Peak:
        """Replay it with micro batches of a size.

        Raises:
            OutOfMemoryError: it doesn't fit under the limit.
        """
        recording = self._small
        extra = batch - recording.batch
        allocator = Allocator(limit_bytes, expandable=expandable)
        live: dict[int, Block] = {}
        at_peak: dict[int, int] = {}
        last = -1
        for event in recording.events:
            if event >= 0:
                before = allocator.peak_allocated_bytes
                live[event] = allocator.allocate(recording.storages[event].bytes + extra * self._slopes[event])
                if allocator.peak_allocated_bytes > before:
                    last = event
            else:
                if last >= 0:
                    # The most since the last free: what is in use is looked at before it shrinks.
                    at_peak = {number: block.size for number, block in live.items()}
                    at_peak_last, last = last, -1
                allocator.free(live.pop(~event))
        if last >= 0:
            at_peak, at_peak_last = {number: block.size for number, block in live.items()}, last
        categories = Counter[str]()
        for number, size in at_peak.items():
            categories[recording.storages[number].category] += size
        top = recording.storages[at_peak_last]
        return Peak(
            allocator.peak_allocated_bytes,
            allocator.peak_reserved_bytes,
            dict(categories),
            top.module,
            top.phase,
            top.operation,
        )

    def fits(self, batch: int, limit_bytes: int, *, expandable: bool = False) -> bool:
        """Whether a replay under a limit finds room for everything."""
        try:
            self.peak(batch, limit_bytes, expandable=expandable)
        except OutOfMemoryError:
            return False
        return True

    def largest(self, limit_bytes: int, *, expandable: bool = False) -> int:
        """A micro batch that fits where one sample more doesn't; 0 where none fits."""
        fitting, failing = 0, 1
        while failing <= _MOST and self.fits(failing, limit_bytes, expandable=expandable):
            fitting, failing = failing, 2 * failing
        while failing - fitting > 1:
            middle = (fitting + failing) // 2
            if self.fits(middle, limit_bytes, expandable=expandable):
                fitting = middle
            else:
                failing = middle
        return fitting
