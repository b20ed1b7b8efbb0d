"""Where a run stands: one integer, the optimizer steps it has done.

The epoch, the batch within it and the order of the samples follow from it (see `convoy.data.plan`), so a
checkpoint can be written after any step and a resumed run goes on with the next. Lightning keeps more: counters
of batches ready, started, processed and completed, from which it guesses where a checkpoint was written. It is
given those of a run that has just finished an epoch, whose next epoch happens to be the rest of this one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl


@dataclass(frozen=True)
class Length:
    """How long a run is.

    Attributes:
        steps_per_epoch: optimizer steps of one pass over the training images.
        total_steps: optimizer steps of the whole run; None where only time ends it.
    """

    steps_per_epoch: int
    total_steps: int | None

    @property
    def epochs(self) -> int | None:
        """Passes over the training images, the last perhaps a part of one."""
        return None if self.total_steps is None else math.ceil(self.total_steps / self.steps_per_epoch)


def length(max_epochs: int | None, max_steps: int | None, steps_per_epoch: int) -> Length:
    """The length that the first limit to be reached gives."""
    limits = [] if max_epochs is None else [max_epochs * steps_per_epoch]
    if max_steps is not None:
        limits.append(max_steps)
    return Length(steps_per_epoch, min(limits) if limits else None)


def loops_at(trainer: pl.Trainer, step: int, steps_per_epoch: int) -> dict[str, Any]:
    """The state of Lightning's loops for a run that goes on after `step` optimizer steps.

    Args:
        trainer: whose loops have not run yet.
        step: optimizer steps done.
        steps_per_epoch: of a whole epoch.
    """
    epoch = step // steps_per_epoch
    fit = trainer.fit_loop.state_dict()
    _fill(fit["epoch_progress"], epoch)
    _fill(fit["epoch_loop.batch_progress"]["total"], step * trainer.accumulate_grad_batches)
    _fill(fit["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"], step)
    _fill(fit["epoch_loop.manual_optimization.optim_step_progress"]["total"], step)
    fit["epoch_loop.state_dict"]["_batches_that_stepped"] = step
    return {"fit_loop": fit}


def _fill(progress: dict[str, Any], count: int) -> None:
    """Set every counter of a progress record, in its nested records too."""
    for name, value in progress.items():
        if isinstance(value, dict):
            _fill(value, count)
        elif isinstance(value, int) and not isinstance(value, bool):
            progress[name] = count
