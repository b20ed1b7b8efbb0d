"""State of Lightning's loops for a run that resumes after any optimizer step.

A run's position is one integer, the number of optimizer steps done. The epoch, the batch within it and the order of
the samples follow from it (see `convoy.data.sampling`), so a checkpoint can be written after any step. Lightning keeps
more: counters of batches ready, started, processed and completed, from which it guesses where a checkpoint was
written. They are set to those of a run that has just finished an epoch, whose next epoch is the rest of this one.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl


def loops_at(trainer: pl.Trainer, step: int, steps_per_epoch: int) -> dict[str, Any]:
    """Return the state of Lightning's loops for a run that resumes after `step` optimizer steps.

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
