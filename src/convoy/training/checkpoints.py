"""last.ckpt and best.ckpt, each written whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from convoy.runs.layout import RunFolder


class Checkpoints(pl.Callback):
    """Writes last.ckpt at the end of each epoch, and best.ckpt when val/top1 is higher than ever.

    A tie in val/top1 is broken by the lower val/loss.     Must come after every callback whose state it saves.

    Args:
        run: whose checkpoints these are.
        every_steps: optimizer steps between two more writings of last.ckpt; None: only at an epoch's end.
    """

    def __init__(self, run: RunFolder, every_steps: int | None = None) -> None:
        self._run = run
        self._every_steps = every_steps
        self.best: dict[str, float] | None = None
        self.best_step: int | None = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        accumulated = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        # The last batch's checkpoint is the epoch's, written after its validation.
        due = self._every_steps is not None and trainer.global_step % self._every_steps == 0
        if accumulated and due and not trainer.is_last_batch:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        values = {name: value for name, value in pl_module.latest.items() if name.startswith("val/")}
        better = self._better(values)
        if better:
            self.best, self.best_step = values, trainer.global_step
        self.save(trainer)
        if better and trainer.is_global_zero:
            _copy(self._run.last, self._run.best)

    def save(self, trainer: pl.Trainer) -> None:
        """Write last.ckpt. Every rank must call it, after the same optimizer step."""
        # Lightning takes only names that end in .ckpt for checkpoints of one file.
        partial = self._run.checkpoints / ".partial.ckpt"
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(self._run.last)
        trainer.strategy.barrier("last.ckpt")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_step = state_dict["best"], state_dict["best_step"]

    def _better(self, values: dict[str, float]) -> bool:
        if not values:
            return False
        if self.best is None:
            return True
        return (values["val/top1"], -values["val/loss"]) > (self.best["val/top1"], -self.best["val/loss"])


def _copy(source: Path, target: Path) -> None:
    """A second name for the same file, or a copy where the file system has no hard links."""
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:
        shutil.copyfile(source, partial)
    partial.replace(target)
