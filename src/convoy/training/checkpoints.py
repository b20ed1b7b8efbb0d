"""Lightning callback that decides when checkpoints are written, and which are kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from convoy.config.schema import CheckpointConfig
from convoy.records.console import Console
from convoy.runs.layout import RunFolder
from convoy.runs.records import concluded_step
from convoy.runs.whole_files import synchronize
from convoy.training.checkpoint_files import restore_best


class Checkpoints(Checkpoint):
    """Lightning callback that writes last.ckpt at the end of epochs and best.ckpt when the monitored metric improves.

    A tie is broken by the lower val/loss, and NaN is worse than any number. Must come after every callback whose state
    it saves: Lightning runs a `Checkpoint` after all others, and the EarlyStopping and ModelCheckpoint of a user at the
    end of an epoch only then.

    Args:
        run: folder of the run.
        settings: number of checkpoints kept, and epochs between writes.
        monitor: metric that chooses best.ckpt, such as `val/top1`.
        mode: `max` or `min`.
        every_steps: optimizer steps between additional writes of last.ckpt; None: only at the end of epochs.
        console: for a line if a resumed run's best.ckpt is lost.

    Attributes:
        best: val metrics of best.ckpt; None before the first.
        best_step: optimizer step of best.ckpt.
    """

    def __init__(
        self,
        run: RunFolder,
        settings: CheckpointConfig,
        monitor: str,
        mode: str,
        every_steps: int | None,
        console: Console,
    ) -> None:
        self._run, self._settings, self._console = run, settings, console
        self._monitor, self._mode = monitor, mode
        self._every_steps = every_steps
        self._kept: list[tuple[tuple[float, float], int]] = []
        self._ended_at: int | None = None
        self.best: dict[str, float] | None = None
        self.best_step: int | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Early stopping or the time limit ended the training, and the process died before its summary.
        is_unconcluded = self._ended_at is not None and concluded_step(self._run.summary) != self._ended_at
        if trainer.strategy.broadcast(is_unconcluded):
            trainer.should_stop = True
        self._ended_at = None
        if self.best_step is None:
            return
        is_there = not trainer.is_global_zero or restore_best(self._run, self.best_step)
        if not trainer.strategy.broadcast(is_there):
            lost = f"best.ckpt is not the checkpoint of step {self.best_step}, the best so far, and no other is"
            self._console.say(f"{lost}: the best is chosen anew from here on", style="bold red")
            self.best, self.best_step = None, None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        accumulated = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        # The last batch's checkpoint is the epoch's, written after its validation.
        due = self._every_steps is not None and trainer.global_step % self._every_steps == 0
        if accumulated and due and not trainer.is_last_batch:
            self.save(trainer)

    def end_epoch(self, trainer: pl.Trainer, pl_module: Any, *, is_left: bool) -> None:
        """Choose the best checkpoint and write those that are due. Every rank must call it.

        Args:
            trainer: of the run, after all other callbacks; its `should_stop` is True if the run ends with this epoch.
            pl_module: holds the values of the validation.
            is_left: whether the process ends after it; last.ckpt is due then.
        """
        values = {name: value for name, value in pl_module.latest.items() if name.startswith("val/")}
        step = trainer.global_step
        better = self._better(values)
        dropped = self._keep(values, step)
        if better:
            self.best, self.best_step = values, step
        is_due = (trainer.current_epoch + 1) % self._settings.every_epochs == 0
        self._ended_at = step if trainer.should_stop else None
        is_last = is_left or trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        kept = any(kept_step == step for _, kept_step in self._kept)
        copies = ([self._run.best] if better else []) + ([self._path_of(step)] if kept else [])
        if copies or is_due or is_last:
            self.save(trainer, copies)
        if trainer.is_global_zero:
            for step in dropped:
                self._path_of(step).unlink(missing_ok=True)

    def _keep(self, values: dict[str, float], step: int) -> list[int]:
        """Rank a validation among the best `save_top_k`; return the steps whose checkpoints are to be removed."""
        if not values or self._settings.save_top_k == 1:
            return []
        ranked = sorted([*self._kept, (self._score(values), step)], reverse=True)
        self._kept = ranked[: self._settings.save_top_k]
        return [kept_step for _, kept_step in ranked[self._settings.save_top_k :] if kept_step != step]

    def _path_of(self, step: int) -> Path:
        return self._run.checkpoints / f"step-{step}.ckpt"

    def save(self, trainer: pl.Trainer, copies: Sequence[Path] = ()) -> None:
        """Write last.ckpt and copies of it. Every rank must call it, after the same optimizer step."""
        if trainer.is_global_zero:
            # A resumed run expects the rows of all steps up to the checkpoint's.
            for rows in (self._run.metrics, self._run.norms):
                synchronize(rows)
        trainer.save_checkpoint(self._run.last, storage_options=copies)  # by `CheckpointFiles`

    def state_dict(self) -> dict[str, Any]:
        kept = [[list(score), step] for score, step in self._kept]
        return {"best": self.best, "best_step": self.best_step, "kept": kept, "ended_at": self._ended_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_step = state_dict["best"], state_dict["best_step"]
        self._ended_at = state_dict.get("ended_at")
        self._kept = [((score[0], score[1]), step) for score, step in state_dict["kept"]]

    def _better(self, values: dict[str, float]) -> bool:
        if not values:
            return False
        if self.best is None:
            return True
        return self._score(values) > self._score(self.best)

    def _score(self, values: dict[str, float]) -> tuple[float, float]:
        value = values[self._monitor]
        scores = value if self._mode == "max" else -value, -values.get("val/loss", 0.0)
        first, second = (-math.inf if math.isnan(score) else score for score in scores)
        return first, second
