"""Fused optimizers, which update all parameters of a group in one kernel instead of one operation after another.

torch provides them for SGD, Adam, AdamW and Adagrad (documentation of torch.optim, "foreach and fused"). They keep no
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
    """Return whether a run can use a fused optimizer.

    Args:
        device_type: Device type of the parameters.
        precision: "32", "bf16-mixed" or "16-mixed". In float16, a fused step divides the gradients by the loss scale,
            too late for gradient clipping. Lightning refuses this combination.
        clips: Whether gradients are clipped.
    """
    return device_type in DEVICES and not (precision == "16-mixed" and clips)


def fused(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `optimizer` group with `fused: true`, if its target takes it and the config doesn't choose."""
    chosen = any(node.get(name) is not None for name in _ALTERNATIVES)
    if chosen or not takes(node, "optimizer", "fused"):
        return dict(node)
    return {**node, "fused": True}


def is_fused(optimizer: Optimizer) -> bool:
    """Return whether fused kernels update all groups of the optimizer."""
    return all(bool(group.get("fused")) for group in optimizer.param_groups)


def gradient_scale(precision: object, optimizer: Optimizer) -> float:
    """Return the factor that is still in the gradients when the optimizer's step begins.

    A fused step divides by the loss scale of float16 itself; for other optimizers Lightning has divided before.

    Args:
        precision: Lightning's precision plugin of the run, with a `scaler` in float16.
        optimizer: Optimizer of the run.
    """
    scaler = getattr(precision, "scaler", None)
    if scaler is None or not getattr(optimizer, "_step_supports_amp_scaling", False):
        return 1.0
    return float(scaler.get_scale())


def watch_layouts(optimizer: Optimizer) -> None:
    """Turn fusing off before the first step for groups in which a gradient's strides differ from its parameter's.

    The CPU kernels read both in memory order and would silently pair the wrong values. Autograd gives a gradient the
    layout of its parameter, so this concerns code that replaces gradients.
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
