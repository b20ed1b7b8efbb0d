"""Sharpness-aware minimization: gradients at the worst weights near the current ones (Foret et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

_EPSILON = 1e-12


@contextmanager
def perturbed(parameters: Iterable[nn.Parameter], radius: float) -> Iterator[None]:
    """Move parameters by `radius` along their whole gradient, and back at the end (arXiv:2010.01412, equation 2).

    The step does not depend on the scale of the gradients, such as the loss scale of float16.

    Args:
        parameters: with gradients; those without are not moved.
        radius: 2-norm of the step over all parameters.
    """
    pairs = [(parameter.detach(), parameter.grad) for parameter in parameters if parameter.grad is not None]
    moved, gradients = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    del pairs
    with torch.no_grad():
        kept = [weight.clone() for weight in moved]
        scale = radius / (nn.utils.get_total_norm(gradients) + _EPSILON)
        torch._foreach_add_(moved, torch._foreach_mul(gradients, scale))
        gradients.clear()  # freed by the second pass
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(moved, kept)
