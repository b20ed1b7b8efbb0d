"""Lightning callback that reports a trial's monitored metric to its study and ends the trial if it is pruned."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

TRIAL = "CONVOY_SEARCH_TRIAL"
"""Environment variable of a trial's process: the folder of the study and the trial's number, separated by a colon."""

PRUNED = "pruned"
"""File in the run folder of a trial that was pruned."""


class ReportToStudy(pl.Callback):
    """Reports the monitored metric after each validation; does nothing in a run that is not a trial."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        named = os.environ.get(TRIAL)
        if named is None or trainer.sanity_checking:
            return
        ends = trainer.is_global_zero and self._is_pruned(named, pl_module, trainer.current_epoch + 1)
        if trainer.strategy.reduce_boolean_decision(ends, all=False):
            trainer.should_stop = True

    def _is_pruned(self, named: str, module: Any, epoch: int) -> bool:
        from convoy.search.journal import load_trial
        from convoy.search.study_config import read_study

        folder, _, number = named.rpartition(":")
        value = module.latest.get(module.task.monitor)
        if value is None:
            return False
        study = read_study(Path(folder) / "study.yaml")
        if study.objectives:  # Optuna has no intermediate values with several objectives
            return False
        trial = load_trial(Path(folder), int(number), study)
        if trial.storage.get_trial(trial._trial_id).state.is_finished():
            return True
        trial.report(value, epoch)
        if not trial.should_prune():
            return False
        run = Path(folder) / "trials" / f"{int(number):04d}"
        (run / PRUNED).write_text(f"epoch {epoch}\n", encoding="utf-8")
        return True
