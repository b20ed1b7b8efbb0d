"""Losses from their config: any `nn.Module` or function of (outputs, targets)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from convoy.config.faults import Fault, UserError
from convoy.config.targets import arguments, build, parameters_of, resolve, takes_any_keyword
from convoy.config.trust import nested_targets
from convoy.data.targets import Targets, counted

CLASS_WEIGHTS = ("balanced", "median_frequency")
"""Weights of classes that are computed from their number of training samples or pixels."""

_WEIGHTS = ("weight", "pos_weight")
_WEIGHT_OF = {
    "torch.nn.CrossEntropyLoss": "weight",
    "convoy.tasks.losses.FocalLoss": "weight",
    "torch.nn.BCEWithLogitsLoss": "pos_weight",
}
"""Argument of a loss that has one number per class or label."""

_TRAINING_ONLY = ("label_smoothing",)

LossFunction = Callable[[Tensor, Tensor], Tensor]


class ConfiguredLoss(nn.Module):
    """Loss of the `loss` group.

    Training uses the loss as configured. Evaluation uses it without label smoothing and per sample, so that `val/loss`
    of two runs can be compared and a ragged last batch counts by its samples.

    Args:
        node: the `loss` group. A list under `weight` or `pos_weight`, here or in a nested loss, becomes a tensor;
            `CLASS_WEIGHTS` are computed from the counts.
        class_counts: see `class_weights`; None where they are not known.
        ignored: value of targets that are not counted, for losses that take an `ignore_index`; None if all are.

    Raises:
        UserError: the loss can't be built from its arguments.
    """

    def __init__(self, node: Mapping[str, Any], class_counts: Tensor | None = None, ignored: int | None = None) -> None:
        super().__init__()
        filled = _filled(node, class_counts, ignored)
        self.training_loss = _built(filled)
        self.evaluation_loss = _built(_per_sample(filled))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the training loss of a micro batch, a scalar."""
        return self.training_loss(outputs, targets)

    def per_sample(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the evaluation loss, [B, ...] per sample or, for a loss without `reduction`, a scalar mean."""
        return self.evaluation_loss(outputs, targets)

    def prepare(self) -> None:
        """Load what the loss needs, such as a frozen network.

        Raises:
            UserError: it can't be loaded.
        """
        for loss in (self.training_loss, self.evaluation_loss):
            if prepare := getattr(loss, "prepare", None):
                prepare()

    @property
    def resident_bytes(self) -> int:
        """Memory of what `prepare` loaded."""
        return int(getattr(self.training_loss, "resident_bytes", 0))


class FocalLoss(nn.Module):
    """Focal loss of Lin et al. 2017 (arXiv:1708.02002), equation 4, for one class per image or pixel.

    Args:
        gamma: focusing parameter; 0 is cross entropy.
        weight: [num_classes], the paper's alpha per class.
        reduction: `mean`, over the targets that are counted, or `none`.
        ignore_index: target that is not counted; its loss is 0.
    """

    def __init__(
        self, gamma: float = 2.0, weight: Tensor | None = None, reduction: str = "mean", ignore_index: int = -100
    ) -> None:
        super().__init__()
        self.gamma, self.reduction, self.ignore_index = gamma, reduction, ignore_index
        self.register_buffer("weight", weight)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of logits [B, num_classes, ...] and class indices [B, ...]."""
        cross_entropy = functional.cross_entropy(outputs, targets, reduction="none", ignore_index=self.ignore_index)
        probability = torch.exp(-cross_entropy)
        losses = (1 - probability) ** self.gamma * cross_entropy
        is_counted = targets != self.ignore_index
        if self.weight is not None:
            losses = losses * self.weight[torch.where(is_counted, targets, 0)]  # type: ignore[index]
        if self.reduction == "none":
            return losses
        return losses.mean() if targets.ndim == 1 else losses.sum() / is_counted.sum().clamp(min=1)


def check_loss(node: Mapping[str, Any]) -> list[Fault]:
    """Return arguments that the loss, or one nested in it, doesn't have. Imports their libraries."""
    faults = []
    for key, child in nested_targets(node, "loss"):
        parameters = parameters_of(resolve(str(child["_target_"]), key))
        for name, value in arguments(key, child).items():
            if name not in parameters and not takes_any_keyword(parameters):
                rule = f"{child['_target_']} has no such argument"
                faults.append(Fault(f"{key}.{name}", rule, f"it has {', '.join(parameters)}", str(value)))
    return faults


def needs_class_counts(node: Mapping[str, Any]) -> bool:
    """Return whether a loss, or one nested in it, has weights that are computed from the counts of the classes."""
    return any(child.get("weight") in CLASS_WEIGHTS for _, child in nested_targets(node, "loss"))


def weight_faults(node: Mapping[str, Any], targets: Targets) -> list[Fault]:
    """Return the lists of weights that have not one number per class or label, or only zeros."""
    faults = []
    for key, child in nested_targets(node, "loss"):
        name = _WEIGHT_OF.get(str(child["_target_"]), "")
        weights = child.get(name)
        if not isinstance(weights, (list, tuple)):
            continue
        remedy = f"write one per {targets.noun}" + (f", or {key}.weight=balanced" if name == "weight" else "")
        if len(weights) != len(targets.names):
            rule = f"has {counted(len(weights), 'number')} for {targets.describe()}"
            faults.append(Fault(f"{key}.{name}", rule, remedy, str(list(weights))))
        elif not any(weights):
            faults.append(Fault(f"{key}.{name}", "must have a number above 0", remedy, str(list(weights))))
    return faults


def class_weights(kind: str, class_counts: Tensor) -> Tensor:
    """Return the weights of the classes in a loss, float32 [num_classes].

    Args:
        kind: `balanced`, n / (k * count) as scikit-learn's `class_weight="balanced"`; or `median_frequency`, the median
            of the classes' frequencies by the frequency of the class (Eigen & Fergus 2014, arXiv:1411.4734, section
            6.3.2).
        class_counts: training samples per class, [num_classes]; or for masks [2, num_classes], the pixels of each class
            and the counted pixels of the images that have it.
    """
    counts = class_counts if class_counts.ndim == 1 else class_counts[0]
    if kind == "balanced":
        return counts.sum() / (len(counts) * counts.clamp_min(1)).float()
    frequencies = counts / (class_counts[1].clamp_min(1) if class_counts.ndim == 2 else counts.sum())
    is_present = counts > 0
    median = frequencies[is_present].double().quantile(0.5)
    return torch.where(is_present, median / frequencies, 0).float()


def _filled(node: Any, class_counts: Tensor | None, ignored: int | None) -> Any:
    """Return a node with tensors instead of class weights, and the target that is not counted, at any depth."""
    if not isinstance(node, Mapping):
        return node
    filled = {name: _filled(_tensor(name, value, class_counts), class_counts, ignored) for name, value in node.items()}
    if "_target_" in node:
        target = resolve(str(node["_target_"]), "loss")
        filled["_partial_"] = not inspect.isclass(target)
        if ignored is not None and "ignore_index" in parameters_of(target):
            filled.setdefault("ignore_index", ignored)
    return filled


def _per_sample(node: Any) -> Any:
    """Return a filled node without label smoothing and, for a loss that can, without the mean, at any depth."""
    if not isinstance(node, Mapping):
        return node
    evaluated = {name: _per_sample(value) for name, value in node.items() if name not in _TRAINING_ONLY}
    if "_target_" in node and "reduction" in parameters_of(resolve(str(node["_target_"]), "loss")):
        evaluated["reduction"] = "none"
    return evaluated


def _built(node: Mapping[str, Any]) -> LossFunction:
    loss: LossFunction = build("loss", node)
    return loss


def _tensor(name: str, value: Any, class_counts: Tensor | None) -> Any:
    if name not in _WEIGHTS or value is None or isinstance(value, Tensor):
        return value
    rule = (
        f"must be a list of numbers, {' or '.join(CLASS_WEIGHTS)}" if name == "weight" else "must be a list of numbers"
    )
    if isinstance(value, str):
        if name != "weight" or value not in CLASS_WEIGHTS:
            raise UserError(Fault(f"loss.{name}", rule, "", value))
        # Without counts: a prediction without data, for which only the size matters.
        return None if class_counts is None else class_weights(value, class_counts)
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, (int, float)) for one in value):
        raise UserError(Fault(f"loss.{name}", rule, "", str(value)))
    return torch.tensor([float(one) for one in value])
