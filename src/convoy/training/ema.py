"""Averages of the weights over steps or epochs, which val, test and the checkpoint's `state_dict` then use."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class WeightEma(WeightAveraging):
    """Lightning's weight averaging with a decay that warms up.

    The decay of update t is min(decay, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage with
    num_updates: a short run's average is then not dominated by the initial weights. Running statistics of batch
    norms are averaged too; counters are taken as they are.

    Args:
        decay: of a long run, a step.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self._decay = decay

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Replaces Lightning's average, which reads its number of updates from the device at every step.
        if stage == "fit":
            self._average_model = AveragedWeights(pl_module, self._decay)


class WeightSwa(WeightAveraging):
    """Stochastic weight averaging (Izmailov et al. 2018): the mean of the weights at the end of epochs.

    Until the first of these epochs the average is the current weights. Running statistics of batch norms are averaged
    too.

    Args:
        start_epoch: epochs before those that are averaged.
        steps_per_epoch: optimizer steps of an epoch.
    """

    def __init__(self, start_epoch: int, steps_per_epoch: int) -> None:
        super().__init__()
        self._start_epoch, self._steps_per_epoch = start_epoch, steps_per_epoch

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            self._average_model = self._average = AveragedWeights(pl_module, None)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step <= self._latest_update_step:
            return
        self._latest_update_step = step
        if (step - 1) // self._steps_per_epoch < self._start_epoch:
            self._average.load_current(pl_module)
        elif trainer.is_last_batch:
            self._average.update_parameters(pl_module)


class AveragedWeights(AveragedModel):
    """Average of a network's weights and buffers, whose number of updates is known without reading the device.

    The state is that of torch's `AveragedModel`: its buffer `n_averaged` is only written when the state is read.

    Args:
        model: Network, which is copied.
        decay: Decay per update of a long run; None for the mean of all updates.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        super().__init__(model, use_buffers=True)
        self._decay = decay
        self._num_updates = 0
        self.register_state_dict_pre_hook(AveragedWeights._write_count)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(AveragedWeights._read_count)  # type: ignore[no-untyped-call]

    def update_parameters(self, model: nn.Module) -> None:
        """Add the weights of `model` to the average; the first update copies them."""
        count, self._num_updates = self._num_updates, self._num_updates + 1
        if count == 0:
            self._move_towards(model, 1.0)
        elif self._decay is None:
            self._move_towards(model, 1 / (count + 1))
        else:
            self._move_towards(model, 1 - min(self._decay, (1 + count) / (10 + count)))

    def load_current(self, model: nn.Module) -> None:
        """Copy the weights of `model`, which doesn't count as an update."""
        self._move_towards(model, 1.0)

    @torch.no_grad()
    def _move_towards(self, model: nn.Module, weight: float) -> None:
        averages = [tensor.detach() for tensor in chain(self.module.parameters(), self.module.buffers())]
        current = [tensor.detach() for tensor in chain(model.parameters(), model.buffers())]
        averaged: list[tuple[Tensor, Tensor]] = []
        for pair in zip(averages, current, strict=True):
            if weight < 1 and pair[0].is_floating_point():
                averaged.append(pair)
            else:
                pair[0].copy_(pair[1])
        if averaged:
            torch._foreach_lerp_([pair[0] for pair in averaged], [pair[1] for pair in averaged], weight)

    @staticmethod
    def _write_count(module: Any, _prefix: str, _keep_vars: bool) -> None:
        module.n_averaged.fill_(module._num_updates)

    @staticmethod
    def _read_count(module: Any, _incompatible: Any) -> None:
        module._num_updates = int(module.n_averaged)
