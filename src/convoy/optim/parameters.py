"""Parameter groups with and without weight decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from convoy.models.blocks import depths


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


def with_layer_decay(
    model: nn.Module, groups: Iterable[dict[str, Any]], learning_rate: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Divide parameter groups by depth, with a lower learning rate for each block nearer to the input.

    The deepest block, which is the head, has the whole rate, and each one before it `layer_decay` times the rate of the
    next (Clark et al. 2020, arXiv:2003.10555; Bao et al. 2021, arXiv:2106.08254).

    Args:
        model: Network of the groups.
        groups: Parameter groups.
        learning_rate: Rate of the head.
        layer_decay: Factor per block, above 0 and at most 1.
    """
    by_name = depths(model)
    depth = {id(parameter): by_name[name] for name, parameter in model.named_parameters()}
    last = max(depth.values(), default=0)
    divided = []
    for group in groups:
        for level in sorted({depth[id(parameter)] for parameter in group["params"]}):
            members = [parameter for parameter in group["params"] if depth[id(parameter)] == level]
            divided.append({**group, "params": members, "lr": learning_rate * layer_decay ** (last - level)})
    return divided


def _pick(named: Iterable[tuple[str, nn.Parameter]], names: set[str], *, inside: bool) -> list[nn.Parameter]:
    return [parameter for name, parameter in named if (name in names) == inside]
