"""Mixup and CutMix of whole batches, for targets that are class indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torchvision.transforms import v2

Mixing = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class _MixUp(v2.MixUp):  # type: ignore[misc]
    """torchvision's MixUp, drawn outside of fake tensors, so that the planner can trace it."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        with unset_fake_temporarily():
            return dict(super().make_params(flat_inputs))


class _CutMix(v2.CutMix):  # type: ignore[misc]
    """torchvision's CutMix, drawn outside of fake tensors."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        with unset_fake_temporarily():
            return dict(super().make_params(flat_inputs))


class _Either(v2.RandomChoice):  # type: ignore[misc]
    """One of the two at random per batch; over fake tensors the first, MixUp, which needs more memory."""

    def forward(self, *inputs: Any) -> Any:
        if isinstance(inputs[0], FakeTensor):
            return self.transforms[0](*inputs)
        return super().forward(*inputs)


class _Sometimes(torch.nn.Module):
    """Mixing of a share of the batches; over fake tensors of every batch, which needs more memory."""

    def __init__(self, mixing: torch.nn.Module, probability: float) -> None:
        super().__init__()
        self.mixing = mixing
        self.probability = probability

    def forward(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        if not isinstance(images, FakeTensor) and float(torch.rand(())) >= self.probability:
            return images, targets
        mixed: tuple[Tensor, Tensor] = self.mixing(images, targets)
        return mixed


def mixing(mixup: float, cutmix: float, num_classes: int, probability: float = 1.0) -> Mixing | None:
    """Return MixUp, CutMix or one of the two at random for each batch; None where both are off.

    Args:
        mixup: alpha of the Beta distribution (Zhang et al. 2017, arXiv:1710.09412); 0 turns it off.
        cutmix: alpha of the Beta distribution (Yun et al. 2019, arXiv:1905.04899); 0 turns it off.
        num_classes: class indices [B] become mixed one-hot targets [B, num_classes].
        probability: share of the batches that are mixed.
    """
    choices: list[torch.nn.Module] = []
    if mixup > 0:
        choices.append(_MixUp(alpha=mixup, num_classes=num_classes))
    if cutmix > 0:
        choices.append(_CutMix(alpha=cutmix, num_classes=num_classes))
    if not choices:
        return None
    chosen = choices[0] if len(choices) == 1 else _Either(choices)
    return chosen if probability == 1 else _Sometimes(chosen, probability)
