"""last.ckpt and best.ckpt, each written whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from convoy.config.schema import CheckpointConfig
from convoy.runs.layout import RunFolder


class Checkpoints(pl.Callback):
    """Lightning callback that writes last.ckpt at the end of epochs and best.ckpt when the monitored metric improves.

    A tie is broken by the lower val/loss. Must come after every callback whose state it saves.

    Args:
        run: folder of the run.
        settings: number of checkpoints kept, and epochs between writes.
        monitor: metric that chooses best.ckpt, such as `val/top1`.
        mode: `max` or `min`.
        every_steps: optimizer steps between additional writes of last.ckpt; None: only at the end of epochs.

    Attributes:
        best: val metrics of best.ckpt; None before the first.
        best_step: optimizer step of best.ckpt.
    """

    def __init__(
        self, run: RunFolder, settings: CheckpointConfig, monitor: str, mode: str, every_steps: int | None = None
    ) -> None:
        self._run, self._settings = run, settings
        self._monitor, self._mode = monitor, mode
        self._every_steps = every_steps
        self._kept: list[tuple[tuple[float, float], int]] = []
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
        step = trainer.global_step
        better = self._better(values)
        dropped = self._keep(values, step)
        if better:
            self.best, self.best_step = values, step
        is_due = (trainer.current_epoch + 1) % self._settings.every_epochs == 0
        is_last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        kept = any(kept_step == step for _, kept_step in self._kept)
        if better or kept or is_due or is_last:
            self.save(trainer)
        if not trainer.is_global_zero:
            return
        if better:
            _copy(self._run.last, self._run.best)
        if kept:
            _copy(self._run.last, self._path_of(step))
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
        kept = [[list(score), step] for score, step in self._kept]
        return {"best": self.best, "best_step": self.best_step, "kept": kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_step = state_dict["best"], state_dict["best_step"]
        self._kept = [((score[0], score[1]), step) for score, step in state_dict["kept"]]

    def _better(self, values: dict[str, float]) -> bool:
        if not values:
            return False
        if self.best is None:
            return True
        return self._score(values) > self._score(self.best)

    def _score(self, values: dict[str, float]) -> tuple[float, float]:
        value = values[self._monitor]
        return value if self._mode == "max" else -value, -values.get("val/loss", 0.0)


def _copy(source: Path, target: Path) -> None:
    """Link a file under a second name, or copy it if the file system has no hard links."""
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:
        shutil.copyfile(source, partial)
    partial.replace(target)
