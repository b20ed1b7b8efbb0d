"""Optimizers and schedules from their config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from convoy.config.faults import Fault, UserError
from convoy.config.schema import Config
from convoy.config.targets import build, signature_faults, takes
from convoy.optim.fusing import fused, watch_layouts
from convoy.optim.parameters import parameter_groups

_HORIZON = ("total_steps", "steps_per_epoch")


def check_optimizer(node: Mapping[str, Any]) -> list[Fault]:
    """Arguments that the optimizer doesn't have or lacks. Imports its library."""
    return signature_faults("optimizer", node, frozenset({"params"}))


def check_scheduler(node: Mapping[str, Any]) -> list[Fault]:
    """Arguments that the scheduler doesn't have or lacks. Imports its library."""
    return signature_faults("scheduler", node, frozenset({"optimizer", *_HORIZON}))


def check_targets(config: Config) -> None:
    """Check the arguments of optimizer and scheduler against their targets. Imports their libraries.

    Raises:
        UserError: with every argument that a target lacks or doesn't have.
    """
    faults = check_optimizer(config.optimizer) + check_scheduler(config.scheduler)
    if faults:
        raise UserError(*faults)


def build_optimizer(node: Mapping[str, Any], model: nn.Module, *, fuse: bool = False) -> Optimizer:
    """The optimizer over a model's parameters, norms and biases decayed or not as its config says.

    Args:
        node: the `optimizer` group.
        model: its parameters that require a gradient are trained.
        fuse: update all parameters in one kernel, if the optimizer can and the config says nothing else.

    Raises:
        UserError: the optimizer refuses an argument's value.
    """
    node = fused(node) if fuse else node
    decay = float(node.get("weight_decay") or 0.0)
    groups = parameter_groups(model, decay, bool(node.get("decay_norms_and_biases", True)))
    try:
        optimizer: Optimizer = build("optimizer", node, groups)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(Fault("optimizer", f"{node['_target_']} refuses its arguments: {error}")) from error
    watch_layouts(optimizer)
    return optimizer


def build_scheduler(node: Mapping[str, Any], optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int) -> Any:
    """A schedule of torch, timm or Convoy.

    The run's length is passed to a target that takes `total_steps` or `steps_per_epoch`, and put wherever a
    value is written as "{total_steps}" or "{steps_per_epoch}", as in `T_max: "{total_steps}"`.

    Raises:
        UserError: the scheduler refuses an argument's value.
    """
    horizon = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
    filled = {name: horizon[value[1:-1]] if _is_placeholder(value) else value for name, value in node.items()}
    given = {name: value for name, value in horizon.items() if name not in filled and takes(filled, "scheduler", name)}
    try:
        return build("scheduler", filled, optimizer, **given)
    except (ValueError, TypeError) as error:
        raise UserError(Fault("scheduler", f"{node['_target_']} refuses its arguments: {error}")) from error


def _is_placeholder(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("{") and value[1:-1] in _HORIZON
