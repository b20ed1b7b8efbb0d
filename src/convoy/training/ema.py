"""An exponential moving average of the weights, which val, test and the checkpoint's `state_dict` then use."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


class WeightEma(WeightAveraging):
    """Lightning's weight averaging with a decay that warms up.

    The decay of update t is min(decay, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage with
    num_updates: a short run's average is then not dominated by the initial weights. Running statistics of batch
    norms are averaged too; counters are taken as they are.

    Args:
        decay: of a long run, a step.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=_update(decay))


def _update(decay: float) -> Any:
    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], num_averaged: Tensor | int) -> None:
        count = int(num_averaged)
        weight = 1 - min(decay, (1 + count) / (10 + count))
        real = [index for index, tensor in enumerate(averaged) if tensor.is_floating_point()]
        if real:  # tensors come by dtype, so that the counters of batch norms are by themselves
            torch._foreach_lerp_([averaged[i] for i in real], [current[i] for i in real], weight)
        for index in set(range(len(averaged))) - set(real):
            averaged[index].copy_(current[index])

    return update
