"""Fused optimizers: all parameters of a group updated by one kernel instead of one operation after another.

torch has them for SGD, Adam, AdamW and Adagrad (its documentation of torch.optim, "foreach and fused"). They keep no
temporaries, and on a CPU they use all cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from convoy.config.targets import takes

DEVICES = ("cpu", "cuda")

_ALTERNATIVES = ("fused", "foreach", "capturable", "differentiable")


def may_fuse(device_type: str, precision: str, *, clips: bool) -> bool:
    """Whether a fused optimizer can be used in a run.

    Args:
        device_type: of the parameters.
        precision: 32, bf16-mixed or 16-mixed. In float16 a fused step takes the loss's scale off the gradients
            itself, too late for them to be clipped, which Lightning refuses.
        clips: whether gradients are clipped.
    """
    return device_type in DEVICES and not (precision == "16-mixed" and clips)


def fused(node: Mapping[str, Any]) -> dict[str, Any]:
    """The `optimizer` group with `fused: true`, if its target takes it and nobody has chosen otherwise."""
    chosen = any(node.get(name) is not None for name in _ALTERNATIVES)
    if chosen or not takes(node, "optimizer", "fused"):
        return dict(node)
    return {**node, "fused": True}


def is_fused(optimizer: Optimizer) -> bool:
    """Whether all of its groups are updated by fused kernels."""
    return all(bool(group.get("fused")) for group in optimizer.param_groups)


def watch_layouts(optimizer: Optimizer) -> None:
    """Before its first step, let a fused optimizer go step by step where a gradient lies otherwise than its parameter.

    The kernels of the CPU read both from one end to the other and would pair the wrong values, silently. Autograd
    gives a gradient its parameter's layout, so this is for what replaces gradients by others.
    """
    if not is_fused(optimizer):
        return

    def check(*_: Any) -> None:
        handle.remove()
        for group in optimizer.param_groups:
            given = (each for each in group["params"] if each.grad is not None)
            if any(each.grad.stride() != each.stride() for each in given):
                group["fused"] = False

    handle = optimizer.register_step_pre_hook(check)
