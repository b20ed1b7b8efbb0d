"""Steps a learning-rate schedule of torch, timm or Convoy, at each optimizer step or each epoch.

Lightning's own stepping leaves a plateau schedule out of the checkpoint that an epoch's end writes, so that a
resumed run would divide the learning rate at another epoch; here the schedule moves before anything is saved.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from convoy.config.faults import Fault, UserError
from convoy.optim.build_optimizer import build_scheduler, outer_warmup
from convoy.optim.schedules import ramp

_RECORD = "convoy"
"""Key of this callback's own state beside the scheduler's in a checkpoint."""


class Schedule(pl.Callback):
    """Builds the schedule when training starts and moves it.

    A resumed run continues with the scheduler's saved state. If the schedule, the optimizer's settings or the run's
    length have changed, the schedule is built anew and moved to the run's step.

    Args:
        node: the scheduler's config; `interval` is "step" or "epoch", `monitor` the metric of a plateau.
        total_steps: optimizer steps of the whole run.
        steps_per_epoch: of one epoch.
    """

    def __init__(self, node: Mapping[str, Any], total_steps: int, steps_per_epoch: int) -> None:
        self._node = node
        self._length = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
        self._warmup = outer_warmup(node, total_steps, steps_per_epoch)
        self._scheduler: Any = None
        self._loaded: dict[str, Any] | None = None
        self._origin: dict[str, Any] = {}
        self._rates: list[float] = []
        self._step = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._scheduler = None
        # Before Lightning restores the optimizer of a checkpoint: the settings in the config.
        groups = [_settings(group) for group in trainer.optimizers[0].param_groups]
        self._origin = {"node": dict(self._node), **self._length, "groups": groups}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        optimizer, self._step = trainer.optimizers[0], trainer.global_step
        restored = [_settings(group) for group in optimizer.param_groups]
        _set(optimizer, self._origin["groups"])
        self._scheduler = build_scheduler(self._node, optimizer, **self._length)
        self._rates = [group["lr"] for group in optimizer.param_groups]
        state = dict(self._loaded or {})
        record = state.pop(_RECORD, None)
        if state and (record is None or record["origin"] == self._origin):
            self._scheduler.load_state_dict(state)
            _set(optimizer, restored)
            self._rates = record["rates"] if record else [group["lr"] for group in optimizer.param_groups]
        elif state:
            for group, settings in zip(optimizer.param_groups, restored, strict=True):
                # Counters that an optimizer keeps in its groups, such as Adan's number of steps.
                group.update({name: value for name, value in settings.items() if name not in group})
            self._move_to(self._step, optimizer)
        self._apply_warmup(optimizer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step:
            return  # in the middle of an accumulation
        self._step = trainer.global_step
        if self._is_per_epoch:
            self._apply_warmup(trainer.optimizers[0])
        else:
            self._advance(self._step, trainer.optimizers[0])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._is_per_epoch:
            metric = self._monitored(pl_module) if isinstance(self._scheduler, ReduceLROnPlateau) else None
            self._advance(trainer.current_epoch + 1, trainer.optimizers[0], metric)

    def state_dict(self) -> dict[str, Any]:
        if self._scheduler is None:
            return {}
        # Copied, since the run continues while loggers or callbacks may keep the state.
        return {**self._scheduler.state_dict(), _RECORD: {"origin": copy.deepcopy(self._origin), "rates": self._rates}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict or None

    def _advance(self, count: int, optimizer: Optimizer, metric: float | None = None) -> None:
        """Move the schedule to `count` steps or epochs, from the rates without the warm-up."""
        _set_rates(optimizer, self._rates)
        if metric is not None:
            self._scheduler.step(metric)
        elif isinstance(self._scheduler, LRScheduler):
            self._scheduler.step()
        elif self._is_per_epoch:
            self._scheduler.step(count)
        else:
            self._scheduler.step_update(count)
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._apply_warmup(optimizer)

    def _apply_warmup(self, optimizer: Optimizer) -> None:
        factor = ramp(self._step, self._warmup)
        _set_rates(optimizer, [rate * factor for rate in self._rates] if factor < 1 else self._rates)

    def _move_to(self, step: int, optimizer: Optimizer) -> None:
        """Move a new schedule to an optimizer step. A plateau begins anew, since its metrics are not known."""
        if isinstance(self._scheduler, ReduceLROnPlateau):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch expects an optimizer step before each step of a schedule
            for count in range(1, (step // self._length["steps_per_epoch"] if self._is_per_epoch else step) + 1):
                self._advance(count, optimizer)

    @property
    def _is_per_epoch(self) -> bool:
        return self._node.get("interval") == "epoch"

    def _monitored(self, pl_module: Any) -> float:
        monitor = self._node.get("monitor", "val/loss")
        if monitor not in pl_module.latest:
            known = ", ".join(sorted(pl_module.latest))
            raise UserError(Fault("scheduler.monitor", "no such metric", f"choose from {known}", monitor))
        return float(pl_module.latest[monitor])


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a parameter group's settings."""
    return {name: copy.copy(value) for name, value in group.items() if name != "params"}


def _set(optimizer: Optimizer, groups: list[dict[str, Any]]) -> None:
    """Give the parameter groups exactly these settings."""
    for group, settings in zip(optimizer.param_groups, groups, strict=True):
        for name in group.keys() - settings.keys() - {"params"}:
            del group[name]
        group.update(_settings(settings))


def _set_rates(optimizer: Optimizer, rates: list[float]) -> None:
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
