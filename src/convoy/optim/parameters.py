"""Which parameters are decayed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn


def parameter_groups(model: nn.Module, weight_decay: float, decay_norms_and_biases: bool) -> list[dict[str, Any]]:
    """Groups for an optimizer: all parameters alike, or norms and biases without weight decay.

    A norm's scale and every bias is a vector, or is called bias; what is left are the weights of convolutions
    and fully connected layers (He et al. 2018, "Bag of Tricks", section 3.1: no bias decay).

    Args:
        model: its parameters that require a gradient are taken.
        weight_decay: of the parameters that are decayed.
        decay_norms_and_biases: whether norms and biases are among them.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if decay_norms_and_biases:
        return [{"params": [parameter for _, parameter in named], "weight_decay": weight_decay}]
    plain = {name for name, parameter in named if parameter.ndim <= 1 or name.endswith("bias")}
    return [
        {"params": _pick(named, plain, inside=False), "weight_decay": weight_decay},
        {"params": _pick(named, plain, inside=True), "weight_decay": 0.0},
    ]


def _pick(named: Iterable[tuple[str, nn.Parameter]], names: set[str], *, inside: bool) -> list[nn.Parameter]:
    return [parameter for name, parameter in named if (name in names) == inside]
