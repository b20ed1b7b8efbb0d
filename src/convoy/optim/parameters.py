"""Parameter groups with and without weight decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn


def parameter_groups(model: nn.Module, weight_decay: float, decay_norms_and_biases: bool) -> list[dict[str, Any]]:
    """Return the parameter groups of an optimizer: one group, or norms and biases in a group without weight decay.

    Vectors and parameters named `bias` count as norms and biases. The rest are the weights of convolutions and fully
    connected layers (He et al. 2018, "Bag of Tricks", section 3.1: no bias decay).

    Args:
        model: Network whose parameters with `requires_grad` are grouped.
        weight_decay: Weight decay of the decayed parameters.
        decay_norms_and_biases: Whether norms and biases are decayed too.
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
