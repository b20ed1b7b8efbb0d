"""Frozen weights: with `model.freeze=features` only the head is trained, on pretrained features.

Yosinski et al. 2014 (arXiv:1411.1792) measure how well the features of each layer transfer to another data set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convoy.config.faults import Fault, UserError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

FEATURES = "features"
KEY = "model.freeze"


def freeze_faults(freeze: Any, *, aux_logits: bool) -> list[Fault]:
    """Return the faults of model.freeze that can be found without torch.

    Args:
        freeze: null, "features", or a list of module names.
        aux_logits: True if the model trains auxiliary classifiers.
    """
    names = isinstance(freeze, list | tuple) and freeze and all(isinstance(name, str) and name for name in freeze)
    if freeze is not None and freeze != FEATURES and not names:
        remedy = f"write {FEATURES}, for all but the last layer, or a list of modules, such as [layer1,layer2]"
        return [Fault(KEY, "must be null, features or a list of modules", remedy, str(freeze))]
    if freeze == FEATURES and aux_logits:
        rule = "leaves auxiliary classifiers no weights to train"
        return [Fault(KEY, rule, "write model.aux_logits=false", str(freeze))]
    return []


def freeze_weights(network: nn.Module, freeze: Any, num_classes: int) -> None:
    """Exclude the parameters of the frozen modules from training.

    Args:
        network: network with a head of `num_classes` rows; changed in place.
        freeze: null (none), "features" (all but the head), or a list of module names.
        num_classes: number of logits.

    Raises:
        UserError: if `frozen_modules` raises, or if no parameter is left to train.
    """
    for module in frozen_modules(network, freeze, num_classes):
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad = False
    if freeze is not None and not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError(Fault(KEY, "leaves nothing to train", "omit the last modules", str(freeze)))


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
        spared = head_of(network, num_classes)
        return [module for name, module in network.named_modules() if name != spared]
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


def note_on(freeze: Any, pretrained: Any) -> str:
    """Return a notice about frozen weights that were never trained; empty if there are none."""
    if freeze is None or pretrained:
        return ""
    return f"{KEY}: the frozen weights keep their random values; load trained ones with model.pretrained=<checkpoint>"


def frozen_norms(network: nn.Module, freeze: Any, num_classes: int) -> list[nn.Module]:
    """Return the batch norms in the frozen part, which use their fixed running statistics also in training."""
    from torch.nn.modules.batchnorm import _BatchNorm

    return [module for module in frozen_modules(network, freeze, num_classes) if isinstance(module, _BatchNorm)]
