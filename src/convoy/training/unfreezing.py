"""Lightning callback that freezes modules for the first epochs of a run (`model.unfreeze_epoch`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from torch import nn

from convoy.models.building.freezing import thaw_epochs
from convoy.records.console import Console


class Unfreezing(pl.Callback):
    """Lightning callback that trains frozen modules from their epoch on.

    Their parameters are in the optimizer from the start, which skips parameters without a gradient. So the planner and
    the ledger count their gradients and states, and a resumed run finds the same optimizer.

    Args:
        console: of the run.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._modules: list[tuple[nn.Module, int]] = []
        self._epoch = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        found = thaw_epochs(pl_module.network, pl_module.config.model, pl_module.task.num_outputs)
        self._modules = [(module, epoch) for module, epoch in found if epoch is not None]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._epoch = trainer.current_epoch
        for module, epoch in self._modules:
            for parameter in module.parameters(recurse=False):
                # DDP waits for the gradients of all parameters, so that those of frozen modules are dropped instead.
                parameter.requires_grad = trainer.world_size > 1 or epoch <= self._epoch
        pl_module.freeze_norms(self._epoch)
        count = sum(parameter.numel() for parameter in self._frozen())
        changed = self._epoch == 0 or any(epoch == self._epoch for _, epoch in self._modules)
        if changed:
            self._console.say(f"epoch {self._epoch + 1}: {count:,} parameters are frozen until a later epoch")

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        if trainer.world_size > 1:
            for parameter in self._frozen():
                parameter.grad = None

    def _frozen(self) -> Iterator[nn.Parameter]:
        for module, epoch in self._modules:
            if epoch > self._epoch:
                yield from module.parameters(recurse=False)
