"""Steps a learning-rate schedule of torch, timm or Convoy, at each optimizer step or each epoch.

Lightning's own stepping leaves a plateau schedule out of the checkpoint that an epoch's end writes, so that a
resumed run would divide the learning rate at another epoch; here the schedule moves before anything is saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from convoy.config.faults import Fault, UserError
from convoy.optim.construction import build_scheduler


class Schedule(pl.Callback):
    """Builds the schedule when training starts and moves it.

    Args:
        node: the scheduler's config; `interval` is "step" or "epoch", `monitor` the metric of a plateau.
        total_steps: optimizer steps of the whole run.
        steps_per_epoch: of one epoch.
    """

    def __init__(self, node: Mapping[str, Any], total_steps: int, steps_per_epoch: int) -> None:
        self._node = node
        self._total_steps, self._steps_per_epoch = total_steps, steps_per_epoch
        self._scheduler: Any = None
        self._loaded: dict[str, Any] | None = None
        self._step = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._scheduler = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        optimizer = trainer.optimizers[0]
        resumed = [group["lr"] for group in optimizer.param_groups] if self._loaded else None
        for group in optimizer.param_groups:
            group["lr"] = group.get("initial_lr", group["lr"])
        self._scheduler = build_scheduler(
            self._node, optimizer, total_steps=self._total_steps, steps_per_epoch=self._steps_per_epoch
        )
        if self._loaded is not None and resumed is not None:
            self._scheduler.load_state_dict(self._loaded)
            for group, rate in zip(optimizer.param_groups, resumed, strict=True):
                group["lr"] = rate
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step:
            return  # in the middle of an accumulation
        self._step = trainer.global_step
        if self._node.get("interval") == "epoch":
            return
        if isinstance(self._scheduler, LRScheduler):
            self._scheduler.step()
        else:
            self._scheduler.step_update(self._step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._node.get("interval") != "epoch":
            return
        if isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step(self._monitored(pl_module))
        elif isinstance(self._scheduler, LRScheduler):
            self._scheduler.step()
        else:
            self._scheduler.step(trainer.current_epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        return {} if self._scheduler is None else dict(self._scheduler.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict or None

    def _monitored(self, pl_module: Any) -> float:
        monitor = self._node.get("monitor", "val/loss")
        if monitor not in pl_module.latest:
            known = ", ".join(sorted(pl_module.latest))
            raise UserError(Fault("scheduler.monitor", "no such metric", f"choose from {known}", monitor))
        return float(pl_module.latest[monitor])
