"""Figures of a memory plan: the predicted peak, the memory of the card, and the micro batches that fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convoy.config.batch import BatchSizes
from convoy.planner.events import WORKSPACE
from convoy.planner.intervals import Spread
from convoy.planner.peak_memory import Peak


@dataclass(frozen=True, repr=False)
class PlanFigures:
    """Predicted memory of a training on a card; unknown values are None.

    A training fits if the upper end of its interval does.

    Attributes:
        model: Name of the model.
        hardware: Name of the card.
        precision: "32", "bf16-mixed" or "16-mixed".
        sizes: Batch sizes.
        on_cuda: Whether the plan is for a GPU; otherwise for the CPU.
        peak: Peak of allocated and reserved memory.
        usable_bytes: Memory of the card.
        context_bytes: Memory that a process takes before its first tensor.
        spread: Differences between predicted and measured memory; none on the CPU and on a calibrated card.
        fits: Whether a replay of the allocator found room below the limit that the spread leaves.
        largest_micro_batch: Largest micro batch size that fits; 0 if none does.
        fitting: Batch sizes with the largest micro batch that divides the global batch and fits; None if there is
            none or it is unknown.
        calibrated: Device and time of the calibration; empty without one.
    """

    model: str
    hardware: str
    precision: str
    sizes: BatchSizes
    on_cuda: bool
    peak: Peak
    usable_bytes: int | None
    context_bytes: int | None
    spread: Spread
    fits: bool | None
    largest_micro_batch: int | None
    fitting: BatchSizes | None
    calibrated: str

    @property
    def device_total_bytes(self) -> int | None:
        """Memory that the driver will report for this process; on the CPU, memory of the tensors."""
        return None if self.context_bytes is None else self.peak.reserved_bytes + self.context_bytes

    @property
    def interval_bytes(self) -> tuple[int, int] | None:
        """Lower and upper end of `device_total_bytes`; equal on the CPU and on a calibrated card."""
        return None if self.context_bytes is None else self.spread.ends(self.peak.reserved_bytes, self.context_bytes)

    @property
    def basis(self) -> str:
        """Meaning of the interval in words; empty if it is a single value."""
        return "" if self.is_certain else f"the interval {self.spread.basis}; a training fits if the upper end does"

    @property
    def is_certain(self) -> bool:
        """Whether the interval is a single value."""
        return self.spread == Spread()

    @property
    def slack_bytes(self) -> int | None:
        """Free memory of the card; negative if memory is missing."""
        if self.usable_bytes is None or self.device_total_bytes is None:
            return None
        return self.usable_bytes - self.device_total_bytes

    @property
    def categories(self) -> dict[str, int | None]:
        """Bytes at the allocated peak by category, the largest first; then memory outside the allocator."""
        ordered = sorted(self.peak.categories.items(), key=lambda item: -item[1])
        found: dict[str, int | None] = {name: size for name, size in ordered if name != WORKSPACE}
        if not self.on_cuda:
            return found
        return found | {WORKSPACE: self.peak.categories.get(WORKSPACE, 0), "context": self.context_bytes}

    @property
    def at(self) -> str:
        """Description of the allocation that reached the peak."""
        return f"{self.peak.phase}, {self.peak.module or 'the model'} ({self.peak.operation.removeprefix('aten::')})"

    def as_data(self) -> dict[str, Any]:
        """Return plain values for programs, bytes as integers."""
        return {
            "model": self.model,
            "hardware": self.hardware,
            "precision": self.precision,
            "global_batch_size": self.sizes.global_batch_size,
            "micro_batch_size": self.sizes.micro_batch_size,
            "accumulation": self.sizes.accumulation,
            "world_size": self.sizes.world_size,
            "peak_allocated_bytes": self.peak.allocated_bytes,
            "peak_reserved_bytes": self.peak.reserved_bytes,
            "device_total_bytes": self.device_total_bytes,
            "device_lower_bytes": self.interval_bytes[0] if self.interval_bytes else None,
            "device_upper_bytes": self.interval_bytes[1] if self.interval_bytes else None,
            "interval": self.basis or None,
            "usable_bytes": self.usable_bytes,
            "fits": self.fits,
            "slack_bytes": self.slack_bytes,
            "largest_micro_batch": self.largest_micro_batch,
            "fitting_micro_batch": self.fitting.micro_batch_size if self.fitting else None,
            "fitting_accumulation": self.fitting.accumulation if self.fitting else None,
            "at": self.at,
            "categories": self.categories,
            "calibrated": self.calibrated or None,
        }
