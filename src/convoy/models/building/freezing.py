"""Frozen weights: with `model.freeze=features` only the head is trained, on pretrained features.

Yosinski et al. 2014 (arXiv:1411.1792) measure how well the features of each layer transfer to another data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convoy.config.faults import Fault, UserError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

FEATURES = "features"
KEY = "model.freeze"
THAW_KEY = "model.unfreeze_epoch"


def freeze_faults(model: Mapping[str, Any]) -> list[Fault]:
    """Return the faults of freeze, unfreeze_epoch and freeze_norms in a `model` group that can be found without torch.

    `freeze` is null, "features", or a list of module names; `unfreeze_epoch` is null, a number of epochs, or a mapping
    of module names to epochs.
    """
    freeze, thaw = model.get("freeze"), model.get("unfreeze_epoch")
    names = isinstance(freeze, list | tuple) and freeze and all(isinstance(name, str) and name for name in freeze)
    if freeze is not None and freeze != FEATURES and not names:
        remedy = f"write {FEATURES}, for all but the last layer, or a list of modules, such as [layer1,layer2]"
        return [Fault(KEY, "must be null, features or a list of modules", remedy, str(freeze))]
    if freeze == FEATURES and model.get("aux_logits", False):
        rule = "leaves auxiliary classifiers no weights to train"
        return [Fault(KEY, rule, "write model.aux_logits=false", str(freeze))]
    if not isinstance(model.get("freeze_norms", False), bool):
        return [Fault("model.freeze_norms", "must be true or false", "", str(model["freeze_norms"]))]
    epochs = list(thaw.values()) if isinstance(thaw, Mapping) else [] if thaw is None else [thaw]
    if not all(isinstance(epoch, int) and not isinstance(epoch, bool) and epoch > 0 for epoch in epochs):
        remedy = "write null, a whole number from 1, or one per module, such as {layer2: 3}"
        return [Fault(THAW_KEY, "must be epochs", remedy, str(thaw))]
    if thaw is not None and freeze is None:
        return [Fault(THAW_KEY, "needs frozen modules", "add model.freeze=features", str(thaw))]
    return []


def freeze_weights(network: nn.Module, model: Mapping[str, Any], num_classes: int) -> None:
    """Exclude the parameters of the modules that stay frozen from training.

    Args:
        network: network with a head of `num_classes` rows; changed in place.
        model: the `model` group, with `freeze` and `unfreeze_epoch`.
        num_classes: number of logits.

    Raises:
        UserError: if `thaw_epochs` raises, or if no parameter is left to train.
    """
    for module, epoch in thaw_epochs(network, model, num_classes):
        for parameter in module.parameters(recurse=False) if epoch is None else ():
            parameter.requires_grad = False
    freeze = model.get("freeze")
    if freeze is not None and not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError(Fault(KEY, "leaves nothing to train", "omit the last modules", str(freeze)))


def thaw_epochs(network: nn.Module, model: Mapping[str, Any], num_classes: int) -> list[tuple[nn.Module, int | None]]:
    """Return each frozen module, and the number of epochs after which it is trained; None: never.

    Args:
        network: network with a head of `num_classes` rows.
        model: the `model` group, with `freeze` and `unfreeze_epoch`.
        num_classes: number of logits.

    Raises:
        UserError: if `frozen_modules` raises, or `unfreeze_epoch` names a module that is not frozen.
    """
    frozen = frozen_modules(network, model.get("freeze"), num_classes)
    thaw = model.get("unfreeze_epoch")
    if not isinstance(thaw, Mapping):
        return [(module, thaw) for module in frozen]
    named, is_frozen = dict(network.named_modules()), {id(module) for module in frozen}
    epochs: dict[int, int] = {}
    for name in sorted(thaw, key=len):  # a submodule after the module that contains it
        if name not in named or id(named[name]) not in is_frozen:
            names = [name for name, module in named.items() if id(module) in is_frozen and name]
            near = did_you_mean(name, names, f"frozen are {', '.join(names[:5])}, …")
            raise UserError(Fault(THAW_KEY, "no such frozen module", near, name))
        epochs.update({id(module): thaw[name] for module in named[name].modules()})
    return [(module, epochs.get(id(module))) for module in frozen]


def frozen_modules(network: nn.Module, freeze: Any, num_classes: int) -> list[nn.Module]:
    """Return the modules named by `freeze`, including all their submodules.

    Args:
        network: network with a head of `num_classes` rows.
        freeze: null (none), "features" (all but the head), or a list of module names.
        num_classes: number of logits.

    Raises:
        UserError: if there is no such module, or if no head is found.
    """
    if freeze is None:
        return []
    if freeze == FEATURES:
        spared = heads_of(network, num_classes)
        return [module for name, module in network.named_modules() if name not in spared]
    modules = dict(network.named_modules())
    frozen: list[nn.Module] = []
    for name in freeze:
        if name not in modules or not name:
            children = [name for name, _ in network.named_children()]
            near = did_you_mean(name, [*modules, FEATURES], f"it has {', '.join(children)} and their submodules")
            raise UserError(Fault(KEY, "the network has no such module", near, name))
        frozen += modules[name].modules()
    return frozen


def head_of(network: nn.Module, num_classes: int) -> str:
    """Return the name of the layer that computes the logits: the last layer with weights, with one row per class.

    Raises:
        UserError: if the last layer with weights has another number of rows.
    """
    with_weights = [
        (name, module)
        for name, module in network.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    name: str
    name, head = with_weights[-1]
    weight = getattr(head, "weight", None)
    if weight is None or weight.shape[0] != num_classes:
        rule = f"the last layer with weights ({name}) does not compute the {num_classes} logits"
        raise UserError(Fault(KEY, rule, "name the frozen modules, as in [layer1,layer2]", FEATURES))
    return name


def heads_of(network: nn.Module, num_classes: int) -> tuple[str, ...]:
    """Return the names of all layers that compute logits: the network's `head_names`, or that of `head_of`."""
    return tuple(getattr(network, "head_names", ())) or (head_of(network, num_classes),)


def note_on(model: Mapping[str, Any]) -> str:
    """Return a notice about frozen weights that were never trained; empty if there are none."""
    if model.get("freeze") is None or model.get("pretrained"):
        return ""
    return f"{KEY}: the frozen weights keep their random values; load trained ones with model.pretrained=<checkpoint>"


def frozen_norms(network: nn.Module, model: Mapping[str, Any], num_classes: int, epoch: int = 0) -> list[nn.Module]:
    """Return the batch norms that use their fixed running statistics also in training.

    Args:
        network: network with a head of `num_classes` rows.
        model: the `model` group, with `freeze`, `unfreeze_epoch` and `freeze_norms`.
        num_classes: number of logits.
        epoch: epochs done.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    if model.get("freeze_norms", False):
        return [module for module in network.modules() if isinstance(module, _BatchNorm)]
    frozen = thaw_epochs(network, model, num_classes)
    return [module for module, thaw in frozen if isinstance(module, _BatchNorm) and (thaw is None or thaw > epoch)]
