"""Interval around the predicted memory of a training on a card that was not calibrated.

Its ends come from the trainings of `benchmarks/published_memory.py` (2026-11-29). CUDA's context adds a separate range.
Measurements of the card replace both; see `convoy calibrate`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil

from convoy.planner.calibration import Calibration
from convoy.planner.convolutions import Convolution
from convoy.planner.workspaces import estimated_bytes

MIB = 2**20


@dataclass(frozen=True)
class Spread:
    """Differences between predicted and measured memory.

    Attributes:
        below: Share of the reserved memory by which a training may take less.
        above: Share of the reserved memory by which it may take more.
        context_bytes: Bytes by which CUDA's context may be smaller or larger.
        basis: Evidence for it, as the predicate of a sentence.
    """

    below: float = 0.0
    above: float = 0.0
    context_bytes: int = 0
    basis: str = ""

    def ends(self, reserved: int, context: int) -> tuple[int, int]:
        """Return the lower and upper end of the memory on the card."""
        lower = int(reserved * (1 - self.below)) + max(0, context - self.context_bytes)
        return lower, ceil(reserved * (1 + self.above)) + context + self.context_bytes

    def limit_bytes(self, usable: int, context: int) -> int:
        """Return the largest reserved memory whose upper end is within the usable memory of a card."""
        return max(0, int((usable - context - self.context_bytes) / (1 + self.above)))


WITHOUT_COPIES = Spread(0.05, 0.03, 256 * MIB, "agrees with 9 in 10 published largest batches")
"""Spread of trainings without estimated workspaces, such as those with trainer.channels_last=true: round figures with
which none of 59 published batches that failed is predicted to fit, and 5 that ran are not."""

WITH_COPIES = Spread(0.10, 0.15, 256 * MIB, "contains 9 in 10 published trainings")
"""Spread of trainings with estimated workspaces (`convoy.planner.workspaces`): it contains the measured memory of 30 of
the 32 published runs that are marked `fit`, relative to the predicted one."""


def spread_of(convolutions: Iterable[Convolution], measured: Calibration) -> Spread:
    """Return the spread of a training; none if everything was measured.

    Args:
        convolutions: Convolutions of the training.
        measured: Measurements of the card.
    """
    estimated = [one for one in convolutions if one.signature not in measured.workspaces]
    if measured.device and not estimated:
        spread = Spread()
    else:
        spread = WITH_COPIES if any(estimated_bytes(one, 1) for one in estimated) else WITHOUT_COPIES
    return spread if measured.context_bytes is None else replace(spread, context_bytes=0)
