"""Length of a run in optimizer steps and epochs."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class RunLength:
    """Length of a run.

    Attributes:
        steps_per_epoch: optimizer steps of one pass over the training images.
        total_steps: optimizer steps of the whole run; None if only trainer.max_time is set.
    """

    steps_per_epoch: int
    total_steps: int | None

    @property
    def epochs(self) -> int | None:
        """Passes over the training images, including an incomplete last one."""
        return None if self.total_steps is None else math.ceil(self.total_steps / self.steps_per_epoch)


def run_length(max_epochs: int | None, max_steps: int | None, steps_per_epoch: int) -> RunLength:
    """Return the length of a run that ends at the limit that is reached first."""
    limits = [] if max_epochs is None else [max_epochs * steps_per_epoch]
    if max_steps is not None:
        limits.append(max_steps)
    return RunLength(steps_per_epoch, min(limits) if limits else None)
