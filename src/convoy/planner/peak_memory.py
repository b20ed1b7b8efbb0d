"""Peak memory of a recorded training on a device, its categories, and the largest micro batch that fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from convoy.ledger.rows import UntraceableError
from convoy.planner.allocator import Allocator, OutOfMemoryError
from convoy.planner.convolutions import Convolution
from convoy.planner.events import WORKSPACE, Recording
from convoy.planner.workspaces import estimated_bytes

_MOST = 2**20
"""Largest micro batch size that is tried."""


@dataclass(frozen=True)
class Peak:
    """Peak of a replayed training.

    Attributes:
        allocated_bytes: Maximum bytes in used blocks.
        reserved_bytes: Maximum bytes in segments; on the CPU, equal to `allocated_bytes`.
        categories: Bytes at the allocated peak by category. Their sum is `allocated_bytes`.
        module: Module whose allocation reached the peak; empty if none.
        phase: Phase of this allocation.
        operation: ATen operation of this allocation, or "workspace of a convolution".
    """

    allocated_bytes: int
    reserved_bytes: int
    categories: dict[str, int]
    module: str
    phase: str
    operation: str


Workspaces = Mapping[str, Mapping[int, int]]
"""Bytes of a convolution's workspace by signature and micro batch size."""


class Allocating(Protocol):
    """Interface of an allocator for a replay; see `Allocator`, and `Heap` for the CPU."""

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
    """Memory that is available to a training.

    Attributes:
        limit_bytes: Memory that the allocator may reserve: usable memory of the device without the CUDA context.
        expandable: Whether `expandable_segments:True` is set.
        workspaces: Measured workspaces of convolutions; the others are estimated.
        resident_bytes: Bytes of a data set that is kept on the device.
    """

    limit_bytes: int | None
    expandable: bool = False
    workspaces: Workspaces = field(default_factory=dict)
    resident_bytes: int = 0

    def allocator(self) -> Allocator:
        """Return a new allocator for this device."""
        return Allocator(self.limit_bytes, expandable=self.expandable)


class BatchSizeModel:
    """Memory of a training as a function of the micro batch size, interpolated from two recordings.

    The size of every storage is linear in the batch size.

    Attributes:
        recording: The recording with the smaller batch.
        convolutions: Convolutions whose workspaces are recorded, by signature in the order in which they first run.

    Raises:
        UntraceableError: The recordings differ in more than sizes, or a size is not linear in the batch size.
    """

    def __init__(self, small: Recording, large: Recording) -> None:
        if small.events != large.events:
            raise UntraceableError("the allocations of its training differ between batch sizes")
        images = large.batch - small.batch
        slopes = []
        for one, other in zip(small.sizes(), large.sizes(), strict=True):
            slope, rest = divmod(other - one, images)
            if rest or slope < 0 or one < slope * small.batch:
                raise UntraceableError("the memory of its training does not grow linearly with the batch size")
            slopes.append(slope)
        self.recording, self._slopes = small, slopes
        signatures = dict.fromkeys(one.operation for one in small.storages if one.category == WORKSPACE)
        self.convolutions = {signature: Convolution.parse(signature) for signature in signatures}

    def peak(
        self,
        batch: int,
        allocator: Allocating | None = None,
        workspaces: Workspaces | None = None,
        resident_bytes: int = 0,
    ) -> Peak:
        """Replay the training with a micro batch size.

        Args:
            batch: Samples per micro batch.
            allocator: New allocator with the limit of the device; None for a CUDA allocator without a limit.
            workspaces: Measured workspaces; those of other convolutions are estimated.
            resident_bytes: Bytes of a data set that is kept on the device.

        Raises:
            OutOfMemoryError: The training does not fit under the limit of the allocator.
        """
        allocator = Allocator() if allocator is None else allocator
        measured = workspaces or {}
        sizes = self._sizes(batch, measured)
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
                try:
                    block = allocator.allocate(sizes[event])
                except OutOfMemoryError:
                    storage = self.recording.storages[event]
                    if storage.category != WORKSPACE or storage.operation in measured:
                        raise
                    continue  # an estimated workspace takes free memory only; see convoy.planner.workspaces
                live[event] = block, allocator.allocated_bytes - in_use
                if allocator.peak_allocated_bytes > before:
                    last = event
            elif ~event in live:
                if last >= 0:
                    # First free after a new peak: store the live storages before they shrink.
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
            "workspace of a convolution" if top.category == WORKSPACE else top.operation,
        )

    def fits(self, batch: int, card: Card) -> bool:
        """Return whether a replay on a card fits."""
        try:
            self.peak(batch, card.allocator(), card.workspaces, card.resident_bytes)
        except OutOfMemoryError:
            return False
        return True

    def largest(self, card: Card) -> int:
        """Return a micro batch size that fits while one more sample does not; 0 if none fits."""
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
        bytes_of = {
            signature: _measured_bytes(workspaces[signature], batch)
            if signature in workspaces
            else estimated_bytes(convolution, batch)
            for signature, convolution in self.convolutions.items()
        }
        for number, storage in enumerate(self.recording.storages):
            if storage.category == WORKSPACE:
                sizes[number] = bytes_of[storage.operation]
        return sizes


def _measured_bytes(measured: Mapping[int, int], batch: int) -> int:
    """Return the bytes at a batch size: the next larger measured size, or in proportion beyond the largest."""
    if not measured:
        return 0
    above = [one for one in measured if one >= batch]
    if above:
        return measured[min(above)]
    most = max(measured)
    return measured[most] * batch // most
