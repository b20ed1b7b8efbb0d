"""Auxiliary classifiers: side outputs in the middle of a network that are used in training only."""

from __future__ import annotations

from typing import Any

from torch import Tensor

WEIGHT = 0.3
"""Weight of an auxiliary loss if `model.auxiliary_weight` is not set (Szegedy et al. 2014, section 5)."""


def logits_of(outputs: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the logits of a network and those of its auxiliary classifiers.

    Args:
        outputs: logits (N, num_classes), or a tuple that begins with them, as torchvision's GoogLeNet and
            Inception v3 return in training; None represents a classifier that is switched off.
    """
    if isinstance(outputs, Tensor):
        return outputs, ()
    main, *others = outputs
    return main, tuple(other for other in others if other is not None)
