"""Optimizers and schedules built from their config."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from convoy.config.faults import Fault, UserError
from convoy.config.schema import Config
from convoy.config.targets import build, signature_faults, takes
from convoy.config.trust import TRUST
from convoy.config.user_modules import described
from convoy.optim.fusing import fused, watch_layouts
from convoy.optim.parameters import parameter_groups, with_layer_decay
from convoy.optim.schedules import num_warmup_steps

_WARMUP = ("warmup_epochs", "warmup_steps")

_HORIZON = {"total_steps": 1_000_000, "steps_per_epoch": 1_000}
"""Names of a run's length, and the length with which a schedule is tried before the run's is known."""


def check_optimizer(node: Mapping[str, Any]) -> list[Fault]:
    """Return the faults of the optimizer's arguments. Imports its module."""
    return signature_faults("optimizer", node, frozenset({"params"}))


def check_scheduler(node: Mapping[str, Any]) -> list[Fault]:
    """Return the faults of the schedule's arguments. Imports its module."""
    try:
        node = _without_warmup(node)
    except UserError as error:
        return list(error.faults)
    return signature_faults("scheduler", node, frozenset({"optimizer", *_HORIZON}))


def check_targets(config: Config) -> None:
    """Raise if the optimizer or the schedule can't be built. Imports their modules and builds both for a small layer.

    Raises:
        UserError: An argument is missing or unknown, or a target refuses a value. The error lists every argument.
    """
    faults = check_optimizer(config.optimizer) + check_scheduler(config.scheduler)
    if faults:
        raise UserError(*faults)
    try_targets(config)


def try_targets(config: Config) -> None:
    """Raise if the optimizer or the schedule doesn't work for one small layer, although their arguments exist.

    Raises:
        UserError: A target refuses a value, when it is built or at a step, or builds an object of another type.
    """
    scheduler = build_scheduler(config.scheduler, build_optimizer(config.optimizer, nn.Linear(1, 1)), **_HORIZON)
    if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, ReduceLROnPlateau):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch expects a step of the optimizer before
            scheduler.step()
    except Exception as error:
        values = [f"scheduler.{name}" for name in config.scheduler if name not in ("_target_", "interval", *_WARMUP)]
        rule = f"{config.scheduler['_target_']} fails at its first step ({described(error, TRUST.module_folders)})"
        raise UserError(Fault("scheduler", rule, f"correct a value of {', '.join(values)}")) from error


def build_optimizer(node: Mapping[str, Any], model: nn.Module, *, fuse: bool = False) -> Optimizer:
    """Return the optimizer of a model's parameters.

    Args:
        node: The `optimizer` group. `decay_norms_and_biases` selects the parameters with weight decay,
            `layer_decay` lowers the rate of blocks near the input.
        model: Network whose parameters with `requires_grad` are trained.
        fuse: Update all parameters in one kernel if the optimizer supports it and the config does not decide.

    Raises:
        UserError: The optimizer refuses a value, switches weights itself (schedule-free), or the target builds an
            object of another type.
    """
    node = fused(node) if fuse else node
    decay = float(node.get("weight_decay") or 0.0)
    groups = parameter_groups(model, decay, bool(node.get("decay_norms_and_biases", True)))
    layer_decay = float(node.get("layer_decay") or 1.0)
    if layer_decay < 1:
        groups = with_layer_decay(model, groups, float(node["lr"]), layer_decay)
    optimizer = build("optimizer", node, groups)
    if not isinstance(optimizer, Optimizer):
        raise UserError(_type_fault("optimizer", node, optimizer, "a torch.optim.Optimizer"))
    if all(callable(getattr(optimizer, name, None)) for name in ("train", "eval")):
        rule = "keeps one set of weights for training and another for val and checkpoints, which Convoy does not switch"
        remedy = "for a similar effect write optimizer=adamw scheduler=constant trainer.ema_decay=0.999"
        raise UserError(Fault("optimizer._target_", rule, remedy, str(node["_target_"])))
    watch_layouts(optimizer)
    return optimizer


def build_scheduler(node: Mapping[str, Any], optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int) -> Any:
    """Return a schedule of torch, timm, Convoy or the user.

    The run's length is passed to a target that takes `total_steps` or `steps_per_epoch`, and replaces a value written
    as "{total_steps}" or "{steps_per_epoch}", for example `T_max: "{total_steps}"`. "{lr}" is replaced by a list of the
    parameter groups' learning rates. A target that takes `warmup_steps` alone gets the warm-up of the group in steps.

    Raises:
        UserError: The schedule refuses a value, or the target builds an object of another type.
    """
    horizon = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
    values = {**horizon, "lr": [group["lr"] for group in optimizer.param_groups]}
    if _gets_warmup_in_steps(node):
        node = {**node, "warmup_steps": _num_warmup_steps(node, **horizon)}
    node = _without_warmup(node)
    filled = {name: values[value[1:-1]] if _is_placeholder(value) else value for name, value in node.items()}
    given = {name: value for name, value in horizon.items() if name not in filled and takes(filled, "scheduler", name)}
    scheduler = build("scheduler", filled, optimizer, **given)
    # timm's schedules have no base class in torch.
    if not (isinstance(scheduler, LRScheduler) or hasattr(scheduler, "step_update")):
        raise UserError(_type_fault("scheduler", node, scheduler, "a torch.optim.lr_scheduler.LRScheduler"))
    return scheduler


def outer_warmup(node: Mapping[str, Any], total_steps: int, steps_per_epoch: int) -> int:
    """Return the steps in which the rate of a schedule without a warm-up is multiplied by a ramp; 0: none."""
    if takes(node, "scheduler", "warmup_epochs") or takes(node, "scheduler", "warmup_steps"):
        return 0
    return _num_warmup_steps(node, total_steps, steps_per_epoch)


def _gets_warmup_in_steps(node: Mapping[str, Any]) -> bool:
    """Return whether the group has a warm-up that its target takes in steps alone, as Convoy's schedules do."""
    takes_steps_alone = takes(node, "scheduler", "warmup_steps") and not takes(node, "scheduler", "warmup_epochs")
    return takes_steps_alone and any(name in node for name in _WARMUP)


def _num_warmup_steps(node: Mapping[str, Any], total_steps: int, steps_per_epoch: int) -> int:
    return num_warmup_steps(
        total_steps, steps_per_epoch, float(node.get("warmup_epochs") or 0), node.get("warmup_steps")
    )


def _without_warmup(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the group without the keys of a warm-up that its target does not take; see `outer_warmup`."""
    return {name: value for name, value in node.items() if name not in _WARMUP or takes(node, "scheduler", name)}


def _type_fault(group: str, node: Mapping[str, Any], built: object, wanted: str) -> Fault:
    rule = f"builds an object of type {type(built).__name__}, not {wanted}"
    return Fault(f"{group}._target_", rule, "name a class that inherits from it", str(node["_target_"]))


def _is_placeholder(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("{") and value[1:-1] in (*_HORIZON, "lr")
