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

_WEIGHTS = ("weight", "pos_weight")
_TRAINING_ONLY = ("label_smoothing",)

LossFunction = Callable[[Tensor, Tensor], Tensor]


class ConfiguredLoss(nn.Module):
    """Loss of the `loss` group.

    Training uses the loss as configured. Evaluation uses it without label smoothing and per sample, so that `val/loss`
    of two runs can be compared and a ragged last batch counts by its samples.

    Args:
        node: the `loss` group. A list under `weight` or `pos_weight` becomes a tensor; `weight: balanced` is
            n / (k * count) per class, as scikit-learn's `class_weight="balanced"`.
        class_counts: training samples per class, for `weight: balanced`; None where they are not known.

    Raises:
        UserError: the loss can't be built from its arguments.
    """

    def __init__(self, node: Mapping[str, Any], class_counts: Tensor | None = None) -> None:
        super().__init__()
        filled = {name: _tensor(name, value, class_counts) for name, value in node.items()}
        evaluated = {name: value for name, value in filled.items() if name not in _TRAINING_ONLY}
        if "reduction" in parameters_of(resolve(str(node["_target_"]), "loss")):
            evaluated["reduction"] = "none"
        self.training_loss = _built(filled)
        self.evaluation_loss = _built(evaluated)

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
    """Focal loss of Lin et al. 2017 (arXiv:1708.02002), equation 4, for one class per image.

    Args:
        gamma: focusing parameter; 0 is cross entropy.
        weight: [num_classes], the paper's alpha per class.
        reduction: `mean` or `none`.
    """

    def __init__(self, gamma: float = 2.0, weight: Tensor | None = None, reduction: str = "mean") -> None:
        super().__init__()
        self.gamma, self.reduction = gamma, reduction
        self.register_buffer("weight", weight)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of logits [B, num_classes] and class indices [B]."""
        cross_entropy = functional.cross_entropy(outputs, targets, reduction="none")
        probability = torch.exp(-cross_entropy)
        losses = (1 - probability) ** self.gamma * cross_entropy
        if self.weight is not None:
            losses = losses * self.weight[targets]  # type: ignore[index]
        return losses if self.reduction == "none" else losses.mean()


def check_loss(node: Mapping[str, Any]) -> list[Fault]:
    """Return arguments that the loss doesn't have. Imports its library."""
    target = resolve(str(node["_target_"]), "loss")
    parameters = parameters_of(target)
    if takes_any_keyword(parameters):
        return []
    return [
        Fault(f"loss.{name}", f"{node['_target_']} has no such argument", f"it has {', '.join(parameters)}", str(value))
        for name, value in arguments("loss", node).items()
        if name not in parameters
    ]


def _built(node: Mapping[str, Any]) -> LossFunction:
    is_function = not inspect.isclass(resolve(str(node["_target_"]), "loss"))
    loss: LossFunction = build("loss", {**node, "_partial_": is_function})
    return loss


def _tensor(name: str, value: Any, class_counts: Tensor | None) -> Any:
    if name not in _WEIGHTS or value is None or isinstance(value, Tensor):
        return value
    if isinstance(value, str):
        if name != "weight" or value != "balanced":
            raise UserError(Fault(f"loss.{name}", "must be a list of numbers or balanced", "", value))
        if class_counts is None:  # a prediction without data: only the size matters
            return None
        return class_counts.sum() / (len(class_counts) * class_counts.clamp_min(1)).float()
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, (int, float)) for one in value):
        raise UserError(Fault(f"loss.{name}", "must be a list of numbers or balanced", "", str(value)))
    return torch.tensor([float(one) for one in value])
