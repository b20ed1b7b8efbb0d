"""From a recorded training to what a card must have: its peak, what is at the peak, and the largest micro batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from convoy.ledger.rows import UntraceableError
from convoy.planner.allocator import Allocator, OutOfMemoryError
from convoy.planner.events import WORKSPACE, Recording

_MOST = 2**20
"""Samples of a micro batch beyond which none is looked for."""


@dataclass(frozen=True)
class Peak:
    """What a replay found.

    Attributes:
        allocated_bytes: the most in blocks in use.
        reserved_bytes: the most in segments; on the CPU, where there are none, the same.
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


Workspaces = Mapping[str, Mapping[int, int]]
"""Bytes that a convolution's kernel takes while it runs: by its signature (see events), then by micro batch."""


class Allocating(Protocol):
    """What a replay asks of an allocator: see `Allocator`, and `Heap` for the CPU."""

    @property
    def allocated_bytes(self) -> int: ...

    @property
    def peak_allocated_bytes(self) -> int: ...

    @property
    def peak_reserved_bytes(self) -> int: ...

    def allocate(self, size_bytes: int) -> Any: ...

    def free(self, block: Any) -> None: ...


@dataclass(frozen=True)
class Card:
    """The memory that a training must do with.

    Attributes:
        limit_bytes: what the allocator may reserve: the card's usable memory without CUDA's context.
        expandable: whether `expandable_segments:True` is set.
        workspaces: of its convolutions, where they were measured.
        resident_bytes: of the data set, where it lies beside the network.
    """

    limit_bytes: int | None
    expandable: bool = False
    workspaces: Workspaces = field(default_factory=dict)
    resident_bytes: int = 0

    def allocator(self) -> Allocator:
        """A new one of this card's."""
        return Allocator(self.limit_bytes, expandable=self.expandable)


class Family:
    """A training with micro batches of any size, from two recordings: every storage grows evenly with the batch.

    Attributes:
        recording: the smaller one.

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
        self.recording, self._slopes = small, slopes

    def peak(
        self,
        batch: int,
        allocator: Allocating | None = None,
        workspaces: Workspaces | None = None,
        resident_bytes: int = 0,
    ) -> Peak:
        """Replay it with micro batches of a size.

        Args:
            batch: samples of a micro batch.
            allocator: a new one, whose limit is the card's; None: CUDA's, without an end.
            workspaces: what the card's convolutions take while they run, by signature; one that isn't there: nothing.
            resident_bytes: of the data set, where it lies beside the network.

        Raises:
            OutOfMemoryError: it doesn't fit under the allocator's limit.
        """
        allocator = Allocator() if allocator is None else allocator
        sizes = self._sizes(batch, workspaces or {})
        live: dict[int, tuple[Any, int]] = {}
        at_peak: dict[int, int] = {}
        if resident_bytes:
            allocator.allocate(resident_bytes)
        resident = allocator.allocated_bytes
        last = at_peak_last = -1
        for event in self.recording.events:
            if event >= 0:
                if not sizes[event]:
                    continue
                before, in_use = allocator.peak_allocated_bytes, allocator.allocated_bytes
                block = allocator.allocate(sizes[event])
                live[event] = block, allocator.allocated_bytes - in_use
                if allocator.peak_allocated_bytes > before:
                    last = event
            elif ~event in live:
                if last >= 0:
                    # The most since the last free: what is in use is looked at before it shrinks.
                    at_peak = {number: size for number, (_, size) in live.items()}
                    at_peak_last, last = last, -1
                allocator.free(live.pop(~event)[0])
        if last >= 0:
            at_peak, at_peak_last = {number: size for number, (_, size) in live.items()}, last
        categories = Counter({"data_set": resident} if resident else {})
        for number, size in at_peak.items():
            categories[self.recording.storages[number].category] += size
        top = self.recording.storages[at_peak_last]
        return Peak(
            allocator.peak_allocated_bytes,
            allocator.peak_reserved_bytes,
            dict(categories),
            top.module,
            top.phase,
            top.operation,
        )

    def fits(self, batch: int, card: Card) -> bool:
        """Whether a replay on a card finds room for everything."""
        try:
            self.peak(batch, card.allocator(), card.workspaces, card.resident_bytes)
        except OutOfMemoryError:
            return False
        return True

    def largest(self, card: Card) -> int:
        """A micro batch that fits where one sample more doesn't; 0 where none fits."""
        fitting, failing = 0, 1
        while failing <= _MOST and self.fits(failing, card):
            fitting, failing = failing, 2 * failing
        while failing - fitting > 1:
            middle = (fitting + failing) // 2
            if self.fits(middle, card):
                fitting = middle
            else:
                failing = middle
        return fitting

    def _sizes(self, batch: int, workspaces: Workspaces) -> list[int]:
        extra = batch - self.recording.batch
        sizes = [one + extra * slope for one, slope in zip(self.recording.sizes(), self._slopes, strict=True)]
        if workspaces:
            for number, storage in enumerate(self.recording.storages):
                if storage.category == WORKSPACE:
                    sizes[number] = _workspace(workspaces.get(storage.operation, {}), batch)
        return sizes


def _workspace(measured: Mapping[int, int], batch: int) -> int:
    """Bytes at a batch from those measured at some: between two the larger, beyond the last in proportion."""
    if not measured:
        return 0
    above = [one for one in measured if one >= batch]
    if above:
        return measured[min(above)]
    most = max(measured)
    return measured[most] * batch // most
